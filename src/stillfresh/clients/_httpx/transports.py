"""The transports: what differs between blocking and async ones."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from stillfresh.clients._base import AsyncCacheSide
from stillfresh.clients._httpx.answering import (
    A,
    AwaitedPorts,
    LocalPorts,
    OffloadedPorts,
    Q,
    Transport,
)
from stillfresh.clients._httpx.bodies import AsyncChunks, BlockingChunks
from stillfresh.clients._tasks import TasksBehind
from stillfresh.engine.behind import Behind
from stillfresh.engine.ports import run
from stillfresh.engine.waiting import ThreadSignal, task_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh import events
    from stillfresh.caches.asynchronous import AsyncBaseCache
    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.clients._httpx.answering import Awaited
    from stillfresh.engine.delivery import Chunks, Delivery
    from stillfresh.rfc9111.policy import Policy


class BlockingTransport(Transport[Q, A]):
    """A `CacheTransport`, but for the class of its library."""

    behind = Behind
    signal = ThreadSignal

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if the transport made it and was closed."""
        cache: BaseCache = self.side.cache
        return cache

    def ports_for(self, request: Q) -> Any:
        return LocalPorts(self, request)

    def handle_request(self, request: Q) -> A:
        """Answer `request` from the cache, from the origin, or from both."""
        return run(self.respond(request, self.side.policy))

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no refresh is under way, `timeout` seconds at most; tell whether none is."""
        settled: bool = self._behind.settle(timeout)
        return settled

    def close(self) -> None:
        """Close the transport inside, and the cache if it was made here."""
        self.side.closings += 1
        try:
            self.inner.close()
        finally:
            self.side.close()

    def __enter__(self) -> Self:
        self.inner.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.side.closings += 1
        try:
            self.inner.__exit__(*exc)
        finally:
            self.side.close()

    def plain(self) -> Any:
        return self.library.blocking_transport()

    async def forward(self, request: Q) -> A:
        message: A = self.inner.handle_request(request)
        return message

    def chunks_of(self, message: A) -> Chunks:
        return BlockingChunks(message.stream)

    def stream_of(self, delivery: Delivery[Any, Any]) -> Any:
        return self.library.blocking_stream(delivery)

    def refresh_behind(self, key: str, request: Q) -> None:
        again = self.again(request)
        policy = replace(self.side.policy, stale_while_revalidate=0)
        closings = self.side.closings

        def work() -> None:
            if self.side.closings != closings:
                return
            try:
                stream = run(self.respond(again, policy)).stream
                try:
                    for _ in stream:
                        pass
                finally:
                    stream.close()
            finally:
                if self.side.closings != closings:
                    # What it has opened since belongs to nobody.
                    self.inner.close()

        self._behind.start(key, work)


class AsyncTransport(Transport[Q, A]):
    """An `AsyncCacheTransport`, but for the class of its library."""

    behind = TasksBehind
    signal = staticmethod(task_signal)

    def __init__(
        self,
        transport: Awaited | None = None,
        cache: CacheLike | AsyncBaseCache | None = None,
        *,
        offload: bool = False,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
    ) -> None:
        """Take what a `CacheTransport` takes.

        `cache` may be one that is awaited too, as a Redis URL makes one; that is for asyncio. With
        `offload`, a local cache is called in threads: slower, but a slow disk doesn't stop the
        loop.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        side = AsyncCacheSide(cache, offload=offload, policy=policy, hook=hook, clock=clock)
        self._begin_over(transport, side, identity)

    @property
    def cache(self) -> BaseCache | AsyncBaseCache:
        """The cache; opened anew if the transport made it and was closed."""
        cache: BaseCache | AsyncBaseCache = self.side.cache
        return cache

    def ports_for(self, request: Q) -> Any:
        kinds: tuple[Any, Any, Any] = (LocalPorts, OffloadedPorts, AwaitedPorts)
        return self.side.choose(*kinds)(self, request)

    async def handle_async_request(self, request: Q) -> A:
        """Answer `request` from the cache, from the origin, or from both."""
        return await self.respond(request, self.side.policy)

    async def settle(self) -> None:
        """Wait until no refresh is under way."""
        await self._behind.settle()

    async def aclose(self) -> None:
        """Drop what is being refreshed, close the transport inside, and a cache made here."""
        try:
            await self._behind.drop()
        finally:
            try:
                await self.inner.aclose()
            finally:
                await self.side.close()

    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._behind.drop()
        finally:
            try:
                await self.inner.__aexit__(*exc)
            finally:
                await self.side.close()

    def plain(self) -> Any:
        return self.library.async_transport()

    async def forward(self, request: Q) -> A:
        message: A = await self.inner.handle_async_request(request)
        return message

    def chunks_of(self, message: A) -> Chunks:
        return AsyncChunks(message.stream)

    def stream_of(self, delivery: Delivery[Any, Any]) -> Any:
        return self.library.async_stream(delivery)

    def refresh_behind(self, key: str, request: Q) -> None:
        again = self.again(request)
        policy = replace(self.side.policy, stale_while_revalidate=0)

        async def work() -> None:
            stream = (await self.respond(again, policy)).stream
            try:
                async for _ in stream:
                    pass
            finally:
                await stream.aclose()

        self._behind.start(key, work)
