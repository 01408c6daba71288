"""Full disks: nothing is raised to a caller, what is stored stays, and nothing else is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from stillfresh import StoreError
from stillfresh.testing import ManualClock
from tests.faults.children import in_child, mount_small_disk, needs_fork
from tests.faults.conftest import Effort
from tests.faults.kinds import Keeps, Kind, each_cache_on_disk, look_for_leftovers, sweep
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Visitor, Way, each_way, judge, manages, pages, value_of
from tests.origin import Origin

resource = pytest.importorskip("resource")

pytestmark = needs_fork

SEED: Final = 4
KEYS: Final = ("one", "two", "three", "four")
NEW_KEYS: Final = ("five", "six")


class Shortage(ABC):
    """A way to have no room.

    Attributes:
        disk: options of the disk that is needed for it; None is any.
    """

    disk: str | None = None

    def __str__(self) -> str:
        return type(self).__name__

    def prepare(self, place: Path) -> None:
        if self.disk is not None:
            mount_small_disk(place, self.disk)

    @contextlib.contextmanager
    def at(self, place: Path, chance: random.Random) -> Iterator[None]:
        """Have no room, or hardly any, for a while."""
        self._begin(place, chance)
        try:
            yield
        finally:
            self._end(place)

    @abstractmethod
    def _begin(self, place: Path, chance: random.Random) -> None: ...

    @abstractmethod
    def _end(self, place: Path) -> None: ...


class NoBytes(Shortage):
    """All bytes are taken but for some pages: what is written comes up short."""

    disk = "size=16m"

    def _begin(self, place: Path, chance: random.Random) -> None:
        ballast = place / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        spare = 4096 * chance.randrange(60)
        os.truncate(ballast, max(0, ballast.stat().st_size - spare))

    def _end(self, place: Path) -> None:
        (place / "ballast").unlink()


class NoInodes(Shortage):
    """All inodes are taken but for some: no file or directory can be made."""

    disk = "size=16m,nr_inodes=200"

    def _begin(self, place: Path, chance: random.Random) -> None:
        (place / "ballast").mkdir()
        made = []
        with contextlib.suppress(OSError):
            for number in range(200):
                file = place / "ballast" / str(number)
                file.touch()
                made.append(file)
        for file in chance.sample(made, min(len(made), chance.randrange(9))):
            file.unlink()

    def _end(self, place: Path) -> None:
        for file in (place / "ballast").iterdir():
            file.unlink()
        (place / "ballast").rmdir()


class ShortFiles(Shortage):
    """No file may be longer than so much: this needs no disk of its own."""

    def _begin(self, place: Path, chance: random.Random) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (chance.randrange(200, 200_000), most))

    def _end(self, place: Path) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


each_shortage: Final = pytest.mark.parametrize(
    "shortage", [NoBytes(), NoInodes(), ShortFiles()], ids=str
)


@pytest.fixture
def disk(shortage: Shortage, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place: Path = request.getfixturevalue("small_disk") if shortage.disk else tmp_path
    return place


@each_cache_on_disk
@each_way
@each_shortage
def test_where_there_is_no_room(
    kind: Kind, way: type[Way], shortage: Shortage, disk: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")

    def expect(user: Way, key: str, number: int | None) -> None:
        found = judge(tally, user, key)
        tally.blame_unless(found == number, "lost", f"{key}: {found} instead of {number}")

    def use(user: Way, number: int, chance: random.Random) -> None:
        """Replace and refresh some, begin others, and see what is there after that."""
        for key in chance.sample(KEYS, len(KEYS)):
            if chance.random() < 0.3:
                met = manages(tally, user, user.refresh, key, number)
            else:
                value = value_of(key, number, chance.choice(SIZES))
                met = manages(tally, user, user.store, key, value)
            tally.tried("stored" if met else "not stored")
            expect(user, key, number if met else number - 1)
        for key in NEW_KEYS:
            value = value_of(key, number, chance.choice(SIZES))
            met = manages(tally, user, user.store, key, value)
            tally.tried("stored" if met else "not stored")
            expect(user, key, number if met else None)
        # A database may need room for that; what it can't remove it doesn't hand out either.
        refused = StoreError if kind.keeps is Keeps.IN_A_DATABASE else ()
        tally.attempt_or(refused, user.remove, NEW_KEYS[0])
        expect(user, NEW_KEYS[0], None)

    def job() -> Tally:
        shortage.prepare(disk)
        place, chance = disk / "cache", random.Random(SEED)
        user = way(kind(place))
        for number in range(effort(10, soak=150)):
            # There is room.
            for key in KEYS:
                user.store(key, value_of(key, 2 * number, chance.choice(SIZES)))
                expect(user, key, 2 * number)
            with shortage.at(disk, chance):
                tally.tried("shortages")
                use(user, 2 * number + 1, chance)
            # Nobody has swept: who fails cleans up.
            look_for_leftovers(tally, kind, place)
            for key in NEW_KEYS:
                user.remove(key)
        sweep(tally, kind, place)
        return tally

    tally.add(in_child(job))
    # A database needs no inodes once it is open, but for longer bodies.
    assert tally.tries["not stored"] > 0 or kind.holds_files_open
    assert tally.blamed == []


@each_cache_on_disk
@each_shortage
def test_a_session_whose_cache_has_no_room(
    kind: Kind, shortage: Shortage, disk: Path, origin: Origin, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")
    urls = pages(origin, 8)
    old, new = urls[:4], urls[4:]

    def job() -> Tally:
        shortage.prepare(disk)
        clock, chance = ManualClock(), random.Random(SEED)
        with kind(disk / "cache", clock=clock) as cache:
            visitor = Visitor(cache, clock)
            for _ in range(effort(3, soak=60)):
                cache.clear()
                for url in old:
                    visitor.visit(tally, url)
                with shortage.at(disk, chance):
                    tally.tried("shortages")
                    for url in old:
                        tally.blame_unless(visitor.visit(tally, url), "lost", url)
                    for url in new * 2:
                        visitor.visit(tally, url)
                    # Now each is asked about, and refreshed.
                    clock.advance(2000)
                    for url in urls:
                        visitor.visit(tally, url)
                    tally.tried("failures told", visitor.failures())
                look_for_leftovers(tally, kind, disk / "cache")
                for url in urls:
                    visitor.visit(tally, url)
                for url in urls:
                    tally.blame_unless(visitor.visit(tally, url), "lost", f"{url} with room")
        return tally

    tally.add(in_child(job))
    assert tally.tries["failures told"] > 0 or kind.holds_files_open
    assert tally.blamed == []


@each_cache_on_disk
@each_way
def test_the_kernel_takes_less_than_it_is_given_and_is_interrupted_by_signals(
    kind: Kind, way: type[Way], tmp_path: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")

    def job() -> Tally:
        chance = random.Random(SEED)
        write, read, pread = os.write, os.read, os.pread

        def short(size: int) -> int:
            return min(size, chance.randrange(1, 40_000))

        def signalled(*_: Any) -> None:
            tally.tried("signals")

        place = tmp_path / "cache"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "write", lambda fd, data: write(fd, data[: short(len(data))]))
            patch.setattr(os, "read", lambda fd, size: read(fd, short(size)))
            patch.setattr(os, "pread", lambda fd, size, at: pread(fd, short(size), at))
            signal.signal(signal.SIGALRM, signalled)
            signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
            user = way(kind(place))
            for number in range(effort(25, soak=1000)):
                key = chance.choice(KEYS)
                user.store(key, value_of(key, number, chance.choice(SIZES)))
                found = judge(tally, user, key)
                tally.blame_unless(found == number, "lost", f"{key}: {found} not {number}")
            signal.setitimer(signal.ITIMER_REAL, 0)
        sweep(tally, kind, place)
        return tally

    tally.add(in_child(job))
    assert tally.blamed == []
