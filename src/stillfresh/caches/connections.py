"""The connections of a SQLite cache: one a thread, and anew where the database was replaced.

SQLite keeps what it knows of a file's locks in the process's memory, so a child that is forked
while a connection is open believes in locks that it doesn't have. All are closed before a fork,
when no thread is using one, and opened again where they are needed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from stillfresh.errors import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stillfresh.caches.directory import Directory

_APPLICATION: Final = 0x5F5265  # says in the database whose it is
_FORMAT: Final = 1
_SCHEMA: Final = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    host TEXT NOT NULL,
    size INTEGER NOT NULL,
    body_size INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    used_at REAL NOT NULL,
    expires_at REAL,
    file TEXT
);
CREATE TABLE content (id INTEGER PRIMARY KEY, frame BLOB NOT NULL);
CREATE TABLE total (bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO total VALUES (0, 0);
CREATE TRIGGER added AFTER INSERT ON entry BEGIN
    UPDATE total SET bytes = bytes + new.size, entries = entries + 1;
END;
CREATE TRIGGER resized AFTER UPDATE OF size ON entry BEGIN
    UPDATE total SET bytes = bytes + new.size - old.size;
END;
"""
TRIGGER_REMOVED: Final = """
CREATE TRIGGER removed AFTER DELETE ON entry BEGIN
    UPDATE total SET bytes = bytes - old.size, entries = entries - 1;
END;
"""


# How long a fork waits for a transaction to end, in seconds: as long as a slow disk may take.
_PATIENCE: Final = 10.0


class Connections:
    """One connection a thread, made when it is needed, and anew where the database was replaced."""

    def __init__(self, path: str, tree: Directory, timeout: float) -> None:
        self._path = path
        self._tree = tree
        self._timeout = timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._active = 0
        self._forking = False
        _every.add(self)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Keep a fork waiting while a connection is used."""
        with self._changed:
            self._changed.wait_for(lambda: not self._forking)
            self._active += 1
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1
                if self._forking:
                    self._changed.notify_all()

    def before_fork(self) -> None:
        """Wait until no connection is used, a moment at most, and close all."""
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: self._active == 0, _PATIENCE)
        self.close()

    def after_fork(self) -> None:
        """Let others go on."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Begin anew: the other threads are not here."""
        self._changed = threading.Condition()
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._active, self._forking = 0, False
        self._all, self._local = [], threading.local()

    def exists(self) -> bool:
        """Tell whether there is a database, or something in its place."""
        return os.path.lexists(self._path)

    def present(self) -> sqlite3.Connection | None:
        """Return this thread's connection, or None where there is no database yet."""
        identity = _identity(self._path)
        known = self._known(identity)
        if known is None and identity is None and not self.exists():
            return None
        return known or self._connect()

    def mine(self) -> sqlite3.Connection:
        """Return this thread's connection."""
        return self._known(_identity(self._path)) or self._connect()

    def _known(self, identity: tuple[int, int] | None) -> sqlite3.Connection | None:
        """Return what this thread has open, if it still is the database of that identity."""
        known = getattr(self._local, "connection", None)
        if known is None:
            return None
        connection: sqlite3.Connection
        connection, at = known
        if at != identity:
            self.close_mine()
            return None
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that writes, and commit it at the end of the block."""
        # Among threads first: SQLite's own way to wait is to try again, which is not fair.
        if not self._turn.acquire(timeout=self._timeout):
            msg = f"{self._path} is locked: others had it for {self._timeout} s"
            raise CacheUnavailable(msg)
        try:
            database = self.mine()
            self._local.after = []
            with _alone(database):
                yield database
        finally:
            self._turn.release()
        for work in self._local.after:
            work()

    def after_commit(self, work: Callable[[], None]) -> None:
        """Do `work` when this thread's transaction has been committed."""
        self._local.after.append(work)

    def close_mine(self) -> None:
        """Close this thread's connection."""
        known, self._local.connection = getattr(self._local, "connection", None), None
        if known is not None:
            with self._lock:
                self._all = [one for one in self._all if one is not known[0]]
            with contextlib.suppress(sqlite3.Error):
                known[0].close()

    def close(self) -> None:
        """Close every connection of this process."""
        with self._lock:
            connections, self._all = self._all, []
        for connection in connections:
            with contextlib.suppress(sqlite3.Error):
                connection.close()
        self._local = threading.local()

    def set_aside(self) -> None:
        """Give a damaged or foreign database another name, so that a new one can begin."""
        self.close_mine()
        stamp = f"{time.time_ns():x}"
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                os.replace(self._path + suffix, f"{self._path}.damaged-{stamp}{suffix}")

    def _connect(self) -> sqlite3.Connection:
        self._tree.make_root()
        self._create_file()
        connection = sqlite3.connect(
            self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        with self._lock:
            self._all.append(connection)
        self._local.connection = (connection, _identity(self._path))
        return connection

    def _create_file(self) -> None:
        """Make the file ourselves, for its mode: SQLite's own would be by the umask."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            return
        if not stat.S_ISREG(status.st_mode):
            msg = f"{self._path} is no file"
            raise CacheUnavailable(msg)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(self._timeout * 1000)}")
        if not _is_ours(connection):
            # Somebody may be making it just now, and is done when it is our turn.
            with _alone(connection):
                is_new = _is_new(connection)
            if is_new:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
                connection.execute("PRAGMA journal_mode = WAL")
                with _alone(connection):
                    if _is_new(connection):
                        _create(connection)
        connection.execute("PRAGMA synchronous = NORMAL")


@contextlib.contextmanager
def _alone(connection: sqlite3.Connection) -> Iterator[None]:
    """Be the only writer for the block, all of which is done or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _is_ours(connection: sqlite3.Connection) -> bool:
    return _marks(connection) == (_APPLICATION, _FORMAT)


def _is_new(connection: sqlite3.Connection) -> bool:
    """Tell whether a database has still to be made ours.

    Raises:
        sqlite3.DatabaseError: it is another program's, or of another format.
    """
    if _is_ours(connection):
        return False
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty or _marks(connection) != (0, 0):
        msg = "a database of another program, or of another format"
        raise sqlite3.DatabaseError(msg)
    return True


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return application, version


def _create(connection: sqlite3.Connection) -> None:
    for statement in _statements(_SCHEMA + TRIGGER_REMOVED):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_FORMAT}")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _statements(script: str) -> Iterator[str]:
    """Split a script where a statement is complete: triggers have semicolons in them."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


_every: weakref.WeakSet[Connections] = weakref.WeakSet()
# The caches that a fork has closed: what is made meanwhile has nothing open.
_closed: list[Connections] = []


def _before_fork() -> None:
    _closed[:] = list(_every)
    for connections in _closed:
        connections.before_fork()


def _after_fork_in_parent() -> None:
    for connections in _closed:
        connections.after_fork()
    _closed.clear()


def _after_fork_in_child() -> None:
    for connections in _closed:
        connections.after_fork_in_child()
    _closed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
