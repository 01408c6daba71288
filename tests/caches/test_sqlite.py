"""What is particular to the SQLite cache."""

from pathlib import Path

from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import SeparateBodyCacheConformance


class TestSQLiteCacheConformance(SeparateBodyCacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> SQLiteCache:
        # Patient, since the suite's writers leave one another no pause.
        return SQLiteCache(place, timeout=10, clock=clock)
