"""Keeping a database to its bounds, and its folder without litter.

What is over them goes in batches, so that others have their turn between these: a few with the
store that made it due, the rest in a thread.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from stillfresh.caches import rows
from stillfresh.caches.pruner import Pruner
from stillfresh.caches.pruning import Bounds, DryRun, Progress, PruneReport
from stillfresh.errors import CacheError, CacheFull, CacheUnavailable, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.bodyfiles import BodyFiles
    from stillfresh.caches.database import Database
    from stillfresh.caches.usage import Usage

# What has been written is counted by each process, and compared with the bound after a part of it;
# then so much more is removed that it isn't over the bound again at once. With eight processes that
# keeps to it within 3 %.
_STEPS: Final = 400
_LOW: Final = 1 - 2 / _STEPS
# An entry over this part of the bound finds its room before it is stored.
_LARGE: Final = 1 / 50
# A bound of age is seen to so many times within it.
_AGES: Final = 20
# A total that is so many times the bound was damaged.
_UNLIKELY: Final = 2
# What killed writers have left is looked for when a process has stored this part of the bound in
# body files, or so many bytes; and by the first one that stores any for some seconds.
_LITTER: Final = 1 / 8
_LITTER_UNBOUND: Final = 1 << 27
_SWEPT: Final = 3600.0
# A store removes so many rows at the most; what is more than that goes in a thread.
_AT_ONCE: Final = rows.BATCH
# prune() gives back what is free where that is this share of the database. By itself the cache does
# where it is twice as much, so that what it has to copy is no more than what it has removed; and
# for so many bytes at least.
GAPS: Final = 1 / 4
_LEAST_GAPS: Final = 4 << 20


class Housekeeping:
    """Keeps one database to its bounds.

    Attributes:
        bounds: how much all entries may take, and how long one may go unused.
    """

    def __init__(
        self,
        database: Database,
        bodies: BodyFiles,
        usage: Usage,
        bounds: Bounds,
        clock: Callable[[], float],
    ) -> None:
        """Have nothing to do."""
        self.bounds = bounds
        self._database = database
        self._bodies = bodies
        self._usage = usage
        self._clock = clock
        self._pruner = Pruner(self._prune_behind)
        # Bytes that this process has written since it last compared all with the bound. It does so
        # at first: others may have ended before it was time.
        self._unseen = bounds.max_bytes or 0
        self._aged_at = 0.0
        # Bytes of body files that it has written since it last swept; None is none so far.
        self._filed: int | None = None

    def stop(self) -> None:
        """Come to an end with what is under way."""
        self._pruner.stop()

    def cleared(self) -> None:
        """Hear that the database is empty."""
        self._unseen = 0

    def find_room(self, name: int, size: int) -> None:
        """Find room for an entry before it is stored, if it is a large one.

        `name` is the number of its key: it takes the place of what is there.

        Raises:
            CacheFull: it is larger than all may be.
            StoreError: the database failed.
        """
        most = self.bounds.max_bytes
        if most is None:
            return
        if size > most:
            msg = f"an entry of {size} bytes in a cache of at most {most}"
            raise CacheFull(msg)
        if size > most * _LARGE:
            # What is there may be removed as well, and leaves less room then.
            for _ in range(2):
                room = most - size + self._size_of(name)
                if not self._is_over(room):
                    break
                self.prune(Bounds(max_bytes=room), PruneReport())

    def stored(self, size: int, now: float) -> None:
        """See to the bounds, if it is time, after `size` bytes were stored.

        Raises:
            CorruptEntry: the database was damaged, and is followed by an empty one.
        """
        self._unseen += size
        if self._is_time(now):
            # What can't be removed now is when it is time again. But where all had to begin anew,
            # what was stored is gone.
            with contextlib.suppress(CacheFull, CacheUnavailable):
                self._keep_within()

    def look_for_litter(self, size: int) -> None:
        """Sweep what killed writers have left, now and then."""
        first, self._filed = self._filed is None, (self._filed or 0) + size
        bound = self.bounds.max_bytes
        most = _LITTER_UNBOUND if bound is None else bound * _LITTER
        if not first and self._filed < most:
            return
        with contextlib.suppress(StoreError, OSError):
            if not self._bodies.is_swept(_SWEPT if first else 0.0):
                self._filed = 0
                self.sweep(PruneReport(), DryRun.NO)

    def prune(
        self,
        bounds: Bounds,
        report: PruneReport,
        progress: Progress | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Remove rows in batches, so that others have their turn between them; is it done?

        Raises:
            StoreError: the database failed.
        """
        now, more = self._clock(), True
        while more and not stop():
            try:
                more = self._prune_some(bounds, now, report)
            except CacheFull:
                if not self._make_room():
                    raise
                more = self._prune_some(bounds, now, report)
            self.remove_gone()
            if progress is not None:
                removed = report.removed.total()
                progress(removed, None if more else removed)
        return not more

    def remove_gone(self) -> None:
        """Remove the body files that have lost their rows. Never raises."""
        with contextlib.suppress(StoreError):
            gone = self._database.rows("sweeping", rows.GONE)
            if gone:
                number = self._database.bodies()
                done = [
                    (row, file)
                    for row, file in gone
                    # What is no name of a file was damaged.
                    if not rows.is_file(file) or self._bodies.unlink(number, file)
                ]
                # Its number may be another file's by now, where somebody else was quicker.
                with self._database.change("sweeping") as database:
                    database.executemany("DELETE FROM gone WHERE rowid = ? AND file IS ?", done)

    def sweep(self, report: PruneReport, dry_run: DryRun) -> None:
        """Remove the body files that killed writers have left.

        Raises:
            StoreError: the database failed.
        """
        named = {file for (file,) in self._database.rows("sweeping", rows.FILES)}
        self._bodies.sweep(self._database.bodies(), named, self.is_named, report, dry_run)

    def is_named(self, file: str) -> bool:
        """Tell whether a row names a body file.

        Raises:
            StoreError: the database failed.
        """
        row = self._database.one("listing", "SELECT 1 FROM entry WHERE file = ?", (file,))
        return row is not None

    def write_usage(self) -> None:
        """Write down what was used. Never raises."""
        # Where others don't let it, it is for another time: that is no reason to fail.
        with contextlib.suppress(StoreError):
            self._usage.write()

    def _is_time(self, now: float) -> bool:
        """Tell whether to compare what is stored with the bounds."""
        most, age = self.bounds.max_bytes, self.bounds.max_age
        if most is not None and self._unseen > most / _STEPS:
            return True
        return age is not None and not (0 <= now - self._aged_at < age / _AGES)

    def _keep_within(self) -> None:
        """See to the bounds, without delaying the store that made it due for long."""
        self._unseen, self._aged_at = 0, self._clock()
        report = PruneReport()
        done = self.prune(self._due(), report, stop=lambda: report.removed.total() >= _AT_ONCE)
        if not done or (report.removed and self._has_gaps()):
            self._pruner.start()

    def _prune_behind(self, stopped: Callable[[], bool]) -> None:
        # What can't be done now is when it is time again.
        with contextlib.suppress(CacheError):
            with self._database.at_length():
                self.prune(self._due(), PruneReport(), stop=stopped)
            if not stopped() and self._has_gaps():
                self._database.compact(2 * GAPS)

    def _due(self) -> Bounds:
        """Return what to prune to: some less than `max_bytes`, where that is exceeded."""
        low, most = None, self.bounds.max_bytes
        if most is not None and self._is_over(most):
            low = int(most * _LOW)
        elif self.bounds.max_age is not None:
            self.write_usage()
        return Bounds(max_bytes=low, max_age=self.bounds.max_age)

    def _size_of(self, name: int) -> int:
        row = self._database.one("counting", "SELECT size FROM entry WHERE id = ?", (name,))
        # What was damaged is no number.
        return row[0] if row is not None and type(row[0]) is int else 0

    def _has_gaps(self) -> bool:
        free, size = self._database.gaps()
        return free >= max(_LEAST_GAPS, 2 * GAPS * size)

    def _is_over(self, most: int) -> bool:
        """Tell whether more than so many bytes are stored; if so, what was used is written down."""
        total = self._database.one("counting", rows.STORED)
        if total is None:
            return False
        stored = total[0]
        if type(stored) is not int or not 0 <= stored <= _UNLIKELY * (
            self.bounds.max_bytes or most
        ):
            with self._database.change("counting") as database:
                rows.recount(database)
            (stored,) = self._database.one("counting", rows.STORED) or (0,)
        if stored <= most:
            return False
        self.write_usage()
        return True

    def _prune_some(self, bounds: Bounds, now: float, report: PruneReport) -> bool:
        """Remove a batch, and tell whether there may be more to remove."""
        done = PruneReport()
        with self._database.change("pruning") as database:
            more = rows.remove_some(database, bounds, now, done)
            report.kept, report.kept_bytes = database.execute(rows.TOTALS).fetchone()
        report.removed.update(done.removed)
        report.removed_bytes += done.removed_bytes
        return more

    def _make_room(self) -> bool:
        """Have the database changed again on a full disk, where that can be done.

        Removing rows takes room, and removing files gives some: the body files of those rows that
        would go first go before them.
        """
        if self._database.reuse_log():
            return True
        number = self._database.bodies()
        files = self._database.rows("pruning", rows.FIRST_FILES)
        removed = [self._bodies.unlink(number, file) for (file,) in files if rows.is_file(file)]
        return any(removed) and self._database.reuse_log()
