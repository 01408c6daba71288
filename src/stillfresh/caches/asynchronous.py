"""Caches that have to be waited for.

What `BaseCache`, `Entry` and `EntryWriter` are to blocking code, these are to an event loop: the
same methods, awaited. Local caches don't need them, since they answer sooner than a loop turns.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

from stillfresh import events
from stillfresh.caches.claims import Claim
from stillfresh.caches.coroutines import awaited
from stillfresh.caches.reading import AsyncBodySource, InMemory, Reading
from stillfresh.caches.writing import AsyncEntrySink, Writing, as_bytes
from stillfresh.errors import CacheClosed, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from typing_extensions import Buffer

    from stillfresh.caches.entry import EntryInfo
    from stillfresh.caches.expiry import Expires

__all__ = ["AsyncBaseCache", "AsyncEntry", "AsyncEntryWriter"]


class AsyncEntry:
    """One committed version: metadata and body that belong together.

    The attributes are those of `Entry`, and so is what the methods raise.
    """

    __slots__ = ("_reading", "expires_at", "has_body", "metadata", "size", "version")

    def __init__(
        self,
        metadata: bytes,
        *,
        version: str,
        size: int,
        source: AsyncBodySource | InMemory,
        digest: bytes | None,
        has_body: bool = True,
        expires_at: float | None = None,
    ) -> None:
        """Describe a version; without a `digest` (another program's entry) nothing is checked."""
        self.metadata = metadata
        self.version = version
        self.size = size
        self.has_body = has_body
        self.expires_at = expires_at
        self._reading = Reading(source, size, digest, awaited)

    async def check(self) -> None:
        """Check a body of up to 1 MiB; of a longer one the length, which is known."""
        await self._reading.check()

    async def verify(self) -> None:
        """Check the whole body, whatever its size, in constant memory."""
        await self._reading.verify()

    async def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes of the body, all that are left if it is negative."""
        return await self._reading.read(size)

    async def seek(self, offset: int, /) -> None:
        """Check the whole body, and go on reading at `offset`."""
        await self._reading.seek(offset)

    async def close(self) -> None:
        """Let go of what is held. May be called twice."""
        self._reading.close()

    async def __aenter__(self) -> Self:
        """Close the entry at the end of the block."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the entry."""
        await self.close()

    def __repr__(self) -> str:
        """Name the version and its size."""
        return f"<AsyncEntry {self.version} of {self.size} bytes>"


class AsyncEntryWriter:
    """Writes one entry, which nobody sees before `commit()`.

    Leaving the `async with` block without a commit leaves no trace. One that is forgotten can't
    be waited for: its cache has to see to what it leaves. What the methods raise is what those of
    `EntryWriter` do.
    """

    __slots__ = ("__weakref__", "_writing")

    def __init__(
        self,
        sink: AsyncEntrySink,
        *,
        version: str,
        clock: Callable[[], float],
        remove: Callable[[], Awaitable[object]],
    ) -> None:
        """Write `version` to `sink`; `remove` drops what is stored under the key now."""
        self._writing = Writing(sink, version, clock, remove, awaited)

    @property
    def size(self) -> int:
        """The bytes of body written so far."""
        return self._writing.size

    async def write(self, chunk: Buffer, /) -> None:
        """Append to the body. After an error the writer is aborted."""
        await self._writing.write(chunk)

    async def commit(self, metadata: Buffer, *, expires: Expires = None) -> str:
        """Publish metadata and body together and return the new version."""
        return await self._writing.commit(metadata, expires)

    async def abort(self) -> None:
        """End without a trace. Does nothing after `commit()` or another `abort()`."""
        await self._writing.abort()

    async def __aenter__(self) -> Self:
        """Abort at the end of the block unless it was committed."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Abort unless committed."""
        await self.abort()

    def __del__(self) -> None:
        """Let go of what is held here."""
        writing = getattr(self, "_writing", None)
        if writing is not None:
            writing.detach()


class AsyncBaseCache(ABC):
    """Bytes under keys, as a `BaseCache` has them; what its methods promise and raise holds here.

    Attributes:
        hook: is given a `StoreFailed` when a method of the classic interface swallows an error.
        expires_by_itself: as in `BaseCache`.
    """

    hook: events.Hook = staticmethod(events.log_event)
    expires_by_itself: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Have who changes `update` be asked by `swap`, too."""
        super().__init_subclass__(**options)
        if "update" in vars(cls) and "swap" not in vars(cls):
            cls.swap = AsyncBaseCache.swap  # type: ignore[method-assign]

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Take the time from `clock`, in seconds since the epoch."""
        self._clock = clock
        self._closed = False

    @abstractmethod
    async def open(self, key: str) -> AsyncEntry | None:
        """Return the committed version under `key`, or None where there is none."""

    async def open_or_claim(
        self, key: str, seconds: Callable[[], float]
    ) -> AsyncEntry | Claim | None:
        """Open what is under `key`, or claim it, as `BaseCache.open_or_claim`."""
        del seconds
        return await self.open(key)

    @abstractmethod
    def writer(self, key: str) -> AsyncEntryWriter:
        """Start a new version under `key`, invisible until its commit."""

    @abstractmethod
    async def update(
        self, key: str, metadata: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Swap the metadata of exactly `version`, the body untouched; the version stays."""

    async def swap(
        self, key: str, old: Buffer, new: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Do `update` to `new`, unless the metadata isn't `old` any more, as `BaseCache.swap`."""
        entry = await self.open(key)
        if entry is None:
            return False
        async with entry:
            if entry.version != version or entry.metadata != as_bytes(old):
                return False
        return await self.update(key, new, version=version, expires=expires)

    @abstractmethod
    async def remove(self, key: str) -> bool:
        """Remove what is under `key`, and say whether there was anything."""

    @abstractmethod
    def entries(self) -> AsyncIterator[EntryInfo]:
        """List what is stored, in no promised order; entries may be removed meanwhile."""

    @abstractmethod
    async def clear(self) -> None:
        """Remove all of this cache's entries, and nothing else."""

    @property
    def place(self) -> str | None:
        """Where the entries are, as `BaseCache.place`."""
        return None

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to be the one who fetches `key`, as `BaseCache.claim`."""
        del key, seconds
        return Claim()

    async def close(self) -> None:
        """Let go of everything held open. Any use after it but `close` raises `CacheClosed`."""
        self._closed = True

    async def __aenter__(self) -> Self:
        """Close at the end of the block."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close."""
        await self.close()

    # The classic interface, which never raises for a failure of the backend.

    async def get(self, key: str) -> bytes | None:
        """Return the value under `key`: its metadata, in the words of the other interface."""
        try:
            entry = await self.open(key)
        except StoreError as error:
            self._swallow("get", key, error)
            return None
        if entry is None:
            return None
        async with entry:
            return entry.metadata

    async def set(self, key: str, value: Buffer, expires: Expires = None) -> None:
        """Keep `value` under `key`, until `expires`."""
        value = as_bytes(value)
        try:
            async with self.writer(key) as writer:
                await writer.commit(value, expires=expires)
        except StoreError as error:
            self._swallow("set", key, error)

    async def delete(self, key: str) -> bool:
        """Remove what is under `key`, and say whether that removed anything."""
        try:
            return await self.remove(key)
        except StoreError as error:
            self._swallow("delete", key, error)
            return False

    # For subclasses.

    def _check_open(self) -> None:
        if self._closed:
            msg = f"{self!r} is closed"
            raise CacheClosed(msg)

    def _swallow(self, operation: str, key: str, error: StoreError) -> None:
        events.emit(self.hook, events.StoreFailed(key, operation, error))
