"""A cache in this process's memory, bounded, least recently used out first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stillfresh.caches.base import (
    ComparingCache,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    moment,
)
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import new_version
from stillfresh.caches.pruning import Bounds, DryRun, Progress, PruneReport, plan
from stillfresh.errors import CacheFull, ConfigError
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024
# What an entry costs beside its key, metadata and body, roughly: objects and table slots.
_OVERHEAD: Final = 512


@dataclass(frozen=True, slots=True)
class _Slot:
    seal: Seal
    body: bytes
    size: int


class MemoryCache(ComparingCache):
    """Entries in memory, the least recently used dropped when `max_bytes` is reached.

    `init_dict` gives values to start with, as in the classic `DictCache(init_dict)`; they are
    copied. With `max_bytes=None` nothing is ever dropped for its size. An entry that alone is
    larger than `max_bytes` is refused with `CacheFull`. Entries not used for longer than `max_age`
    seconds are gone; they are dropped when others are stored.

    Raises:
        ConfigError: `max_bytes` is not positive, or `max_age` is negative.
    """

    def __init__(
        self,
        init_dict: Mapping[str, bytes] | None = None,
        *,
        max_bytes: int | None = DEFAULT_MAX_BYTES,
        max_age: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Start with `init_dict`, bounded by `max_bytes` and `max_age`."""
        super().__init__(clock=clock)
        if max_bytes is not None and max_bytes <= 0:
            msg = f"max_bytes is a positive number of bytes or None, not {max_bytes!r}"
            raise ConfigError(msg)
        self.max_bytes = max_bytes
        self.max_age = Bounds(max_age=max_age).max_age
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._used_at: dict[str, float] = {}
        self._size = 0
        self._lock = threading.Lock()
        call_in_children(self._renew_after_fork)
        for key, value in (init_dict or {}).items():
            self.set(key, value)

    def __repr__(self) -> str:
        """Name the cache and its bound."""
        return f"MemoryCache(max_bytes={self.max_bytes})"

    def __len__(self) -> int:
        """Count the entries, expired ones included."""
        return len(self._slots)

    def __bool__(self) -> bool:
        """Be true, empty or not: a cache is not a container to test."""
        return True

    @property
    def size(self) -> int:
        """The bytes in use, as `max_bytes` counts them."""
        return self._size

    def open(self, key: str) -> Entry | None:
        """Return the version under `key`, which becomes the most recently used."""
        return self._find(key, used=True)

    def peek(self, key: str) -> Entry | None:
        return self._find(key, used=False)

    def _find(self, key: str, *, used: bool) -> Entry | None:
        self._check_open()
        now = self._clock()
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return None
            if is_past(slot.seal.expires_at, now) or self._is_idle(key, now):
                self._drop(key)
                return None
            if used:
                self._slots.move_to_end(key)
                self._used_at[key] = now
        seal = slot.seal
        return Entry(
            seal.metadata,
            version=seal.version,
            size=seal.size,
            source=InMemory(slot.body),
            digest=seal.digest,
            has_body=seal.has_body,
            expires_at=seal.expires_at,
        )

    def writer(self, key: str) -> EntryWriter:
        """Collect a body in memory until its commit."""
        self._check_open()
        return EntryWriter(
            _Sink(self, key),
            version=new_version(),
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None or slot.seal.version != version:
                return False
            if old is not None and slot.seal.metadata != old:
                return False
            if is_past(slot.seal.expires_at, now) or self._is_idle(key, now):
                self._drop(key)
                return False
            if is_past(expires_at, now):
                self._drop(key)
                return True
            seal = slot.seal._replace(metadata=metadata, expires_at=expires_at)
            self._put(key, seal, slot.body)
        return True

    def remove(self, key: str) -> bool:
        """Drop what is under `key`."""
        self._check_open()
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return False
            now = self._clock()
            gone = is_past(slot.seal.expires_at, now) or self._is_idle(key, now)
            self._drop(key)
        return not gone

    def entries(self) -> Iterator[EntryInfo]:
        """List the entries, the least recently used first, as they are at the call."""
        self._check_open()
        now = self._clock()
        for _, entry in self._listing():
            idle = self.max_age is not None and now - entry.used_at > self.max_age
            if not idle and not is_past(entry.expires_at, now):
                yield entry

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Drop what is over the bounds, and what has expired; what is used meanwhile stays."""
        self._check_open()
        dry_run = DryRun(dry_run)
        bounds = Bounds(max_bytes=max_bytes, max_age=self.max_age if max_age is None else max_age)
        listing = self._listing()
        verdicts = plan((entry for _, entry in listing), bounds, self._clock()).carried_out()
        report = PruneReport()
        for done, (slot, entry) in enumerate(listing, 1):
            cause = verdicts.cause(entry)
            if cause is None:
                report.keep(entry)
            elif dry_run is DryRun.YES or self._expel(slot, entry):
                report.remove(entry, cause)
            if progress is not None:
                progress(done, len(listing))
        return report

    def clear(self) -> None:
        """Drop everything."""
        self._check_open()
        with self._lock:
            self._slots.clear()
            self._used_at.clear()
            self._size = 0

    def close(self) -> None:
        """Drop everything and refuse further use."""
        if not self._closed:
            self.clear()
        super().close()

    def _publish(self, key: str, seal: Seal, body: bytes) -> None:
        with self._lock:
            self._put(key, seal, body)

    def _put(self, key: str, seal: Seal, body: bytes) -> None:
        size = _OVERHEAD + len(key) + len(seal.metadata) + len(body)
        if self.max_bytes is not None and size > self.max_bytes:
            msg = f"an entry of {size} bytes in a cache of at most {self.max_bytes}"
            raise CacheFull(msg)
        if key in self._slots:
            self._drop(key)
        self._slots[key] = _Slot(seal, body, size)
        self._used_at[key] = self._clock()
        self._size += size
        while self.max_bytes is not None and self._size > self.max_bytes:
            self._drop(next(iter(self._slots)))
        now = self._clock()
        while self._slots and self._is_idle(first := next(iter(self._slots)), now):
            self._drop(first)

    def _listing(self) -> list[tuple[_Slot, EntryInfo]]:
        """List all that takes room, expired or not."""
        with self._lock:
            return [
                (
                    slot,
                    EntryInfo(
                        key,
                        key,
                        slot.size,
                        slot.seal.size,
                        slot.seal.stored_at,
                        self._used_at[key],
                        slot.seal.expires_at,
                    ),
                )
                for key, slot in self._slots.items()
            ]

    def _expel(self, slot: _Slot, entry: EntryInfo) -> bool:
        """Drop an entry that is still the one that was listed, and not used since."""
        with self._lock:
            key = entry.name
            same = self._slots.get(key) is slot and self._used_at[key] == entry.used_at
            if same:
                self._drop(key)
            return same

    def _is_idle(self, key: str, now: float) -> bool:
        return self.max_age is not None and now - self._used_at[key] > self.max_age

    def _drop(self, key: str) -> None:
        self._size -= self._slots.pop(key).size
        del self._used_at[key]

    def _renew_after_fork(self) -> None:
        # Another thread of the parent may have held the lock, halfway through a change.
        self._lock = threading.Lock()
        now = self._clock()
        self._used_at = {key: self._used_at.get(key, now) for key in self._slots}
        self._size = sum(slot.size for slot in self._slots.values())


class _Sink:
    """Collects one body."""

    def __init__(self, cache: MemoryCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._parts: list[bytes] = []
        self._size = 0

    def write(self, chunk: bytes | memoryview, /) -> None:
        self._size += len(chunk)
        limit = self._cache.max_bytes
        if limit is not None and self._size > limit:
            msg = f"a body of over {limit} bytes in a cache of at most that"
            raise CacheFull(msg)
        self._parts.append(bytes(chunk))

    def publish(self, seal: Seal) -> None:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._cache._check_open()  # noqa: SLF001 - the sink is the cache's own
        self._cache._publish(self._key, seal, body)  # noqa: SLF001

    def discard(self) -> None:
        self._parts.clear()

    def detach(self) -> None:
        self._parts.clear()


DictCache = MemoryCache
"""The classic name of `MemoryCache`."""
