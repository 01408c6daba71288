"""The embedded default: small entries as rows of a SQLite database, larger bodies as files beside.

A row's content is a frame (see `frames`), with the lengths, digest and checksums that SQLite's
pages don't have: whatever a damaged database returns, it is the entry that was asked for, or
damage. A longer body is written to a file that nobody knows, and published by the row that names
it. Storing is one statement, whose triggers keep the totals, and note which files have lost their
rows: a process that dies then leaves a list of what is to be removed.

What is used is noted in memory and written down in batches (`usage`): a hit writes nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, Final

from stillfresh.caches import frames, rows, schema
from stillfresh.caches.base import (
    BoundedCache,
    Claim,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    SeparateBodyBaseCache,
    moment,
)
from stillfresh.caches.bodyfiles import BodyFiles, BodySink
from stillfresh.caches.claims import DirectoryClaims
from stillfresh.caches.database import Database
from stillfresh.caches.directory import Directory
from stillfresh.caches.entry import host_of
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, Frame
from stillfresh.caches.housekeeping import GAPS, Housekeeping
from stillfresh.caches.lately import Lately
from stillfresh.caches.pairing import Pairing
from stillfresh.caches.pruning import (
    Bounds,
    DryRun,
    Progress,
    PruneReport,
    Repair,
    Stats,
    VerifyReport,
)
from stillfresh.caches.usage import Usage
from stillfresh.caches.writing import appended
from stillfresh.errors import (
    BodyLost,
    CacheFull,
    CacheUnavailable,
    ConfigError,
    CorruptEntry,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stillfresh.caches.rows import Order

# Bodies up to this size are rows: reading is quicker up to about 100 KiB, storing up to more. It is
# measured by `python -m benchmarks sqlite`.
INLINE_LIMIT: Final = 1 << 16
DEFAULT_MAX_BYTES: Final = 1 << 30
# How long a writer waits for its turn, in seconds.
TIMEOUT: Final = 0.25
# The longest limit of time that makes sense, in seconds.
_LONGEST_TIMEOUT: Final = 86_400
# How often a reader starts over because the version it had found was replaced under its hands.
_TRIES: Final = 16


def default_directory() -> str:
    """Return the folder of the default cache, in the platform's place for caches.

    The name of the format stands in it, so that a later one won't trip over an earlier.
    """
    import platformdirs

    folder = platformdirs.user_cache_dir("stillfresh", appauthor=False)
    return os.path.join(folder, f"sqlite-{schema.FORMAT}")


def _checked_timeout(timeout: float) -> float:
    if not 0 <= timeout <= _LONGEST_TIMEOUT:
        msg = f"timeout is a number of seconds up to {_LONGEST_TIMEOUT}, not {timeout!r}"
        raise ConfigError(msg)
    return timeout


class SQLiteCache(BoundedCache, SeparateBodyBaseCache):
    """Entries in a database in `directory`, bounded, least recently used out first.

    Attributes:
        directory: the root.
        inline_limit: bodies longer than this many bytes are files of their own.

    Raises:
        ConfigError: the root is a file, belongs to another user, or others may write to it; or a
            bound or the timeout makes no sense.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        max_bytes: int | None = DEFAULT_MAX_BYTES,
        max_age: float | None = None,
        inline_limit: int = INLINE_LIMIT,
        timeout: float = TIMEOUT,
        durable: bool = False,
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
            durable: wait for the disk at every store, so that a power cut loses nothing.
            allow_unsafe_root: use a root that another user owns or may write to.
            clock: the time, in seconds since the epoch.
        """
        super().__init__(clock=clock)
        self._timeout = _checked_timeout(timeout)
        self.directory = directory = default_directory() if directory is None else directory
        self.inline_limit = inline_limit
        self.durable = durable
        self._bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
        self._tree = Directory(directory, filemode=0o600, dirmode=0o700, trusted=allow_unsafe_root)
        self._begin()

    def __repr__(self) -> str:
        """Name the cache and its directory."""
        return f"SQLiteCache({os.fspath(self.directory)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings; what is open stays here."""
        mine = {
            "_bodies",
            "_claims",
            "_database",
            "_dead",
            "_housekeeping",
            "_pairing",
            "_rows",
            "_usage",
        }
        return {name: value for name, value in vars(self).items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings in another process."""
        vars(self).update(state)
        self._pairing = Pairing(self, self._clock)
        self._begin()

    def _begin(self) -> None:
        self._database = Database(self._tree, self._timeout, durable=self.durable)
        self._bodies = BodyFiles(self._tree)
        self._usage = Usage(self._database, self._bounds, self._clock)
        self._claims = DirectoryClaims(self._tree)
        self._housekeeping = Housekeeping(
            self._database, self._bodies, self._usage, self._bounds, self._clock
        )
        # What the rows were that were read last.
        self._rows: Lately[int, tuple[Any, Any]] = Lately()
        # The versions that could not be removed, on a full disk say: they aren't handed out here.
        self._dead: dict[int, str] = {}

    def _bound(self, bounds: Bounds) -> None:
        self._bounds = self._housekeeping.bounds = self._usage.bounds = bounds

    @property
    def timeout(self) -> float:
        """How long a writer waits for another, in seconds; to be set before the cache is used."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float) -> None:
        self._timeout = self._database.timeout = _checked_timeout(timeout)

    @property
    def place(self) -> str:
        return f"sqlite {self._tree.root}"

    def claim(self, key: str, seconds: float) -> Claim | None:
        self._check_open()
        return self._claims.claim(key)

    # The whole-entry interface.

    def open(self, key: str) -> Entry | None:
        """Follow the row to the version it names."""
        return self._follow(key, used=True)

    def peek(self, key: str) -> Entry | None:
        return self._follow(key, used=False)

    def _follow(self, key: str, *, used: bool) -> Entry | None:
        self._check_open()
        name, encoded = rows.numbered(key)
        missing = ""
        for _ in range(_TRIES):
            row = self._database.one("reading", rows.FIND, (name,))
            if row is None:
                break
            data, used_at = row
            if type(data) is not bytes:
                msg = "the content is no blob"
                raise CorruptEntry(msg)
            metadata, body, flags, size, digest, version, expires_at = frames.unwrap(data, encoded)
            self._rows.note(name, row, len(data))
            now = self._clock()
            if expires_at is not None and expires_at <= now:
                break
            if self._dead and self._dead.get(name) == version:
                break
            source: Any = body
            if flags & BODY_ELSEWHERE:
                source = self._bodies.open(self._database.bodies(), version, size)
                if source is None:
                    # Its row has just been replaced, and there is another by now; or it is gone.
                    if missing == version:
                        msg = "the body file is missing"
                        raise CorruptEntry(msg)
                    missing = version
                    continue
            if used:
                self._usage.hit(name, used_at, size, now)
            return Entry(
                metadata,
                version=version,
                size=size,
                source=source,
                digest=digest,
                has_body=bool(flags & HAS_BODY),
                expires_at=expires_at,
            )
        if used:
            self._usage.miss()
        return None

    def open_listed(self, listed: EntryInfo) -> Entry | None:
        """Open an entry by its row, which is no use of it."""
        self._check_open()
        row = self._database.one("reading", rows.LISTED, (int(listed.name),))
        if row is None:
            return None
        frame, body = rows.read(row[0])
        # The number of a row that is gone may be another's by now.
        if frame.key != listed.key or is_past(frame.expires_at, self._clock()):
            return None
        return self._entry_in(frame, body)

    def _entry_in(self, frame: Frame, body: bytes) -> Entry | None:
        """Return the entry that a row's content describes; None if its body file is not there."""
        source: Any = InMemory(body)
        if frame.flags & BODY_ELSEWHERE:
            source = self._bodies.open(self._database.bodies(), frame.version, frame.body_size)
            if source is None:
                return None
        return Entry(
            frame.metadata,
            version=frame.version,
            size=frame.body_size,
            source=source,
            digest=frame.digest,
            has_body=bool(frame.flags & HAS_BODY),
            expires_at=frame.expires_at,
        )

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

    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        """Swap the metadata of `version`, unless the row changes meanwhile."""
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        name, _ = rows.numbered(key)
        # As it was read last, mostly a moment ago; and if that is of no use, as it is.
        known = self._rows.last(name)
        for _ in range(_TRIES):
            row = known or self._database.one("updating", rows.FIND, (name,))
            if row is None:
                return False
            is_known, known = known is not None, None
            present, used_at = row
            frame, body = rows.read(present)
            if (
                frame.key != key
                or frame.version != version
                or is_past(frame.expires_at, now)
                or (old is not None and frame.metadata != old)
            ):
                if is_known:
                    continue
                return False
            if is_past(expires_at, now):
                changed = self._database.write(
                    "removing", "DELETE FROM entry WHERE id = ? AND frame = ?", (name, present)
                )
                self._housekeeping.remove_gone()
            else:
                frame = frame._replace(metadata=metadata, stored_at=now, expires_at=expires_at)
                data = rows.written(frame, body)
                size = len(data) + (frame.body_size if frame.flags & BODY_ELSEWHERE else 0)
                values = (size, now, expires_at, data, name, present)
                is_placed = self._usage.is_recent(used_at, now) and used_at > 0
                refresh = rows.REFRESH if is_placed else rows.REFRESH_AND_USE
                changed = self._database.write("updating", refresh, values)
                if changed:
                    self._housekeeping.stored(max(0, len(data) - len(present)), now)
            if changed:
                return True
        return False

    def remove(self, key: str) -> bool:
        """Remove the row, then its body file."""
        self._check_open()
        name, _ = rows.numbered(key)
        row = self._database.one("removing", rows.EXPIRY, (name,))
        if row is None:
            return False
        expires_at, version = row
        try:
            changed = self._database.write("removing", "DELETE FROM entry WHERE id = ?", (name,))
        except StoreError:
            if type(version) is bytes:
                self._dead[name] = version.hex()
            raise
        self._dead.pop(name, None)
        if changed > rows.CHANGED_BY_STORING:
            self._housekeeping.remove_gone()
        expired = type(expires_at) is float and is_past(expires_at, self._clock())
        return changed > 0 and not expired

    def entries(
        self, order: Order | None = None, *, host: str | None = None
    ) -> Iterator[EntryInfo]:
        """List the entries, or those of one host, in some order; None is the quickest.

        Raises:
            StoreError: the backend failed.
        """
        self._check_open()
        now = self._clock()
        for entry in self._listed(order, host):
            if not is_past(entry.expires_at, now):
                yield entry

    def entries_of(self, host: str) -> Iterator[EntryInfo]:
        return self.entries(host=host)

    def clear(self) -> None:
        """Begin an empty database in the place of this one; body files go too.

        The counters of hits and misses begin anew as well.
        """
        self._check_open()
        self._pairing.drop()
        self._usage.forget()
        self._database.begin_anew()
        self._dead.clear()
        self._housekeeping.cleared()

    def close(self) -> None:
        """Write down what was used, and close the database; pruning that is under way stops."""
        if not self._closed:
            with contextlib.suppress(StoreError):
                self._usage.write()
        super().close()
        self._claims.close()
        self._housekeeping.stop()
        self._database.close()

    # Questions about all of it.

    def stats(self, *, progress: Progress | None = None) -> Stats:
        """Count what is stored, without reading any of it."""
        del progress  # it takes no time
        self._check_open()
        self._housekeeping.write_usage()
        stats = Stats(hits=0, misses=0, served=0)
        # What is of no number was damaged.
        hosts = self._database.rows(
            "counting",
            "SELECT CAST(host AS TEXT), count(*), CAST(total(size) AS INTEGER),"
            " min(CAST(stored_at AS REAL)), max(CAST(stored_at AS REAL)) FROM entry "
            "WHERE expires_at IS NULL OR expires_at > ? GROUP BY host",
            (self._clock(),),
        )
        for host, count, size, oldest, newest in hosts:
            stats.entries += count
            stats.bytes += size
            stats.oldest = oldest if stats.oldest is None else min(stats.oldest, oldest)
            stats.newest = newest if stats.newest is None else max(stats.newest, newest)
            stats.hosts[host] = (count, size)
        total = self._database.one("counting", rows.COUNTS)
        if total is not None:
            stats.hits, stats.misses, stats.served = total
        return stats

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove what is over the bounds, and files that no row names.

        A bound that isn't given is the cache's own.

        Raises:
            StoreError: the database failed.
            ConfigError: a bound is negative.
        """
        self._check_open()
        bounds = Bounds(
            max_bytes=self.max_bytes if max_bytes is None else max_bytes,
            max_age=self.max_age if max_age is None else max_age,
        )
        self._housekeeping.write_usage()
        if DryRun(dry_run) is DryRun.YES:
            report = super().prune(
                max_bytes=bounds.max_bytes,
                max_age=bounds.max_age,
                dry_run=dry_run,
                progress=progress,
            )
            self._housekeeping.sweep(report, dry_run)
            return report
        report = PruneReport()
        if self._database.number():
            # On a full disk, say, that can't be done; and it needn't.
            with (
                contextlib.suppress(CacheFull, CacheUnavailable),
                self._database.change("counting") as database,
            ):
                rows.recount(database)
            with self._database.at_length():
                self._housekeeping.prune(bounds, report, progress)
            self._housekeeping.sweep(report, dry_run)
            # On a full disk, say, that can't be done; and it needn't.
            with contextlib.suppress(StoreError):
                self._database.compact(GAPS)
        report.swept += self._database.sweep()
        return report

    def verify(
        self, *, repair: Repair = Repair.REPORT, progress: Progress | None = None
    ) -> VerifyReport:
        """Check the length and digest of every row and every body file.

        The database as a whole comes before that: it can't be repaired, only begun anew.
        """
        self._check_open()
        repair = Repair(repair)
        report = VerifyReport()
        number = self._database.number()
        try:
            found = self._database.rows("verifying", "PRAGMA integrity_check(1)")
        except CorruptEntry as error:
            report.damaged[f"cache-{number}.sqlite"] = str(error)
            report.repaired = 1
            return report
        if found and found[0][0] != "ok":
            report.damaged[f"cache-{number}.sqlite"] = found[0][0]
            if repair is Repair.REMOVE:
                self._database.begin_anew()
                report.repaired = 1
                return report
        total = self._database.one("listing", "SELECT count(*) FROM entry")
        for done, entry in enumerate(self._listed(None, None), 1):
            rid = int(entry.name)
            try:
                report.checked += self._verify(rid)
            except (BodyLost, CorruptEntry) as error:
                report.damaged[entry.key or entry.name] = str(error)
                if repair is Repair.REMOVE:
                    report.repaired += self._remove_damaged(rid)
            if progress is not None:
                progress(done, None if total is None else total[0])
        if repair is Repair.REMOVE and self._database.number():
            with self._database.change("counting") as database:
                rows.recount(database)
            self._housekeeping.remove_gone()
        return report

    # Storing.

    def publish(self, key: str, seal: Seal, body: bytes | bytearray, number: int | None) -> bool:
        """Store an entry, whose body is a file in the folder of a number, or here.

        Returns whether that still is the present database's.

        Raises:
            StoreError: it can't be stored.
        """
        if self._closed:
            self._check_open()
        flags = HAS_BODY if seal.has_body else 0
        size = seal.size if number else 0
        name, encoded = rows.numbered(key)
        head, tail = frames.encode_sealed(
            encoded, seal, flags | BODY_ELSEWHERE if number else flags
        )
        data = rows.joined(head, body, tail)
        size += len(data)
        self._housekeeping.find_room(name, size)
        values = (
            name,
            bytearray(encoded),
            host_of(key),
            size,
            seal.size,
            seal.stored_at,
            -seal.stored_at,
            seal.expires_at,
            seal.version if number else None,
            data,
        )
        changed = self._database.write("storing", rows.STORE, values, into=number)
        if changed > rows.CHANGED_BY_STORING:
            self._housekeeping.remove_gone()
        if self._dead:
            self._dead.pop(name, None)
        self._housekeeping.stored(size, seal.stored_at)
        if number and changed:
            self._housekeeping.look_for_litter(seal.size)
        return changed > 0

    # Listing.

    def _all_entries(self) -> Iterator[EntryInfo]:
        return self._listed(None, None)

    def _listed(self, order: Order | None, host: str | None) -> Iterator[EntryInfo]:
        self._housekeeping.write_usage()
        return rows.listing(self._database, order, host)

    def _verify(self, rid: int) -> bool:
        """Check one row and its body; False where it is gone by now."""
        missing = ""
        for _ in range(_TRIES):
            row = self._database.one("verifying", rows.WHOLE, (rid,))
            if row is None:
                return False
            frame, body = rows.checked(row)
            entry = self._entry_in(frame, body)
            if entry is not None:
                with entry:
                    entry.verify()
                return True
            # Whoever replaces it removes the older body file under the reader's hands.
            if missing == frame.version:
                msg = "the body file is missing"
                raise CorruptEntry(msg)
            missing = frame.version
        return False

    def _remove_damaged(self, rid: int) -> bool:
        """Remove a row with which something is wrong, unless it was replaced meanwhile."""
        row = self._database.one("verifying", rows.LISTED, (rid,))
        with contextlib.suppress(BodyLost, CorruptEntry):
            if row is None or self._verify(rid):
                return False
        removed = self._database.write("repairing", rows.REMOVE_THIS, (rid, row[0]))
        return removed > 0


class _Sink:
    """Writes one version: a small body as part of its row, a longer one as a file."""

    __slots__ = ("_cache", "_file", "_held", "_key", "_size", "_version")

    def __init__(self, cache: SQLiteCache, key: str, version: str) -> None:
        self._cache = cache
        self._key = key
        self._version = version
        self._held: bytes | bytearray = b""
        self._size = 0
        self._file: BodySink | None = None

    def write(self, chunk: bytes | memoryview, /) -> None:
        cache = self._cache
        self._size += len(chunk)
        if cache.max_bytes is not None and self._size > cache.max_bytes:
            msg = f"a body of over {cache.max_bytes} bytes in a cache of at most that"
            raise CacheFull(msg)
        if self._file is None:
            if self._size <= cache.inline_limit:
                self._held = appended(self._held, chunk)
                return
            number = cache._database.bodies(create=True)  # noqa: SLF001 - its own sink
            self._file = cache._bodies.create(number, self._version)  # noqa: SLF001
            held, self._held = self._held, b""
            self._file.write(held)
        self._file.write(chunk)

    def publish(self, seal: Seal) -> None:
        file = self._file
        if file is None:
            self._cache.publish(self._key, seal, self._held, None)
            return
        whole = file.finish(durable=self._cache.durable)
        if whole and self._cache.publish(self._key, seal, b"", file.number):
            # Open, and so held, until a row names it.
            file.close()
            return
        file.remove()
        if file.number == self._cache._database.bodies():  # noqa: SLF001
            msg = "the body was removed while it was written"
            raise CacheUnavailable(msg)
        # All was cleared meanwhile: as if it had been stored just before that.

    def discard(self) -> None:
        self._held = b""
        if self._file is None:
            return
        # What interrupts a commit may come behind it. Where that can't be told, it's swept one day.
        named = True
        with contextlib.suppress(StoreError):
            named = self._cache._housekeeping.is_named(self._version)  # noqa: SLF001
        if named:
            self._file.close()
        else:
            self._file.remove()

    def detach(self) -> None:
        self._held = b""
        if self._file is not None:
            self._file.close()
