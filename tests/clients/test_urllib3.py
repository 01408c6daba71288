"""`CachedPoolManager`: the common behaviours, and what is particular to urllib3."""

from __future__ import annotations

from collections.abc import Callable

from stillfresh import BaseCache, Policy
from stillfresh.clients.urllib3 import CachedPoolManager
from stillfresh.events import Hook
from tests.clients.behaviours import ClientBehaviours
from tests.clients.urllib3_driver import Urllib3Driver


class TestInMemory(ClientBehaviours):
    sampled = True
    driver = Urllib3Driver

    def make_client(
        self,
        cache: BaseCache,
        *,
        policy: Policy | None,
        hook: Hook,
        clock: Callable[[], float],
    ) -> Urllib3Driver:
        return Urllib3Driver(CachedPoolManager(cache=cache, policy=policy, hook=hook, clock=clock))
