import gc
import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cachecontrol.caches
import filelock
import pytest

from stillfresh.caches import directory
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import CacheUnavailable, ConfigError
from stillfresh.events import Event, StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import CacheConformance, SeparateBodyCacheConformance
from stillfresh.testing.conformance.tools import content, load, load_pair, store
from tests.caches.helpers import files_below, finish, run, start

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
LARGE = 300_000


class TestFileCacheConformance(CacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> FileCache:
        return FileCache(place, clock=clock)


class TestSeparateBodyFileCacheConformance(SeparateBodyCacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> SeparateBodyFileCache:
        return SeparateBodyFileCache(place, clock=clock)


@pytest.mark.one_in(3)
class TestConformanceWithoutDescriptors(SeparateBodyCacheConformance):
    """As where a directory can't be held open, and not be locked: on Windows."""

    swaps_atomically = False

    @pytest.fixture(autouse=True)
    def by_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "_BY_DESCRIPTOR", False)

    def make_cache(self, place: Path, clock: ManualClock) -> SeparateBodyFileCache:
        return SeparateBodyFileCache(place, clock=clock)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, root: Path) -> Iterator[Either]:
    with request.param(root) as made:
        yield made


def only_files_of(cache: Either, *keys: str) -> list[str]:
    return sorted(os.path.relpath(cache.path(key), cache.directory) for key in keys)


# Where things are.


@pytest.mark.parametrize(
    "key", ["", "https://example.org/", "../../etc/passwd", "caf\xe9", "\0", "k" * 70_000]
)
def test_the_path_of_a_key_is_the_one_that_other_programs_know(cache: Either, key: str) -> None:
    name = hashlib.sha224(key.encode()).hexdigest()
    theirs = cachecontrol.caches.FileCache(str(cache.directory))
    assert cache.path(key) == os.path.join(cache.directory, *name[:5], name)  # noqa: PTH118
    assert cache.path(key) == theirs._fn(key)  # noqa: SLF001 - it is what must not change
    store(cache, key, b"metadata", b"body")
    assert files_below(Path(cache.directory)) == only_files_of(cache, key)


def test_a_known_path() -> None:
    assert FileCache("/c").path("https://example.org/") == (
        "/c/b/3/c/b/0/b3cb0ac296bf8a91a55acb93e8d204fefdbea86e6c5109b9265e48da"
    )


def test_a_directory_is_named_by_text_or_path(root: Path) -> None:
    for given in (root, str(root)):
        made = FileCache(given)
        assert made.directory == given
        made.set("key", b"value")
        assert made.get("key") == b"value"


def test_a_relative_directory_stays_where_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    made = FileCache("cache")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    made.set("key", b"value")
    assert FileCache(root).get("key") == b"value"


def test_nothing_is_made_before_something_is_stored(cache: Either, root: Path) -> None:
    assert cache.get("key") is None
    assert cache.delete("key") is False
    assert cache.update("key", b"", version="0" * 16) is False
    assert list(cache.entries()) == []
    cache.clear()
    with cache.writer("key") as writer:
        writer.write(b"small")
    cache.set("key", b"value", expires=-1)
    assert not root.exists()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    made = FileCache(tmp_path / "one/two/three")
    made.set("key", b"value")
    assert made.get("key") == b"value"


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="not a directory"):
        FileCache(tmp_path / "file")


def test_a_root_below_a_file_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    made = FileCache(tmp_path / "file" / "cache")
    made.hook = lambda event: None
    made.set("key", b"value")
    assert made.get("key") is None


def test_a_file_cache_keeps_one_file_for_each_entry(root: Path) -> None:
    cache = FileCache(root)
    store(cache, "small", b"metadata", b"body")
    store(cache, "large", b"metadata", bytes(LARGE))
    assert files_below(root) == only_files_of(cache, "small", "large")


