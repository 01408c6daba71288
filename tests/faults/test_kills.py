"""Killed writers: no wrong byte, no older version lost, and nothing left after one sweep."""

from __future__ import annotations

import functools
import itertools
import mmap
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from stillfresh.errors import StoreError
from tests.faults.children import Child, in_child, needs_fork
from tests.faults.conftest import Effort
from tests.faults.kinds import Kind, each_cache_on_disk, each_tree, sweep
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Way, WholeEntries, each_way, judge, value_of

fcntl = pytest.importorskip("fcntl")

pytestmark = needs_fork

SEED: Final = 4
KEYS: Final = ("one", "two", "three")
# Most of a writer's time shall go into writing.
OFTEN: Final = (*SIZES[:-1] * 3, SIZES[-1])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# At any moment.


def shared_numbers() -> memoryview:
    """Return a number for each key that a child shares with its parent."""
    return memoryview(mmap.mmap(-1, 8 * len(KEYS))).cast("q")


def keep_writing(way: Way, begun: memoryview, done: memoryview, chance: random.Random) -> None:
    """Replace and refresh values for ever, each with a number higher than all before."""
    for number in itertools.count(max(begun) + 1):
        at = chance.randrange(len(KEYS))
        key = KEYS[at]
        begun[at] = number
        if chance.random() < 0.6 or not way.refresh(key, number):
            way.store(key, value_of(key, number, chance.choice(OFTEN)))
        done[at] = number


