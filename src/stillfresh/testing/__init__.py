"""For authors of caches, and for tests of what uses one.

Every cache has to pass the conformance suite. A test module inherits it and says how a cache is
made; pytest does the rest:

    from pathlib import Path

    from stillfresh.testing import ManualClock
    from stillfresh.testing.conformance import CacheConformance

    class TestMyCache(CacheConformance):
        can_list = False

        def make_cache(self, place: Path, clock: ManualClock) -> MyCache:
            return MyCache(place, clock=clock)

`SeparateBodyCacheConformance` is for caches with `get_body` and `set_body` as well. The suite needs
pytest, so it is imported by its full name; put this into `conftest.py`, before anything imports it,
and its failures show the values that were compared:

    pytest.register_assert_rewrite("stillfresh.testing.conformance")

`FaultyCache` fails where a test says so, and `ManualClock` tells the time that a test has set.
"""

from stillfresh.testing.clock import ManualClock
from stillfresh.testing.faults import (
    Fault,
    FaultyCache,
    FaultySeparateBodyCache,
    Operation,
)

__all__ = [
    "Fault",
    "FaultyCache",
    "FaultySeparateBodyCache",
    "ManualClock",
    "Operation",
]
