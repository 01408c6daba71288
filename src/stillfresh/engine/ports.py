"""What `exchange` needs of the world, and how blocking clients drive it.

All ports are coroutines. Those of a blocking client never suspend, so `run` gets to the end of
the one engine with a single `send(None)`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from stillfresh.caches.asynchronous import (
    AsyncBaseCache,
    AsyncEntry,
    AsyncEntryWriter,
)
from stillfresh.caches.base import BaseCache, Claim, Entry, EntryWriter, InMemory, run
from stillfresh.engine.flights import Flights, flights_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.engine.credentials import Vault
    from stillfresh.engine.waiting import Signal
    from stillfresh.events import Event
    from stillfresh.rfc9111.messages import Request, Response

__all__ = [
    "AsyncCachePorts",
    "CachePorts",
    "E",
    "LocalCachePorts",
    "Ports",
    "U",
    "Upstream",
    "Useful",
    "W",
    "run",
]

Useful: TypeAlias = "Callable[[], float]"
"""Says for how many seconds an entry can be of use; asked by whom that concerns."""

E = TypeVar("E")
W = TypeVar("W")


class Upstream(Protocol):
    """A response on its way: its head is here, its body is still to be read."""

    @property
    def response(self) -> Response:
        """The head."""


U = TypeVar("U", bound=Upstream)


class CachePorts(Protocol[E, W]):
    """One cache; `E` is an entry of it, `W` a writer. Each may raise `StoreError`."""

    @property
    def is_own(self) -> bool:
        """Whether the client has made the cache, and closes it with itself."""

    async def open(self, key: str) -> E | None:
        """Open the present version under `key`."""

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> E | Claim | None:
        """Open the present version; where there is none, it may come claimed.

        For so many `seconds`, if any, and for who calls `claim` next: else one has to forgo it.
        """

    def describe(self, entry: E) -> tuple[bytes, str, int, bool]:
        """Return metadata, version, size of the body, and whether there is one."""

    def embed(self, entry: E, body: bytes) -> E:
        """Return an entry like `entry` with `body` as its body."""

    async def prime(self, entry: E) -> None:
        """Make sure that the body can be read, as far as that can be known before it is."""

    async def seek(self, entry: E, offset: int) -> None:
        """Go on reading at `offset`; the whole body is checked before."""

    async def read(self, entry: E, size: int) -> bytes:
        """Read on in the body."""

    async def close(self, entry: E) -> None:
        """Close an entry. Never raises."""

    async def writer(self, key: str) -> W:
        """Start a version under `key`."""

    async def write(self, writer: W, chunk: bytes) -> None:
        """Append to a body."""

    async def commit(self, writer: W, metadata: bytes, useful: Useful | None = None) -> str:
        """Publish a version, which may be forgotten when it is of no use any more."""

    async def abort(self, writer: W) -> None:
        """Give a version up. Never raises."""

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        """Swap the metadata of `version`, as `commit`, unless it isn't `old` any more."""

    async def remove(self, key: str) -> bool:
        """Remove what is under `key`."""

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to fetch what is under `key`; None while another process does.

        Nobody waits for it longer than so many `seconds`. It is released without waiting, in
        whatever thread forgets it.
        """

    def flights(self) -> Flights:
        """Return what is being fetched for this cache in this process."""


class Ports(CachePorts[E, W], Protocol[E, W, U]):
    """A cache, a clock, an ear for events, and the way to the origin."""

    @property
    def vault(self) -> Vault:
        """Where the key of credentials' digests is; one for all exchanges of a client."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""

    @property
    def signal(self) -> Callable[[], Signal] | None:
        """What makes signals to wait for; None is never to wait for anybody."""

    @property
    def patience(self) -> float | None:
        """For how many seconds its caller waits for an answer to begin; None is for ever."""

    @property
    def listening(self) -> bool:
        """Whether anybody wants to hear of hits."""

    def emit(self, event: Event) -> None:
        """Take note of an event. Never raises."""

    async def send(self, request: Request) -> U:
        """Send `request` on; whatever the client raises goes to its caller."""

    async def discard(self, upstream: U) -> None:
        """Let go of a response whose body nobody wants. Never raises."""

    def is_failure(self, error: Exception) -> bool:
        """Tell whether what `send` raised says that the origin can't be reached."""

    def refresh(self, key: str) -> None:
        """Have the request made again behind its caller's back, once at a time for a key.

        It is to go by a policy that serves nothing stale meanwhile. Never raises.
        """