def test_bodies_that_are_not_small_are_kept_apart(root: Path) -> None:
    cache = SeparateBodyFileCache(root)
    store(cache, "small", b"metadata", bytes(4096))
    assert files_below(root) == only_files_of(cache, "small")
    store(cache, "large", b"metadata", bytes(LARGE))
    assert len(files_below(root)) == 3
    assert Path(cache.path("large")).stat().st_size < 4096


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_reads_what_the_other_has_written(root: Path, kind: type[Either]) -> None:
    other = KINDS[1 - KINDS.index(kind)]
    for size in (10, LARGE):
        store(kind(root), "key", b"metadata", content("body", size))
        assert load(other(root), "key") == (b"metadata", content("body", size))
        version = store(kind(root), "key", b"metadata", content("body", size))
        assert other(root).update("key", b"new", version=version)
        assert load(kind(root), "key") == (b"new", content("body", size))
        assert other(root).delete("key") is True
        assert files_below(root) == []


# What is left behind.


def test_who_is_long_at_writing_sweeps_what_came_before(root: Path) -> None:
    cache = SeparateBodyFileCache(root)
    with cache.writer("key") as long:
        # Its directory is made now, and not new any more when it is done.
        long.write(bytes(LARGE))
        store(cache, "key", b"short", bytes(LARGE))
        version = long.commit(b"long")
    assert load(cache, "key") == (b"long", bytes(LARGE))
    name = Path(cache.path("key")).name
    assert {path.name for path in Path(cache.path("key")).parent.iterdir()} == {
        name,
        f"{name}.{version}.body",
    }


@pytest.mark.parametrize("size", [None, 10, LARGE])
def test_no_version_outlives_its_entry(cache: Either, root: Path, size: int | None) -> None:
    body = None if size is None else bytes(size)
    version = store(cache, "key", b"metadata", body)
    once = len(files_below(root))
    for _ in range(3):
        cache.update("key", b"metadata", version=version)
        assert len(files_below(root)) == once
        version = store(cache, "key", b"metadata", body)
        assert len(files_below(root)) == once
    assert cache.update("key", b"metadata", version="0" * 16) is False
    assert len(files_below(root)) == once
    assert cache.update("key", b"metadata", version=version, expires=-1)
    assert files_below(root) == []
    store(cache, "key", b"metadata", body)
    store(cache, "key", b"metadata", b"smaller", expires=-1)
    assert files_below(root) == []


def test_clear_removes_the_directories_of_the_layout(cache: Either, root: Path) -> None:
    for number in range(5):
        store(cache, f"key {number}", b"metadata", bytes(LARGE))
    cache.clear()
    assert [path.name for path in root.iterdir()] == [directory.TAG]


