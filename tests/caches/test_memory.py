from pathlib import Path

from stillfresh.caches.memory import MemoryCache
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance


class TestConformance(CacheConformance):
    persistent = False

    def make_cache(self, place: Path, clock: ManualClock) -> MemoryCache:
        return MemoryCache(clock=clock)
