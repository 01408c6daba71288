"""The connections of a SQLite cache: one a thread, and anew where the database was replaced.

A child after `fork()` makes its own; what it got from its parent it must neither use nor close.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
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


class Connections:
    """One connection a thread, made when it is needed, and anew where the database was replaced."""

    def __init__(self, path: str, tree: Directory, timeout: float) -> None:
        self._path = path
        self._tree = tree
        self._timeout = timeout
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        # SQLite forbids to use or close in a child what the parent had open.
        self._parents: list[object] = []

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
        if self._pid != os.getpid():
            self._parents.append((self._local, self._all))
            self._local, self._all, self._pid = threading.local(), [], os.getpid()
            self._lock = threading.Lock()
        known: tuple[sqlite3.Connection, tuple[int, int] | None] | None
        known = getattr(self._local, "connection", None)
        if known is None:
            return None
        if known[1] == identity:
            return known[0]
        self.close_mine()
        return None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that writes, and commit it at the end of the block."""
        database = self.mine()
        self._local.after = []
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
        try:
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
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
        if self._pid != os.getpid():
            return
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
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if (application, version) == (_APPLICATION, _FORMAT):
            connection.execute("PRAGMA synchronous = NORMAL")
            return
        empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty or (application, version) != (0, 0):
            msg = "a database of another program, or of another format"
            raise sqlite3.DatabaseError(msg)
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have been quicker.
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _statements(_SCHEMA + TRIGGER_REMOVED):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise


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
