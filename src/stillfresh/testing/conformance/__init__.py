"""What every cache must do, as tests to inherit.

`CacheConformance` is for any cache, `SeparateBodyCacheConformance` for one with `get_body` and
`set_body` too. A subclass says how a cache is made, and in its flags what the cache can't do; it
may override the fixtures `place` and `clock` where a directory and a manual clock are not what the
cache works with. No test waits for time to pass, and all are bounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import pytest  # noqa: F401 - the modules of the suite do, and nobody would be told more
except ImportError as error:
    msg = "stillfresh.testing.conformance needs pytest: pip install pytest"
    raise ImportError(msg) from error

from stillfresh.testing.conformance.entries import Reading, Seeking, Updating, Writing
from stillfresh.testing.conformance.lifetime import Lifetime
from stillfresh.testing.conformance.pairs import Bodies, ReadersCalls, WritersCalls
from stillfresh.testing.conformance.sharing import Sharing
from stillfresh.testing.conformance.upkeep import Upkeep
from stillfresh.testing.conformance.values import Expiry, Values

if TYPE_CHECKING:
    from stillfresh.caches.base import SeparateBodyBaseCache
    from stillfresh.testing.clock import ManualClock

__all__ = ["CacheConformance", "SeparateBodyCacheConformance"]


class CacheConformance(
    Values, Expiry, Writing, Reading, Seeking, Updating, Lifetime, Sharing, Upkeep
):
    """The guarantees of `BaseCache`; the flags are those of `Suite`."""


class SeparateBodyCacheConformance(CacheConformance, Bodies, WritersCalls, ReadersCalls):
    """The guarantees of `SeparateBodyBaseCache`: two calls, and yet one version."""

    def make_cache(self, place: Any, clock: ManualClock) -> SeparateBodyBaseCache:
        """Make a cache; the suite closes it."""
        raise NotImplementedError
