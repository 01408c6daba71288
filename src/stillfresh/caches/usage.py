"""Which rows of a database were used, and how often: noted in memory, written down in batches.

A hit writes nothing. A row's last use is only noted when what is written there is an hour old, or
sooner where rows go that were not used for hours.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final

from stillfresh.caches.pruning import AHEAD
from stillfresh.errors import StoreError
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.database import Database
    from stillfresh.caches.pruning import Bounds

# A thread writes it down after this many entries, or look-ups.
_ENTRIES: Final = 1000
_LOOKUPS: Final = 20_000


class Usage:
    """What one process has used of a database, and not yet written down.

    Attributes:
        bounds: those that it is written down for.
    """

    def __init__(self, database: Database, bounds: Bounds, clock: Callable[[], float]) -> None:
        """Begin; what is noted goes to `database`, often enough for its bounds."""
        self._database = database
        self._clock = clock
        self.bounds = bounds
        self.begin()
        call_in_children(self.begin)

    def begin(self) -> None:
        """Begin, in this process: what its parent has noted is for that to write down."""
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._used: dict[int, float] = {}
        self._hits = self._misses = self._served = 0

    def is_recent(self, used_at: Any, now: float) -> bool:
        """Tell whether what is written of a row's last use, or storing, is new enough."""
        # Where that was damaged, it may be anything.
        return type(used_at) is float and 0 <= now - abs(used_at) < self.bounds.recency

    def hit(self, name: int, used_at: float, size: int, now: float) -> None:
        """Note that an entry was found, whose last use is written as `used_at`, or its storing."""
        self._hits += 1
        self._served += size
        if not self.is_recent(used_at, now):
            self._used[name] = now
        if len(self._used) >= _ENTRIES or self._hits >= _LOOKUPS:
            self._write_behind()

    def miss(self) -> None:
        """Note that none was found."""
        self._misses += 1

    def write(self) -> None:
        """Write down what was noted.

        Raises:
            StoreError: that can't be done.
        """
        if not (self._used or self._hits or self._misses) or not self._database.number():
            return
        with self._lock:
            used, counts = self._used, (self._hits, self._misses, self._served)
            self.forget()
        try:
            with self._database.change("noting use") as database:
                # It may have been stored anew since; unless it says so since a clock was ahead.
                latest = self._clock() + AHEAD
                database.executemany(
                    "UPDATE entry SET used_at = ?1"
                    " WHERE id = ?2 AND NOT abs(used_at) BETWEEN ?1 AND ?3",
                    [(at, name, latest) for name, at in used.items()],
                )
                database.execute(
                    "UPDATE total SET hits = hits + ?, misses = misses + ?, served = served + ?",
                    counts,
                )
        except StoreError:
            # Another time, then.
            with self._lock:
                self._used = {**used, **self._used}
                self._hits += counts[0]
                self._misses += counts[1]
                self._served += counts[2]
            raise

    def _write_behind(self) -> None:
        with self._lock:
            if self._writer is not None and self._writer.is_alive():
                return
            self._writer = threading.Thread(
                target=self._write_in_thread, name="stillfresh-usage", daemon=True
            )
        with contextlib.suppress(RuntimeError):
            self._writer.start()

    def _write_in_thread(self) -> None:
        try:
            with contextlib.suppress(StoreError):
                self.write()
        finally:
            self._database.close_mine()
