"""Locks that somebody holds for ever: nothing waits for them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, ParamSpec

import filelock
import pytest

from stillfresh import CacheUnavailable
from tests.faults.children import in_child, needs_fork
from tests.faults.kinds import MARKERS, Keeps, Kind, each_cache_on_disk, files_below
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Visitor, Way, each_way, judge, manages, pages, value_of
from tests.origin import Origin

fcntl = pytest.importorskip("fcntl")

pytestmark = needs_fork

P = ParamSpec("P")

KEYS: Final = {f"key of {size}": size for size in (SIZES[0], SIZES[-1])}
# A lock is asked for so often at most for an entry, before it is gone without.
ATTEMPTS: Final = 100


@contextlib.contextmanager
def locked(place: Path, held: str) -> Iterator[None]:
    """Hold the locks of some files and directories."""
    choose, how = HELD[held]
    with contextlib.ExitStack() as stack:
        for path in choose(place):
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            fcntl.flock(fd, how)
        yield


def directories(place: Path) -> list[Path]:
    return [place, *(path for path in place.rglob("*") if path.is_dir())]


def markers(place: Path) -> list[Path]:
    return [place / name for name in sorted(MARKERS) if (place / name).is_file()]


def everything(place: Path) -> list[Path]:
    return directories(place) + files_below(place) + markers(place)


HELD: Final[dict[str, tuple[Callable[[Path], list[Path]], int]]] = {
    "every directory": (directories, fcntl.LOCK_EX),
    "every file of an entry": (files_below, fcntl.LOCK_EX),
    "every marker": (markers, fcntl.LOCK_EX),
    "everything": (everything, fcntl.LOCK_EX),
    "everything, shared": (everything, fcntl.LOCK_SH),
}
BOUNDED: Final = {"max_bytes": 2_000_000}
each_held: Final = pytest.mark.parametrize("held", HELD)


class Attempts:
    """Counts how often a lock is asked for, and that nobody waits for one."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._flock: Callable[[int, int], None] = fcntl.flock
        patch.setattr(fcntl, "flock", self._ask)

    def _ask(self, fd: int, how: int) -> None:
        assert how & (fcntl.LOCK_NB | fcntl.LOCK_UN), "waits for a lock"
        self.count += 1
        self._flock(fd, how)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count those of one operation."""
        self.count = 0
        yield


@pytest.mark.one_in(3)
@each_cache_on_disk
@each_way
@pytest.mark.parametrize(
    ("held", "settings"),
    [(held, {}) for held in HELD] + [("every marker", BOUNDED), ("everything", BOUNDED)],
)
def test_a_strangers_locks(
    kind: Kind,
    way: type[Way],
    tmp_path: Path,
    held: str,
    settings: dict[str, Any],
    tally: Tally,
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "too many attempts")
    place = tmp_path / "cache"
    with kind(place) as cache:
        user = way(cache)
        for key, size in KEYS.items():
            user.store(key, value_of(key, 0, size))
        cache.prune()

    def expect(user: Way, key: str, number: int | None) -> None:
        found = judge(tally, user, key)
        tally.blame_unless(found == number, "lost", f"{key}: {found} instead of {number}")

    def job() -> Tally:
        with pytest.MonkeyPatch.context() as patch, kind(place, **settings) as cache:
            attempts, user = Attempts(patch), way(cache)

            def does(do: Callable[P, object], *args: P.args, **options: P.kwargs) -> bool:
                tally.tried("operations")
                with attempts.counted():
                    met = manages(tally, user, do, *args, **options)
                within = attempts.count <= ATTEMPTS * len(KEYS)
                tally.blame_unless(within, "too many attempts", attempts.count)
                return met

            for key, size in KEYS.items():
                tally.blame_unless(judge(tally, user, key) == 0, "lost", key)
                # What can't be compared and swapped in one step is not swapped; and where nobody
                # may prune, there may be no room.
                refreshed = does(user.refresh, key, 1)
                expect(user, key, 1 if refreshed else 0)
                stored = does(user.store, key, value_of(key, 2, size))
                tally.blame_unless(stored or settings, "lost", f"{key} can't be stored")
                expect(user, key, 2 if stored else int(refreshed))
                removed = does(user.remove, key)
                tally.blame_unless(removed, "lost", f"{key} can't be removed")
                expect(user, key, None)
                does(user.store, key, value_of(key, 3, SIZES[0]))
            does(lambda: list(cache.entries()))
            does(cache.verify)
            tally.attempt_or(CacheUnavailable, cache.prune, max_bytes=0)
            does(cache.clear)
        return tally

    with locked(place, held):
        tally.add(in_child(job))
    assert tally.blamed == []


@each_cache_on_disk
@each_held
def test_a_session_among_a_strangers_locks(
    kind: Kind, tmp_path: Path, origin: Origin, held: str, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions")
    place = tmp_path / "cache"
    urls = pages(origin, 2 * len(SIZES))
    with kind(place) as cache:
        visitor = Visitor(cache)
        for url in urls[: len(SIZES)]:
            visitor.visit(tally, url)

    def job() -> Tally:
        with kind(place, max_bytes=4_000_000) as cache:
            visitor = Visitor(cache)
            for url in urls * 2:
                visitor.visit(tally, url)
                tally.tried("operations")
            for url in urls:
                tally.blame_unless(visitor.visit(tally, url), "lost", url)
        return tally

    with locked(place, held):
        tally.add(in_child(job))
    assert tally.blamed == []


@pytest.mark.parametrize("lock", [filelock.FileLock, filelock.SoftFileLock])
@each_cache_on_disk
@each_way
def test_a_lock_of_the_callers_kind_that_a_stranger_holds(
    kind: Kind, way: type[Way], tmp_path: Path, lock: type[filelock.BaseFileLock], tally: Tally
) -> None:
    if kind.keeps is not Keeps.IN_A_TREE:
        pytest.skip("only trees take a lock of the caller's kind")
    tally.expect_no("wrong", "lost", "exceptions")
    place = tmp_path / "cache"
    with kind(place, lock_class=lock) as cache:
        way(cache).store("key", value_of("key", 0, SIZES[1]))

    def job() -> Tally:
        with kind(place, lock_class=lock) as cache:
            user = way(cache)
            for number in range(1, 4):
                tally.tried("operations", 2)
                user.store("key", value_of("key", number, SIZES[number]))
                found = judge(tally, user, "key")
                tally.blame_unless(found == number, "lost", f"{found}")
                user.refresh("key", 10 + number)
                found = judge(tally, user, "key")
                tally.blame_unless(found == 10 + number, "lost", f"{found}")
            user.remove("key")
            tally.blame_unless(judge(tally, user, "key") is None, "lost", "key is there")
            cache.prune(max_bytes=0)
            cache.clear()
        return tally

    with lock(place / ".lock"):
        tally.add(in_child(job))
    assert tally.blamed == []