def test_clear_leaves_what_is_not_the_caches(cache: Either, root: Path) -> None:
    store(cache, "key", b"metadata", b"body")
    theirs = [root / "README", root / "abc/def", Path(cache.path("key")).parent / "notes"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
    cache.clear()
    assert files_below(root) == sorted(os.path.relpath(path, root) for path in theirs)


def test_forever_is_not_deleted(root: Path) -> None:
    with FileCache(root, forever=True) as cache:
        cache.set("key", b"value")
        assert cache.delete("key") is False
        assert cache.get("key") == b"value"
        cache.set("key", b"another")
        assert cache.get("key") == b"another"


def test_classic_parameters_come_in_the_classic_order(root: Path) -> None:
    cache = FileCache(root, True, 0o640, 0o750, filelock.FileLock)
    assert (cache.forever, cache.filemode, cache.dirmode) == (True, 0o640, 0o750)
    assert cache.lock_class is filelock.FileLock
    cache.set("key", b"value")
    assert Path(cache.path("key")).stat().st_mode & 0o777 == 0o640
    assert cache.get("key") == b"value"


# Objects and processes.


def test_a_value_survives_the_process(cache: Either, root: Path) -> None:
    kind = type(cache).__name__
    run(
        f"""
        import sys
        from stillfresh.caches.file import {kind}
        {kind}(sys.argv[1]).set("key", b"value")
        """,
        root,
    )
    assert cache.get("key") == b"value"


def test_a_value_alone_takes_effect_at_the_end_of_the_process(root: Path) -> None:
    cache = SeparateBodyFileCache(root)
    cache.set("key", b"old")
    cache.set_body("key", b"body")
    run(
        """
        import sys
        from stillfresh.caches.file import SeparateBodyFileCache
        cache = SeparateBodyFileCache(sys.argv[1])
        assert cache.get("key") == b"old"
        cache.set("key", b"refreshed")
        """,
        root,
    )
    assert load_pair(cache, "key") == (b"refreshed", b"body")


def test_a_value_alone_takes_effect_when_the_cache_is_forgotten(root: Path) -> None:
    SeparateBodyFileCache(root).set("key", b"value")
    gc.collect()
    assert SeparateBodyFileCache(root).get("key") == b"value"


def test_a_cache_can_be_pickled(cache: Either) -> None:
    store(cache, "key", b"metadata", bytes(LARGE))
    again = pickle.loads(pickle.dumps(cache))  # noqa: S301 - it has just been made
    assert type(again) is type(cache)
    assert load(again, "key") == (b"metadata", bytes(LARGE))
    if isinstance(again, SeparateBodyFileCache):
        again.set("key", b"value")
        again.set_body("key", b"body")
        assert load_pair(again, "key") == (b"value", b"body")


def test_time_is_the_systems_where_no_clock_is_given(cache: Either) -> None:
    cache.set("past", b"value", expires=-1)
    cache.set("future", b"value", expires=3600)
    store(cache, "soon", b"value", b"body", expires=1e-6)
    assert cache.get("past") is None
    assert cache.get("future") == b"value"
    assert cache.open("soon") is None


def test_use_is_noted_once_an_hour(root: Path) -> None:
    clock = ManualClock(float(int(time.time())))
    cache = FileCache(root, clock=clock)

    def used_at() -> float:
        (info,) = cache.entries()
        return info.used_at

    store(cache, "key", b"metadata", b"body")
    clock.advance(2 * 3600)
    load(cache, "key")
    assert used_at() == clock()
    noted = clock()
    clock.advance(3599)
    load(cache, "key")
    assert used_at() == noted
    clock.advance(1)
    load(cache, "key")
    assert used_at() == clock()


def test_nothing_is_lost_though_the_kernel_takes_less_than_it_is_given(
    cache: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read, pread = os.write, os.read, os.pread
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:70_001]))
    monkeypatch.setattr(os, "read", lambda fd, size: read(fd, min(size, 30_001)))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 30_001), at))
    for size in (10, LARGE, 3 << 20):
        body = content("body", size)
        version = store(cache, "key", content("metadata", LARGE), body)
        assert load(cache, "key") == (content("metadata", LARGE), body)
        assert cache.update("key", b"new", version=version)
        assert load(cache, "key") == (b"new", body)


