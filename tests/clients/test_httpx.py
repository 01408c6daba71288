"""httpx and httpx2, blocking and async: the common behaviours, and what is particular to them."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import httpx
import httpx2
import pytest

import stillfresh.clients.httpx
import stillfresh.clients.httpx2
from stillfresh import BaseCache, Policy
from stillfresh.events import Hook
from tests.clients.behaviours import ClientBehaviours, Driver
from tests.clients.httpx_driver import AsyncHttpxDriver, HttpxDriver


# Made once: what it loads takes longer than most of the tests.
TLS = ssl.create_default_context()


class OfHttpx(ClientBehaviours):
    sampled = True
    driver = HttpxDriver
    library = httpx
    clients = stillfresh.clients.httpx

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> Driver:
        client = self.clients.CachedClient(
            cache, policy=policy, hook=hook, clock=clock, trust_env=False, verify=TLS
        )
        return HttpxDriver(self.library, client)


class OfAsyncHttpx(ClientBehaviours):
    sampled = True
    driver = AsyncHttpxDriver
    library = httpx
    clients = stillfresh.clients.httpx
    loop = "asyncio"

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> Driver:
        client = self.clients.AsyncCachedClient(
            cache, policy=policy, hook=hook, clock=clock, trust_env=False, verify=TLS
        )
        return AsyncHttpxDriver(self.library, client, self.loop)


class TestHttpx(OfHttpx):
    pass


class TestHttpx2(OfHttpx):
    library = httpx2
    clients = stillfresh.clients.httpx2


class TestAsyncio(OfAsyncHttpx):
    pass


# The libraries leave generators of theirs to the garbage collector where a body isn't read to its
# end, which trio tells. None of them is the cache's.
THEIRS = (
    "ignore:Exception ignored in. .async_generator object {}"
    ":pytest.PytestUnraisableExceptionWarning"
)
OF_HTTPX = ("PoolByteStream", "AsyncResponseStream", "BoundAsyncStream", "Response")


@pytest.mark.filterwarnings(*map(THEIRS.format, OF_HTTPX))
class TestTrio(OfAsyncHttpx):
    loop = "trio"


class TestAsyncio2(OfAsyncHttpx):
    library = httpx2
    clients = stillfresh.clients.httpx2


@pytest.mark.filterwarnings(THEIRS.format("PoolByteStream"))
class TestTrio2(TestAsyncio2):
    loop = "trio"
