from pathlib import Path

from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance, SeparateBodyCacheConformance


class TestFileCacheConformance(CacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> FileCache:
        return FileCache(place, clock=clock)


class TestSeparateBodyFileCacheConformance(SeparateBodyCacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> SeparateBodyFileCache:
        return SeparateBodyFileCache(place, clock=clock)
