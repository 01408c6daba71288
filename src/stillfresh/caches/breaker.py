"""Leaving a server alone that has failed, for a while.

Every request would wait for a server that is down; so after one failure nobody asks it for a
second, then one request tries again, and while that fails the pauses double.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from stillfresh.errors import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds: long enough that a server which is starting isn't in the way of every request, short
# enough that nobody misses it.
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0


class Breaker:
    """Knows whether one server is to be asked.

    It may be shared between threads; of the errors that it makes, those of one outage say so.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a server of which nothing bad is known."""
        self._clock = clock
        self._outage: _Outage | None = None
        self.renew()

    def renew(self) -> None:
        """Begin, in this process: a thread of its parent may have held the lock."""
        # Re-entrant, since a writer that is collected while it is held has something to remove.
        self._lock = threading.RLock()

    def enter(self) -> None:
        """Go and ask the server.

        Whoever is let through during an outage is the one that tries; others go on being refused.

        Raises:
            CacheUnavailable: it is to be left alone.
        """
        outage = self._outage
        if outage is None:
            return
        with self._lock:
            now = self._clock()
            if now < outage.retry_at:
                msg = f"not asked again so soon after: {outage.reason}"
                raise outage.error(msg)
            outage.pause = min(2 * outage.pause, LONGEST_PAUSE)
            outage.retry_at = now + outage.pause

    def left(self) -> None:
        """Hear that who was let through will come again, and hasn't asked yet."""
        with self._lock:
            outage = self._outage
            if outage is not None:
                outage.pause = max(outage.pause / 2, FIRST_PAUSE)
                outage.retry_at = self._clock()

    def succeeded(self) -> None:
        """Hear that the server has answered."""
        if self._outage is not None:
            self._outage = None

    def failed(self, reason: str) -> CacheUnavailable:
        """Hear why it has not, and return what is to be raised."""
        with self._lock:
            outage = self._outage
            if outage is None:
                retry_at = self._clock() + FIRST_PAUSE
                outage = self._outage = _Outage(reason, FIRST_PAUSE, retry_at)
        return outage.error(reason)


class _Outage:
    """The time from a failure to the next success."""

    __slots__ = ("pause", "reason", "retry_at")

    def __init__(self, reason: str, pause: float, retry_at: float) -> None:
        self.reason = reason
        self.pause = pause
        self.retry_at = retry_at

    def error(self, text: str) -> CacheUnavailable:
        error = CacheUnavailable(text)
        error.outage = self
        return error