class LocalCachePorts:
    """The ports of a cache on this machine: called inline, from blocking and async code alike.

    A hit costs tens of microseconds, a hop to another thread a hundred.

    Attributes:
        signal: how its client waits for others that fetch the same; not at all unless it says so.
        whole: whether the caller is given all of a body at once, so that all of it can be known to
            be right before the first byte.
        suspends: whether these ports may suspend.
        is_own: whether the cache is closed with the client.
    """

    is_own = False
    signal: Callable[[], Signal] | None = None
    whole = False
    suspends = False

    def __init__(self, cache: BaseCache) -> None:
        """Use `cache`."""
        self._cache = cache

    async def open(self, key: str) -> Entry | None:
        """Open the present version under `key`."""
        return self._cache.open(key)

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Entry | Claim | None:
        """Open the present version, or claim it."""
        return self._cache.open_or_claim(key, seconds)

    def describe(self, entry: Entry) -> tuple[bytes, str, int, bool]:
        """Return metadata, version, size of the body, and whether there is one."""
        return entry.metadata, entry.version, entry.size, entry.has_body

    def embed(self, entry: Entry, body: bytes) -> Entry:
        """Return an entry like `entry` with `body` as its body."""
        entry.close()
        return Entry(
            entry.metadata,
            version=entry.version,
            size=len(body),
            source=InMemory(body),
            digest=None,
        )

    async def prime(self, entry: Entry) -> None:
        """Check a body that is checked as a whole."""
        if self.whole:
            entry.verify()
        else:
            entry.check()

    async def seek(self, entry: Entry, offset: int) -> None:
        """Check the whole body, and go on reading at `offset`."""
        entry.seek(offset)

    async def read(self, entry: Entry, size: int) -> bytes:
        """Read on in the body."""
        return entry.read(size)

    async def close(self, entry: Entry) -> None:
        """Close an entry."""
        # What was wanted of it is here; a cache that fails now has nothing to spoil.
        try:
            entry.close()
        except Exception:  # noqa: BLE001, S110 - what it may raise is the cache's to choose
            pass

    async def writer(self, key: str) -> EntryWriter:
        """Start a version under `key`."""
        return self._cache.writer(key)

    async def write(self, writer: EntryWriter, chunk: bytes) -> None:
        """Append to a body."""
        writer.write(chunk)

    async def commit(
        self, writer: EntryWriter, metadata: bytes, useful: Useful | None = None
    ) -> str:
        """Publish a version."""
        return writer.commit(metadata, expires=expiry_of(self._cache, useful))

    async def abort(self, writer: EntryWriter) -> None:
        """Give a version up."""
        with suppress(Exception):
            writer.abort()

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        """Swap the metadata of `version`."""
        expires = expiry_of(self._cache, useful)
        return self._cache.swap(key, old, new, version=version, expires=expires)

    async def remove(self, key: str) -> bool:
        """Remove what is under `key`."""
        return self._cache.remove(key)

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to fetch what is under `key`."""
        return self._cache.claim(key, seconds)

    def flights(self) -> Flights:
        """Return the flights for the cache."""
        return flights_for(self._cache)


class AsyncCachePorts:
    """The ports of a cache that has to be waited for; the attributes are those of local ones."""

    is_own = False
    whole = False
    suspends = True

    def __init__(self, cache: AsyncBaseCache) -> None:
        """Use `cache`."""
        self._cache = cache

    async def open(self, key: str) -> AsyncEntry | None:
        """Open the present version under `key`."""
        return await self._cache.open(key)

    async def open_or_claim(
        self, key: str, seconds: Callable[[], float]
    ) -> AsyncEntry | Claim | None:
        """Open the present version, or claim it."""
        return await self._cache.open_or_claim(key, seconds)

    def describe(self, entry: AsyncEntry) -> tuple[bytes, str, int, bool]:
        """Return metadata, version, size of the body, and whether there is one."""
        return entry.metadata, entry.version, entry.size, entry.has_body

    def embed(self, entry: AsyncEntry, body: bytes) -> AsyncEntry:
        """Return an entry like `entry` with `body` as its body."""
        return AsyncEntry(
            entry.metadata,
            version=entry.version,
            size=len(body),
            source=InMemory(body),
            digest=None,
        )

    async def prime(self, entry: AsyncEntry) -> None:
        """Check a body that is checked as a whole."""
        await (entry.verify() if self.whole else entry.check())

    async def seek(self, entry: AsyncEntry, offset: int) -> None:
        """Check the whole body, and go on reading at `offset`."""
        await entry.seek(offset)

    async def read(self, entry: AsyncEntry, size: int) -> bytes:
        """Read on in the body."""
        return await entry.read(size)

    async def close(self, entry: AsyncEntry) -> None:
        """Close an entry."""
        with suppress(Exception):
            await entry.close()

    async def writer(self, key: str) -> AsyncEntryWriter:
        """Start a version under `key`."""
        return self._cache.writer(key)

    async def write(self, writer: AsyncEntryWriter, chunk: bytes) -> None:
        """Append to a body."""
        await writer.write(chunk)

    async def commit(
        self, writer: AsyncEntryWriter, metadata: bytes, useful: Useful | None = None
    ) -> str:
        """Publish a version."""
        return await writer.commit(metadata, expires=expiry_of(self._cache, useful))

    async def abort(self, writer: AsyncEntryWriter) -> None:
        """Give a version up."""
        with suppress(Exception):
            await writer.abort()

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        """Swap the metadata of `version`."""
        expires = expiry_of(self._cache, useful)
        return await self._cache.swap(key, old, new, version=version, expires=expires)

    async def remove(self, key: str) -> bool:
        """Remove what is under `key`."""
        return await self._cache.remove(key)

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to fetch what is under `key`."""
        return await self._cache.claim(key, seconds)

    def flights(self) -> Flights:
        """Return the flights for the cache."""
        return flights_for(self._cache)


def expiry_of(cache: BaseCache | AsyncBaseCache, useful: Useful | None = None) -> float | None:
    """Return when an entry is to expire: never, where it would make no room by that."""
    return useful() if cache.expires_by_itself and useful is not None else None
