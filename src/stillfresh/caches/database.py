"""One SQLite database, shared by threads and processes.

Each thread has a connection of its own. Readers never wait (WAL). Writers of one process queue for
their turn, and wait for those of others, but not for long.

SQLite keeps what it knows of a file's locks in the process's memory, so a child that is forked
while a connection is open believes in locks that it doesn't have. All are closed before a fork,
when no thread is using one, and opened again where they are needed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from stillfresh.caches import schema
from stillfresh.caches.connection import (
    LOG_PAGES,
    MEMORY,
    UNUSABLE,
    Damaged,
    Foreign,
    Mine,
    end_transaction,
    is_damage,
    opened,
)
from stillfresh.caches.files import fail
from stillfresh.caches.generations import Generations
from stillfresh.errors import CacheFull, CacheUnavailable, CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stillfresh.caches.directory import Directory

# How long a fork waits for statements to end, in seconds: as long as a slow disk may take.
_PATIENCE: Final = 10.0
# How often to look for a database that others begin anew meanwhile.
_TRIES: Final = 16
T = TypeVar("T")
# What a statement may raise. The last is for words of SQLite's own that have parts of a damaged
# database in them.
_ERRORS: Final = (sqlite3.Error, OSError, UnicodeDecodeError)
# While much is removed it may have 128 MiB, and pages of 16 MiB are kept in memory instead of 2:
# the same pages change in every transaction, and are written into the database once.
_MUCH_LOG_PAGES: Final = 32768
_MUCH_MEMORY: Final = 16 << 10  # KiB
_GAPS: Final = ("PRAGMA freelist_count", "PRAGMA page_count", "PRAGMA page_size")


class _Threads(threading.local):
    mine: Mine | None = None


class Database:
    """Statements, each a transaction of its own, and transactions. Errors are `StoreError`s.

    Attributes:
        timeout: how long a writer waits for another, in seconds, by connections that are opened
            from when it is set.
    """

    def __init__(self, tree: Directory, timeout: float, *, durable: bool = False) -> None:
        """Keep it in the root of `tree`, where it is made by the first change."""
        self._tree = tree
        self.timeout = timeout
        self._durable = durable
        self._generations = Generations(tree)
        self._closed = False
        self._renew()
        _every.add(self)

    def _renew(self) -> None:
        self._threads = _Threads()
        self._all: weakref.WeakSet[Mine] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._forking = False
        self._forked = threading.Event()

    # Statements.

    def one(self, doing: str, query: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query; None where there is none, or no database yet."""
        mine = self._threads.mine or self._begin()
        # In this order, and in the other before a fork: one of both sees the other.
        mine.busy = True
        if self._forking:
            self._stand_aside(mine)
        try:
            return self._one(mine, query, values)
        except _ERRORS as error:
            self._may_go_on(error, doing, mine)
            again = functools.partial(self._one, mine, query, values)
            return self._persistently(mine, doing, again)
        finally:
            mine.busy = False
            if self._closed:
                mine.close()

    def _one(self, mine: Mine, query: str, values: Sequence[object]) -> Any:
        generations = self._generations
        if generations.present() != mine.number or generations.identity != mine.identity:
            self._is_there(mine)
        return None if mine.cursor is None else mine.cursor.execute(query, values).fetchone()

    def rows(self, doing: str, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query."""
        mine = self._begin()

        def fetch() -> list[Any]:
            if not self._is_there(mine):
                return []
            assert mine.cursor is not None  # noqa: S101 - as it is there
            return mine.cursor.execute(query, values).fetchall()

        try:
            return self._persistently(mine, doing, fetch)
        finally:
            self._end(mine)

    def write(
        self, doing: str, statement: str, values: Sequence[object], *, into: int | None = None
    ) -> int:
        """Execute one statement, and return how many rows it changed, by its triggers too.

        With a number to write `into`, nothing is done if that isn't of the present folder for
        bodies.
        """
        mine = self._begin()
        try:
            return self._write(mine, statement, values, into)
        except _ERRORS as error:
            again = functools.partial(self._write, mine, statement, values, into)
            return self._write_after(error, mine, doing, again)
        finally:
            self._end(mine)

    def _write_after(
        self, error: Exception, mine: Mine, doing: str, again: Callable[[], int]
    ) -> int:
        """Write what has failed: into the next database, or where there is room again."""
        try:
            self._may_go_on(error, doing, mine)
            return self._persistently(mine, doing, again)
        except CacheFull:
            if not self.reuse_log():
                raise
            return self._persistently(mine, doing, again)

    def _write(self, mine: Mine, statement: str, values: Sequence[object], into: int | None) -> int:
        waited = self._wait_for_turn(mine)
        try:
            connection = self._ready(mine)
            if into is not None and mine.bodies != into:
                return 0
            before = connection.total_changes
            assert mine.cursor is not None  # noqa: S101 - as there is a connection
            if waited:
                with self._patient(connection, waited):
                    mine.cursor.execute(statement, values)
            else:
                mine.cursor.execute(statement, values)
            return connection.total_changes - before
        finally:
            self._give_turn_back()

    @contextlib.contextmanager
    def change(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Change the database, all of the block or nothing of it."""
        mine = self._begin()
        try:
            waited = self._wait_for_turn(mine)
            try:
                connection = self._alone(mine, waited)
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    end_transaction(connection)
                    raise
            finally:
                self._give_turn_back()
        except _ERRORS as error:
            self._fail(error, doing, mine)
        finally:
            self._end(mine)

    def number(self) -> int:
        """Return the number of the present database, 0 where there is none.

        Raises:
            StoreError: the root can't be trusted, or not be read.
        """
        try:
            return self._generations.present()
        except OSError as error:
            self._fail(error, "looking", None)

    def bodies(self, *, create: bool = False) -> int:
        """Return the number of the present database's folder for bodies; 0 where there is none.

        Raises:
            StoreError: the database can't be opened, or not be made if it is to be.
        """
        mine = self._begin()

        def look() -> int:
            if create:
                self._ready(mine)
            elif not self._is_there(mine):
                return 0
            return mine.bodies

        try:
            return self._persistently(mine, "looking", look)
        finally:
            self._end(mine)

    def begin_anew(self) -> None:
        """Go on with an empty database, in the place of the present one.

        Raises:
            StoreError: that can't be done.
        """
        try:
            while number := self._generations.present():
                try:
                    followed = self._generations.follow(number)
                except _ERRORS:
                    # There may be no room for another one beside it. Nothing of it is to stay.
                    self._generations.hollow_out(number)
                    followed = self._generations.follow(number)
                if followed:
                    self._generations.remove(number)
                    self._generations.remove_bodies(number)
                    break
        except _ERRORS as error:
            self._fail(error, "clearing", None)

    def gaps(self) -> tuple[int, int]:
        """Return how many bytes of the present database are free, and how many it has.

        Raises:
            StoreError: it can't be read.
        """
        sizes = [self.one("counting", query) for query in _GAPS]
        if None in sizes:
            return 0, 0
        free, pages, size = (row[0] for row in sizes)
        return free * size, pages * size

    def compact(self, share: float) -> None:
        """Go on with a database without gaps, where this share of the present one is free.

        Meanwhile nobody can store anything. Gives up where others don't let it.

        Raises:
            StoreError: that can't be done.
        """
        free, size = self.gaps()
        if size and free >= size * share:
            with self.change("compacting") as connection:
                mine = self._threads.mine
                assert mine is not None  # noqa: S101 - as it changes something
                number, source = mine.number, self._open(mine.number)
                # Another one may have done it meanwhile.
                free, size, _ = (source.execute(query).fetchone()[0] for query in _GAPS)
                try:
                    followed = free >= size * share and self._generations.follow(
                        number, functools.partial(schema.compact, source)
                    )
                finally:
                    source.close()
                if followed:
                    # Who waits for its turn finds nothing to change, looks, and goes on there.
                    schema.retire(connection)
            if self._generations.present() > number:
                self._generations.remove(number)
        self.rows("compacting", "PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def at_length(self) -> Iterator[None]:
        """Have this thread's connection ready for many changes, one after the other."""
        self._suit(_MUCH_MEMORY, _MUCH_LOG_PAGES)
        try:
            yield
        finally:
            self._suit(MEMORY, LOG_PAGES)

    def _suit(self, memory: int, log_pages: int) -> None:
        # Without it, changes are slower.
        with contextlib.suppress(StoreError):
            self.one("setting up", f"PRAGMA cache_size = {-memory}")
            self.one("setting up", f"PRAGMA wal_autocheckpoint = {log_pages}")

    def reuse_log(self) -> bool:
        """Have the log written into the database, so that a full disk has room for changes again.

        Tells whether that could be done.
        """
        try:
            found = self.one("making room", "PRAGMA wal_checkpoint(RESTART)")
        except StoreError:
            return False
        return found is not None and found[0] == 0

    def sweep(self) -> int:
        """Remove what is left of earlier databases, and of some that were never done; how many?

        Raises:
            StoreError: the root can't be read.
        """
        bodies = self.bodies()
        try:
            return self._generations.sweep(bodies) if bodies else 0
        except OSError as error:
            self._fail(error, "sweeping", None)

    def close_mine(self) -> None:
        """Close this thread's connection."""
        mine = self._threads.mine
        if mine is not None:
            mine.close()

    def close(self) -> None:
        """Close every connection of this process that isn't just used; those close behind that."""
        self._closed = True
        for mine in list(self._all):
            if not mine.busy:
                mine.close()
        self._generations.close()

    # Whose turn it is.

    def _begin(self) -> Mine:
        """Show that this thread uses its connection, so that a fork waits for it."""
        mine = self._threads.mine
        if mine is None:
            mine = self._threads.mine = Mine()
            with self._lock:
                self._all.add(mine)
        mine.busy = True
        if self._forking:
            self._stand_aside(mine)
        return mine

    def _stand_aside(self, mine: Mine) -> None:
        """Let a fork go first."""
        while self._forking:
            mine.busy = False
            self._forked.wait(_PATIENCE)
            mine.busy = True

    def _end(self, mine: Mine) -> None:
        mine.busy = False
        if self._closed:
            mine.close()

    def _wait_for_turn(self, mine: Mine) -> float:
        """Wait for the other threads, which is fairer than SQLite's trying again; how long?"""
        if self._turn.acquire(blocking=False):
            return 0.0
        before = time.monotonic()
        # Where none is at work, a signal has kept one from giving it back.
        if not self._turn.acquire(timeout=self.timeout) and any(
            other.busy for other in list(self._all) if other is not mine
        ):
            msg = f"the database in {self._tree.root} is locked: others had it for {self.timeout} s"
            raise CacheUnavailable(msg)
        return time.monotonic() - before

    def _give_turn_back(self) -> None:
        # Whoever had it may have given it back just when it seemed that nobody would.
        try:
            self._turn.release()
        except RuntimeError:
            pass

    @contextlib.contextmanager
    def _patient(self, connection: sqlite3.Connection, waited: float) -> Iterator[None]:
        """Wait for other processes no longer than what is left of the time."""
        left = max(0, int((self.timeout - waited) * 1000))
        connection.execute(f"PRAGMA busy_timeout = {left}")
        try:
            yield
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(self.timeout * 1000)}")

    def _alone(self, mine: Mine, waited: float) -> sqlite3.Connection:
        """Begin a transaction as the only writer of the present database."""
        for _ in range(_TRIES):
            connection = self._ready(mine)
            patient = self._patient(connection, waited) if waited else contextlib.nullcontext()
            with patient:
                connection.execute("BEGIN IMMEDIATE")
            # While this one waited, another may have taken its place.
            if self._is_connected(mine, self._generations.present()):
                return connection
            end_transaction(connection)
        msg = f"the database in {self._tree.root}: others begin anew all the time"
        raise CacheUnavailable(msg)

    def before_fork(self) -> None:
        """Wait until no connection is used, a moment at most, and close all."""
        self._forked.clear()
        self._forking = True
        own, until = self._threads.mine, time.monotonic() + _PATIENCE
        for mine in list(self._all):
            while mine.busy and mine is not own and time.monotonic() < until:
                time.sleep(0.001)
            if not mine.busy:
                mine.close()
        self._generations.let_go()

    def after_fork(self) -> None:
        """Let others go on."""
        self._forking = False
        self._forked.set()

    def after_fork_in_child(self) -> None:
        """Begin anew: the other threads are not here, and what they have open is not ours."""
        _never_closed.extend(mine for mine in self._all if mine.connection is not None)
        self._renew()

    # Which database.

    def _persistently(self, mine: Mine, doing: str, do: Callable[[], T]) -> T:
        """Do something, again where another database has taken the place of the one it failed on.

        Raises:
            StoreError: it failed on the present one.
        """
        for _ in range(_TRIES):
            try:
                return do()
            except _ERRORS as error:
                self._may_go_on(error, doing, mine)
        msg = f"{doing} in {self._tree.root}: others begin anew all the time"
        raise CacheUnavailable(msg)

    def _may_go_on(self, error: Exception, doing: str, mine: Mine) -> None:
        """Let go of a database that another has followed.

        Its files may be gone by now, and then whatever is wrong with them means nothing.

        Raises:
            StoreError: it is the present one that failed.
        """
        self._generations.forget()
        present = 0
        with contextlib.suppress(OSError, StoreError):
            present = self._generations.present()
        if not mine.number or present <= mine.number:
            self._fail(error, doing, mine)
        mine.close()

    def _is_there(self, mine: Mine) -> bool:
        """Make sure of this thread's connection to the present database, if there is one."""
        number = self._generations.present()
        if number == 0:
            mine.close()
        elif not self._is_connected(mine, number):
            number = self._connect(mine, self._generations.present)
        return number > 0

    def _is_connected(self, mine: Mine, number: int) -> bool:
        """Tell whether this thread has the present database open, which has a number."""
        same = number == mine.number and self._generations.identity == mine.identity
        return same and mine.connection is not None

    def _ready(self, mine: Mine) -> sqlite3.Connection:
        """Return this thread's connection; make the database if there is none."""
        generations = self._generations
        if not self._is_connected(mine, generations.present()):
            self._connect(mine, lambda: generations.present() or generations.first())
        assert mine.connection is not None  # noqa: S101 - as there is one
        # A signal may have come between a transaction and its end.
        end_transaction(mine.connection)
        return mine.connection

    def _connect(self, mine: Mine, find: Callable[[], int]) -> int:
        """Connect to the database that `find` finds, and return its number; 0 where there is none.

        Somebody may begin anew between the one and the other, and so it is tried again.
        """
        for attempt in range(_TRIES):
            mine.close()
            number = find()
            if not number:
                break
            try:
                self._connect_to(mine, number)
            except (sqlite3.OperationalError, FileNotFoundError):
                if attempt == _TRIES - 1 or os.path.lexists(self._generations.path(number)):
                    raise
                self._generations.forget()
            else:
                break
        return number

    def _connect_to(self, mine: Mine, number: int) -> None:
        mine.number = number
        mine.identity = self._generations.identity_of(number)
        connection = mine.connection = self._open(number)
        mine.cursor = connection.cursor()
        try:
            if not schema.is_ours(connection):
                msg = "a database of another program, or of another format"
                raise Foreign(msg)
            (bodies,) = connection.execute("SELECT bodies FROM place").fetchone() or (None,)
            if type(bodies) is not int or not 0 < bodies <= number:
                msg = f"its bodies are said to be in folder {bodies!r}"
                raise Damaged(msg)
            mine.bodies = bodies
        except BaseException:
            mine.close()
            mine.number = number
            raise

    def _open(self, number: int) -> sqlite3.Connection:
        path = self._generations.path(number)
        return opened(path, self.timeout, durable=self._durable)

    def _set_aside(self, number: int, *, damaged: bool) -> None:
        """Have a database that can't be used followed by an empty one; remove it if it is ours."""
        with contextlib.suppress(sqlite3.Error, OSError, StoreError):
            self._generations.follow(number)
            if damaged and self._generations.may_be_removed(number):
                self._generations.remove(number)
                self._generations.remove_bodies(number)

    def _fail(self, error: Exception, doing: str, mine: Mine | None) -> NoReturn:
        """Say in our words what went wrong, and go on with another database if this one is bad."""
        self._generations.forget()
        number = 0
        if mine is not None:
            number = mine.number
            if mine.connection is None:
                mine.number = 0
        if isinstance(error, OSError):
            fail(error, f"{doing} in {self._tree.root}")
        text = f"{doing} in {self._tree.root}: {error}"
        extended = getattr(error, "sqlite_errorcode", -1)
        codes = {extended, extended & 0xFF}
        if sqlite3.SQLITE_FULL in codes:
            raise CacheFull(text) from error
        if codes & {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            msg = f"{text}: others had it for {self.timeout} s"
            raise CacheUnavailable(msg) from error
        says_so = extended == sqlite3.SQLITE_READONLY and mine is not None and self._says_so(mine)
        if codes & UNUSABLE and not says_so:
            msg = f"{text}: SQLite can't work here; FileCache or SeparateBodyFileCache may"
            raise CacheUnavailable(msg) from error
        foreign = isinstance(error, Foreign)
        if mine is not None and number and (says_so or is_damage(error)):
            mine.close()
            self._set_aside(number, damaged=not foreign)
            msg = f"{text}; begun anew"
            raise CorruptEntry(msg) from error
        raise CacheUnavailable(text) from error

    def _says_so(self, mine: Mine) -> bool:
        """Tell whether a database that can't be written to only says so, in a damaged header.

        A connection may be from a time when it could not be; so it takes two, one after the other.
        """
        number = mine.number
        path = self._generations.path(number)
        for name in (path, f"{path}-wal", f"{path}-shm", self._tree.root):
            if os.path.lexists(name) and not os.access(name, os.W_OK):
                return False
        known, mine.read_only = mine.read_only, number
        mine.close()
        return 0 < number == known


_every: weakref.WeakSet[Database] = weakref.WeakSet()
# The caches that a fork has closed: what is made meanwhile has nothing open.
_closed: list[Database] = []
# What a child has of its parent's: closing it would tell SQLite of locks that are the parent's.
_never_closed: list[Mine] = []


def _before_fork() -> None:
    _closed[:] = list(_every)
    for database in _closed:
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in _closed:
        database.after_fork()
    _closed.clear()


def _after_fork_in_child() -> None:
    for database in _closed:
        database.after_fork_in_child()
    _closed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
