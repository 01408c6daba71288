"""Keeping a directory within bounds and clean: the scan, the deletion, and when it is time to.

A listing makes a plan (`pruning`), a second walk carries it out. Each victim is looked at again,
with its directory's lock and its own, before it goes: what was used or replaced meanwhile stays.
The same walk sweeps what killed writers have left. A live writer of a long body holds a lock on its
file, which the kernel drops when it dies; one of a short body just writes again if its file is
swept.

How much has been written is counted by all processes together: each adds a byte to one file for
each unit it has written, and the length of that file says when it is time. What a process has
written of its first unit begins at random, so that many who write little count as one who writes
much.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import stat
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from stillfresh.caches import pruning
from stillfresh.caches.entryfiles import NAME_LENGTH, body_file_of, info, unamended
from stillfresh.caches.files import is_full, write_all
from stillfresh.caches.locks import is_held, lock_at_once, unlock
from stillfresh.caches.pruning import Bounds, DryRun, PruneReport
from stillfresh.errors import StoreError
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from stillfresh.caches.directory import Directory
    from stillfresh.caches.entry import EntryInfo
    from stillfresh.caches.leaf import Leaf

    _Turn = Callable[[Leaf], AbstractContextManager[bool]]

# In the root: who holds its lock is pruning, and what it says is to which bound that was done (0
# while it is not done, or where there was none), how many entries stayed, and how many bytes.
_PRUNED: Final = ".stillfresh-pruned"
# In the root: a byte for each unit written since.
_WRITTEN: Final = ".stillfresh-written"
# A two-hundredth of the bound is a unit. It is pruned when less than ten are left of the bound, and
# after forty in any case: others may write there who don't count.
_UNITS: Final = 200
_LEFT: Final = 10
_SELDOM: Final = 40
# Pruning leaves this part of the bound, or the next one would come at once.
LOW: Final = 0.9
# When there are five units more than the bound, nothing more is stored until it is pruned: with
# eight processes that each have not quite filled a unit, that is 7 % above it, and what they are
# just writing.
_ABOVE: Final = 5
# Listings of up to this many entries take some milliseconds, which the writer that makes pruning
# due can spare; longer ones are made in a thread.
_FEW: Final = 200
# A bound of age is seen to this often, in seconds, or ten times within it.
_AGES: Final = 3600.0


class _Notes(NamedTuple):
    """What the last pruning came to: its bound, what stayed, and when it was."""

    bound: int
    entries: int
    size: int
    at: float


class Upkeep:
    """Looks after one directory."""

    def __init__(self, tree: Directory, bounds: Bounds, clock: Callable[[], float]) -> None:
        """Keep `tree` within `bounds`."""
        self._tree = tree
        self._bounds = bounds
        self._clock = clock
        self._began = False
        # How many entries this process has stored since somebody last pruned, and when that was.
        self._stored = 0
        self._pruned_at = 0.0
        # What all have written, in units, and from when on that is too much; None is not known yet.
        self._units: int | None = None
        self._full_at = 0
        self._unit = max(1, (bounds.max_bytes or _UNITS << 20) // _UNITS)
        self._renew()
        call_in_children(self._renew)

    def _renew(self) -> None:
        """Begin, in this process: another thread of its parent may have held the lock."""
        self._lock = threading.Lock()
        self._pending = random.randrange(self._unit)  # noqa: S311 - no secret

    def listing(self) -> Iterator[EntryInfo]:
        """List the entry files in the order of their names, expired ones and others' too."""
        for leaf in self._tree.leaves():
            with leaf:
                yield from _entries_in(leaf)

    def is_due(self, written: int) -> bool:
        """Count what has been written, and tell whether that makes pruning due."""
        if not self._bounds:
            return False
        with self._lock:
            self._stored += 1
            self._pending += written
            units, self._pending = divmod(self._pending, self._unit)
            began, self._began = self._began, True
        if not units and began:
            return False
        with contextlib.suppress(OSError, StoreError):
            written = self._add(units)
            notes = self._look(written)
            return self._is_overdue(notes) or written >= self._due_at(notes)
        return False

    def is_full(self) -> bool:
        """Tell whether nothing more may be stored before it is pruned."""
        if self._bounds.max_bytes is None:
            return False
        if self._units is None or self._units >= self._full_at:
            written = 0
            with contextlib.suppress(OSError, StoreError):
                status = os.lstat(os.path.join(self._tree.root, _WRITTEN))
                written = status.st_size if stat.S_ISREG(status.st_mode) else 0
            if not written:
                self._units, self._full_at = 0, 1
                return False
            with contextlib.suppress(OSError, StoreError):
                self._look(written)
        return self._units is not None and self._units >= self._full_at

    def has_few(self) -> bool:
        """Tell whether there are few entries, as far as this process knows."""
        with contextlib.suppress(OSError, StoreError):
            notes = self._notes()
            if notes is None:
                return len(list(itertools.islice(self.listing(), _FEW + 1))) <= _FEW
            return notes.entries + self._stored <= _FEW
        return False

    def prune(
        self,
        bounds: Bounds,
        turn: _Turn,
        *,
        dry_run: DryRun = DryRun.NO,
        progress: Callable[[int, int | None], None] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> PruneReport | None:
        """Remove what is over `bounds`, and what killed writers have left.

        `turn` keeps others out of a leaf.

        Returns what was done, or None where another process is at it. `progress` is told how many
        entries have been looked at, of how many. Ends early when it is `stopped`.
        """
        if dry_run is DryRun.YES:
            return self._prune(bounds, turn, dry_run, progress, stopped)
        try:
            fd = self._tree.open_beside(_PRUNED, os.O_RDWR)
        except FileNotFoundError:
            return PruneReport()
        except OSError as error:
            if not is_full(error):
                raise
            # Room is what it is about: then it is done without any notes.
            return self._prune(bounds, turn, dry_run, progress, stopped)
        try:
            if not lock_at_once(fd):
                return None
            # If this one is stopped or killed, the next begins again.
            last, before, stored = self._notes(), 0, self._stored
            with contextlib.suppress(OSError):
                if last is None:
                    os.ftruncate(fd, 0)
                else:
                    self._write_notes(fd, last._replace(bound=0))
                before = self._add(0)
            report = self._prune(bounds, turn, dry_run, progress, stopped)
            if not stopped():
                self._stored -= stored
                done = _Notes(bounds.max_bytes or 0, report.kept, report.kept_bytes, self._clock())
                with contextlib.suppress(OSError):
                    self._forget(before)
                    self._write_notes(fd, done)
        finally:
            unlock(fd)
            os.close(fd)
        return report

    def _prune(
        self,
        bounds: Bounds,
        turn: _Turn,
        dry_run: DryRun,
        progress: Callable[[int, int | None], None] | None,
        stopped: Callable[[], bool],
    ) -> PruneReport:
        count = 0

        def counted() -> Iterator[EntryInfo]:
            nonlocal count
            for entry in self.listing():
                if stopped():
                    return
                count += 1
                yield entry

        verdicts = pruning.plan(counted(), bounds, self._clock()).carried_out()
        report, done = PruneReport(), 0
        doing = dry_run is DryRun.NO
        hollow: list[str] = []
        for leaf in self._tree.leaves(hollow):
            if stopped():
                leaf.close()
                break
            with leaf:
                for entry in _entries_in(leaf):
                    done += 1
                    cause = verdicts.cause(entry)
                    if cause is None:
                        report.keep(entry)
                    elif not doing or self._expel(leaf, entry, turn):
                        report.remove(entry, cause)
                    elif (present := info(leaf, entry.name)) is not None:
                        report.keep(present)
                        verdicts.spared(present)
                self._sweep(leaf, report, doing=doing)
                path = leaf.path
            if doing:
                report.directories += self._tree.remove_if_empty(path)
            if progress is not None:
                progress(done, count)
        if doing and not stopped():
            report.directories += sum(map(self._tree.remove_if_empty, hollow))
        return report

    def _expel(self, leaf: Leaf, entry: EntryInfo, turn: _Turn) -> bool:
        """Remove an entry that is still the one that was listed, and not used since."""
        with turn(leaf) as held, unamended(leaf, entry.name) as still:
            if not (held and still) or info(leaf, entry.name) != entry:
                return False
            body = body_file_of(leaf, entry.name)
            gone = leaf.unlink(entry.name)
        if body is not None:
            with contextlib.suppress(OSError):
                leaf.unlink(body)
        return gone

    def _sweep(self, leaf: Leaf, report: PruneReport, *, doing: bool) -> None:
        """Remove the files that no entry names and nobody writes."""
        for name in leaf.names():
            if len(name) == NAME_LENGTH or not _is_ours(name):
                continue
            with contextlib.suppress(OSError):
                fd, status = leaf.open(name)
                try:
                    # Asked first: a writer holds its file until an entry names it.
                    if is_held(fd) or body_file_of(leaf, name[:NAME_LENGTH]) == name:
                        continue
                    if doing:
                        leaf.unlink(name)
                finally:
                    os.close(fd)
                report.swept += 1
                report.swept_bytes += status.st_size

    def _add(self, units: int) -> int:
        """Add to what all have written since the last pruning, and return that, in units."""
        fd = self._tree.open_beside(_WRITTEN, os.O_WRONLY | os.O_APPEND)
        try:
            if units:
                os.write(fd, b"." * min(units, _UNITS))
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _forget(self, units: int) -> None:
        """Take off what had been written when pruning began."""
        fd = self._tree.open_beside(_WRITTEN, os.O_WRONLY)
        try:
            # A unit that another process adds just now may be lost: one of two hundred.
            self._units = max(0, os.fstat(fd).st_size - units)
            os.ftruncate(fd, self._units)
        finally:
            os.close(fd)

    def _look(self, units: int) -> _Notes | None:
        """Remember what has been written, and read what that means."""
        notes = self._notes()
        self._units, self._full_at = units, max(1, self._room(notes) + _ABOVE)
        if notes is not None and notes.bound and notes.at != self._pruned_at:
            self._stored, self._pruned_at = 0, notes.at
        return notes

    def _room(self, notes: _Notes | None) -> int:
        """Return how many units were free after the last pruning to a bound."""
        if notes is None:
            # Not known: as many as it would leave.
            return round((1 - LOW) * _UNITS)
        return ((self._bounds.max_bytes or _UNITS << 20) - notes.size) // self._unit

    def _due_at(self, notes: _Notes | None) -> int:
        """Return how many units make pruning due."""
        return max(1, min(_SELDOM, self._room(notes) - _LEFT))

    def _is_overdue(self, notes: _Notes | None) -> bool:
        """Tell whether it has never been pruned to this bound, or not for too long."""
        bounds = self._bounds
        if notes is None:
            return True
        if bounds.max_age is not None:
            # If the clock was put back meanwhile, nobody knows how long it is.
            since = self._clock() - notes.at
            if not 0 <= since <= min(_AGES, bounds.max_age / 10):
                return True
        return bounds.max_bytes is not None and not 0 < notes.bound <= bounds.max_bytes

    def _notes(self) -> _Notes | None:
        """Read what the last pruning came to; None if there was none."""
        fd = self._tree.open_beside(_PRUNED, os.O_RDONLY)
        try:
            said, at = os.read(fd, 64).split(), os.fstat(fd).st_mtime
        finally:
            os.close(fd)
        if len(said) != 3 or not all(word.isdigit() for word in said):
            return None
        return _Notes(int(said[0]), int(said[1]), int(said[2]), at)

    def _write_notes(self, fd: int, notes: _Notes) -> None:
        text = f"{notes.bound} {notes.entries} {notes.size}\n".encode()
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, text)
        os.ftruncate(fd, len(text))
        touched = fd if os.utime in os.supports_fd else os.path.join(self._tree.root, _PRUNED)
        try:
            os.utime(touched, (notes.at, notes.at))
        except PermissionError:
            # Another user of the folder has made it: then it can only be told that it was now.
            os.utime(touched)


