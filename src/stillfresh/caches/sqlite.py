"""The embedded default: small entries as rows of a SQLite database, larger bodies as files beside.

A row's content is a frame (see `frames`), with the lengths, digest and checksums that SQLite's
pages don't have: whatever a damaged database returns, it is the entry that was asked for, or
damage. What questions are asked about, sizes and times, stands apart in a narrow table, so they
never read a body. A longer body is written to a file that nobody knows, and published by the commit
of the row that names it.

Readers never wait (WAL). Writers wait for their turn, but not for long: a store that can't have it
is dropped. Recency is noted in memory and written along with a store, or by a thread: a hit writes
nothing. A database that is malformed, foreign or of another format is set aside and begun anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
import time
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NoReturn

import xxhash

from stillfresh.caches import frames
from stillfresh.caches.base import (
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    SeparateBodyBaseCache,
    as_bytes,
    moment,
)
from stillfresh.caches.connections import TRIGGER_REMOVED, Connections
from stillfresh.caches.directory import Directory, fail, hold, is_held, write_all
from stillfresh.caches.entryfiles import InFile
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, Frame
from stillfresh.caches.pairing import Pairing
from stillfresh.caches.pruning import (
    Bounds,
    Cause,
    DryRun,
    Progress,
    PruneReport,
    Repair,
    Stats,
    VerifyReport,
)
from stillfresh.errors import BodyLost, CacheFull, CacheUnavailable, CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

# Bodies up to this size are rows: see `benchmarks sqlite` for what either costs.
INLINE_LIMIT: Final = 1 << 15
DEFAULT_MAX_BYTES: Final = 1 << 30
# How long a writer waits for its turn, in seconds.
TIMEOUT: Final = 0.25
# Pruning leaves this part of the bound, so that it is not done at every store.
_LOW: Final = 0.95
# Recency is written once in this many seconds for an entry.
_RECENCY_STEP: Final = 3600.0
# So many used entries are noted before a thread writes that down.
_NOTED: Final = 1000
_BATCH: Final = 500
# How often a reader starts over because the version it had found was replaced under its hands.
_TRIES: Final = 16

_BODIES: Final = "bodies"
# What a file system without these can't be used for: it says so once, and what to use instead.
_UNUSABLE: Final = (
    "SQLite can't work in {root} ({error}); use FileCache or SeparateBodyFileCache there"
)


class Order(Enum):
    """In which order entries are listed."""

    KEY = "key"
    USE = "used_at"
    SIZE = "size"
    AGE = "stored_at"


class SQLiteCache(SeparateBodyBaseCache):
    """Entries in a database in `directory`, bounded, least recently used out first.

    Raises:
        ConfigError: the root is a file, belongs to another user, or others may write to it; or a
            bound is negative.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = DEFAULT_MAX_BYTES,
        max_age: float | None = None,
        inline_limit: int = INLINE_LIMIT,
        timeout: float = TIMEOUT,
        allow_unsafe_root: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep entries in `directory`, which is made when first written to.

        Args:
            directory: the root; None is the default one, in the platform's place for caches.
            max_bytes: the most that all entries may take; None is no bound.
            max_age: entries not used for longer than this many seconds go; None is no bound.
            inline_limit: bodies longer than this many bytes are files of their own.
            timeout: how long a writer waits for another, in seconds, before it gives up.
            allow_unsafe_root: use a root that another user owns or may write to.
            clock: the time, in seconds since the epoch.
        """
        super().__init__(clock=clock)
        if directory is None:
            from stillfresh.caches.urls import default_directory  # noqa: PLC0415 - knows of us

            directory = default_directory()
        self.directory = directory
        self.max_bytes = max_bytes
        self.max_age = max_age
        self.inline_limit = inline_limit
        self.timeout = timeout
        self._bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
        self._tree = Directory(directory, filemode=0o600, dirmode=0o700, trusted=allow_unsafe_root)
        self._path = os.path.join(self._tree.root, "cache.sqlite")
        self._begin()

    def __repr__(self) -> str:
        """Name the cache and its directory."""
        return f"SQLiteCache({os.fspath(self.directory)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings; what is open stays here."""
        mine = {"_pairing", "_connections", "_local", "_lock", "_noted", "_counts", "_writing"}
        return {name: value for name, value in vars(self).items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings in another process."""
        vars(self).update(state)
        self._pairing = Pairing(self, self._clock)
        self._begin()

    def _begin(self) -> None:
        self._connections = Connections(self._path, self._tree, self.timeout)
        self._lock = threading.Lock()
        self._noted: dict[int, float] = {}
        self._writing: threading.Thread | None = None

    # The whole-entry interface.

    def open(self, key: str) -> Entry | None:
        """Follow the row to the version it names."""
        self._check_open()
        name, missing = _id(key), ""
        for _ in range(_TRIES):
            row = self._one("reading", "SELECT frame FROM content WHERE id = ?", (name,))
            if row is None:
                return None
            frame, body = _read(row[0])
            now = self._clock()
            # Two keys of one digest: the other one is stored.
            if frame.key != key or _is_past(frame.expires_at, now):
                return None
            source: InMemory | InFile = InMemory(body)
            if frame.flags & BODY_ELSEWHERE:
                found = self._open_body(frame)
                if found is None:
                    # Its row has just been replaced, and there is another by now; or it is gone.
                    if missing == frame.version:
                        msg = "the body file is missing"
                        raise CorruptEntry(msg)
                    missing = frame.version
                    continue
                source = found
            self._note(name, now)
            return Entry(
                frame.metadata,
                version=frame.version,
                size=frame.body_size,
                source=source,
                digest=frame.digest,
                has_body=bool(frame.flags & HAS_BODY),
                expires_at=frame.expires_at,
            )
        # Writers replace it faster than it can be opened.
        return None

    def writer(self, key: str) -> EntryWriter:
        """Write beside what is there, and take its place at the commit."""
        self._check_open()
        version = frames.new_version()
        return EntryWriter(
            _Sink(self, key, version),
            version=version,
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Swap the metadata of `version`."""
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        metadata = as_bytes(metadata)
        name = _id(key)
        if not self._connections.exists():
            return False
        with self._changing("updating") as database:
            row = database.execute("SELECT frame FROM content WHERE id = ?", (name,)).fetchone()
            if row is None:
                return False
            frame, body = _read(row[0])
            present = frame.key == key and frame.version == version
            if not present or _is_past(frame.expires_at, now):
                return False
            if _is_past(expires_at, now):
                self._delete(database, (name,))
                return True
            frame = frame._replace(metadata=metadata, stored_at=now, expires_at=expires_at)
            data = _written(frame, body)
            database.execute("UPDATE content SET frame = ? WHERE id = ?", (data, name))
            size = len(data) + (frame.body_size if frame.flags & BODY_ELSEWHERE else 0)
            database.execute(
                "UPDATE entry SET size = ?, stored_at = ?, used_at = ?, expires_at = ? "
                "WHERE id = ?",
                (size, now, now, expires_at, name),
            )
        return True

    def remove(self, key: str) -> bool:
        """Remove the row, then its body file."""
        self._check_open()
        if not self._connections.exists():
            return False
        name = _id(key)
        with self._changing("removing") as database:
            found = database.execute(
                "SELECT expires_at FROM entry WHERE id = ? AND key = ?",
                (name, frames.encode_key(key)),
            ).fetchone()
            if found is not None:
                self._delete(database, (name,))
        return found is not None and not _is_past(found[0], self._clock())

    def entries(self, order: Order = Order.KEY, *, host: str | None = None) -> Iterator[EntryInfo]:
        """List the entries in this order, all of them or those of one host."""
        self._check_open()
        now = self._clock()
        for row in self._rows(order, host):
            entry = _info(row)
            if not _is_past(entry.expires_at, now):
                yield entry

    def clear(self) -> None:
        """Remove every row and every body file."""
        self._check_open()
        self._pairing.drop()
        if not self._connections.exists():
            return
        with self._lock:
            self._noted.clear()
        with self._changing("clearing") as database:
            files = [
                file
                for (file,) in database.execute("SELECT file FROM entry WHERE file IS NOT NULL")
            ]
            # Without the trigger SQLite empties the table at once.
            database.execute("DROP TRIGGER removed")
            database.execute("DELETE FROM entry")
            database.execute("DELETE FROM content")
            database.execute("UPDATE total SET bytes = 0, entries = 0")
            database.execute(TRIGGER_REMOVED)
        self._unlink(files)
        self._give_back()

    def close(self) -> None:
        """Write down what was used, and close the database."""
        if not self._closed:
            with contextlib.suppress(StoreError):
                self._write_noted()
        super().close()
        self._connections.close()

    # Questions about all of it.

    def stats(self, *, progress: Progress | None = None) -> Stats:
        """Count what is stored, without reading any of it."""
        del progress  # it takes no time
        self._check_open()
        stats = Stats()
        rows = self._all(
            "counting",
            "SELECT host, count(*), sum(size), min(stored_at), max(stored_at) FROM entry "
            "WHERE expires_at IS NULL OR expires_at > ? GROUP BY host",
            (self._clock(),),
        )
        for host, count, size, oldest, newest in rows:
            stats.entries += count
            stats.bytes += size
            stats.oldest = oldest if stats.oldest is None else min(stats.oldest, oldest)
            stats.newest = newest if stats.newest is None else max(stats.newest, newest)
            stats.hosts[host] = (count, size)
        return stats

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove what is over the bounds, and body files that no row names.

        A bound that isn't given is the cache's own.

        Raises:
            StoreError: the database failed.
            ConfigError: a bound is negative.
        """
        del progress  # it takes no time
        self._check_open()
        dry_run = DryRun(dry_run)
        bounds = Bounds(
            max_bytes=self.max_bytes if max_bytes is None else max_bytes,
            max_age=self.max_age if max_age is None else max_age,
        )
        report = PruneReport()
        if not self._connections.exists():
            return report
        self._write_noted()
        self._prune(bounds, report, dry_run)
        self._sweep(report, dry_run)
        if dry_run is DryRun.NO:
            self._give_back()
        return report

    def verify(
        self, *, repair: Repair = Repair.REPORT, progress: Progress | None = None
    ) -> VerifyReport:
        """Check the length and digest of every row and every body file."""
        self._check_open()
        repair = Repair(repair)
        report = VerifyReport()
        names = [name for (name,) in self._all("listing", "SELECT id FROM entry")]
        damaged = []
        for done, name in enumerate(names, 1):
            try:
                self._verify(name)
                report.checked += 1
            except (BodyLost, CorruptEntry) as error:
                report.damaged[str(name)] = str(error)
                damaged.append(name)
            if progress is not None:
                progress(done, len(names))
        if repair is Repair.REMOVE and damaged:
            with self._changing("repairing") as database:
                self._delete(database, damaged)
            report.repaired = len(damaged)
        return report

    # Storing.

    def _publish(self, key: str, seal: Seal, body: bytes, file: str | None) -> None:
        self._check_open()
        flags = (HAS_BODY if seal.has_body else 0) | (BODY_ELSEWHERE if file else 0)
        frame = Frame(
            key,
            seal.metadata,
            flags,
            seal.size,
            seal.digest,
            seal.version,
            seal.stored_at,
            seal.expires_at,
        )
        data = _written(frame, body)
        size = len(data) + (seal.size if file else 0)
        if self.max_bytes is not None and size > self.max_bytes:
            msg = f"an entry of {size} bytes in a cache of at most {self.max_bytes}"
            raise CacheFull(msg)
        name, now = _id(key), seal.stored_at
        with self._changing("storing") as database:
            old = database.execute("SELECT file FROM entry WHERE id = ?", (name,)).fetchone()
            if old is None:
                database.execute(
                    "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        name,
                        frames.encode_key(key),
                        _host(key),
                        size,
                        seal.size,
                        now,
                        now,
                        seal.expires_at,
                        file,
                    ),
                )
                database.execute("INSERT INTO content VALUES (?, ?)", (name, data))
            else:
                database.execute(
                    "UPDATE entry SET key = ?, host = ?, size = ?, body_size = ?, stored_at = ?, "
                    "used_at = ?, expires_at = ?, file = ? WHERE id = ?",
                    (
                        frames.encode_key(key),
                        _host(key),
                        size,
                        seal.size,
                        now,
                        now,
                        seal.expires_at,
                        file,
                        name,
                    ),
                )
                database.execute("UPDATE content SET frame = ? WHERE id = ?", (data, name))
            self._flush(database)
            total = database.execute("SELECT bytes FROM total").fetchone()[0]
        if old is not None and old[0] is not None:
            self._unlink([old[0]])
        if self.max_bytes is not None and total > self.max_bytes:
            bounds = Bounds(max_bytes=int(self.max_bytes * _LOW), max_age=self.max_age)
            with contextlib.suppress(StoreError):
                # What can't be removed now is when the next one is stored.
                self._prune(bounds, PruneReport(), DryRun.NO)
                self._give_back()

    def _delete(self, database: sqlite3.Connection, names: Any) -> None:
        """Remove rows; their files go when that is committed."""
        gone: list[str] = []
        for name in names:
            row = database.execute("SELECT file FROM entry WHERE id = ?", (name,)).fetchone()
            if row is not None and row[0] is not None:
                gone.append(row[0])
            database.execute("DELETE FROM entry WHERE id = ?", (name,))
            database.execute("DELETE FROM content WHERE id = ?", (name,))
        self._connections.after_commit(lambda: self._unlink(gone))

    def _prune(self, bounds: Bounds, report: PruneReport, dry_run: DryRun) -> None:
        now = self._clock()
        rows = self._all(
            "planning",
            "SELECT id, key, size, body_size, stored_at, used_at, expires_at FROM entry "
            "ORDER BY used_at",
        )
        total = sum(row[2] for row in rows)
        doomed: list[int] = []
        for row in rows:
            entry = _info(row)
            cause = None
            if _is_past(entry.expires_at, now):
                cause = Cause.EXPIRED
            elif bounds.max_age is not None and now - entry.used_at > bounds.max_age:
                cause = Cause.OVER_AGE
            if cause is not None:
                total -= entry.size
                report.remove(entry, cause)
                doomed.append(row[0])
        gone = set(doomed)
        for row in rows:
            if row[0] in gone:
                continue
            entry = _info(row)
            if bounds.max_bytes is not None and total > bounds.max_bytes:
                total -= entry.size
                report.remove(entry, Cause.OVER_SIZE)
                doomed.append(row[0])
            else:
                report.keep(entry)
        if dry_run is DryRun.YES:
            return
        for at in range(0, len(doomed), _BATCH):
            with self._changing("pruning") as database:
                self._delete(database, doomed[at : at + _BATCH])

    def _sweep(self, report: PruneReport, dry_run: DryRun) -> None:
        """Remove body files that no row names and nobody writes."""
        root = os.path.join(self._tree.root, _BODIES)
        named = {
            file
            for (file,) in self._all("listing", "SELECT file FROM entry WHERE file IS NOT NULL")
        }
        for folder in _folders(root):
            with contextlib.suppress(OSError):
                for name in os.listdir(folder):
                    if name not in named:
                        self._sweep_one(os.path.join(folder, name), report, dry_run)
                if dry_run is DryRun.NO:
                    os.rmdir(folder)
                    report.directories += 1

    def _sweep_one(self, path: str, report: PruneReport, dry_run: DryRun) -> None:
        with contextlib.suppress(OSError):
            fd = os.open(path, os.O_RDONLY | _NOFOLLOW)
            try:
                status = os.fstat(fd)
                if is_held(fd) or self._is_named(os.path.basename(path)):
                    return
                if dry_run is DryRun.NO:
                    os.unlink(path)
            finally:
                os.close(fd)
            report.swept += 1
            report.swept_bytes += status.st_size

    def _is_named(self, file: str) -> bool:
        row = self._one("listing", "SELECT 1 FROM entry WHERE file = ?", (file,))
        return row is not None

    def _verify(self, name: int) -> None:
        row = self._one("verifying", "SELECT frame FROM content WHERE id = ?", (name,))
        if row is None:
            msg = "the row has no content"
            raise CorruptEntry(msg)
        frame, body = _read(row[0])
        if _id(frame.key) != name:
            msg = "the row holds the entry of another key"
            raise CorruptEntry(msg)
        source: InMemory | InFile | None = InMemory(body)
        if frame.flags & BODY_ELSEWHERE:
            source = self._open_body(frame)
        if source is None:
            msg = "the body file is missing"
            raise CorruptEntry(msg)
        with Entry(
            frame.metadata,
            version=frame.version,
            size=frame.body_size,
            source=source,
            digest=frame.digest,
        ) as entry:
            entry.verify()

    # Recency.

    def _note(self, name: int, now: float) -> None:
        """Remember that an entry was used, to be written down some time."""
        with self._lock:
            last = self._noted.get(name)
            if last is not None and now - last < _RECENCY_STEP:
                return
            self._noted[name] = now
            if len(self._noted) < _NOTED or self._writing is not None:
                return
            self._writing = threading.Thread(
                target=self._write_behind, name="stillfresh-recency", daemon=True
            )
        with contextlib.suppress(RuntimeError):
            self._writing.start()

    def _write_behind(self) -> None:
        try:
            with contextlib.suppress(StoreError):
                self._write_noted()
        finally:
            self._connections.close_mine()
            self._writing = None

    def _write_noted(self) -> None:
        if self._noted and self._connections.exists():
            with self._changing("noting use") as database:
                self._flush(database)

    def _flush(self, database: sqlite3.Connection) -> None:
        with self._lock:
            noted, self._noted = self._noted, {}
        database.executemany(
            "UPDATE entry SET used_at = max(used_at, ?) WHERE id = ?",
            [(at, name) for name, at in noted.items()],
        )

    # Files.

    def _body_path(self, file: str) -> str:
        return os.path.join(self._tree.root, _BODIES, file[:2], file)

    def _open_body(self, frame: Frame) -> InFile | None:
        path = self._body_path(frame.version)
        try:
            fd = os.open(path, os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return None
        except OSError as error:
            msg = f"the body file can't be read: {error.strerror}"
            raise CorruptEntry(msg) from error
        status = os.fstat(fd)
        source = InFile(fd, 0)
        if not stat.S_ISREG(status.st_mode) or status.st_size != frame.body_size:
            source.close()
            msg = f"a body file of {status.st_size} bytes where {frame.body_size} were written"
            raise CorruptEntry(msg)
        return source

    def _create_body(self, version: str) -> int:
        path = self._body_path(version)
        try:
            self._tree.make_root()
            for folder in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                if stat.S_ISLNK(os.lstat(folder).st_mode):
                    msg = f"{folder} is a link"
                    raise CacheUnavailable(msg)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
        except OSError as error:
            fail(error, "writing a body")
        hold(fd)
        return fd

    def _unlink(self, files: list[str]) -> None:
        for file in files:
            with contextlib.suppress(OSError):
                os.unlink(self._body_path(file))

    # The database.

    def _rows(self, order: Order, host: str | None) -> Iterator[tuple[Any, ...]]:
        self._write_noted()
        # In pages, each a short transaction: a listing may take its time.
        column, where, last = order.value, "" if host is None else "AND host = :host", None
        while True:
            after = "" if last is None else f"AND ({column}, id) > (:value, :id)"
            rows = self._all(
                "listing",
                "SELECT id, key, size, body_size, stored_at, used_at, expires_at, "  # noqa: S608
                f"{column} FROM entry WHERE 1 {where} {after} ORDER BY {column}, id LIMIT 1000",
                {"host": host, **({} if last is None else {"value": last[-1], "id": last[0]})},
            )
            if not rows:
                return
            for row in rows:
                yield row[:-1]
            last = rows[-1]

    def _give_back(self) -> None:
        """Return freed pages to the file system."""
        with contextlib.suppress(StoreError):
            self._all("giving back", "PRAGMA incremental_vacuum")

    def _one(self, doing: str, query: str, values: Any = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query; None where there is none, or no database yet."""
        row: tuple[Any, ...] | None
        try:
            with self._connections.used():
                database = self._connections.present()
                row = None if database is None else database.execute(query, values).fetchone()
        except sqlite3.Error as error:
            self._fail(error, doing)
        except OSError as error:
            fail(error, f"{doing} in {self._tree.root}")
        return row

    def _all(self, doing: str, query: str, values: Any = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            with self._connections.used():
                database = self._connections.present()
                return [] if database is None else database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self._fail(error, doing)
        except OSError as error:
            fail(error, f"{doing} in {self._tree.root}")

    @contextlib.contextmanager
    def _changing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Change the database, all of the block or nothing of it."""
        try:
            with self._connections.used(), self._connections.transaction() as database:
                yield database
        except sqlite3.Error as error:
            self._fail(error, doing)
        except OSError as error:
            fail(error, f"{doing} in {self._tree.root}")

    def _fail(self, error: sqlite3.Error, doing: str) -> NoReturn:
        text = f"{doing} in {self._tree.root}: {error}"
        if isinstance(error, sqlite3.OperationalError):
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise CacheFull(text) from error
            if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
                msg = f"{text}: others had it for {self.timeout} s"
                raise CacheUnavailable(msg) from error
            if code not in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT}:
                msg = _UNUSABLE.format(root=self._tree.root, error=error)
                raise CacheUnavailable(msg) from error
        # Malformed, no database, or without the tables that it should have.
        self._connections.set_aside()
        msg = f"{text}; the database was set aside"
        raise CorruptEntry(msg) from error


class _Sink:
    """Writes one version: small bodies as a row, longer ones as a file."""

    def __init__(self, cache: SQLiteCache, key: str, version: str) -> None:
        self._cache = cache
        self._key = key
        self._version = version
        self._held = bytearray()
        self._fd = -1
        self._size = 0

    def write(self, chunk: memoryview, /) -> None:
        self._size += len(chunk)
        limit = self._cache.max_bytes
        if limit is not None and self._size > limit:
            msg = f"a body of over {limit} bytes in a cache of at most that"
            raise CacheFull(msg)
        try:
            if self._fd < 0:
                if len(self._held) + len(chunk) <= self._cache.inline_limit:
                    self._held += chunk
                    return
                self._fd = self._cache._create_body(self._version)  # noqa: SLF001 - its own sink
                write_all(self._fd, bytes(self._held))
                self._held.clear()
            write_all(self._fd, chunk)
        except OSError as error:
            fail(error, "writing a body")

    def publish(self, seal: Seal) -> None:
        file = self._version if self._fd >= 0 else None
        if file is not None and os.fstat(self._fd).st_nlink == 0:
            msg = "the body was removed while it was written"
            raise CacheUnavailable(msg)
        # Open, and so held, until a row names it.
        self._cache._publish(self._key, seal, bytes(self._held), file)  # noqa: SLF001
        self._let_go()

    def discard(self) -> None:
        if self._fd >= 0:
            self._cache._unlink([self._version])  # noqa: SLF001
        self._let_go()

    def detach(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        self._held.clear()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def _id(key: str) -> int:
    """Return the row of a key: 64 bits of its digest, as SQLite's integers have them."""
    return int.from_bytes(xxhash.xxh3_64_digest(frames.encode_key(key)), "big", signed=True)


def _host(key: str) -> str:
    return key.partition("://")[2].partition("/")[0] if "://" in key else ""


def _written(frame: Frame, body: bytes) -> bytes:
    head, tail = frames.encode(frame)
    return b"".join((head, body, tail))


def _read(data: Any) -> tuple[Frame, bytes]:
    """Read a row's content.

    Raises:
        CorruptEntry: it is damaged.
    """
    if type(data) is not bytes:
        msg = "the content is no blob"
        raise CorruptEntry(msg)
    head = frames.parse_head(data)
    if head.frame_size != len(data):
        msg = f"{len(data)} bytes where the frame has {head.frame_size}"
        raise CorruptEntry(msg)
    frame = frames.decode(head, data, data[head.tail_at :])
    return frame, data[frames.HEAD_SIZE : frames.HEAD_SIZE + frame.inline_size]


def _info(row: tuple[Any, ...]) -> EntryInfo:
    name, key, size, body_size, stored_at, used_at, expires_at = row
    return EntryInfo(
        key.decode("utf-8", "surrogatepass"),
        str(name),
        size,
        body_size,
        stored_at,
        used_at,
        expires_at,
    )


def _is_past(expires_at: float | None, now: float) -> bool:
    return expires_at is not None and expires_at <= now


def _folders(root: str) -> list[str]:
    try:
        with os.scandir(root) as scan:
            return [entry.path for entry in scan if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
