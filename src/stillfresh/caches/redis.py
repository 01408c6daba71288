"""A cache on Redis or Valkey, for many machines: one server, Sentinel or Cluster.

How entries lie there is in `redisstore.py`, whom to ask in `redislinks.py`, and the limit of time
in `deadlines.py`; here are the two classes, one of which waits and one of which is awaited.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from stillfresh.caches.asynchronous import AsyncBaseCache, AsyncEntry, AsyncEntryWriter
from stillfresh.caches.base import (
    ComparingCache,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    as_bytes,
    moment,
    run,
)
from stillfresh.caches.deadlines import Crew, Lines
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import new_version
from stillfresh.caches.pruning import Bounds, DryRun, Progress, PruneReport, plan
from stillfresh.caches.redisclaims import RedisClaim
from stillfresh.caches.redislinks import PATIENCE, Servers, servers_of
from stillfresh.caches.redisstore import Store, Walk
from stillfresh.caches.redisurls import TIMEOUT, read_url
from stillfresh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from typing_extensions import Buffer

    from stillfresh.caches.claims import Claim
    from stillfresh.caches.redisbodies import Draft, Pieces
    from stillfresh.caches.redisclaims import Hold
    from stillfresh.caches.redislinks import Line
    from stillfresh.caches.redisstore import Found

T = TypeVar("T")

# In seconds: beyond this, nobody has meant it.
_LONGEST_TIMEOUT: Final = 86_400


class RedisCache(ComparingCache):
    """Entries on Redis or Valkey, shared by all who use the same server and prefix.

    `connection` is a client of redis-py (5 or newer) or valkey-py: for one server, of a Sentinel's
    `master_for`, or for a Cluster. It says how to connect; its own connections aren't used, and it
    isn't closed. `prefix` is what the names of all keys begin with. **With the empty one the whole
    database is the cache**: that is what CacheControl's RedisCache does, whose values can be read
    then, but `clear()` removes everything in it, and `prune()` may remove any string.

    No operation takes longer than `timeout` seconds; one that would fails with `CacheUnavailable`.
    After a failure the server is left alone for a second, and for longer if it goes on failing.
    Reading a long body raises `CacheUnavailable` as well where the server fails meanwhile.
    Memory is the server's to bound (`maxmemory`, with `maxmemory-policy allkeys-lru`); entries
    expire there.

    Raises:
        ConfigError: it is no such client, or the prefix or the timeout makes no sense.
    """

    expires_by_itself = True
    # Those whose prefix begins as this one's does.
    _lists_others = True

    def __init__(
        self,
        connection: Any,
        *,
        prefix: str = "",
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use the servers that `connection` uses. Nothing is asked yet."""
        super().__init__(clock=clock)
        self.prefix = prefix
        self.timeout = _positive(timeout)
        self._servers = _servers(connection, timeout, asynchronous=False)
        self._store = Store(prefix, clock)
        self._crew = Crew(self._servers, timeout)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make a cache from a URL, as `redisurls.py` describes them.

        The `prefix` is the URL's, or else `stillfresh:`, since a URL doesn't say whom else the
        database belongs to.

        Raises:
            ConfigError: it can't be made sense of, or neither redis-py nor valkey-py is installed.
        """
        servers, prefix, timeout = read_url(url, prefix, timeout, asynchronous=False)
        return cls(servers, prefix=prefix, timeout=timeout, clock=clock)

    def __repr__(self) -> str:
        """Name the servers, and no secret."""
        return f"RedisCache({self._servers.where!r}, prefix={self.prefix!r})"

    def open(self, key: str) -> Entry | None:
        self._check_open()
        who = threading.get_ident()
        found = self._do(lambda line: self._store.open(line, key, who))
        return None if found is None else self._entry(found)

    def peek(self, key: str) -> Entry | None:
        """Open what is under `key`; before Redis 7.2 the server counts that as a use."""
        self._check_open()
        found = self._do(lambda line: self._store.peek(line, key))
        return None if found is None else self._entry(found)

    def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Entry | Claim | None:
        store = self._store
        hold = store.hold_of_missing(key, seconds)
        if hold is None:
            return self.open(key)
        self._check_open()
        who = threading.get_ident()
        found = self._do(lambda line: store.open_or_claim(line, key, hold, who))
        if not isinstance(found, bool):
            return self._entry(found)
        if not found:
            return None
        return RedisClaim(store.claims, key, hold, who, self._take_back).kept_spare()

    def _entry(self, found: Found) -> Entry:
        body = found.body
        return Entry(
            found.metadata,
            version=found.version,
            size=found.size,
            source=body if isinstance(body, bytes) else _Source(self, body),
            digest=found.digest,
            has_body=found.has_body,
            expires_at=found.expires_at,
        )

    def writer(self, key: str) -> EntryWriter:
        self._check_open()
        version = new_version()
        return EntryWriter(
            _Sink(self, self._store.draft(key, version)),
            version=version,
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        self._check_open()
        expires_at = moment(expires, self._clock())
        return self._do(
            lambda line: self._store.update(line, key, old, metadata, version, expires_at)
        )

    def remove(self, key: str) -> bool:
        self._check_open()
        return self._do(lambda line: self._store.remove(line, key))

    def entries(self) -> Iterator[EntryInfo]:
        self._check_open()
        now = self._clock()
        return (entry for entry in self._all_entries() if not is_past(entry.expires_at, now))

    def entries_of(self, host: str) -> Iterator[EntryInfo]:
        """List what is stored of a host; of others no more is looked at than the names."""
        self._check_open()
        now = self._clock()
        return (
            entry
            for entry in self._all_entries(host)
            if entry.host == host and not is_past(entry.expires_at, now)
        )

    def prune(
        self,
        *,
        max_bytes: int | None = None,
        max_age: float | None = None,
        dry_run: DryRun = DryRun.NO,
        progress: Progress | None = None,
    ) -> PruneReport:
        """Remove what is over the bounds, as `BaseCache.prune`.

        When an entry was last used is what the server says, to whom a listing counts as use before
        Redis 7.2. So there is only one here, which is kept in memory.
        """
        dry_run = DryRun(dry_run)
        bounds = Bounds(max_bytes=max_bytes, max_age=max_age)
        self._check_open()
        listing = list(self._all_entries())
        verdicts = plan(listing, bounds, self._clock()).carried_out()
        report = PruneReport()
        for done, entry in enumerate(listing, 1):
            cause = verdicts.cause(entry)
            if cause is None or entry.key is None:
                report.keep(entry)
            elif dry_run is DryRun.YES or self._remove_listed(entry):
                report.remove(entry, cause)
            if progress is not None:
                progress(done, len(listing))
        return report

    def _remove_listed(self, listed: EntryInfo) -> bool:
        return self._do(lambda line: self._store.remove_listed(line, listed))

    @property
    def place(self) -> str:
        return _place(self._servers, self.prefix)

    def claim(self, key: str, seconds: float) -> Claim | None:
        self._check_open()
        store, who = self._store, threading.get_ident()
        mine = store.claims.at_hand(key, who)
        if mine is not None:
            return mine
        hold = store.hold(key, seconds)
        others = self._do(lambda line: store.claim(line, key, hold, who))
        if others is None:
            return None
        return RedisClaim(store.claims, key, hold, who, self._take_back, others=others)

    def _take_back(self, hold: Hold) -> None:
        # What can't be taken back ends by itself.
        with suppress(Exception):
            self._do(lambda line: self._store.release(line, hold))

    def clear(self) -> None:
        """Remove every key that begins with the prefix; with the empty one, **all there are**.

        It is done in steps that don't keep others waiting. Those who are reading a long body get
        it to its end.
        """
        walk = Walk(self._step, self._store.clear_page)
        while run(walk.next()) is not None:
            pass

    def close(self) -> None:
        """Close the cache's connections; those of the client that it was given are not touched."""
        was_closed = self._closed
        super().close()
        if not was_closed:
            self._crew.close()
            run(self._servers.close())

    def _all_entries(self, host: str | None = None) -> Iterator[EntryInfo]:
        walk, seen = Walk(self._step, partial(self._store.page, host=host)), set[int]()
        while (page := run(walk.next())) is not None:
            yield from _unseen(page, seen)

    def _do(self, operation: Callable[[Line], Coroutine[Any, Any, T]]) -> T:
        return self._crew.do(operation, self.timeout)

    async def _step(self, operation: Callable[[Line], Coroutine[Any, Any, T]]) -> T:
        self._check_open()
        return self._crew.do(operation, self.timeout * PATIENCE)