@each_cache_on_disk
@each_way
def test_a_writer_that_is_killed_at_any_moment(
    kind: Kind, way: type[Way], place: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")
    chance = random.Random(SEED)
    begun, done = shared_numbers(), shared_numbers()
    reader = way(kind(place))
    for key in KEYS:
        reader.store(key, value_of(key, 0, 300))
    for _ in range(effort(20, soak=200)):
        writer = Child(lambda: keep_writing(way(kind(place)), begun, done, chance))
        running = writer.outlives(chance.uniform(0.001, 0.05))
        writer.kill()
        assert running
        tally.tried("kills")
        for at, key in enumerate(KEYS):
            number = judge(tally, reader, key)
            # What it had stored is there; and of what it was storing, nothing or all.
            expected = {done[at], begun[at]}
            tally.blame_unless(number in expected, "lost", f"{number} instead of {expected}")
            begun[at] = done[at] = number or 0
    tally.tried("versions", max(begun))
    sweep(tally, kind, place)
    assert tally.blamed == []


# At each of its calls.

CALLS: Final = {
    os: "open write close mkdir replace unlink rmdir fchmod chmod ftruncate lseek read pread stat "
    "fstat lstat scandir utime",
    fcntl: "flock",
}


class Dying:
    """Counts the calls that go to the operating system, and dies at one of them."""

    def __init__(self, last: int = -1, *, before: bool = True) -> None:
        self.calls = 0
        self.last = last
        self.before = before
        for module, names in CALLS.items():
            for name in names.split():
                setattr(module, name, self._counting(getattr(module, name), name))

    def _counting(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counting(*args: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls != self.last:
                return call(*args, **options)
            if name == "write":
                # Some of it.
                call(args[0], args[1][: len(args[1]) // 2])
            elif not self.before:
                call(*args, **options)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        return counting


SMALL, APART, STREAMED, LONG = SIZES
# What is there before, what the writer does, and which numbers may be there after it.
STEPS: Final[dict[str, tuple[int | None, Callable[[Way], object], set[int | None]]]] = {
    "first small": (None, lambda way: way.store("key", value_of("key", 1, SMALL)), {None, 1}),
    "first streamed": (None, lambda way: way.store("key", value_of("key", 1, STREAMED)), {None, 1}),
    "larger": (SMALL, lambda way: way.store("key", value_of("key", 1, APART)), {0, 1}),
    "smaller": (STREAMED, lambda way: way.store("key", value_of("key", 1, SMALL)), {0, 1}),
    "as large": (STREAMED, lambda way: way.store("key", value_of("key", 1, STREAMED)), {0, 1}),
    "refresh": (APART, lambda way: way.refresh("key", 1), {0, 1}),
    "refreshes": (SMALL, lambda way: [way.refresh("key", 1) for _ in range(12)], {0, 1}),
    "remove": (STREAMED, lambda way: way.remove("key"), {0, None}),
    "prune": (APART, lambda way: way.cache.prune(max_bytes=0), {0, None}),
    "clear": (APART, lambda way: way.cache.clear(), {0, None}),
}


def deaths(calls: int) -> Iterator[tuple[int, bool]]:
    return itertools.product(range(1, calls + 1), (True, False))


@pytest.mark.one_in(3)
@each_tree
@each_way
@pytest.mark.parametrize("step", STEPS)
def test_a_writer_that_is_killed_at_each_of_its_calls(
    kind: Kind, way: type[Way], place: Path, effort: Effort, tally: Tally, step: str
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")
    size, act, allowed = STEPS[step]

    def begin() -> Way:
        reader = way(kind(place))
        reader.cache.clear()
        if size is not None:
            reader.store("key", value_of("key", 0, size))
        return reader

    def rehearse() -> int:
        dying, writer = Dying(), way(kind(place))
        act(writer)
        return dying.calls

    def die(call: int, *, before: bool) -> None:
        writer = way(kind(place))
        Dying(call, before=before)
        act(writer)

    begin()
    every = list(deaths(in_child(rehearse)))
    for call, before in random.Random(SEED).sample(every, min(len(every), effort(5, soak=1000))):
        reader = begin()
        status = Child(functools.partial(die, call, before=before)).end()
        # One that makes a call less than at the rehearsal has ended well.
        assert status in {-signal.SIGKILL, 0}
        tally.tried("kills", status == -signal.SIGKILL)
        number = judge(tally, reader, "key")
        tally.blame_unless(number in allowed, "lost", f"{step}, call {call}: {number}")
        sweep(tally, kind, place)
        again = judge(tally, way(kind(place)), "key")
        tally.blame_unless(again == number, "lost", f"{step}, call {call}, by pruning")
    assert tally.blamed == []


# By an exception that comes from outside, at any moment. Not in classic calls: who goes on after
# one that came between `set` and `set_body` has refreshed what was there.


class Interrupted(BaseException):
    """What a signal's handler raises."""


def interrupt(act: Callable[[], object], seconds: float) -> None:
    """Do something until a signal's handler raises an exception in its middle."""
    armed = True

    def handler(*_: object) -> None:
        if armed:
            raise Interrupted

    signal.signal(signal.SIGALRM, handler)
    try:
        # Again and again: where nobody can be told (in a destructor) it ends in a message.
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
        act()
    except (Interrupted, StoreError):
        # Cleaning up may have been interrupted too.
        armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)


@each_cache_on_disk
def test_a_writer_that_is_interrupted_at_any_moment(
    kind: Kind, place: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "leftover bytes")

    def job() -> Tally:
        sys.unraisablehook = lambda _: None
        chance = random.Random(SEED)
        begun, done = shared_numbers(), shared_numbers()
        reader, writer = WholeEntries(kind(place)), WholeEntries(kind(place))
        for key in KEYS:
            reader.store(key, value_of(key, 0, 300))
        for _ in range(effort(40, soak=1000)):
            interrupt(
                lambda: keep_writing(writer, begun, done, chance), chance.uniform(0.0005, 0.02)
            )
            tally.tried("interrupts")
            for at, key in enumerate(KEYS):
                number = judge(tally, reader, key)
                expected = {done[at], begun[at]}
                tally.blame_unless(number in expected, "lost", f"{number} instead of {expected}")
                begun[at] = done[at] = number or 0
        return tally

    tally.add(in_child(job))
    sweep(tally, kind, place)
    assert tally.blamed == []
