"""`CacheMiddleware`: the common behaviours, and what is particular to aiohttp."""

from __future__ import annotations

from collections.abc import Callable

from stillfresh import BaseCache, Policy
from stillfresh.clients.aiohttp import CacheMiddleware
from stillfresh.events import Hook
from tests.clients.aiohttp_driver import AiohttpDriver
from tests.clients.behaviours import ClientBehaviours


class TestInMemory(ClientBehaviours):
    sampled = True
    driver = AiohttpDriver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> AiohttpDriver:
        return AiohttpDriver(lambda: CacheMiddleware(cache, policy=policy, hook=hook, clock=clock))
