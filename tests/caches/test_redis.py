"""The conformance suite on real servers, and what is particular to Redis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from stillfresh.caches.redis import RedisCache
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance
from tests.redis_servers import (
    ClusterSetup,
    RedisServer,
    SentinelSetup,
    needs_redis,
    redis_cluster,
    redis_sentinel,
    redis_server,
)

__all__ = ["redis_cluster", "redis_sentinel", "redis_server"]

pytestmark = needs_redis

_numbers = itertools.count()
# The suite has many threads at work, on a machine that may be busy: what is slow isn't broken.
PATIENT = 10.0


class OnServers(CacheConformance):
    """The suite, each test under a prefix of its own."""

    def make_cache(self, place: Any, clock: ManualClock) -> RedisCache:
        url, prefix = place
        return RedisCache.from_url(url, prefix=prefix, timeout=PATIENT, clock=clock)

    def damage(self, place: Any, cache: RedisCache, key: str) -> bool:
        url, prefix = place
        return False


class TestOneServer(OnServers):
    @pytest.fixture
    def place(self, redis_server: RedisServer) -> Iterator[Any]:
        return redis_server.url, f"test-{next(_numbers)}:"


class TestSentinel(OnServers):
    @pytest.fixture
    def place(self, redis_sentinel: SentinelSetup) -> Iterator[Any]:
        return redis_sentinel.url, f"test-{next(_numbers)}:"


class TestCluster(OnServers):
    @pytest.fixture
    def place(self, redis_cluster: ClusterSetup) -> Iterator[Any]:
        return redis_cluster.url, f"test-{next(_numbers)}:"
