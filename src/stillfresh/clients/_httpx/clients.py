"""The clients: the libraries' own, with the cache before every transport that they make."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any, ClassVar

from stillfresh.clients._base import AsyncCacheSide, CacheSide
from stillfresh.clients._httpx.answering import WHOLE, Connections, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stillfresh import events
    from stillfresh.caches.asynchronous import AsyncBaseCache
    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.rfc9111.policy import Policy


class _Client:
    """What blocking and async clients have in common."""

    kind: ClassVar[type[Transport[Any, Any]]]

    def _begin(self, side: Any, identity: str | None) -> None:
        self._side = side
        self._behind = self.kind.behind(side.tell_failed)
        self._identity = identity

    # These two make all of a client's transports, also those for the proxies of the environment.

    def _init_transport(self, *args: Any, **options: Any) -> Any:
        return self._before(super()._init_transport(*args, **options), options)  # type: ignore[misc]

    def _init_proxy_transport(self, *args: Any, **options: Any) -> Any:
        inner = super()._init_proxy_transport(*args, **options)  # type: ignore[misc]
        return self._before(inner, options)

    def _before(self, inner: Any, options: Mapping[str, Any]) -> Transport[Any, Any]:
        identity = self._identity or options.get("cert")
        connections = Connections(identity, verified=_verifies(options.get("verify", True)))
        return self.kind.over(inner, self._side, self._behind, connections)


class BlockingClient(_Client):
    """A `CachedClient`, but for the class of its library."""

    def __init__(
        self,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
        **options: Any,
    ) -> None:
        """Take what `CacheTransport` takes, and the library's client.

        A `transport` or `proxy` among the `options` is gone through behind the cache; `mounts` are
        left as they are.
        """
        self._begin(CacheSide(cache, policy=policy, hook=hook, clock=clock), identity)
        super().__init__(**options)

    @property
    def cache(self) -> BaseCache:
        """The cache."""
        cache: BaseCache = self._side.cache
        return cache

    if not TYPE_CHECKING:  # they are to see the library's, which knows its own kinds

        def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            if not stream:
                request.extensions = {**request.extensions, WHOLE: True}
            return super().send(request, stream=stream, **options)

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no refresh is under way, `timeout` seconds at most; tell whether none is."""
        settled: bool = self._behind.settle(timeout)
        return settled


class AsyncClient(_Client):
    """An `AsyncCachedClient`, but for the class of its library."""

    def __init__(
        self,
        cache: CacheLike | AsyncBaseCache | None = None,
        *,
        offload: bool = False,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
        identity: str | None = None,
        **options: Any,
    ) -> None:
        """Take what `AsyncCacheTransport` takes, and the library's client.

        A `transport` or `proxy` among the `options` is gone through behind the cache; `mounts` are
        left as they are.
        """
        side = AsyncCacheSide(cache, offload=offload, policy=policy, hook=hook, clock=clock)
        self._begin(side, identity)
        super().__init__(**options)

    @property
    def cache(self) -> BaseCache | AsyncBaseCache:
        """The cache."""
        cache: BaseCache | AsyncBaseCache = self._side.cache
        return cache

    if not TYPE_CHECKING:

        async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            if not stream:
                request.extensions = {**request.extensions, WHOLE: True}
            return await super().send(request, stream=stream, **options)

    async def settle(self) -> None:
        """Wait until no refresh is under way."""
        await self._behind.settle()


def _verifies(verify: Any) -> bool:
    if isinstance(verify, ssl.SSLContext):
        return verify.verify_mode is not ssl.CERT_NONE
    return verify is not False
