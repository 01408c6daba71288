"""A clock that stands still until a test moves it."""

from __future__ import annotations

import threading
from typing import Final

# Some moment in November 2023: a whole number, so that sums with it are exact.
START: Final = 1_700_000_000.0


class ManualClock:
    """Tells the time it was set to, in seconds since the epoch; give it as any `clock=`.

    It may be shared between threads.
    """

    def __init__(self, start: float = START) -> None:
        """Stand at `start`."""
        self._now = start
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def __repr__(self) -> str:
        """Tell the time."""
        return f"ManualClock({self._now!r})"

    def advance(self, seconds: float) -> None:
        """Go on by `seconds`; back, where they are negative."""
        with self._lock:
            self._now += seconds

    def set(self, now: float) -> None:
        """Stand at `now`."""
        with self._lock:
            self._now = now
