"""Forks, exits and forgotten writers: what is left of them is never seen."""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import random
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Final

import pytest

from stillfresh import EntryWriter
from stillfresh.testing.conformance.tools import elsewhere
from tests.faults.children import PATIENCE, in_child, needs_fork
from tests.faults.conftest import Effort
from tests.faults.kinds import (
    Keeps,
    Kind,
    each_cache,
    each_cache_on_disk,
    look_for_leftovers,
    sweep,
)
from tests.faults.tally import Tally
from tests.faults.ways import (
    SIZES,
    ClassicCalls,
    Way,
    WholeEntries,
    each_way,
    judge,
    pages,
    value_of,
)
from tests.origin import Origin

SEED: Final = 4
KEYS: Final = [f"key {number}" for number in range(8)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# Forks.


@needs_fork
@each_cache
@each_way
def test_a_fork_while_threads_are_writing(
    kind: Kind, way: type[Way], place: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "lost", "leftover bytes")
    user = way(kind(place))
    # Keys that nobody writes to after this.
    for key in KEYS:
        user.store(f"old {key}", value_of(f"old {key}", 0, SIZES[1]))

    def live_on() -> Tally:
        """Use the parent's cache in the child, and see that all of it works."""
        mine = Tally()
        for key in KEYS:
            judge(mine, user, key)
            found = judge(mine, user, f"old {key}")
            mine.blame_unless(found == 0, "lost", f"old {key}: {found}")
        for number, size in enumerate(SIZES[:-1]):
            key = f"{os.getpid()} {number}"
            mine.attempt(user.store, key, value_of(key, 1, size))
            found = judge(mine, user, key)
            mine.blame_unless(found == 1, "lost", f"of the child: {found}")
            mine.attempt(user.refresh, key, 2)
            mine.attempt(user.remove, key)
            mine.blame_unless(judge(mine, user, key) is None, "lost", "not removed")
        return mine

    def job() -> Tally:
        over = threading.Event()
        tallies = [Tally() for _ in range(3)]

        def keep_writing(at: int) -> None:
            chance = random.Random(f"{SEED} {at}")
            for number in itertools.count():
                if over.is_set():
                    return
                key = chance.choice(KEYS)
                value = value_of(key, number, chance.choice(SIZES))
                tallies[at].attempt(user.store, key, value)
                judge(tallies[at], user, chance.choice(KEYS))

        threads = [threading.Thread(target=keep_writing, args=(at,)) for at in range(len(tallies))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(effort(3, soak=200)):
                tally.add(in_child(live_on))
                tally.tried("forks")
        finally:
            over.set()
            for thread in threads:
                thread.join()
        for each in tallies:
            tally.add(each)
        return tally

    tally.add(in_child(job))
    sweep(tally, kind, place)
    assert tally.blamed == []


@needs_fork
@each_cache
def test_a_fork_while_a_writer_is_open(kind: Kind, place: Path, tally: Tally) -> None:
    tally.expect_no("lost", "leftover bytes")
    cache = kind(place)
    for size in SIZES:
        tally.tried("forks")
        key = f"key of {size}"
        writer = cache.writer(key)
        writer.write(bytes(size))

        def forget(writer: EntryWriter) -> None:
            """Let the child's copy of a writer end in each way that there is."""
            with writer:
                pass
            del writer
            gc.collect()

        in_child(functools.partial(forget, writer))
        writer.write(b"end")
        writer.commit(b"metadata")
        with cache.open(key) or pytest.fail("it isn't there") as entry:
            tally.blame_unless(entry.read() == bytes(size) + b"end", "lost", key)
    look_for_leftovers(tally, kind, place)
    assert tally.blamed == []


# Exits of the interpreter.

PRELUDE: Final = """
import itertools, random, sys, threading
from pathlib import Path
from stillfresh.clients.requests import CachedSession
from tests.faults.kinds import KINDS
from tests.faults.ways import SIZES, ClassicCalls, WholeEntries, renumbered, value_of

place, name, url, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
(kind,) = [kind for kind in KINDS if kind.name == name]
cache = kind(place)
"""
KEEP_WRITING: Final = """
written = threading.Semaphore(0)

def keep_writing():
    for number in itertools.count(1):
        size = random.Random(moment + number).choice(SIZES)
        user.store("key", value_of("key", number, size))
        written.release()

threading.Thread(target=keep_writing, daemon=True).start()
for _ in range(moment):
    written.acquire()
"""
MIDDLES: Final = {
    "a writer": """
writers = [cache.writer("key") for _ in SIZES]
for writer, size in zip(writers, SIZES):
    writer.write(bytes(size))
""",
    "a writer in a circle": """
class Circle:
    pass

circle = Circle()
circle.itself, circle.writer = circle, cache.writer("key")
circle.writer.write(bytes(SIZES[2]))
del circle
""",
    "a value without its body": """
if hasattr(cache, "set_body"):
    cache.set("key", renumbered(cache.get("key"), 1))
""",
    "what is read": """
entries = [cache.open("key"), cache.open("key")]
entries[0].read(1)
listing = cache.entries()
next(listing)
""",
    "what a thread writes whole": f"user = WholeEntries(cache)\n{KEEP_WRITING}",
    "what a thread writes by classic calls": f"user = ClassicCalls(cache)\n{KEEP_WRITING}",
    "what a thread prunes": """
bounded = kind(place, max_bytes=2_000_000)
for number in range(5 + moment):
    cache.get("key")
    bounded.set(str(number), bytes(150_000))
""",
    "a response": """
session = CachedSession(cache)
session.trust_env = False
response = session.get(url, stream=True)
next(response.iter_content(100_000))
""",
}
ENDS: Final = ("", "sys.exit(0)", "(lambda: sys.exit(0))()")


@pytest.mark.one_in(3)
@each_cache_on_disk
@pytest.mark.parametrize("middle", MIDDLES)
def test_an_interpreter_that_exits_in_the_middle_of(
    kind: Kind, place: Path, origin: Origin, effort: Effort, tally: Tally, middle: str
) -> None:
    tally.expect_no("wrong", "lost", "tracebacks", "leftover bytes")
    user = ClassicCalls(kind(place)) if "classic" in middle else WholeEntries(kind(place))
    (url,) = pages(origin, 1, (1_000_000,))
    chance = random.Random(f"{SEED} {middle}")
    for _ in range(effort(1, soak=15)):
        user.store("key", value_of("key", 0, SIZES[2]))
        code = f"{PRELUDE}\n{MIDDLES[middle]}\n{chance.choice(ENDS)}"
        process = subprocess.run(
            [sys.executable, "-c", code, place, kind.name, url, str(chance.randrange(1, 30))],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            text=True,
        )
        tally.tried("exits")
        quiet = process.returncode == 0 and process.stderr == ""
        tally.blame_unless(quiet, "tracebacks", process.stderr[-2000:])
        found = judge(tally, user, "key")
        # Where it was pruned there may be nothing, as it was used less than the others.
        tally.blame_unless(found is not None or "prunes" in middle, "lost", f"{middle}: {found}")
        sweep(tally, kind, place)
    assert tally.blamed == []


# Writers that are forgotten.


@each_cache
def test_writers_that_are_forgotten(kind: Kind, place: Path, effort: Effort, tally: Tally) -> None:
    tally.expect_no("wrong", "lost", "leftover bytes", "open files")
    cache = kind(place)
    user = WholeEntries(cache)
    user.store("key", value_of("key", 0, SIZES[2]))
    chance = random.Random(SEED)

    def forget(how: str) -> None:
        writer = cache.writer(chance.choice(("key", "another")))
        writer.write(bytes(chance.choice(SIZES)))
        match how:
            case "in a circle":
                bind(writer)
            case "in another thread":
                elsewhere(functools.partial(list, [writer]))
            case "with an exception":
                with contextlib.suppress(ZeroDivisionError):
                    fail_with(writer)

    ways = ("dropped", "in a circle", "in another thread", "with an exception")
    # SQLite keeps a descriptor for as many connections as there were at once, for the next ones.
    spare = 2 if kind.keeps is Keeps.IN_A_DATABASE else 0
    for how in ways * 5:
        forget(how)
    gc.collect()
    before = open_files()
    for _ in range(effort(20, soak=2000)):
        forget(chance.choice(ways))
        tally.tried("writers")
    gc.collect()
    more = open_files() - before
    tally.blame_unless(0 <= more <= spare, "open files", f"{more} more than {before}")
    tally.blame_unless(judge(tally, user, "key") == 0, "lost", "key")
    tally.blame_unless(cache.open("another") is None, "wrong", "another")
    # Nobody has swept.
    look_for_leftovers(tally, kind, place)
    assert tally.blamed == []


@each_cache
def test_a_cache_that_is_forgotten_is_gone_at_once(kind: Kind, place: Path) -> None:
    cache = kind(place, max_bytes=1 << 20)
    user = WholeEntries(cache)
    user.store("key", value_of("key", 0, SIZES[2]))
    gone = weakref.ref(cache)
    gc.disable()
    try:
        del cache, user
        assert gone() is None
    finally:
        gc.enable()


def bind(writer: EntryWriter) -> None:
    """Let only the garbage collector find out that nobody has it any more."""
    circle: list[object] = [writer]
    circle.append(circle)


def fail_with(writer: EntryWriter) -> None:
    writer.write(b"more")
    raise ZeroDivisionError


def open_files() -> int:
    """Count the descriptors of this process, where that can be seen."""
    return len(os.listdir("/dev/fd")) if Path("/dev/fd").is_dir() else 0  # noqa: PTH208
