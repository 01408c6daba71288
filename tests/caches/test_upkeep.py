"""Directories stay within their bounds and clean, whatever processes write to them.

When an entry was last used is what the file system says, and so in its time: clocks start there.
"""

import contextlib
import fcntl
import os
import pickle
import random
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cachecontrol.caches
import pytest

from stillfresh.caches.directory import TAG
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.pruning import Cause, DryRun, PruneReport
from stillfresh.errors import CacheFull, CacheUnavailable, ConfigError, StoreError
from stillfresh.events import Event, Pruned, StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.tools import (
    content,
    elsewhere,
    in_child,
    load,
    load_pair,
    store,
    together,
)
from tests.caches.helpers import files_below, finish, start

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
KIB, MIB = 1 << 10, 1 << 20
HOUR, DAY = 3600.0, 86_400.0
# What the caches keep in the root for themselves.
MARKERS = (".stillfresh-pruned", ".stillfresh-written")
# No wait here takes nearly as long.
ENOUGH = 30.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.time())


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Either]:
    given: type[Either] = request.param
    return given


@pytest.fixture
def cache(kind: type[Either], root: Path, clock: ManualClock) -> Iterator[Either]:
    """A cache without bounds."""
    with kind(root, clock=clock) as made:
        made.hook = fail_on
        yield made


def fail_on(event: Event) -> None:
    """Be the hook of a cache that has to go on without an error."""
    assert not isinstance(event, StoreFailed), event


class Waiter:
    """The hook of a cache: remembers what happens, and waits for it to be pruned."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._pruned = threading.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Pruned):
            self._pruned.set()

    def wait(self) -> None:
        assert self._pruned.wait(ENOUGH)


def names(cache: Either) -> set[str]:
    """Name the keys that are there; entries of other programs have none."""
    return {info.key for info in cache.entries() if info.key is not None}


def size_of(root: Path) -> int:
    """Measure a directory as another program does: all that lies in it."""
    size = 0
    for directory, _, files in os.walk(root):
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                size += os.lstat(os.path.join(directory, file)).st_size  # noqa: PTH118 - quick
    return size


def entries_below(root: Path) -> list[str]:
    """Name what is there but for what caches keep for themselves."""
    return [name for name in files_below(root) if name not in MARKERS]


def fill(cache: Either, count: int, size: int = 4 * KIB, prefix: str = "key") -> list[str]:
    keys = [f"{prefix} {number}" for number in range(count)]
    for key in keys:
        store(cache, key, key.encode(), content(key, size))
    return keys


def intact(cache: Either, key: str, size: int) -> bool:
    found = load(cache, key)
    assert found in {None, (key.encode(), content(key, size))}
    return found is not None


def leave_litter(cache: Either, key: str = "key", size: int = 1000) -> list[Path]:
    """Leave what writers of `key` do that are killed."""
    path = Path(cache.path(key))
    path.parent.mkdir(parents=True, exist_ok=True)
    left = [path.with_name(f"{path.name}.0123456789abcdef.{kind}") for kind in ("body", "tmp")]
    for file in left:
        file.write_bytes(bytes(size))
    return left


def last_used(cache: Either, key: str, days_ago: float) -> None:
    """Let an entry have been used so long ago."""
    then = time.time() - days_ago * DAY
    os.utime(cache.path(key), (then, then))


# Asked for.


@pytest.mark.parametrize("size", [100, 100_000])
def test_the_recently_used_stay(cache: Either, clock: ManualClock, size: int) -> None:
    keys = fill(cache, 8, size)
    each = max(info.size for info in cache.entries())
    clock.advance(2 * HOUR)
    for key in keys[:4]:
        cache.get(key)
    clock.advance(2 * HOUR)
    for key in keys[:2]:
        load(cache, key)
    assert cache.prune(max_bytes=4 * each).removed == {Cause.OVER_SIZE: 4}
    assert names(cache) == set(keys[:4])
    assert cache.prune(max_bytes=3 * each).removed == {Cause.OVER_SIZE: 1}
    assert names(cache) > set(keys[:2])
    cache.prune(max_bytes=2 * each)
    assert names(cache) == set(keys[:2])
    assert all(intact(cache, key, size) for key in keys[:2])
    cache.prune(max_bytes=0)
    assert entries_below(Path(cache.directory)) == []


def test_those_not_used_for_long_go_and_the_expired(cache: Either, clock: ManualClock) -> None:
    keys = fill(cache, 3)
    store(cache, "expires", b"metadata", b"body", expires=DAY)
    clock.advance(10 * DAY)
    cache.get(keys[1])
    clock.advance(10 * DAY)
    report = cache.prune(max_age=15 * DAY)
    assert report.removed == {Cause.EXPIRED: 1, Cause.OVER_AGE: 2}
    assert names(cache) == {keys[1]}
    assert cache.prune(max_age=15 * DAY).removed == {}


def test_without_a_bound_only_the_expired_go(cache: Either, clock: ManualClock) -> None:
    keys = fill(cache, 3)
    store(cache, "expires", b"metadata", content("body", 100_000), expires=DAY)
    clock.advance(3650 * DAY)
    assert cache.prune().removed == {Cause.EXPIRED: 1}
    assert names(cache) == set(keys)


def test_a_bound_of_its_own_holds_where_no_other_is_given(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    fill(cache, 10)
    with kind(root, max_bytes=20 * KIB, max_age=DAY, clock=clock) as bounded:
        bounded.prune()
        assert size_of(root) <= 20 * KIB + 300
        assert len(names(bounded)) == 4
        clock.advance(2 * DAY)
        bounded.prune(max_age=3 * DAY)
        assert len(names(bounded)) == 4
        bounded.prune()
        assert names(bounded) == set()


def test_the_report_says_what_was_done(cache: Either, root: Path, clock: ManualClock) -> None:
    fill(cache, 6, 50_000)
    before = sum(info.size for info in cache.entries())
    told: list[tuple[int, int | None]] = []
    report = cache.prune(max_bytes=160_000, progress=lambda *done: told.append(done))
    after = sum(info.size for info in cache.entries())
    assert (report.removed.total(), report.kept) == (3, 3)
    assert (report.removed_bytes, report.kept_bytes) == (before - after, after)
    assert (report.swept, report.swept_bytes) == (0, 0)
    # Each had five directories to itself, or shared the first.
    assert 3 * 3 <= report.directories <= 3 * 5
    assert told == sorted(told)
    assert told[-1] == (6, 6)
    assert cache.prune(max_bytes=160_000) == PruneReport(kept=3, kept_bytes=after)


@pytest.mark.parametrize("bounds", [{"max_bytes": -1}, {"max_age": -1}, {"max_age": float("nan")}])
def test_a_bound_that_makes_no_sense_is_refused(
    cache: Either, kind: type[Either], root: Path, bounds: dict[str, int]
) -> None:
    with pytest.raises(ConfigError):
        cache.prune(**bounds)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        kind(root, **bounds)  # type: ignore[arg-type]


def test_where_there_is_nothing_nothing_is_made(cache: Either, root: Path) -> None:
    assert cache.prune(max_bytes=0, max_age=0) == PruneReport()
    assert cache.stats().entries == 0
    assert cache.verify().is_sound
    assert not root.exists()


def test_forever_is_about_delete_and_not_about_bounds(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    with kind(root, forever=True, clock=clock) as cache:
        keys = fill(cache, 4)
        assert cache.delete(keys[0]) is False
        cache.prune(max_bytes=3 * 5 * KIB)
        assert len(names(cache)) == 3


# Asking changes nothing.


def looks(root: Path) -> dict[str, tuple[int, ...]]:
    """Describe a tree without reading a byte of it."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        times = (status.st_mtime_ns, status.st_atime_ns if path.is_file() else 0)
        found[str(path)] = (status.st_ino, status.st_mode, status.st_size, *times)
    return found


