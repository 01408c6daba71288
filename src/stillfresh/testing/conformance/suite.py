"""The base of every part of the suite."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from stillfresh.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stillfresh.caches.base import BaseCache


class Suite:
    """How a cache is made, and what it can do.

    Attributes:
        persistent: another object made at the same place sees the same entries.
        can_list: `entries` works.
        can_clear: `clear` works.
        swaps_atomically: no other writer can come between the two halves of an `update`.
        closes: any use after `close` raises `CacheClosed`.
        takes_clock: expiry follows the clock that `make_cache` is given. Where it doesn't, override
            the fixture `clock` with one that tells the real time.
    """

    persistent: ClassVar[bool] = True
    can_list: ClassVar[bool] = True
    can_clear: ClassVar[bool] = True
    swaps_atomically: ClassVar[bool] = True
    closes: ClassVar[bool] = True
    takes_clock: ClassVar[bool] = True

    def make_cache(self, place: Any, clock: ManualClock) -> BaseCache:
        """Make a cache; the suite closes it.

        One that is persistent is made several times at the same `place`, which is new and empty
        for each test.
        """
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> Any:
        """Say where the cache is."""
        return tmp_path / "cache"

    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock()

    @pytest.fixture
    def open_cache(self, place: Any, clock: ManualClock) -> Iterator[Callable[[], Any]]:
        """Make one more cache at the same place."""
        with contextlib.ExitStack() as opened:
            yield lambda: opened.enter_context(self.make_cache(place, clock))

    @pytest.fixture
    def cache(self, open_cache: Callable[[], Any]) -> Any:
        return open_cache()

    def needs(self, flag: str) -> None:
        """Skip the test that calls this where the cache can't do what it is about."""
        if not getattr(self, flag):
            pytest.skip(f"{flag} is False")
