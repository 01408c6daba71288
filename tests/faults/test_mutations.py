"""Damaged files: whatever becomes of them, what comes out is what was stored, or nothing."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Final

import pytest

from stillfresh import BaseCache, CacheUnavailable, Repair, StoreError
from tests.faults.children import in_child, needs_fork
from tests.faults.conftest import Effort
from tests.faults.damage import DAMAGES, Around, put_away, what_can_be_done_here
from tests.faults.kinds import MARKERS, Kind, each_cache_on_disk, each_tree, files_below
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Visitor, Way, each_way, judge, manages, pages, value_of
from tests.origin import Origin

pytestmark = needs_fork

SEED: Final = 4
KEYS: Final = {f"key of {size}": size for size in SIZES}


class Vandal:
    """Damages one file of a cache after the other."""

    def __init__(self, place: Path, outside: Path, chance: random.Random) -> None:
        outside.mkdir(exist_ok=True)
        self._place = place
        self._outside = outside
        self._chance = chance
        self._before: dict[Path, list[bytes]] = {}
        self._possible = what_can_be_done_here(outside)
        self._rest: list[str] = []
        self.struck = place

    def strike(self) -> str:
        """Damage some file in some way, and tell how."""
        while True:
            # Who is done with a database may remove its log just now.
            with contextlib.suppress(FileNotFoundError):
                return self._strike()

    def _strike(self) -> str:
        # Each way in turn, so that few tries have all of them.
        self._rest = self._rest or self._chance.sample(self._possible, len(self._possible))
        how = self._rest.pop()
        # In the order of their length: names of versions are random, and would not repeat.
        files = sorted(files_below(self._place), key=lambda file: (len(file.name), file.parent))
        # What SQLite has mapped is not to get the name of a file that it cuts back: that would be
        # the end of any process that uses it.
        mapped = [file for file in files if file.name.endswith("-shm")]
        self.struck = self._chance.choice(
            [file for file in files if file not in mapped] if how == "swap" else files
        )
        older = self._before.setdefault(self.struck, [b""])
        now = self.struck.read_bytes()
        others = [file for file in files if file not in {self.struck, *mapped}] or files
        DAMAGES[how](self.struck, self._chance, Around(others, older, self._outside))
        older[:] = [*older[-3:], now]
        return how

    def clear_away(self) -> None:
        """Remove what is no file; a directory that is in the way a cache may leave there."""
        if self.struck.is_dir():
            put_away(self.struck)
        for path in files_below(self._place):
            if path.is_symlink() or not path.is_file():
                put_away(path)


def look_at_all(tally: Tally, cache: BaseCache) -> None:
    """Do what reads everything; a cache may refuse that, and nothing else."""
    for look in (lambda: list(cache.entries()), cache.stats, cache.verify, cache.prune):
        tally.attempt_or(StoreError, look)


def repair(tally: Tally, cache: BaseCache, how: str) -> None:
    """Have all that is damaged removed, and see that it is gone."""
    tally.attempt_or(StoreError, cache.verify, repair=Repair.REMOVE)
    report = tally.attempt_or(StoreError, cache.verify)
    tally.blame_unless(report is None or report.is_sound, "not repaired", f"{how}: {report}")


@each_cache_on_disk
@each_way
def test_what_comes_out_of_a_cache(
    kind: Kind, way: type[Way], tmp_path: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "not recovered", "not repaired")
    place = tmp_path / "cache"

    def job() -> Tally:
        chance = random.Random(SEED)
        vandal = Vandal(place, tmp_path / "outside", chance)
        lasting = way(kind(place))
        for key, size in KEYS.items():
            lasting.store(key, value_of(key, 0, size))
        for number in range(1, effort(30, soak=2000) + 1):
            how = vandal.strike()
            tally.tried("mutations")
            user = chance.choice((lasting, way(kind(place))))
            missed = [key for key in KEYS if judge(tally, user, key) is None]
            look_at_all(tally, user.cache)
            if chance.random() < 0.5:
                repair(tally, user.cache, how)
            for key in missed:
                value = value_of(key, number, KEYS[key])
                tally.attempt_or(user.refuses, user.store, key, value)
                judge(tally, user, key)
            vandal.clear_away()
            for key, size in KEYS.items():
                if judge(tally, user, key) is None:
                    value = value_of(key, number, size)
                    # Some damage shows only where something is stored: then all begins anew.
                    tally.attempt_or(user.refuses, user.store, key, value)
                    if judge(tally, user, key) != number:
                        user.store(key, value)
                    tally.blame_unless(judge(tally, user, key) == number, "not recovered", how)
        return tally

    tally.add(in_child(job, effort(90, soak=800)))
    assert tally.blamed == []


def recovers(tally: Tally, visitor: Visitor, urls: list[str]) -> bool:
    """Tell whether all pages are stored soon after they were visited.

    Some damage shows only where something is read or stored, and then all begins anew. And of a
    log that is damaged SQLite forgets what it has not yet taken over, without a word.
    """
    rounds = ([visitor.visit(tally, url) for url in urls] for _ in range(4))
    return any(map(all, rounds))


@each_cache_on_disk
def test_what_comes_out_of_a_session(
    kind: Kind, tmp_path: Path, origin: Origin, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "not recovered")
    place = tmp_path / "cache"
    urls = pages(origin, len(SIZES))

    def job() -> Tally:
        chance = random.Random(SEED)
        vandal = Vandal(place, tmp_path / "outside", chance)
        lasting = Visitor(kind(place))
        for url in urls:
            lasting.visit(tally, url)
        for _ in range(effort(40, soak=2000)):
            how = vandal.strike()
            tally.tried("mutations")
            visitor = chance.choice((lasting, Visitor(kind(place))))
            for url in urls * 2:
                visitor.visit(tally, url)
            vandal.clear_away()
            tally.blame_unless(recovers(tally, visitor, urls), "not recovered", how)
        return tally

    tally.add(in_child(job, effort(90, soak=800)))
    assert tally.blamed == []


@pytest.mark.one_in(10)
@each_tree
@each_way
@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("marker", sorted(MARKERS))
def test_what_becomes_of_a_marker_of_the_root(
    kind: Kind, way: type[Way], tmp_path: Path, tally: Tally, how: str, marker: str
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "not recovered")
    place, outside = tmp_path / "cache", tmp_path / "outside"
    outside.mkdir()
    if how not in what_can_be_done_here(outside):
        pytest.skip(f"{how} can't be brought about here")

    def job() -> Tally:
        with kind(place) as cache:
            way(cache).store("old", value_of("old", 0, SIZES[1]))
            cache.claim("old", 5)
            cache.prune()
        others = [path for path in place.iterdir() if path.name in MARKERS - {marker}]
        around = Around(others, [b""], outside)
        DAMAGES[how](place / marker, random.Random(SEED), around)
        tally.tried("markers")
        with kind(place, max_bytes=2_000_000, max_age=3600) as cache:
            user = way(cache)
            tally.blame_unless(judge(tally, user, "old") == 0, "lost", "old")
            for number, size in enumerate(SIZES[:3]):
                # A length that makes no sense may say that there is no room.
                met = manages(tally, user, user.store, "new", value_of("new", number, size))
                found = judge(tally, user, "new")
                tally.blame_unless(found == number or not met, "lost", f"new {number}")
            tally.blame_unless(cache.claim("new", 5) is not None, "not recovered", "a claim")
            look_at_all(tally, cache)
            put_away(place / marker)
            tally.attempt_or(CacheUnavailable, cache.prune)
            for number, size in enumerate(SIZES[:3]):
                user.store("new", value_of("new", number, size))
                found = judge(tally, user, "new")
                tally.blame_unless(found == number, "not recovered", f"new {number}")
            tally.attempt(cache.clear)
        return tally

    tally.add(in_child(job, 90))
    assert tally.blamed == []