QUESTIONS: dict[str, Callable[[Either], object]] = {
    "prune": lambda cache: cache.prune(max_bytes=5 * KIB, max_age=DAY, dry_run=DryRun.YES),
    "stats": lambda cache: cache.stats(),
    "entries": lambda cache: list(cache.entries()),
    "verify": lambda cache: cache.verify(),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_changes_nothing(
    cache: Either, root: Path, question: Callable[[Either], object]
) -> None:
    for days_ago, size in enumerate((100, 20_000, 100_000, 1_100_000)):
        key = f"key {days_ago}"
        store(cache, key, b"metadata", content(key, size))
        last_used(cache, key, days_ago)
    store(cache, "expired", b"metadata", b"body", expires=1)
    leave_litter(cache)
    (root / "0" / "0").mkdir(parents=True)
    before = looks(root)
    for _ in range(2):
        question(cache)
        assert looks(root) == before


def test_a_dry_run_tells_what_a_run_will_do(cache: Either, clock: ManualClock) -> None:
    for days_ago in range(6):
        store(cache, f"key {days_ago}", b"metadata", content("body", 40_000))
        last_used(cache, f"key {days_ago}", days_ago)
    store(cache, "expired", b"metadata", b"body", expires=1)
    clock.advance(1)
    leave_litter(cache)
    bounds: dict[str, float] = {"max_bytes": 100_000, "max_age": 4.5 * DAY}
    foretold = cache.prune(**bounds, dry_run=DryRun.YES)  # type: ignore[arg-type]
    done = cache.prune(**bounds)  # type: ignore[arg-type]
    done.directories = 0
    assert done == foretold
    assert done.removed[Cause.OVER_AGE] == 1
    assert (done.swept, done.swept_bytes) == (2, 2000)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_is_no_use(cache: Either, question: Callable[[Either], object]) -> None:
    for days_ago in range(5):
        store(cache, f"key {days_ago}", b"metadata", content("body", 40_000))
        last_used(cache, f"key {days_ago}", days_ago)
    question(cache)
    cache.prune(max_bytes=90_000)
    assert names(cache) == {"key 0", "key 1"}


def test_many_that_were_used_on_different_days_go_in_their_order(cache: Either) -> None:
    keys = fill(cache, 30)
    order = random.Random(3).sample(keys, 30)
    for days_ago, key in enumerate(order):
        last_used(cache, key, 2 + days_ago)
    for left in (20, 10, 1):
        cache.prune(max_bytes=left * 4300)
        assert names(cache) == set(order[:left])


# What happens between the plan and the deletion.


class Interloper:
    """A kind of lock that lets somebody else go first, once: just before a victim is removed."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = lambda: None

    def __call__(self, path: str) -> "Interloper":
        return self

    def __enter__(self) -> None:
        act, self.act = self.act, lambda: None
        act()

    def __exit__(self, *exc: object) -> None: ...


def replace(cache: Either, key: str) -> None:
    store(cache, key, b"other metadata", content(key, 40_001))


def refresh(cache: Either, key: str) -> None:
    entry = cache.open(key)
    assert entry is not None
    with entry:
        assert cache.update(key, b"other metadata", version=entry.version)


ACTS: dict[str, Callable[[Either, str], object]] = {
    "read": load,
    "replaced": replace,
    "refreshed": refresh,
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize("bounds", [{"max_bytes": 0}, {"max_age": DAY}], ids=["size", "age"])
def test_a_victim_that_is_used_at_the_last_moment_stays(
    kind: type[Either],
    cache: Either,
    root: Path,
    clock: ManualClock,
    act: Callable[[Either, str], object],
    bounds: dict[str, int],
) -> None:
    store(cache, "key", b"metadata", content("key", 40_000))
    last_used(cache, "key", 2)
    interloper = Interloper()
    interloper.act = lambda: act(cache, "key")
    with kind(root, lock_class=interloper, clock=clock) as pruned:
        report = pruned.prune(**bounds)  # type: ignore[arg-type]
    assert (report.removed.total(), report.kept) == (0, 1)
    assert report.kept_bytes == sum(info.size for info in cache.entries())
    assert load(cache, "key") is not None
    # And it goes, once nobody wants it any more.
    last_used(cache, "key", 2)
    assert cache.prune(**bounds).removed.total() == 1  # type: ignore[arg-type]
    assert entries_below(root) == []


def test_a_victim_that_has_expired_and_is_replaced_stays(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    store(cache, "key", b"key", b"old", expires=DAY)
    store(cache, "other", b"other", b"body")
    clock.advance(2 * DAY)
    interloper = Interloper()
    interloper.act = lambda: store(cache, "key", b"key", b"new")
    with kind(root, lock_class=interloper, clock=clock) as pruned:
        assert pruned.prune().removed == {}
    assert (load(cache, "key"), load(cache, "other")) == ((b"key", b"new"), (b"other", b"body"))


def test_in_place_of_a_victim_that_is_used_another_goes(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    for key in fill(cache, 6, 40_000):
        last_used(cache, key, 2)
    first = next(info.key for info in cache.entries())
    assert first is not None
    interloper = Interloper()
    interloper.act = lambda: cache.get(first)
    with kind(root, lock_class=interloper, clock=clock) as pruned:
        assert pruned.prune(max_bytes=130_000).removed == {Cause.OVER_SIZE: 3}
    assert len(names(cache)) == 3
    assert first in names(cache)


def test_in_place_of_a_victim_that_is_gone_none_goes(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    for key in fill(cache, 6, 40_000):
        last_used(cache, key, 2)
    first = next(info.key for info in cache.entries())
    assert first is not None
    interloper = Interloper()
    interloper.act = lambda: cache.delete(first)
    with kind(root, lock_class=interloper, clock=clock) as pruned:
        report = pruned.prune(max_bytes=130_000)
    assert len(names(cache)) == 3
    assert (report.removed, report.kept) == ({Cause.OVER_SIZE: 2}, 3)


def test_what_is_used_while_others_are_looked_at_stays(cache: Either) -> None:
    for key in fill(cache, 6):
        last_used(cache, key, 2)
    order = [info.key or "" for info in cache.entries()]

    def use_the_rest(done: int, total: int | None) -> None:
        assert total == 6
        if done == 2:
            for key in order[2:4]:
                load(cache, key)
            store(cache, order[4], b"other", content("other", 4 * KIB))

    cache.prune(max_age=DAY, progress=use_the_rest)
    assert names(cache) == set(order[2:5])


def test_what_is_stored_while_others_are_looked_at_stays(cache: Either) -> None:
    for key in fill(cache, 6):
        last_used(cache, key, 2)
    new = []

    def store_more(done: int, total: int | None) -> None:
        new.extend(fill(cache, 1, prefix=f"new {done}"))

    assert cache.prune(max_age=DAY, progress=store_more).removed == {Cause.OVER_AGE: 6}
    assert names(cache) == set(new)


# Two at once.


@contextlib.contextmanager
def somebody_prunes(root: Path) -> Iterator[None]:
    """Hold what another process holds while it prunes."""
    fd = os.open(root / MARKERS[0], os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def test_two_never_prune_at_once(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    keys = fill(cache, 10)
    before = entries_below(root)
    with somebody_prunes(root), kind(root, max_bytes=8 * KIB, clock=clock) as bounded:
        bounded.hook = fail_on
        with pytest.raises(CacheUnavailable, match="another process is pruning"):
            bounded.prune(max_bytes=0)
        assert bounded.prune(max_bytes=0, dry_run=DryRun.YES).removed.total() == 10
        # Nobody waits for it, and nobody prunes.
        store(bounded, "new", b"metadata", b"body")
        assert load(bounded, "new") == (b"metadata", b"body")
        bounded.close()
    assert set(before) < set(entries_below(root))
    assert names(cache) == {*keys, "new"}
    cache.prune(max_bytes=0)
    assert entries_below(root) == []


def test_while_nobody_can_prune_the_bound_holds_all_the_same(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    root.mkdir(mode=0o700)
    failures: list[Event] = []
    with somebody_prunes(root), kind(root, max_bytes=MIB, clock=clock) as cache:
        cache.hook = failures.append
        with pytest.raises(CacheFull, match="being pruned"):
            fill(cache, 1000, 10 * KIB)
        cache.set("key", b"value")
        assert cache.get("key") is None
        assert [type(event) for event in failures] == [StoreFailed]
        assert 0.1 * MIB < size_of(root) <= 1.1 * MIB
        # What is there can be read and removed all the same.
        assert intact(cache, "key 0", 10 * KIB)
        assert cache.delete("key 0") is True
    with kind(root, max_bytes=MIB, clock=clock) as cache:
        waiter = cache.hook = Waiter()
        with contextlib.suppress(CacheFull):
            fill(cache, 1, prefix="again")
        waiter.wait()
        fill(cache, 1, prefix="once more")
        assert size_of(root) <= MIB


def test_of_two_threads_one_prunes(cache: Either) -> None:
    fill(cache, 20)
    refused = []

    def prune_within(done: int, total: int | None) -> None:
        with pytest.raises(CacheUnavailable):
            elsewhere(lambda: cache.prune(max_bytes=0))
        refused.append(done)

    cache.prune(max_bytes=8 * 4200, progress=prune_within)
    assert len(refused) >= 8
    assert len(names(cache)) == 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_began_during_pruning_does_not_stop_the_next(cache: Either) -> None:
    fill(cache, 3)
    until, go_on = os.pipe()
    children: list[int] = []

    def fork(done: int, total: int | None) -> None:
        if not children:
            children.append(os.fork())
            if children[0] == 0:
                os.close(go_on)
                os.read(until, 1)
                os._exit(0)

    try:
        cache.prune(progress=fork)
        cache.prune(max_bytes=0)
        assert names(cache) == set()
    finally:
        os.close(go_on)
        os.close(until)
        for child in children:
            os.waitpid(child, 0)


# By itself.


WRITE = """
import random, sys
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import CacheFull
from stillfresh.testing.conformance.tools import content, load, store

kind, root, bound, number = sys.argv[1:]
chance = random.Random(number)
source = content("source", 1 << 18)
with globals()[kind](root, max_bytes=int(bound)) as cache:
    written = 0
    while written < 2 * int(bound):
        size = chance.randrange(1 << 10, 200 << 10)
        key = f"{number} {written}"
        try:
            store(cache, key, key.encode(), source[:size])
        except CacheFull:
            assert cache.open(key) is None
        else:
            assert load(cache, key) in {None, (key.encode(), source[:size])}
        written += size
"""


def test_four_processes_together_keep_to_the_bound(root: Path) -> None:
    bound = 16 * MIB
    # Of both kinds: they share their directories.
    writers = [start(WRITE, KINDS[at % 2].__name__, root, bound, at) for at in range(4)]
    sizes = []
    for writer in writers:
        while writer.poll() is None:
            sizes.append(size_of(root))
            with contextlib.suppress(subprocess.TimeoutExpired):
                writer.wait(0.02)
        finish(writer)
    assert max(sizes) <= 1.1 * bound
    # They have not just stopped storing.
    assert 0.7 * bound <= size_of(root) <= 1.1 * bound
    with FileCache(root) as cache:
        assert cache.verify().is_sound
        assert cache.prune().swept == 0
        assert cache.stats().bytes == size_of(root) - sum(
            (root / name).stat().st_size for name in (TAG, *MARKERS)
        )


@pytest.mark.parametrize("size", [700, 40_000])
def test_a_bound_holds_whatever_one_process_stores(
    kind: type[Either], root: Path, size: int
) -> None:
    bound = 40 * size
    with kind(root, max_bytes=bound) as cache:
        cache.hook = fail_on
        for number in range(100):
            store(cache, f"key {number}", b"metadata", content("body", size))
            if number % 10 == 0:
                assert size_of(root) <= 1.1 * bound
    assert 0.8 * bound <= size_of(root) <= 1.1 * bound


def test_many_processes_that_each_write_little_keep_to_the_bound(
    kind: type[Either], root: Path
) -> None:
    bound = 400 * KIB
    with kind(root, max_bytes=bound) as cache:
        fill(cache, 80)
    for number in range(80):
        with kind(root, max_bytes=bound) as cache:
            cache.hook = fail_on
            store(cache, f"more {number}", b"metadata", content("body", 1500))
            store(cache, f"again {number}", b"metadata", content("body", 1500))
    assert 0.7 * bound <= size_of(root) <= 1.1 * bound


def test_many_processes_that_each_live_shortly_prune_together(
    kind: type[Either], root: Path, in_a_thread: None
) -> None:
    bound = 100 * KIB
    with kind(root) as cache:
        fill(cache, 60)
    for number in range(3):
        with kind(root, max_bytes=bound) as cache, contextlib.suppress(CacheFull):
            store(cache, f"new {number}", b"metadata", b"body")
    assert size_of(root) <= bound


def test_what_is_stored_under_long_keys_counts_whole(kind: type[Either], root: Path) -> None:
    bound = 100 * KIB
    with kind(root, max_bytes=bound) as cache:
        cache.hook = fail_on
        for number in range(60):
            cache.set(f"https://example.org/?{number}{'x' * 4000}", b"value")
    assert size_of(root) <= 1.1 * bound


def test_what_refreshes_add_counts_as_well(kind: type[Either], root: Path) -> None:
    bound = 32 * KIB
    with kind(root, max_bytes=bound) as cache:
        cache.hook = fail_on
        keys = [f"key {number}" for number in range(20)]
        versions = [store(cache, key, bytes(300), bytes(300)) for key in keys]
        for _ in range(10):
            for key, version in zip(keys, versions, strict=True):
                cache.update(key, bytes(300), version=version)
    assert size_of(root) <= 1.1 * bound


def test_what_was_read_lately_stays(kind: type[Either], root: Path, clock: ManualClock) -> None:
    with kind(root, max_bytes=100 * KIB, clock=clock) as cache:
        cache.hook = fail_on
        wanted = fill(cache, 6, prefix="wanted")
        for number in range(6):
            fill(cache, 10, prefix=str(number))
            clock.advance(2 * HOUR)
            assert all(intact(cache, key, 4 * KIB) for key in wanted)
        assert names(cache) > set(wanted)


def test_a_process_that_only_reads_removes_nothing(
    kind: type[Either], cache: Either, root: Path, clock: ManualClock
) -> None:
    keys = fill(cache, 20)
    before = entries_below(root)
    with kind(root, max_bytes=10 * KIB, max_age=DAY, clock=clock) as reader:
        waiter = reader.hook = Waiter()
        for _ in range(3):
            clock.advance(10 * DAY)
            for key in keys:
                assert reader.get(key) is not None
                assert intact(reader, key, 4 * KIB)
                assert reader.get("what is not there") is None
        assert reader.stats().entries == 20
        assert waiter.events == []
    assert entries_below(root) == before
    assert not any((root / name).exists() for name in MARKERS)


def test_a_bound_that_is_lower_than_before_takes_effect_at_the_first_store(
    kind: type[Either], root: Path
) -> None:
    with kind(root, max_bytes=4 * MIB) as cache:
        fill(cache, 100)
    for bound in (200 * KIB, 60 * KIB):
        with kind(root, max_bytes=bound) as cache:
            waiter = cache.hook = Waiter()
            store(cache, "new", b"metadata", b"body")
            waiter.wait()
            assert 0.8 * bound <= size_of(root) <= bound
            assert [type(event) for event in waiter.events] == [Pruned]


def test_a_bound_may_be_changed_while_it_is_used(kind: type[Either], root: Path) -> None:
    with kind(root) as cache:
        fill(cache, 60, 16 * KIB)
        cache.max_bytes = MIB // 2
        assert (cache.max_bytes, cache.max_age) == (MIB // 2, None)
        with pytest.raises(ConfigError):
            cache.max_bytes = -1
        with pickle.loads(pickle.dumps(cache)) as copy:  # noqa: S301 - our own
            assert copy.max_bytes == MIB // 2
        fill(cache, 60, 16 * KIB, "more")
    assert size_of(root) <= 1.1 * MIB // 2
    with kind(root) as cache:
        for key in names(cache):
            last_used(cache, key, 2)
        store(cache, "new", b"metadata", b"body")
        cache.max_age = DAY
        cache.prune()
        assert names(cache) == {"new"}


def test_where_another_has_pruned_to_the_bound_the_next_makes_room(
    kind: type[Either], root: Path
) -> None:
    bound = 200 * KIB
    with kind(root) as cache:
        fill(cache, 60)
        cache.prune(max_bytes=bound)
    with kind(root, max_bytes=bound) as cache:
        cache.hook = fail_on
        fill(cache, 1, prefix="new")
        assert size_of(root) <= 0.95 * bound


def test_a_bound_of_age_alone_is_kept_by_itself(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    for first in (0, 20):
        with kind(root, max_age=DAY, clock=clock) as cache:
            waiter = cache.hook = Waiter()
            keys = fill(cache, 20, prefix=str(first))
            waiter.wait()
            assert names(cache) == set(keys)
            for key in keys:
                last_used(cache, key, 2)
        clock.advance(2 * HOUR)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_age", [100, 1000, 10_000])
def test_what_is_read_within_a_bound_of_age_is_in_use(
    kind: type[Either], root: Path, max_age: int
) -> None:
    clock = ManualClock(float(int(time.time())))
    with kind(root, max_age=max_age, clock=clock) as cache:
        store(cache, "key", b"metadata", b"body")
        for _ in range(30):
            clock.advance(max_age / 10)
            assert load(cache, "key") == (b"metadata", b"body")
            cache.prune()


def test_a_bound_of_age_is_seen_to_again_and_again(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    with kind(root, max_age=DAY, clock=clock) as cache:
        for number in range(3):
            waiter = cache.hook = Waiter()
            (key,) = fill(cache, 1, 2 * MIB, str(number))
            waiter.wait()
            assert names(cache) == {key}
            last_used(cache, key, 2)
            clock.advance(3 * HOUR)


@pytest.mark.parametrize("jump", [-DAY, 366 * DAY])
def test_after_the_clock_has_jumped_the_bounds_hold_all_the_same(
    kind: type[Either], root: Path, clock: ManualClock, jump: float
) -> None:
    bound = 100 * KIB
    for _ in range(3):
        with kind(root, max_bytes=bound, max_age=30 * DAY, clock=clock) as cache:
            for number in range(30):
                with contextlib.suppress(CacheFull):
                    fill(cache, 1, prefix=f"{jump} {number}")
            cache.close()
            assert size_of(root) <= 1.1 * bound
        clock.advance(jump)
        jump = -jump


def test_a_store_does_not_wait_until_many_are_pruned(kind: type[Either], root: Path) -> None:
    with kind(root, max_bytes=MIB) as cache:
        fill(cache, 210, 100)
        caller = threading.current_thread()
        told = threading.Event()

        def note(event: Event) -> None:
            assert threading.current_thread() is not caller
            told.set()

        cache.hook = note
        with contextlib.suppress(CacheFull):
            fill(cache, 250, prefix="more")
        assert told.wait(ENOUGH)


@pytest.mark.parametrize("size", [4 * KIB, 40_000])
def test_threads_together_keep_to_the_bound(kind: type[Either], root: Path, size: int) -> None:
    # What each is just writing may come on top: of eight, 5 %.
    bound = 160 * size
    stored: list[str] = []
    with kind(root, max_bytes=bound) as cache:

        def write(name: str) -> None:
            for number in range(35):
                key = f"{name} {number}"
                with contextlib.suppress(CacheFull):
                    store(cache, key, key.encode(), content(key, size))
                    stored.append(key)
                intact(cache, key, size)

        together(*(partial(write, name) for name in "abcdefgh"))
        # Most may be dropped, where the thread that prunes gets its turn late.
        assert size_of(root) >= min(0.5 * bound, len(stored) * size)
        assert size_of(root) <= 1.1 * bound
        assert cache.verify().is_sound


def test_a_cache_that_was_pickled_keeps_to_its_bounds(kind: type[Either], root: Path) -> None:
    bound = 100 * KIB
    with kind(root, max_bytes=bound, max_age=DAY) as cache:
        copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 - our own
    assert (copy.max_bytes, copy.max_age) == (bound, DAY)
    with copy:
        fill(copy, 60)
        assert size_of(root) <= 1.1 * bound
        assert copy.prune().kept_bytes <= bound


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_keeps_to_the_bounds_whatever_its_parents_threads_did(
    kind: type[Either], root: Path
) -> None:
    bound = 400 * KIB
    stop = threading.Event()
    with kind(root, max_bytes=bound) as cache:
        cache.hook = lambda event: None

        def write() -> None:
            for number in iter(lambda: random.randrange(100), None):
                cache.set(f"key {number}", bytes(4 * KIB))
                cache.get("another")
                if stop.is_set():
                    return

        def child() -> bytes:
            for number in range(10):
                cache.set(f"child's {number}", bytes(4 * KIB))
                cache.get("another")
            cache.close()
            return b"done"

        def fork() -> None:
            try:
                for _ in range(5):
                    assert in_child(child) == b"done"
            finally:
                stop.set()

        together(write, write, fork)
        assert size_of(root) <= 1.1 * bound


# Interrupted.


@pytest.fixture
def in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no writer prune itself, as where there are many entries."""
    monkeypatch.setattr("stillfresh.caches.upkeep._FEW", -1)


class Pause:
    """A clock that lets the thread which prunes stand still until the cache is closed."""

    def __init__(self) -> None:
        self.stands = threading.Event()
        self.goes_on = threading.Event()

    def __call__(self) -> float:
        if threading.current_thread().name == "stillfresh-prune":
            self.stands.set()
            assert self.goes_on.wait(ENOUGH)
        return time.time()


def test_a_cache_can_be_closed_while_it_is_pruned(
    kind: type[Either], root: Path, in_a_thread: None
) -> None:
    with kind(root) as unbounded:
        fill(unbounded, 40)
    pause = Pause()
    cache = kind(root, max_bytes=100 * KIB, clock=pause)
    store(cache, "new", b"metadata", b"body")
    assert pause.stands.wait(ENOUGH)
    closing = threading.Thread(target=cache.close)
    closing.start()
    pause.goes_on.set()
    closing.join(ENOUGH)
    assert not closing.is_alive()
    assert "stillfresh-prune" not in {thread.name for thread in threading.enumerate()}
    # Whether it came to its end or not, the next one finds it right, or makes it so.
    with kind(root, max_bytes=100 * KIB) as following:
        waiter = following.hook = Waiter()
        store(following, "newer", b"metadata", b"body")
        if size_of(root) > 110 * KIB:
            waiter.wait()
        assert size_of(root) <= 110 * KIB


def test_pruning_that_is_stopped_is_begun_again(
    kind: type[Either], root: Path, in_a_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kind(root) as unbounded:
        fill(unbounded, 40)
    pause = Pause()
    cache = kind(root, max_bytes=100 * KIB, clock=pause)
    store(cache, "new", b"metadata", b"body")
    assert pause.stands.wait(ENOUGH)
    # Who closes it doesn't wait for ever.
    monkeypatch.setattr("stillfresh.caches.pruner._PATIENCE", 0.0)
    cache.close()
    pause.goes_on.set()
    while "stillfresh-prune" in {thread.name for thread in threading.enumerate()}:
        assert pause.goes_on.wait(ENOUGH)
    assert size_of(root) > 150 * KIB
    with kind(root, max_bytes=100 * KIB) as following:
        waiter = following.hook = Waiter()
        store(following, "newer", b"metadata", b"body")
        waiter.wait()
        assert size_of(root) <= 100 * KIB


PRUNE_UNTIL_KILLED = """
import sys
from stillfresh.caches.file import FileCache, SeparateBodyFileCache

def progress(done, total):
    print("now", flush=True)
    sys.stdin.read()

globals()[sys.argv[1]](sys.argv[2]).prune(max_bytes=50_000, progress=progress)
"""


def test_pruning_that_is_killed_is_begun_again(kind: type[Either], root: Path) -> None:
    bound = 100 * KIB
    with kind(root) as cache:
        fill(cache, 100)
        cache.prune(max_bytes=90 * KIB)
        fill(cache, 100, prefix="more")
    kill_at_its_line(PRUNE_UNTIL_KILLED, kind.__name__, root)
    with kind(root, max_bytes=bound) as cache:
        waiter = cache.hook = Waiter()
        store(cache, "new", b"metadata", b"body")
        waiter.wait()
        assert size_of(root) <= bound


def kill_at_its_line(code: str, *arguments: object) -> None:
    """Run `code` until it prints a line, and kill it then."""
    process = start(code, *arguments)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL


# What writers left.


WRITE_LONG = """
import sys
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.testing.conformance.tools import content

cache = globals()[sys.argv[1]](sys.argv[2])
body = content("long", 1 << 20)
with cache.writer("long") as writer:
    writer.write(body[: 1 << 19])
    print("now", flush=True)
    sys.stdin.readline()
    writer.write(body[1 << 19 :])
    writer.commit(b"metadata")
"""


def test_what_killed_writers_left_is_swept(cache: Either, root: Path) -> None:
    store(cache, "long", b"older", content("older", 100_000))
    before = files_below(root)
    for _ in range(2):
        kill_at_its_line(WRITE_LONG, type(cache).__name__, root)
    assert len(files_below(root)) == len(before) + 2
    report = cache.prune()
    assert report.swept == 2
    assert report.swept_bytes >= 2 << 19
    assert entries_below(root) == before
    assert load(cache, "long") == (b"older", content("older", 100_000))
    assert cache.prune().swept == 0


def test_what_is_being_written_is_not_swept(cache: Either, root: Path) -> None:
    writer = start(WRITE_LONG, type(cache).__name__, root)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "now\n"
    here = cache.writer("here")
    here.write(content("here", 200_000))
    for _ in range(3):
        assert cache.prune(max_bytes=0).swept == 0
    assert len(entries_below(root)) == 2
    finish(writer)
    here.commit(b"metadata")
    assert load(cache, "long") == (b"metadata", content("long", 1 << 20))
    assert load(cache, "here") == (b"metadata", content("here", 200_000))


PRUNE = """
import sys
from stillfresh.caches.file import FileCache
from stillfresh.errors import CacheUnavailable

cache = FileCache(sys.argv[1])
print("now", flush=True)
while not cache.get("stop"):
    try:
        cache.prune()
    except CacheUnavailable:
        pass
"""


@pytest.mark.parametrize("size", [10, 100_000])
def test_no_writer_fails_since_others_sweep(cache: Either, root: Path, size: int) -> None:
    sweeper = start(PRUNE, root)
    try:
        assert sweeper.stdout is not None
        assert sweeper.stdout.readline() == "now\n"
        for number in range(80):
            key = f"key {number % 7}"
            version = store(cache, key, key.encode(), content(key, size))
            assert intact(cache, key, size)
            cache.update(key, key.encode(), version=version)
    finally:
        cache.set("stop", b"value")
        cache.close()
    finish(sweeper)


def test_a_body_that_no_entry_names_is_swept_and_one_that_is_named_stays(
    cache: Either, root: Path
) -> None:
    store(cache, "key", b"metadata", content("body", 100_000))
    before = entries_below(root)
    litter = [*leave_litter(cache, "key"), *leave_litter(cache, "another")]
    report = cache.prune()
    assert (report.swept, report.swept_bytes) == (4, 4000)
    assert entries_below(root) == before
    assert not any(file.exists() for file in litter)
    assert load(cache, "key") == (b"metadata", content("body", 100_000))


def test_what_is_not_of_caches_stays(cache: Either, root: Path) -> None:
    store(cache, "key", b"metadata", content("body", 100_000))
    path = Path(cache.path("key"))
    beside = path.parent
    others = [
        root / "README",
        root / ".lock",
        root / "stranger" / "a" / "file",
        root / "A" / "b" / "c" / "d" / "e" / ("f" * 56),
        root / "0" / "notes.txt",
        root / ("f" * 56),
        beside / "README",
        beside / f"{path.name}.lock",
        beside / f"{path.name}.body.part",
        beside / f"{path.name}1234.tmp",
        beside / f"{path.name}.0123456789abcdef.body.old",
        beside / f"{path.name}.0123.body",
        beside / "folder" / "file",
        # A body that pip has just written, and not yet its entry.
        beside / f"{'0' * 56}.body",
    ]
    for file in others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"somebody's")
    link = beside / f"{path.name}.fedcba9876543210.body"
    link.symlink_to(root / "README")
    cache.prune(max_bytes=0, max_age=0)
    assert not path.exists()
    assert [file for file in others if not file.exists()] == []
    assert (root / TAG).exists()
    assert link.is_symlink()


def test_what_is_linked_into_the_tree_is_not_reached(cache: Either, root: Path) -> None:
    outside = root.parent / "outside"
    with type(cache)(outside) as other:
        store(other, "key", b"metadata", b"body")
        leave_litter(other)
    before = looks(outside)
    root.mkdir(mode=0o700)
    digit = Path(cache.path("key")).relative_to(root).parts[0]
    (root / digit).symlink_to(outside / digit)
    cache.prune(max_bytes=0)
    assert looks(outside) == before


def test_empty_directories_go(cache: Either, root: Path) -> None:
    fill(cache, 20)
    for folder in ("0/1/2/3/4", "a/b/c/d/e", "a/b/c/d/f", "0/1/3", "f"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    cache.prune(max_bytes=0)
    assert sorted(path.name for path in root.iterdir()) == sorted([TAG, *MARKERS])


def test_after_many_stores_and_deletes_nothing_is_left(cache: Either, root: Path) -> None:
    for number in range(100):
        key = f"key {number % 20}"
        store(cache, key, b"metadata", content(key, (10, 20_000, 70_000)[number % 3]))
        if number % 2:
            cache.delete(f"key {number * 7 % 20}")
    for number in range(20):
        cache.delete(f"key {number}")
    cache.prune()
    assert sorted(path.name for path in root.iterdir()) == sorted([TAG, *MARKERS])


# Other programs' directories.


def test_what_cachecontrol_stored_is_bounded_too(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    root.mkdir(mode=0o755)
    pairs = cachecontrol.caches.SeparateBodyFileCache(str(root))
    values = cachecontrol.caches.FileCache(str(root))
    for number in range(10):
        pairs.set(f"pair {number}", b"cc=4,pair")
        pairs.set_body(f"pair {number}", content("body", 40_000))
        values.set(f"value {number}", b"cc=4," + content("value", 40_000))
    locks = [name for name in files_below(root) if name.endswith(".lock")]
    with kind(root, clock=clock) as cache:
        store(cache, "ours", b"metadata", content("ours", 40_000))
        clock.advance(2 * DAY)
        cache.get("ours")
        report = cache.prune(max_bytes=300_000)
        assert report.removed == {Cause.OVER_SIZE: 14}
        assert report.kept_bytes <= 300_000
        assert report.swept == 0
        assert names(cache) == {"ours"}
    left = sum(values.get(f"value {number}") is not None for number in range(10))
    for number in range(10):
        body = pairs.get_body(f"pair {number}")
        assert (body is None) == (pairs.get(f"pair {number}") is None)
        if body is not None:
            with body:
                assert body.read() == content("body", 40_000)
            left += 1
    assert left == 6
    assert [name for name in files_below(root) if name.endswith(".lock")] == locks
    assert size_of(root) <= 300_000 + 1000


def test_what_cachecontrol_stored_counts_as_used_when_it_is_read(
    kind: type[Either], root: Path, clock: ManualClock
) -> None:
    root.mkdir(mode=0o755)
    theirs = cachecontrol.caches.FileCache(str(root))
    for number in range(10):
        theirs.set(f"key {number}", b"cc=4," + content("value", 4000))
    with kind(root, clock=clock) as cache:
        clock.advance(2 * DAY)
        for number in (3, 5, 8):
            assert cache.get(f"key {number}") is not None
        cache.prune(max_age=DAY)
    left = [number for number in range(10) if theirs.get(f"key {number}") is not None]
    assert left == [3, 5, 8]


# What is too large.


def store_in_steps(cache: Either, key: str, body: bytes) -> None:
    with cache.writer(key) as writer:
        for at in range(0, len(body), 10_000):
            writer.write(body[at : at + 10_000])
        writer.commit(b"metadata")


@pytest.mark.parametrize("size", [100_001, 300_000])
def test_a_body_larger_than_the_bound_is_refused_and_leaves_nothing(
    kind: type[Either], root: Path, size: int
) -> None:
    told: list[Event] = []
    with kind(root, max_bytes=100_000) as cache:
        cache.hook = told.append
        with pytest.raises(CacheFull):
            store_in_steps(cache, "key", content("body", size))
        assert entries_below(root) == []
        store(cache, "key", b"older", content("older", 50_000))
        before = entries_below(root)
        with pytest.raises(CacheFull):
            store(cache, "key", b"metadata", content("body", size))
        assert load(cache, "key") == (b"older", content("older", 50_000))
        assert entries_below(root) == before
        if isinstance(cache, SeparateBodyFileCache):
            cache.set("key", b"value")
            cache.set_body("key", content("body", size))
            assert load_pair(cache, "key") == (b"older", content("older", 50_000))
            assert StoreFailed in {type(event) for event in told}


def test_metadata_larger_than_the_bound_is_refused_too(kind: type[Either], root: Path) -> None:
    with kind(root, max_bytes=100_000) as cache:
        fill(cache, 3)
        with pytest.raises(CacheFull):
            store(cache, "key", bytes(100_000), None)
        with pytest.raises(CacheFull):
            store(cache, "key", bytes(50_000), bytes(60_000))
        assert names(cache) == {"key 0", "key 1", "key 2"}


@pytest.mark.parametrize("size", [85_000, 95_000, 99_000])
def test_what_could_be_stored_is_there(kind: type[Either], root: Path, size: int) -> None:
    with kind(root, max_bytes=100_000) as cache:
        waiter = cache.hook = Waiter()
        fill(cache, 3)
        waiter.wait()
        try:
            store(cache, "large", b"large", content("large", size))
        except CacheFull:
            assert names(cache) == {"key 0", "key 1", "key 2"}
        else:
            cache.close()
            with kind(root) as unbounded:
                assert intact(unbounded, "large", size)


# What stands in its way.


@pytest.mark.parametrize("obstacle", ["directory", "link", "fifo"])
def test_what_stands_where_it_keeps_its_notes_does_no_harm(
    kind: type[Either], root: Path, obstacle: str
) -> None:
    root.mkdir(mode=0o700)
    outside = root.parent / "outside"
    outside.write_bytes(b"somebody's")
    for name in MARKERS:
        match obstacle:
            case "directory":
                (root / name).mkdir()
            case "link":
                (root / name).symlink_to(outside)
            case "fifo":
                os.mkfifo(root / name)
    with kind(root, max_bytes=100 * KIB) as cache:
        cache.hook = fail_on
        fill(cache, 20)
        assert all(intact(cache, f"key {number}", 4 * KIB) for number in range(20))
        assert cache.prune(dry_run=DryRun.YES).kept == 20
        with contextlib.suppress(StoreError):
            cache.prune()
    assert outside.read_bytes() == b"somebody's"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_its_notes_have_the_mode_of_all_its_files(
    kind: type[Either], root: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        with kind(root, filemode=0o660, dirmode=0o770, max_bytes=100 * KIB) as cache:
            waiter = cache.hook = Waiter()
            fill(cache, 3)
            waiter.wait()
    finally:
        os.umask(before)
    modes = {name: oct(stat.S_IMODE((root / name).stat().st_mode)) for name in MARKERS}
    assert modes == dict.fromkeys(MARKERS, "0o660")


def test_notes_that_make_no_sense_are_no_notes(kind: type[Either], root: Path) -> None:
    for notes in (b"", b"\0" * 60, b"-5 7 9\n", b"1e9 x y", b"9" * 5000, b"\xff\xfe 3", b"1"):
        with kind(root) as cache:
            fill(cache, 30)
        (root / MARKERS[0]).write_bytes(notes)
        with kind(root, max_bytes=100 * KIB) as cache:
            waiter = cache.hook = Waiter()
            store(cache, "new", b"metadata", b"body")
            waiter.wait()
            assert size_of(root) <= 110 * KIB


def test_a_root_that_disappears_is_pruned_of_nothing(cache: Either, root: Path) -> None:
    fill(cache, 3)
    root.rename(root.with_name("aside"))
    assert cache.prune(max_bytes=0) == PruneReport()
    root.write_bytes(b"a file in its place")
    with contextlib.suppress(StoreError):
        assert cache.prune(max_bytes=0) == PruneReport()
    assert root.read_bytes() == b"a file in its place"


# Statistics.


def test_statistics_count_what_there_is(cache: Either, root: Path, clock: ManualClock) -> None:
    first = clock()
    store(cache, "https://example.org/a", b"metadata", content("a", 1000))
    clock.advance(DAY)
    store(cache, "https://example.org/b", b"metadata", content("b", 100_000))
    store(cache, "https://example.com/", b"metadata", None)
    clock.advance(DAY)
    store(cache, "no url", b"metadata", b"body")
    told: list[tuple[int, int | None]] = []
    stats = cache.stats(progress=lambda *done: told.append(done))
    assert stats.entries == 4
    assert stats.bytes == sum((root / name).stat().st_size for name in files_below(root))
    assert (stats.oldest, stats.newest) == (first, clock())
    assert {host: count for host, (count, _) in stats.hosts.items()} == {
        "example.org": 2,
        "example.com": 1,
        "": 1,
    }
    assert sum(size for _, size in stats.hosts.values()) == stats.bytes
    assert told == [(1, None), (2, None), (3, None), (4, None)]


def test_statistics_count_other_programs_entries_and_damaged_ones(
    cache: Either, root: Path
) -> None:
    store(cache, "https://example.org/", b"metadata", b"body")
    store(cache, "https://example.com/", b"metadata", b"body")
    Path(cache.path("https://example.com/")).write_bytes(b"damaged")
    cachecontrol.caches.FileCache(str(root)).set("https://example.net/", b"cc=4,value")
    stats = cache.stats()
    assert stats.entries == 3
    assert stats.hosts[""] == (2, len(b"damaged") + len(b"cc=4,value"))
    assert stats.hosts["example.org"][0] == 1


def test_statistics_leave_out_what_has_expired(cache: Either, clock: ManualClock) -> None:
    store(cache, "stays", b"metadata", b"body")
    store(cache, "expires", b"metadata", b"body", expires=60)
    assert cache.stats().entries == 2
    clock.advance(60)
    assert cache.stats().entries == 1


def test_a_listing_that_is_given_up_holds_nothing_open(cache: Either) -> None:
    fill(cache, 5)
    before = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(20):
        listing = cache.entries()
        assert next(listing).key is not None
        del listing
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_what_was_used_when_the_clock_was_ahead_is_not_the_last_to_go(
    cache: Either, clock: ManualClock
) -> None:
    for key in ("ahead", "used"):
        store(cache, key, b"metadata", bytes(KIB))
    clock.advance(400 * DAY)
    cache.get("ahead")
    clock.advance(-400 * DAY)
    for _ in range(20):
        clock.advance(DAY)
        cache.get("used")
    cache.prune(max_age=10 * DAY)
    assert [entry.key for entry in cache.entries()] == ["used"]
