"""What every cache can do.

The whole-entry interface (`open`, `writer`, `update`, `remove`, `entries`, `clear`, `close`) is
what a cache implements and what the engine uses; it raises `StoreError`. The classic interface
(`get`, `set`, `delete`, and `get_body`, `set_body`) that CacheControl and pip know is built on it
here, once for all caches, and keeps the promise that a cache never breaks a request: where the
backend fails, `get` answers None and `set` does nothing, and an event says so.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any, ClassVar, Self

from stillfresh import events
from stillfresh.caches.claims import Claim
from stillfresh.caches.coroutines import run
from stillfresh.caches.entry import Entry, EntryInfo, EntryWriter, host_of
from stillfresh.caches.expiry import Expires, moment
from stillfresh.caches.frames import StrayError
from stillfresh.caches.pairing import Pairing
from stillfresh.caches.pruning import (
    Bounds,
    DryRun,
    Progress,
    PruneReport,
    Repair,
    Stats,
    VerifyReport,
    plan,
)
from stillfresh.caches.reading import CHECKED_AT_ONCE, BodySource, InMemory
from stillfresh.caches.writing import EntrySink, Seal, as_bytes
from stillfresh.errors import BodyLost, CacheClosed, CorruptEntry, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

__all__ = [
    "CHECKED_AT_ONCE",
    "BaseCache",
    "BodySource",
    "BoundedCache",
    "Claim",
    "ComparingCache",
    "Entry",
    "EntryInfo",
    "EntrySink",
    "EntryWriter",
    "Expires",
    "InMemory",
    "Seal",
    "SeparateBodyBaseCache",
    "as_bytes",
    "host_of",
    "moment",
    "run",
]


class BaseCache(ABC):
    """Bytes under keys. A key is any `str`; metadata and bodies are any bytes.

    A cache may be shared between threads, and used in a child after `fork()`.

    Attributes:
        hook: is given a `StoreFailed` when a method of the classic interface swallows an error.
        expires_by_itself: whether what has expired makes room without anybody's doing. Then it is
            worth saying for how long an entry can be of use.
    """

    hook: events.Hook = staticmethod(events.log_event)
    expires_by_itself: ClassVar[bool] = False
    # Whether other caches have names among those that this one lists.
    _lists_others: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Have who changes `update` be asked by `swap`, too."""
        super().__init_subclass__(**options)
        if "update" in vars(cls) and "swap" not in vars(cls):
            cls.swap = BaseCache.swap  # type: ignore[method-assign]

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Take the time from `clock`, in seconds since the epoch."""
        self._clock = clock
        self._closed = False

    # The whole-entry interface.

    @abstractmethod
    def open(self, key: str) -> Entry | None:
        """Return the committed version under `key`, or None where there is none.

        Its metadata is whole and checked, its body is there in full length. Close it.

        Raises:
            StoreError: what is there is damaged, or the backend failed.
        """

    def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Entry | Claim | None:
        """Open what is under `key`; where there is nothing, `claim` it if that costs no more.

        For how long it is to be claimed is asked of `seconds`, and 0 is not at all. What is
        claimed by this is there for the next one in this process who claims it; if that is nobody,
        forgo it.

        Raises:
            StoreError: as `open`.
        """
        del seconds
        return self.open(key)

    def peek(self, key: str) -> Entry | None:
        """Open what is under `key`, as `open` does, without counting that as a use of it.

        For who looks into a cache: neither the order of use nor the counters change, as far as the
        backend lets one read without that.

        Raises:
            StoreError: as `open`.
        """
        return self.open(key)

    @abstractmethod
    def writer(self, key: str) -> EntryWriter:
        """Start a new version under `key`, invisible until its commit.

        Raises:
            StoreError: the backend failed.
        """

    @abstractmethod
    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Swap the metadata of exactly `version`, the body untouched; the version stays.

        Returns False, and changes nothing, where another version or none is there by now. Where
        `expires` is already past, that version is removed.

        Raises:
            StoreError: the backend failed; nothing has changed.
        """

    def swap(
        self, key: str, old: Buffer, new: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Do `update` to `new`, unless the metadata isn't `old` any more.

        So who changes what was there undoes no other change of it. Here another one may come
        between the two halves; a cache in which none can has its own way.

        Raises:
            StoreError: as `open` and `update`.
        """
        entry = self.open(key)
        if entry is None:
            return False
        with entry:
            if entry.version != version or entry.metadata != as_bytes(old):
                return False
        return self.update(key, new, version=version, expires=expires)

    @abstractmethod
    def remove(self, key: str) -> bool:
        """Remove what is under `key`, and say whether there was anything.

        Raises:
            StoreError: the backend failed.
        """

    @abstractmethod
    def entries(self) -> Iterator[EntryInfo]:
        """List what is stored, in no promised order; entries may be removed meanwhile.

        Raises:
            StoreError: the backend failed, or can't list.
        """

    def entries_of(self, host: str) -> Iterator[EntryInfo]:
        """List what is stored of a host, named as `EntryInfo.host` is, its port included.

        Here that is a choice from all; a cache with an index has a shorter way.

        Raises:
            StoreError: as `entries`.
        """
        return (entry for entry in self.entries() if entry.host == host)

    def open_listed(self, listed: EntryInfo) -> Entry | None:
        """Open an entry that `entries` has listed; None if it is gone, or can't be told which.

        Raises:
            StoreError: as `open`.
        """
        return None if listed.key is None else self.open(listed.key)

    @abstractmethod
    def clear(self) -> None:
        """Remove all of this cache's entries, and nothing else.

        Raises:
            StoreError: the backend failed; some entries may be left.
        """

    # Questions about all of it, answered here by the listing; a cache that knows better may.

    def stats(self, *, progress: Progress | None = None) -> Stats:
        """Count what is stored.

        Raises:
            StoreError: the backend failed, or can't list.
        """
        stats = Stats()
        for entry in self.entries():
            stats.add(entry)
            if progress is not None:
                progress(stats.entries, None)
        return stats

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove what is over the bounds.

        That is expired entries, those not used for over `max_age` seconds, and the least recently
        used ones until `max_bytes` are left.

        Raises:
            StoreError: the backend failed, or can't list.
            ConfigError: a bound is negative.
        """
        dry_run = DryRun(dry_run)
        bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
        verdicts = plan(self._all_entries(), bounds, self._clock()).carried_out()
        report = PruneReport()
        for done, entry in enumerate(self._all_entries(), 1):
            cause = verdicts.cause(entry)
            if cause is not None and entry.key is not None:
                if dry_run is DryRun.YES or self.remove(entry.key):
                    report.remove(entry, cause)
            else:
                report.keep(entry)
            if progress is not None:
                progress(done, None)
        return report

    def verify(
        self, *, repair: Repair = Repair.REPORT, progress: Progress | None = None
    ) -> VerifyReport:
        """Check the length and digest of every entry; remove what is damaged if asked to.

        Raises:
            StoreError: the backend failed, or can't list.
        """
        repair = Repair(repair)
        report = VerifyReport()
        for done, listed in enumerate(self.entries(), 1):
            if listed.key is None:
                report.unchecked += 1
                continue
            try:
                entry = self.open(listed.key)
                if entry is not None:
                    with entry:
                        entry.verify()
                    report.checked += not listed.foreign
                    report.unchecked += listed.foreign
            except (BodyLost, CorruptEntry) as error:
                if self._lists_others and listed.foreign and isinstance(error, StrayError):
                    # Of a cache whose names begin as ours do, and more: that is to check it.
                    report.unchecked += 1
                    continue
                report.damaged[listed.name] = str(error)
                if repair is Repair.REMOVE:
                    report.repaired += self.remove(listed.key)
            if progress is not None:
                progress(done, None)
        return report

    # What a cache can do for those who use it at the same time, if it can.

    @property
    def place(self) -> str | None:
        """Where the entries are, in words that all caches have which hold the same ones.

        None is: in this object only, or nobody knows.
        """
        return None

    def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to be the one who fetches `key`, of all processes that share the entries.

        None while another one has it. It ends when it is released, when its holder dies, and if
        that can't be seen, after so many `seconds`. Nothing hangs on a claim: where there can be
        none it is granted, and this one always grants it.

        Raises:
            StoreError: the backend failed.
        """
        del key, seconds
        return Claim()

    def close(self) -> None:
        """Let go of everything held open. Any use after it but `close` raises `CacheClosed`."""
        self._closed = True

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    # The classic interface.

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`: its metadata, in the words of the other interface."""
        try:
            entry = self.open(key)
        except StoreError as error:
            self._swallow("get", key, error)
            return None
        if entry is None:
            return None
        with entry:
            return entry.metadata

    def set(self, key: str, value: Buffer, expires: Expires = None) -> None:
        """Keep `value` under `key`, until `expires`.

        A moment already past stores nothing and leaves nothing.
        """
        value = as_bytes(value)
        try:
            with self.writer(key) as writer:
                writer.commit(value, expires=expires)
        except StoreError as error:
            self._swallow("set", key, error)

    def delete(self, key: str) -> bool:
        """Remove what is under `key`, and say whether that removed anything."""
        try:
            return self.remove(key)
        except StoreError as error:
            self._swallow("delete", key, error)
            return False

    # For subclasses.

    def _all_entries(self) -> Iterator[EntryInfo]:
        """List what is there, what has expired and was not removed yet too if there is such."""
        return self.entries()

    def _check_open(self) -> None:
        if self._closed:
            msg = f"{self!r} is closed"
            raise CacheClosed(msg)

    def _swallow(self, operation: str, key: str, error: StoreError) -> None:
        events.emit(self.hook, events.StoreFailed(key, operation, error))


class ComparingCache(BaseCache):
    """A cache that compares metadata itself: `update` and `swap` are one change."""

    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Swap the metadata of exactly `version`, as `BaseCache.update`."""
        return self._change(key, None, as_bytes(metadata), version, expires)

    def swap(
        self, key: str, old: Buffer, new: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Swap the metadata of exactly `version`, if it still is `old`, as `BaseCache.swap`."""
        return self._change(key, as_bytes(old), as_bytes(new), version, expires)

    @abstractmethod
    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        """Do `swap`, or `update` where `old` is None."""


class BoundedCache(ComparingCache):
    """One of those whose bounds may be changed while it is used."""

    _bounds: Bounds

    @property
    def max_bytes(self) -> int | None:
        """The most that all entries may take; None is no bound."""
        return self._bounds.max_bytes

    @max_bytes.setter
    def max_bytes(self, max_bytes: int | None) -> None:
        self._bound(Bounds(max_bytes=max_bytes, max_age=self.max_age))

    @property
    def max_age(self) -> float | None:
        """How long an entry may go unused, in seconds; None is no bound."""
        return self._bounds.max_age

    @max_age.setter
    def max_age(self, max_age: float | None) -> None:
        self._bound(Bounds(max_bytes=self.max_bytes, max_age=max_age))

    @abstractmethod
    def _bound(self, bounds: Bounds) -> None:
        """Go by other bounds from now on."""


class SeparateBodyBaseCache(BaseCache):
    """A cache whose classic interface has the body apart from the value.

    Two calls write (`set`, then `set_body`) and two read (`get`, then `get_body`). Each pair is
    one version for every thread and process, though the calls are two; `Pairing` says how.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Take the time from `clock`, in seconds since the epoch."""
        super().__init__(clock=clock)
        self._pairing = Pairing(self, clock)

    def get(self, key: str) -> bytes | None:
        """Return the value under `key`; the next `get_body` of this thread is of its version."""
        super()._check_open()
        try:
            return self._pairing.get(key)
        except StoreError as error:
            self._swallow("get", key, error)
            return None

    def get_body(self, key: str) -> IO[bytes] | None:
        """Return the body that belongs to the value this thread got, or None if it is gone.

        A body of up to 1 MiB has been checked when this returns; a longer one is checked while it
        is read, and reading a wrong one raises `BodyLost`, an `OSError`. Close it.
        """
        super()._check_open()
        try:
            return self._pairing.get_body(key)
        except StoreError as error:
            self._swallow("get_body", key, error)
            return None

    def set(self, key: str, value: Buffer, expires: Expires = None) -> None:
        """Keep `value` under `key`: of a new version if `set_body` follows, else of the present.

        Others go on seeing the present version, or none, until this thread calls `set_body` for
        the key, or anything else, or ends.
        """
        super()._check_open()
        value = as_bytes(value)
        expires_at = moment(expires, self._clock())
        try:
            self._pairing.set(key, value, expires_at)
        except StoreError as error:
            self._swallow("set", key, error)

    def set_body(self, key: str, body: Buffer | IO[bytes]) -> None:
        """Publish `body` together with the value that this thread has `set`."""
        super()._check_open()
        try:
            self._pairing.set_body(key, body)
        except StoreError as error:
            self._swallow("set_body", key, error)

    def delete(self, key: str) -> bool:
        """Remove value and body, and say whether there was anything."""
        super()._check_open()
        had_draft = self._pairing.forget(key)
        return super().delete(key) or had_draft

    def close(self) -> None:
        """Let go of everything held open, after a last `set` has taken effect."""
        if not self._closed:
            self._pairing.close()
        super().close()

    def _check_open(self) -> None:
        # Whatever a thread calls next, what it has set before is there by then.
        super()._check_open()
        self._pairing.settle()