@pytest.mark.skipif(not Path("/dev/fd").is_dir(), reason="no way to count descriptors")
def test_no_descriptor_is_left_open(cache: Either, root: Path) -> None:
    cache.hook = lambda event: None

    def use() -> None:
        for size in (10, LARGE):
            version = store(cache, "key", b"metadata", bytes(size))
            load(cache, "key")
            cache.update("key", b"new", version=version)
            cache.update("key", b"new", version="0" * 16)
            next(iter(cache.entries()))
            assert len(list(cache.entries())) == 1
            with cache.writer("key") as writer:
                writer.write(bytes(size))
            cache.writer("forgotten").write(bytes(size))
            entry = cache.open("key")
            del entry
            if isinstance(cache, SeparateBodyFileCache):
                cache.set("key", b"value")
                cache.set_body("key", bytes(size))
                load_pair(cache, "key")
                cache.get_body("key")
            for path in [root / name for name in files_below(root)]:
                path.write_bytes(b"damage")
                cache.get("key")
            cache.delete("key")
            Path(cache.path("key")).mkdir(parents=True)
            cache.get("key")
            cache.set("key", b"value")
            cache.delete("key")
            cache.clear()
            Path(cache.path("key")).rmdir()
        cache.clear()
        gc.collect()

    use()
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - an entry may be gone when it is looked at
    use()
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_a_full_disk_leaves_the_old_version_and_no_litter(cache: Either, root: Path) -> None:
    pytest.importorskip("resource")
    kind = type(cache).__name__
    store(cache, "key", b"old", b"old body")
    before = files_below(root)
    output = run(
        f"""
        import json, resource, sys
        from stillfresh.caches.file import {kind}
        from stillfresh.errors import CacheFull

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        cache = {kind}(sys.argv[1])
        told = []
        cache.hook = lambda event: told.append([event.operation, type(event.error).__name__])

        def fails(write):
            try:
                write()
            except CacheFull as error:
                told.append(["full", type(error.__cause__).__name__])

        version = cache.open("key").version
        with cache.writer("key") as writer:
            fails(lambda: [writer.write(bytes(30_000)) for _ in range(5)])
        with cache.writer("key") as writer:
            writer.write(bytes(90_000))
            fails(lambda: writer.commit(bytes(120_000)))
        with cache.writer("key") as writer:
            fails(lambda: writer.commit(bytes(120_000)))
        fails(lambda: cache.update("key", bytes(120_000), version=version))
        cache.set("key", bytes(120_000))
        cache.delete("another")
        if hasattr(cache, "set_body"):
            cache.set("key", b"new")
            cache.set_body("key", bytes(120_000))
        cache.set("small", b"value")
        assert cache.get("small") == b"value"
        cache.delete("small")
        print(json.dumps(told))
        """,
        root,
    )
    told = json.loads(output)
    assert told[:4] == [["full", "OSError"]] * 4
    assert told[4] == ["set", "CacheFull"]
    assert told[5:] == ([["set_body", "CacheFull"]] if "Separate" in kind else [])
    assert load(cache, "key") == (b"old", b"old body")
    assert files_below(root) == before


# Locks.


class RecordingLock:
    """Does nothing, but tells what it was asked to."""

    def __init__(self, path: str, told: list[str], answer: Any = None) -> None:
        self.path = path
        self.told = told
        self.answer = answer

    def acquire(self, timeout: float) -> Any:
        self.told.append("acquire")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def release(self) -> None:
        self.told.append("release")


@pytest.mark.parametrize("kind", KINDS)
def test_the_callers_lock_is_taken_for_every_change(root: Path, kind: type[Either]) -> None:
    told: list[str] = []
    paths = set()

    def lock(path: str) -> RecordingLock:
        paths.add(path)
        return RecordingLock(path, told)

    cache = kind(root, lock_class=lock)
    version = store(cache, "key", b"metadata", bytes(LARGE))
    assert told == ["acquire", "release"]
    cache.update("key", b"new", version=version)
    assert told == ["acquire", "release"] * 2
    cache.delete("key")
    assert told == ["acquire", "release"] * 3
    load(cache, "key")
    list(cache.entries())
    assert told == ["acquire", "release"] * 3
    assert paths == {str(root / ".lock")}