def empty(leaf: Leaf) -> None:
    """Remove all files of the layout in one directory, but for those that are being written."""
    names = leaf.names()
    entries = [name for name in names if len(name) == NAME_LENGTH]
    beside = [name for name in names if len(name) != NAME_LENGTH]
    bodies = {body_file_of(leaf, name) for name in entries} if beside else set()
    for name in entries:
        leaf.unlink(name)
    for name in beside:
        if name in bodies or not _is_ours(name) or not _is_needed(leaf, name):
            leaf.unlink(name)


def _is_needed(leaf: Leaf, name: str) -> bool:
    """Tell whether a file is being written, or an entry names it by now."""
    # In this order: a writer holds its file until an entry names it.
    return _is_written(leaf, name) or body_file_of(leaf, name[:NAME_LENGTH]) == name


def _is_written(leaf: Leaf, name: str) -> bool:
    with contextlib.suppress(OSError):
        fd, _ = leaf.open(name)
        try:
            return is_held(fd)
        finally:
            os.close(fd)
    return False


def _entries_in(leaf: Leaf) -> Iterator[EntryInfo]:
    for name in leaf.names():
        listed = info(leaf, name) if len(name) == NAME_LENGTH else None
        if listed is not None:
            yield listed


def _is_ours(name: str) -> bool:
    """Tell whether a file is one of those that writers of ours leave when they are killed."""
    rest = name[NAME_LENGTH:].split(".")
    return len(rest) == 3 and len(rest[1]) == 16 and rest[2] in {"body", "tmp"}
