"""What to remove so that a cache stays within its bounds: a pure plan, and what was done by it.

A plan is made from one listing and carried out over another, so neither needs the entries in memory
at once. What a census remembers is a histogram: how many bytes were last used how long ago.
Expired entries go first, then those over the age, then the least recently used until the rest fits.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from stillfresh.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stillfresh.caches.entry import EntryInfo

# Ages are told apart to within about one in a hundred.
_STEPS_A_DOUBLING: Final = 64


# Clocks that differ by less, in seconds, tell the same time.
AHEAD: Final = 3600.0
# When an entry was used is written once in this many seconds, not at every hit,
_STEP: Final = 3600.0
# and so many times within a bound of age.
_STEPS: Final = 20


class Cause(Enum):
    """Why an entry goes."""

    EXPIRED = "its time has passed"
    OVER_AGE = "not used for longer than max_age"
    OVER_SIZE = "least recently used of more than max_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a cache may keep.

    Attributes:
        max_bytes: the most bytes, all told; None is no bound.
        max_age: entries not used for longer than this many seconds go; None is no bound.

    Raises:
        ConfigError: a bound is negative, or no number.
    """

    max_bytes: int | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.max_bytes is not None and not _is_amount(self.max_bytes):
            msg = f"max_bytes is a number of bytes or None, not {self.max_bytes!r}"
            raise ConfigError(msg)
        if self.max_age is not None and not _is_amount(self.max_age):
            msg = f"max_age is a number of seconds or None, not {self.max_age!r}"
            raise ConfigError(msg)

    def __bool__(self) -> bool:
        """Tell whether there is any bound."""
        return self.max_bytes is not None or self.max_age is not None

    @property
    def recency(self) -> float:
        """For how many seconds the last use that is written down of an entry is good enough."""
        return _STEP if self.max_age is None else min(_STEP, self.max_age / _STEPS)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and value >= 0


class Plan(NamedTuple):
    """Which entries are to go.

    Attributes:
        bounds: what is to be kept to.
        now: seconds since the epoch.
        doomed: steps of age beyond which everything goes for its size.
        edge: how many bytes of the entries at that very step go too; below 0, there is room for
            that many more.
    """

    bounds: Bounds
    now: float
    doomed: float
    edge: int

    def carried_out(self) -> Verdicts:
        """Begin to go through the entries with it."""
        return Verdicts(self)


class Verdicts:
    """A plan that is being carried out: it knows how much of its edge has gone."""

    def __init__(self, plan: Plan) -> None:
        """Begin."""
        self._plan = plan
        self._left = plan.edge

    def cause(self, entry: EntryInfo) -> Cause | None:
        """Tell why an entry goes, or None if it stays."""
        plan = self._plan
        overdue = _overdue(entry, plan.bounds, plan.now)
        if overdue is not None:
            return overdue
        step = _step(entry, plan.now)
        if step == plan.doomed and self._left > 0:
            self._left -= entry.size
        elif step <= plan.doomed:
            return None
        return Cause.OVER_SIZE

    def spared(self, entry: EntryInfo) -> None:
        """Hear that an entry stays that should have gone: another may have to in its place."""
        self._left += entry.size


def plan(entries: Iterable[EntryInfo], bounds: Bounds, now: float) -> Plan:
    """Decide what has to go of `entries`, which are read once and not kept."""
    steps: Counter[int] = Counter()
    for entry in entries:
        if _overdue(entry, bounds, now) is None:
            steps[_step(entry, now)] += entry.size
    if bounds.max_bytes is not None:
        excess = sum(steps.values()) - bounds.max_bytes
        for step in sorted(steps, reverse=True):
            if excess <= steps[step]:
                return Plan(bounds, now, step, excess)
            excess -= steps[step]
    return Plan(bounds, now, math.inf, 0)


@dataclass(slots=True)
class PruneReport:
    """What pruning has removed, or would remove.

    Attributes:
        removed: entries that went, by cause.
        removed_bytes: what they took.
        kept: entries that stayed.
        kept_bytes: what they take.
        swept: files that killed writers had left.
        swept_bytes: what those took.
        directories: empty directories that went.
    """

    removed: Counter[Cause] = field(default_factory=Counter)
    removed_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    swept: int = 0
    swept_bytes: int = 0
    directories: int = 0

    def remove(self, entry: EntryInfo, cause: Cause) -> None:
        """Count an entry that went."""
        self.removed[cause] += 1
        self.removed_bytes += entry.size

    def keep(self, entry: EntryInfo) -> None:
        """Count an entry that stayed."""
        self.kept += 1
        self.kept_bytes += entry.size

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"removed {self.removed.total()} entries ({self.removed_bytes} bytes) and "
            f"{self.swept} leftovers ({self.swept_bytes} bytes); "
            f"{self.kept} entries ({self.kept_bytes} bytes) stay"
        )


@dataclass(slots=True)
class Stats:
    """What a cache holds.

    Attributes:
        entries: how many.
        bytes: what they take.
        oldest: when the first of them was stored, seconds since the epoch; None if there is none.
        newest: when the last was stored.
        hosts: entries and bytes by host, of the keys that are URLs; "" is for all others.
        hits: how often an entry was found, by all processes; None where nobody counts.
        misses: how often none was.
        served: the bytes of the bodies that were found.
    """

    entries: int = 0
    bytes: int = 0
    oldest: float | None = None
    newest: float | None = None
    hosts: dict[str, tuple[int, int]] = field(default_factory=dict)
    hits: int | None = None
    misses: int | None = None
    served: int | None = None

    def add(self, entry: EntryInfo) -> None:
        """Count one entry."""
        self.entries += 1
        self.bytes += entry.size
        at = entry.stored_at
        self.oldest = at if self.oldest is None else min(self.oldest, at)
        self.newest = at if self.newest is None else max(self.newest, at)
        host = entry.host
        count, size = self.hosts.get(host, (0, 0))
        self.hosts[host] = (count + 1, size + entry.size)


@dataclass(slots=True)
class VerifyReport:
    """What checking every entry has found.

    Attributes:
        checked: entries whose lengths and digests are right.
        unchecked: other programs' entries, which bear no digest and only look whole.
        damaged: names of the entries that are not, and what is wrong with them.
        repaired: how many of those were removed.
    """

    checked: int = 0
    unchecked: int = 0
    damaged: dict[str, str] = field(default_factory=dict)
    repaired: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing was damaged."""
        return not self.damaged


class Repair(Enum):
    """What to do with a damaged entry."""

    REPORT = False
    REMOVE = True


class DryRun(Enum):
    """Whether to do it."""

    NO = False
    YES = True


Progress: TypeAlias = "Callable[[int, int | None], None]"
"""Is told how many entries are done, and how many there are where that is known."""


def _overdue(entry: EntryInfo, bounds: Bounds, now: float) -> Cause | None:
    if entry.expires_at is not None and entry.expires_at <= now:
        return Cause.EXPIRED
    if bounds.max_age is not None and now - _used_at(entry, now) > bounds.max_age:
        return Cause.OVER_AGE
    return None


def _step(entry: EntryInfo, now: float) -> int:
    """Return how long ago an entry was used, in steps that grow with that time."""
    idle = max(0.0, now - _used_at(entry, now))
    return int(math.log2(1 + idle) * _STEPS_A_DOUBLING)


def _used_at(entry: EntryInfo, now: float) -> float:
    """Return when an entry was used, as far as that can be: when the clock was ahead, it wasn't."""
    return entry.used_at if entry.used_at <= now + AHEAD else entry.stored_at