@pytest.mark.parametrize(
    "answer",
    [False, TimeoutError("taken"), filelock.Timeout("taken"), OSError("no locks"), KeyError("?")],
    ids=repr,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_that_can_not_be_had_is_gone_without(
    root: Path, kind: type[Either], answer: Any
) -> None:
    told: list[str] = []
    cache = kind(root, lock_class=lambda path: RecordingLock(path, told, answer))
    version = store(cache, "key", b"metadata", bytes(LARGE))
    assert cache.update("key", b"new", version=version) is True
    assert load(cache, "key") == (b"new", bytes(LARGE))
    assert cache.delete("key") is True
    assert "release" not in told


def test_a_lock_that_is_only_a_block_will_do(root: Path) -> None:
    told: list[str] = []

    class Block:
        def __init__(self, path: str) -> None:
            pass

        def __enter__(self) -> None:
            told.append("enter")

        def __exit__(self, *exc: object) -> None:
            told.append("exit")

    cache = FileCache(root, lock_class=Block)
    cache.set("key", b"value")
    assert told == ["enter", "exit"]


@pytest.mark.parametrize("lock_class", [None, filelock.FileLock, filelock.SoftFileLock])
def test_no_lock_file_is_left_for_an_entry(
    root: Path, lock_class: Callable[[str], Any] | None
) -> None:
    cache = SeparateBodyFileCache(root, lock_class=lock_class)
    for key in "abc":
        cache.set(key, b"value")
    left = set(files_below(root)) - set(only_files_of(cache, *"abc"))
    assert left <= {".lock"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_held_by_another_process_stops_nobody(root: Path, kind: type[Either]) -> None:
    with kind(root) as cache:
        cache.set("before", b"value")
    holder = start(
        """
        import sys, filelock
        with filelock.FileLock(sys.argv[1] + "/.lock"):
            print("held", flush=True)
            sys.stdin.read()
        """,
        root,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    cache = kind(root, lock_class=filelock.FileLock)
    version = store(cache, "key", b"metadata", b"body")
    assert cache.update("key", b"new", version=version) is True
    assert load(cache, "key") == (b"new", b"body")
    assert cache.delete("key") is True
    finish(holder)


def test_a_stranger_who_locks_a_directory_stops_no_store_and_no_delete(cache: Either) -> None:
    fcntl = pytest.importorskip("fcntl")
    told: list[Event] = []
    cache.hook = told.append
    version = store(cache, "key", b"metadata", bytes(LARGE))
    stranger = os.open(Path(cache.path("key")).parent, os.O_RDONLY)
    try:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        assert cache.update("key", b"refreshed", version=version) is True
        assert load(cache, "key") == (b"refreshed", bytes(LARGE))
        store(cache, "key", b"new", bytes(LARGE))
        assert load(cache, "key") == (b"new", bytes(LARGE))
        assert cache.delete("key") is True
        cache.set("key", b"value")
        assert cache.get("key") == b"value"
    finally:
        os.close(stranger)
    assert told == []


def test_a_stranger_who_locks_an_entry_stops_its_refresh_alone(cache: Either) -> None:
    fcntl = pytest.importorskip("fcntl")
    version = store(cache, "key", b"metadata", bytes(LARGE))
    stranger = os.open(cache.path("key"), os.O_RDONLY)
    try:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        # What can't be compared and swapped in one step is not swapped.
        with pytest.raises(CacheUnavailable, match="at work"):
            cache.update("key", b"refreshed", version=version)
        assert load(cache, "key") == (b"metadata", bytes(LARGE))
        store(cache, "key", b"new", bytes(LARGE))
        assert load(cache, "key") == (b"new", bytes(LARGE))
        assert cache.delete("key") is True
    finally:
        os.close(stranger)


def test_nothing_needs_filelock(root: Path) -> None:
    run(
        """
        import sys
        sys.modules["filelock"] = None
        from stillfresh.caches.file import FileCache, SeparateBodyFileCache

        for kind in (FileCache, SeparateBodyFileCache):
            with kind(sys.argv[1]) as cache:
                with cache.writer("key") as writer:
                    writer.write(bytes(100_000))
                    version = writer.commit(b"metadata")
                assert cache.update("key", b"new", version=version)
                with cache.open("key") as entry:
                    assert (entry.metadata, entry.read()) == (b"new", bytes(100_000))
                assert [info.key for info in cache.entries()] == ["key"]
                assert cache.delete("key")
                cache.clear()
        """,
        root,
    )


# Events.


def test_what_the_classic_interface_swallows_is_told(cache: Either) -> None:
    told: list[Event] = []
    cache.hook = told.append
    path = Path(cache.path("key"))
    path.parent.mkdir(parents=True)
    path.mkdir()
    assert cache.get("key") is None
    assert cache.delete("key") is False
    cache.set("key", b"value")
    assert cache.get("key") is None
    for event in told:
        assert isinstance(event, StoreFailed)
        assert event.key == "key"
        assert isinstance(event.error.__cause__, OSError)
    operations = [event.operation for event in told if isinstance(event, StoreFailed)]
    assert operations == ["get", "delete", "set", "get"]