class AsyncRedisCache(AsyncBaseCache):
    """A `RedisCache` for an event loop; `connection` is a client of `redis.asyncio`, or Valkey's.

    What is said of `RedisCache` and its parameters holds here. To count, prune or verify what is
    stored, make one of these at the same place.
    """

    expires_by_itself = True

    def __init__(
        self,
        connection: Any,
        *,
        prefix: str = "",
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use the servers that `connection` uses. Nothing is asked yet."""
        super().__init__(clock=clock)
        self.prefix = prefix
        self.timeout = _positive(timeout)
        self._servers = _servers(connection, timeout, asynchronous=True)
        self._store = Store(prefix, clock)
        self._lines = Lines(self._servers)
        self._releasing: set[asyncio.Task[None]] = set()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Make a cache from a URL, as `RedisCache.from_url`."""
        servers, prefix, timeout = read_url(url, prefix, timeout, asynchronous=True)
        return cls(servers, prefix=prefix, timeout=timeout, clock=clock)

    def __repr__(self) -> str:
        """Name the servers, and no secret."""
        return f"AsyncRedisCache({self._servers.where!r}, prefix={self.prefix!r})"

    async def open(self, key: str) -> AsyncEntry | None:
        self._check_open()
        who = id(asyncio.current_task())
        found = await self._do(lambda line: self._store.open(line, key, who))
        return None if found is None else self._entry(found)

    async def open_or_claim(
        self, key: str, seconds: Callable[[], float]
    ) -> AsyncEntry | Claim | None:
        store = self._store
        hold = store.hold_of_missing(key, seconds)
        if hold is None:
            return await self.open(key)
        self._check_open()
        who = id(asyncio.current_task())
        with self._unless_cancelled(hold):
            found = await self._do(lambda line: store.open_or_claim(line, key, hold, who))
        if not isinstance(found, bool):
            return self._entry(found)
        if not found:
            return None
        return RedisClaim(store.claims, key, hold, who, self._take_back).kept_spare()

    def _entry(self, found: Found) -> AsyncEntry:
        body = found.body
        source = InMemory(body) if isinstance(body, bytes) else _AsyncSource(self, body)
        return AsyncEntry(
            found.metadata,
            version=found.version,
            size=found.size,
            source=source,
            digest=found.digest,
            has_body=found.has_body,
            expires_at=found.expires_at,
        )

    def writer(self, key: str) -> AsyncEntryWriter:
        self._check_open()
        version = new_version()
        return AsyncEntryWriter(
            _AsyncSink(self, self._store.draft(key, version)),
            version=version,
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    async def update(
        self, key: str, metadata: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        return await self._change(key, None, as_bytes(metadata), version, expires)

    async def swap(
        self, key: str, old: Buffer, new: Buffer, *, version: str, expires: Expires = None
    ) -> bool:
        """Swap the metadata of `version`, if it still is `old`."""
        return await self._change(key, as_bytes(old), as_bytes(new), version, expires)

    async def _change(
        self, key: str, old: bytes | None, new: bytes, version: str, expires: Expires
    ) -> bool:
        self._check_open()
        expires_at = moment(expires, self._clock())
        return await self._do(
            lambda line: self._store.update(line, key, old, new, version, expires_at)
        )

    async def remove(self, key: str) -> bool:
        self._check_open()
        return await self._do(lambda line: self._store.remove(line, key))

    async def entries(self) -> AsyncIterator[EntryInfo]:
        now, seen = self._clock(), set[int]()
        walk = Walk(self._step, self._store.page)
        while (page := await walk.next()) is not None:
            for entry in _unseen(page, seen):
                if not is_past(entry.expires_at, now):
                    yield entry

    @property
    def place(self) -> str:
        return _place(self._servers, self.prefix)

    async def claim(self, key: str, seconds: float) -> Claim | None:
        self._check_open()
        store, who = self._store, id(asyncio.current_task())
        mine = store.claims.at_hand(key, who)
        if mine is not None:
            return mine
        hold = store.hold(key, seconds)
        with self._unless_cancelled(hold):
            others = await self._do(lambda line: store.claim(line, key, hold, who))
        if others is None:
            return None
        return RedisClaim(store.claims, key, hold, who, self._take_back, others=others)

    @contextmanager
    def _unless_cancelled(self, hold: Hold) -> Iterator[None]:
        """Take back what may be granted while nobody waits for it any more."""
        try:
            yield
        except asyncio.CancelledError:
            self._take_back(hold)
            raise

    def _take_back(self, hold: Hold) -> None:
        async def release() -> None:
            with suppress(Exception):
                await self._do(lambda line: self._store.release(line, hold))

        # Without a loop it can't be taken back, and ends by itself.
        with suppress(RuntimeError):
            task = asyncio.get_running_loop().create_task(release())
            self._releasing.add(task)
            task.add_done_callback(self._releasing.discard)

    async def clear(self) -> None:
        """Remove every key that begins with the prefix; with the empty one, **all there are**."""
        walk = Walk(self._step, self._store.clear_page)
        while await walk.next() is not None:
            pass

    async def close(self) -> None:
        """Close the cache's connections; those of the client that it was given are not touched."""
        was_closed = self._closed
        await super().close()
        if not was_closed:
            await asyncio.gather(*self._releasing)
            await self._lines.close()
            await self._servers.close()

    async def _do(self, operation: Callable[[Line], Coroutine[Any, Any, T]]) -> T:
        return await self._lines.do(operation, self.timeout)

    async def _step(self, operation: Callable[[Line], Coroutine[Any, Any, T]]) -> T:
        self._check_open()
        return await self._lines.do(operation, self.timeout * PATIENCE)


# Where bodies come from and go to.


class _Source:
    """Reads a long body."""

    def __init__(self, cache: RedisCache, pieces: Pieces) -> None:
        self._cache = cache
        self._pieces = pieces

    def read_at(self, offset: int, size: int) -> bytes:
        pieces = self._pieces
        return pieces.here(offset, size) or self._cache._do(  # noqa: SLF001 - the cache's own
            lambda line: pieces.fetch(line, offset, size)
        )

    def close(self) -> None:
        self._pieces.forget()


class _AsyncSource:
    """Reads a long body."""

    def __init__(self, cache: AsyncRedisCache, pieces: Pieces) -> None:
        self._cache = cache
        self._pieces = pieces

    async def read_at(self, offset: int, size: int) -> bytes:
        pieces = self._pieces
        return pieces.here(offset, size) or await self._cache._do(  # noqa: SLF001 - its own
            lambda line: pieces.fetch(line, offset, size)
        )

    def close(self) -> None:
        self._pieces.forget()


class _Sink:
    """Writes one version."""

    def __init__(self, cache: RedisCache, draft: Draft) -> None:
        self._cache = cache
        self._draft = draft

    def write(self, chunk: bytes | memoryview, /) -> None:
        for _ in self._draft.take(chunk):
            self._cache._do(self._draft.send)  # noqa: SLF001 - the sink is the cache's own

    def publish(self, seal: Seal) -> None:
        cache, draft = self._cache, self._draft
        cache._check_open()  # noqa: SLF001
        cache._do(lambda line: cache._store.publish(line, draft, seal))  # noqa: SLF001

    def discard(self) -> None:
        if self._draft.is_begun:
            # What can't be removed expires.
            with suppress(Exception):
                self._cache._do(self._draft.discard)  # noqa: SLF001
        self._draft.forget()

    def detach(self) -> None:
        self._draft.forget()


class _AsyncSink:
    """Writes one version."""

    def __init__(self, cache: AsyncRedisCache, draft: Draft) -> None:
        self._cache = cache
        self._draft = draft

    async def write(self, chunk: bytes | memoryview, /) -> None:
        for _ in self._draft.take(chunk):
            await self._cache._do(self._draft.send)  # noqa: SLF001 - the sink is the cache's own

    async def publish(self, seal: Seal) -> None:
        cache, draft = self._cache, self._draft
        cache._check_open()  # noqa: SLF001
        await cache._do(lambda line: cache._store.publish(line, draft, seal))  # noqa: SLF001

    async def discard(self) -> None:
        if self._draft.is_begun:
            with suppress(Exception):
                await self._cache._do(self._draft.discard)  # noqa: SLF001
        self._draft.forget()

    def detach(self) -> None:
        self._draft.forget()


def _unseen(entries: list[EntryInfo], seen: set[int]) -> Iterator[EntryInfo]:
    """Leave out what a server names twice, as it may where keys come and go."""
    for entry in entries:
        name = hash(entry.name)
        if name not in seen:
            seen.add(name)
            yield entry


def _servers(connection: Any, timeout: float, *, asynchronous: bool) -> Servers:
    if isinstance(connection, Servers):
        return connection
    return servers_of(connection, timeout, asynchronous=asynchronous)


def _place(servers: Servers, prefix: str) -> str:
    return f"redis {servers.where}/{servers.database} {prefix}"


def _positive(timeout: float) -> float:
    if not 0 < timeout <= _LONGEST_TIMEOUT:
        msg = f"timeout is a number of seconds up to {_LONGEST_TIMEOUT}, not {timeout!r}"
        raise ConfigError(msg)
    return timeout
