"""Sets and deletes by the thousand: after one sweep nothing is left but the root's own files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

from stillfresh import MemoryCache
from stillfresh.testing import ManualClock
from tests.faults.conftest import Effort
from tests.faults.kinds import Kind, each_cache, is_its_own
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Way, each_way, value_of

SEED: Final = 4
# A few long ones among many small ones.
SOME: Final = (*SIZES[:1] * 180, *SIZES[1:3] * 10, SIZES[3])


@each_cache
@each_way
def test_after_many_sets_and_deletes(
    kind: Kind, way: type[Way], tmp_path: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("leftover files", "leftover directories", "leftover bytes")
    place, clock = tmp_path / "cache", ManualClock()
    cache = kind(place, clock=clock)
    user, chance = way(cache), random.Random(SEED)
    there: list[str] = []
    for number in range(effort(400, soak=10_000)):
        key = str(number)
        match chance.randrange(50):
            case 0 | 1 | 2:
                # One that expires is not deleted.
                cache.set(f"expiring {key}", b"value", expires=60)
            case 3:
                with cache.writer(f"unfinished {key}") as writer:
                    writer.write(bytes(SIZES[2]))
        user.store(key, value_of(key, number, chance.choice(SOME)))
        there.append(key)
        if len(there) > 50:
            user.remove(there.pop(chance.randrange(len(there))))
        tally.tried("sets and deletes")
    for key in there:
        user.remove(key)
    # The value that was set last may have no body yet; now none will come.
    cache.get("another")
    clock.advance(61)
    cache.prune()
    if isinstance(cache, MemoryCache):
        tally.blame_unless((cache.size, len(cache)) == (0, 0), "leftover bytes", cache.size)
    tally.blame_unless(list(cache.entries()) == [], "leftover files", "entries")
    for path in place.rglob("*"):
        if not is_its_own(kind, place, path):
            tally.blame("leftover directories" if path.is_dir() else "leftover files", path)
    assert tally.blamed == []
