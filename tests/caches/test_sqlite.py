"""What is particular to the SQLite cache."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stillfresh import ConfigError, CorruptEntry, Order, Repair, SQLiteCache, StoreError
from stillfresh.caches import generations, schema
from stillfresh.caches.sqlite import INLINE_LIMIT
from stillfresh.events import Event, StoreFailed
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance import SeparateBodyCacheConformance
from stillfresh.testing.conformance.tools import load, store
from tests.caches.helpers import database_of, stranger
from tests.faults.children import in_child, needs_fork

SMALL = b"small body"
LARGE = random.Random(1).randbytes(INLINE_LIMIT + 1)


class TestSQLiteCacheConformance(SeparateBodyCacheConformance):
    def make_cache(self, place: Path, clock: ManualClock) -> SQLiteCache:
        # Patient, since the suite's writers leave one another no pause.
        return SQLiteCache(place, timeout=10, clock=clock)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def used_by(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def events_of(cache: SQLiteCache) -> list[Event]:
    told: list[Event] = []
    cache.hook = told.append
    return told


# Where the bytes are.


def test_small_bodies_are_rows_and_longer_ones_files(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "small", b"metadata", SMALL)
        assert not list(root.glob("bodies-*"))
        store(cache, "large", b"metadata", LARGE)
        (file,) = root.glob("bodies-*/*")
        assert file.read_bytes() == LARGE
        assert load(cache, "large") == (b"metadata", LARGE)
        store(cache, "large", b"metadata", SMALL)
        assert not file.exists()


def test_the_limit_can_be_chosen(root: Path) -> None:
    with SQLiteCache(root, inline_limit=3) as cache:
        store(cache, "three", b"", b"abc")
        store(cache, "four", b"", b"abcd")
        (file,) = root.glob("bodies-*/*")
        assert file.read_bytes() == b"abcd"


def test_nothing_is_made_before_something_is_stored(root: Path) -> None:
    with SQLiteCache(root) as cache:
        assert cache.open("key") is None
        assert not cache.remove("key")
        assert not cache.update("key", b"", version="0" * 16)
        assert list(cache.entries()) == []
        assert cache.stats().entries == 0
        assert cache.prune().removed.total() == 0
        assert cache.verify().is_sound
        cache.clear()
    assert not root.exists()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
def test_nobody_else_may_read_it_whatever_the_umask(root: Path, mask: int) -> None:
    job = (
        "import os, sys; from stillfresh import SQLiteCache\n"
        f"os.umask({mask})\n"
        f"cache = SQLiteCache({str(root)!r})\n"
        "with cache.writer('key') as writer:\n"
        f"    writer.write(bytes({len(LARGE)})); writer.commit(b'metadata')\n"
        "print({oct(os.stat(os.path.join(at, name)).st_mode & 0o777)\n"
        "       for at, _, names in os.walk(cache.directory) for name in names})\n"
    )
    done = subprocess.run([sys.executable, "-c", job], check=True, capture_output=True, text=True)
    assert done.stdout == "{'0o600'}\n"
    for folder in (root, *root.glob("bodies-*")):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_it_can_be_pickled(root: Path) -> None:
    with SQLiteCache(root, max_bytes=1 << 20) as cache:
        store(cache, "key", b"metadata", SMALL)
        with pickle.loads(pickle.dumps(cache)) as other:  # noqa: S301 - our own
            assert (other.directory, other.max_bytes) == (root, 1 << 20)
            assert load(other, "key") == (b"metadata", SMALL)


# Questions.


def filled(root: Path, clock: ManualClock) -> SQLiteCache:
    cache = SQLiteCache(root, clock=clock)
    for number, (key, size) in enumerate(
        [
            ("https://b.example/1", 300),
            ("https://a.example/2", 100),
            ("no URL", 50_000),
            ("https://user:secret@A.example/3", 200),
        ]
    ):
        clock.advance(4000)
        store(cache, key, b"%d" % number, bytes(size))
    clock.advance(4000)
    assert load(cache, "https://b.example/1") is not None
    return cache


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order.KEY, ["https://a.example/2", "https://b.example/1", "https://user", "no URL"]),
        (Order.AGE, ["https://b.example/1", "https://a.example/2", "no URL", "https://user"]),
        (Order.USE, ["https://a.example/2", "no URL", "https://user", "https://b.example/1"]),
        (Order.SIZE, ["https://a.example/2", "https://user", "https://b.example/1", "no URL"]),
    ],
)
def test_entries_in_an_order(root: Path, order: Order, expected: list[str]) -> None:
    with filled(root, ManualClock()) as cache:
        listed = [entry.key or "" for entry in cache.entries(order)]
    assert [key[: len(start)] for key, start in zip(listed, expected, strict=True)] == expected


def test_entries_of_a_host(root: Path) -> None:
    with filled(root, ManualClock()) as cache:
        for host, expected in (("a.example", 2), ("b.example", 1), ("", 1), ("c.example", 0)):
            assert len(list(cache.entries(host=host))) == expected
        assert cache.stats().hosts.keys() == {"a.example", "b.example", ""}


def test_a_listing_of_many_in_an_order_goes_on_while_they_change(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for number in range(1200):
            cache.set(f"{number:04}", b"")
            cache.set_body(f"{number:04}", b"")
        listing = cache.entries(Order.KEY)
        assert next(listing).key == "0000"
        cache.remove("1199")
        cache.remove("0001")
        keys = [entry.key for entry in listing]
        assert keys == sorted(str(key) for key in keys)
        assert len(keys) in {1197, 1198}


def test_look_ups_are_counted_for_all_processes(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        for _ in range(3):
            assert load(cache, "key") is not None
        assert cache.open("another") is None
        found = cache.stats()
        assert (found.hits, found.misses, found.served) == (3, 1, 3 * len(SMALL))
    with SQLiteCache(root) as cache:
        assert load(cache, "key") is not None
        assert cache.stats().hits == 4
        cache.clear()
        store(cache, "key", b"", SMALL)
        assert (cache.stats().hits, cache.stats().misses) == (0, 0)


# What is damaged, or somebody else's.


def test_a_damaged_database_is_followed_by_an_empty_one(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "small", b"", SMALL)
        store(cache, "large", b"", LARGE)
    file = database_of(root)
    file.write_bytes(b"\0" * 100 + file.read_bytes()[100:])
    with SQLiteCache(root) as cache:
        told = events_of(cache)
        with pytest.raises(CorruptEntry, match="begun anew"):
            cache.open("small")
        assert cache.get("small") is None
        store(cache, "small", b"again", SMALL)
        assert load(cache, "small") == (b"again", SMALL)
        assert told == []
    assert not file.exists()
    assert database_of(root) != file
    assert not list(root.glob("bodies-*/*"))


@pytest.mark.parametrize("found", ["another program's", "of another format", "without tables"])
def test_a_stranger_s_database_is_left_alone(root: Path, found: str) -> None:
    root.mkdir(mode=0o700)
    file = root / "cache-7.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as strange:
        strange.execute("CREATE TABLE entry (precious TEXT)")
        strange.execute("INSERT INTO entry VALUES ('mine')")
        if found == "of another format":
            strange.execute("PRAGMA user_version = 99")
            strange.execute(f"PRAGMA application_id = {0x5F5265}")
    before = file.read_bytes()
    with SQLiteCache(root) as cache:
        told = events_of(cache)
        assert cache.get("key") is None
        assert [type(event) for event in told] == [StoreFailed]
        store(cache, "key", b"metadata", SMALL)
        assert load(cache, "key") == (b"metadata", SMALL)
        cache.prune()
        cache.clear()
    if found != "of another format":
        assert file.read_bytes() == before


def test_a_file_that_is_no_database_in_a_folder_that_is_not_ours(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "cache-1.sqlite").write_bytes(b"a letter")
    with SQLiteCache(root) as cache:
        assert cache.get("key") is None
        store(cache, "key", b"metadata", SMALL)
        assert load(cache, "key") == (b"metadata", SMALL)
        cache.prune()
    assert (root / "cache-1.sqlite").read_bytes() == b"a letter"


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_link_in_the_place_of_a_file_is_not_followed(
    root: Path, tmp_path: Path, suffix: str
) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", SMALL)
    outside = tmp_path / "outside"
    with contextlib.suppress(FileNotFoundError):
        Path(f"{database_of(root)}{suffix}").rename(outside)
    outside.touch()
    before = outside.read_bytes()
    Path(f"{root}/cache-1.sqlite{suffix}").symlink_to(outside)
    with SQLiteCache(root) as cache:
        assert cache.get("key") is None
        store(cache, "key", b"again", SMALL)
        assert load(cache, "key") == (b"again", SMALL)
    assert outside.read_bytes() == before


@pytest.mark.parametrize("at", [18, 19, 44, 47, 56, 60, 68])
def test_no_bit_of_its_head_keeps_a_database_from_being_followed(root: Path, at: int) -> None:
    for bit in range(8):
        place = root / str(bit)
        with SQLiteCache(place) as cache:
            store(cache, "key", b"metadata", b"body")
        database = place / "cache-1.sqlite"
        damaged = bytearray(database.read_bytes())
        damaged[at] ^= 1 << bit
        database.write_bytes(damaged)
        with SQLiteCache(place) as cache:
            for _ in range(3):
                with contextlib.suppress(StoreError):
                    store(cache, "another", b"again", b"body")
            assert load(cache, "another") == (b"again", b"body")


@needs_fork
@pytest.mark.parametrize("pair", [*itertools.permutations(["", "-wal", "-shm"], 2)], ids=str)
def test_two_names_of_one_file_end_no_process(root: Path, pair: tuple[str, str]) -> None:
    def job() -> bool:
        with SQLiteCache(root) as cache:
            store(cache, "key", b"metadata", SMALL)
        one, other = (Path(f"{database_of(root)}{suffix}") for suffix in pair)
        one.touch()
        other.unlink(missing_ok=True)
        os.link(one, other)
        with SQLiteCache(root) as cache:
            with contextlib.suppress(StoreError):
                cache.open("key")
            for number in range(50):
                store(cache, f"{number}", b"again", SMALL)
            cache.prune()
            return load(cache, "49") == (b"again", SMALL)

    assert in_child(job)


def test_a_row_that_was_changed_is_damage(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for key in ("one", "two", "three"):
            store(cache, key, b"of " + key.encode(), SMALL)
        with stranger(root) as database:
            database.execute(
                "UPDATE entry SET frame = (SELECT frame FROM entry WHERE key = x'74776f')"
                " WHERE key = x'6f6e65'"
            )
            database.execute("UPDATE entry SET frame = 'text' WHERE key = x'7468726565'")
        for key in ("one", "three"):
            with pytest.raises(CorruptEntry):
                cache.open(key)
        assert load(cache, "two") == (b"of two", SMALL)
        assert len(cache.verify().damaged) == 2
        assert cache.verify(repair=Repair.REMOVE).repaired == 2
        assert [entry.key for entry in cache.entries()] == ["two"]
        assert cache.stats().entries == 1


def test_a_listing_of_a_changed_row_tells_what_it_can(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        with stranger(root) as database:
            database.execute("UPDATE entry SET key = x'ff00', used_at = 'text', size = 'text'")
        (listed,) = cache.entries()
        assert (listed.key, listed.used_at, listed.size) == (None, 0.0, 0)


def test_a_table_that_is_gone_is_damage(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        with stranger(root) as database:
            database.execute("DROP TABLE entry")
        assert cache.get("key") is None
        store(cache, "key", b"again", SMALL)
        assert load(cache, "key") == (b"again", SMALL)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM place",
        "UPDATE place SET bodies = 0",
        "UPDATE place SET bodies = 999999",
        "UPDATE place SET bodies = 'x'",
    ],
)
def test_a_folder_for_bodies_that_can_not_be_is_damage(root: Path, change: str) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", LARGE)
    with stranger(root) as database:
        database.execute(change)
    with SQLiteCache(root) as cache:
        assert cache.get("key") is None
        store(cache, "key", b"again", LARGE)
        assert load(cache, "key") == (b"again", LARGE)
    assert {folder.name for folder in root.glob("bodies-*")} == {"bodies-2"}


def test_a_log_that_was_cut_short_is_no_wrong_byte(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for number in range(50):
            store(cache, str(number), b"%d" % number, SMALL * 100)
        # A copy, as a backup or a crash would leave it.
        log = Path(f"{database_of(root)}-wal").read_bytes()
        copies = []
        for number, size in enumerate((0, 20, 5000, len(log) // 2, len(log) - 1)):
            copy = root.with_name(f"copy {number}")
            copy.mkdir(mode=0o700)
            (copy / "cache-1.sqlite").write_bytes(database_of(root).read_bytes())
            (copy / "cache-1.sqlite-wal").write_bytes(log[:size])
            copies.append(copy)
    found = 0
    for copy in copies:
        with SQLiteCache(copy) as cache:
            for number in range(50):
                with contextlib.suppress(StoreError):
                    value = load(cache, str(number))
                    assert value in {None, (b"%d" % number, SMALL * 100)}
                    found += value is not None
            store(cache, "new", b"", SMALL)
            assert load(cache, "new") is not None
    assert found


# Others who have it open.


def test_a_stranger_who_never_lets_go_costs_a_store_and_no_hit(root: Path) -> None:
    with SQLiteCache(root, timeout=0.01) as cache:
        told = events_of(cache)
        store(cache, "key", b"metadata", SMALL)
        with stranger(root) as database:
            database.execute("BEGIN EXCLUSIVE")
            cache.set("another", b"")
            cache.set_body("another", b"")
            assert load(cache, "key") == (b"metadata", SMALL)
            assert cache.get("another") is None
            cache.delete("key")
            # What can't be removed is not handed out either.
            assert load(cache, "key") is None
            assert {type(event) for event in told} == {StoreFailed}
        store(cache, "key", b"again", SMALL)
        assert load(cache, "key") == (b"again", SMALL)


def test_a_stranger_who_wants_it_for_himself(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", SMALL)
    with stranger(root) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("UPDATE total SET hits = 1")
        with SQLiteCache(root, timeout=0.01) as cache:
            told = events_of(cache)
            assert cache.get("key") is None
            assert [type(event) for event in told] == [StoreFailed]
        database.execute("PRAGMA locking_mode = NORMAL")
        database.execute("UPDATE total SET hits = 2")
    with SQLiteCache(root) as cache:
        assert load(cache, "key") == (b"metadata", SMALL)


def _clear(root: Path) -> None:
    with SQLiteCache(root) as cache:
        cache.clear()
        store(cache, "other", b"by another", SMALL)


def test_what_another_process_has_cleared_is_gone_at_once(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for key, body in (("small", SMALL), ("large", LARGE)):
            store(cache, key, b"", body)
            assert load(cache, key) is not None
        reading = cache.open("large")
        assert reading is not None
        child = multiprocessing.get_context("spawn").Process(target=_clear, args=(root,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert cache.open("small") is None
        assert cache.open("large") is None
        assert load(cache, "other") == (b"by another", SMALL)
        # Who has begun to read goes on to the end.
        with reading:
            assert reading.read() == LARGE


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a root taken for one where nothing has happened for long."""
    monkeypatch.setattr(generations, "_SETTLED_NS", -(1 << 62))


def pass_by(path: Path) -> None:
    """Wait until the file system's clock has gone on since `path` was changed."""
    probe = path.with_name("probe")
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            break


@pytest.mark.usefixtures("settled")
def test_what_is_cleared_after_a_while_is_gone_at_once(root: Path) -> None:
    with SQLiteCache(root) as cache, SQLiteCache(root) as other:
        store(cache, "key", b"", SMALL)
        for _ in range(3):
            assert load(cache, "key") == (b"", SMALL)
        pass_by(root)
        other.clear()
        assert cache.open("key") is None
        store(other, "key", b"", LARGE)
        assert load(cache, "key") == (b"", LARGE)


@pytest.fixture
def in_use(root: Path, settled: None) -> Iterator[SQLiteCache]:
    """A cache that has something, and has looked at its root."""
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        assert load(cache, "key") == (b"", SMALL)
        pass_by(root)
        yield cache


def test_a_root_that_is_moved_away_is_begun_anew(root: Path, in_use: SQLiteCache) -> None:
    away = root.rename(root.with_name("away"))
    assert in_use.open("key") is None
    store(in_use, "key", b"new", SMALL)
    assert load(in_use, "key") == (b"new", SMALL)
    with SQLiteCache(away) as moved:
        assert load(moved, "key") == (b"", SMALL)


def test_a_root_that_is_removed_is_begun_anew(root: Path, in_use: SQLiteCache) -> None:
    shutil.rmtree(root)
    assert in_use.open("key") is None
    store(in_use, "key", b"new", SMALL)
    assert load(in_use, "key") == (b"new", SMALL)


def test_a_root_that_others_may_write_to_by_now_is_not_used(
    root: Path, in_use: SQLiteCache
) -> None:
    root.chmod(0o777)
    with pytest.raises(StoreError, match="others"):
        in_use.open("key")


has_descriptors = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="no way to name descriptors"
)


def descriptors_of(root: Path) -> list[int]:
    """Return this process's descriptors of a directory."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if link.readlink() == root:
                found.append(int(link.name))
    return found


@has_descriptors
def test_a_root_is_held_open_once_by_however_many_threads(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
    for _ in range(100):
        with SQLiteCache(root) as cache:
            together = threading.Barrier(8)

            def read(cache: SQLiteCache = cache, together: threading.Barrier = together) -> None:
                together.wait()
                assert load(cache, "key") == (b"", SMALL)

            threads = [threading.Thread(target=read) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(descriptors_of(root)) <= 1
        assert descriptors_of(root) == []


@has_descriptors
def test_who_looks_at_a_closed_cache_leaves_no_descriptor(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
    # As a thread does that was about to when it was closed.
    assert cache._database.number() == 1  # noqa: SLF001 - no other way to be so late
    assert descriptors_of(root) == []


@has_descriptors
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("is_another_s", [False, True], ids=["free", "another's"])
def test_a_descriptor_that_was_closed_is_let_be(root: Path, is_another_s: bool) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        assert load(cache, "key") == (b"", SMALL)
        # As a daemon closes all that there are.
        (held,) = descriptors_of(root)
        os.close(held)
        other = os.open(os.devnull, os.O_RDONLY) if is_another_s else -1
        assert load(cache, "key") == (b"", SMALL)
        store(cache, "key", b"new", SMALL)
        assert load(cache, "key") == (b"new", SMALL)
    if is_another_s:
        assert other == held
        os.close(other)


@has_descriptors
def test_a_cache_is_closed_after_its_descriptors(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        for held in descriptors_of(root):
            os.close(held)


@has_descriptors
@needs_fork
def test_a_child_has_nothing_open(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        assert len(descriptors_of(root)) == 1
        assert in_child(lambda: descriptors_of(root)) == []
        assert load(cache, "key") == (b"", SMALL)


def test_a_database_that_is_swept_away_while_it_is_made_is_made_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by another process's `prune`, that takes it for a killed one's."""
    swept: list[str] = []
    create = schema.create

    def create_and_lose(path: str, number: int) -> None:
        create(path, number)
        if len(swept) < 3:
            swept.append(path)
            Path(path).unlink()

    monkeypatch.setattr(schema, "create", create_and_lose)
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", b"body")
        assert load(cache, "key") == (b"metadata", b"body")
    assert len(set(swept)) == 3
    assert not list(root.glob("*.tmp*"))


def test_what_is_being_written_when_all_is_cleared_leaves_nothing(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        with cache.writer("large") as large, cache.writer("small") as small:
            large.write(LARGE)
            small.write(SMALL)
            cache.clear()
            large.commit(b"")
            small.commit(b"")
        assert cache.open("large") is None
        assert load(cache, "small") == (b"", SMALL)
        cache.prune()
        assert not list(root.glob("bodies-*"))


def test_a_thread_that_ends_leaves_no_connection(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"", SMALL)
        open_files = Path("/proc/self/fd")
        if not open_files.is_dir():
            pytest.skip("the open files can't be counted here")
        before = len(list(open_files.iterdir()))
        for _ in range(20):
            thread = threading.Thread(target=load, args=(cache, "key"))
            thread.start()
            thread.join()
        # SQLite may keep a file open that another of its connections has locked.
        assert len(list(open_files.iterdir())) <= before + 2
    assert len(list(open_files.iterdir())) < before


# Bounds.


def test_a_bound_holds_within_a_twentieth_at_any_time(root: Path) -> None:
    bound, chance = 2_000_000, random.Random(2)
    with SQLiteCache(root, max_bytes=bound) as cache:
        for number in range(400):
            size = chance.choice((100, 4000, 30_000, 100_000))
            store(cache, str(number), b"", bytes(size))
            assert cache.stats().bytes <= bound * 1.05
        assert cache.stats().bytes >= bound * 0.9
        files = sum(file.stat().st_size for file in root.glob("bodies-*/*"))
        assert files <= bound * 1.05


def test_what_was_used_lately_stays(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_bytes=100_000, clock=clock) as cache:
        for number in range(9):
            clock.advance(4000)
            store(cache, str(number), b"", bytes(10_000))
        for number in (0, 3):
            assert load(cache, str(number)) is not None
        for number in range(9, 12):
            clock.advance(4000)
            store(cache, str(number), b"", bytes(10_000))
        present = {entry.key for entry in cache.entries()}
    assert {"0", "3", "9", "10", "11"} <= present
    assert not {"1", "2"} & present


def test_however_many_go_their_files_go_too(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_age=10_000, inline_limit=0, clock=clock) as cache:
        for number in range(4_500):
            store(cache, f"old {number}", b"metadata", b"body")
        clock.advance(20_000)
        store(cache, "new", b"metadata", b"body")
    assert len(list(root.glob("bodies-*/*"))) == 1
    with SQLiteCache(root) as cache:
        assert [entry.key for entry in cache.entries()] == ["new"]


def test_a_bound_of_age_is_seen_to_by_storing(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_bytes=None, max_age=10_000, clock=clock) as cache:
        store(cache, "old", b"", LARGE)
        clock.advance(10_001)
        store(cache, "new", b"", SMALL)
        assert [entry.key for entry in cache.entries()] == ["new"]
        assert not list(root.glob("bodies-*/*"))


@pytest.mark.parametrize("max_age", [100, 1000, 10_000])
def test_what_is_refreshed_is_in_use(root: Path, max_age: int) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_age=max_age, clock=clock) as cache:
        version = store(cache, "key", b"", SMALL)
        for turn in range(30):
            clock.advance(max_age / 10)
            assert cache.update("key", b"%d" % turn, version=version)
            store(cache, "other", b"", SMALL)
        cache.prune()
        assert load(cache, "key") == (b"29", SMALL)


@pytest.mark.parametrize("max_age", [100, 1000, 10_000])
def test_what_is_read_is_in_use(root: Path, max_age: int) -> None:
    clock = ManualClock()
    with SQLiteCache(root, max_bytes=None, max_age=10 * max_age, clock=clock) as cache:
        cache.max_age = max_age
        store(cache, "key", b"", SMALL)
        for _ in range(30):
            clock.advance(max_age / 10)
            assert load(cache, "key") == (b"", SMALL)
            store(cache, "other", b"", SMALL)


def test_a_bound_may_be_changed_while_it_is_used(root: Path) -> None:
    clock = ManualClock()
    with SQLiteCache(root, clock=clock) as cache:
        store(cache, "old", b"", bytes(10_000))
        clock.advance(100)
        cache.max_bytes = 200_000
        for number in range(100):
            store(cache, str(number), b"", bytes(10_000))
            assert cache.stats().bytes <= 210_000
        cache.max_bytes, cache.max_age = None, 50
        clock.advance(60)
        store(cache, "new", b"", b"")
        assert [entry.key for entry in cache.entries()] == ["new"]
        with pytest.raises(ConfigError):
            cache.max_bytes = -1
        assert (cache.max_bytes, cache.max_age) == (None, 50)


def test_a_bound_that_was_changed_is_pickled(root: Path) -> None:
    with SQLiteCache(root) as cache:
        cache.max_bytes, cache.max_age = 200_000, 60
        with pickle.loads(pickle.dumps(cache)) as copy:  # noqa: S301 - our own
            assert (copy.max_bytes, copy.max_age) == (200_000, 60)
            for number in range(40):
                store(copy, str(number), b"", bytes(10_000))
                assert copy.stats().bytes <= 210_000


def test_a_smaller_bound_gives_the_space_back(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for number in range(1500):
            store(cache, f"old {number}", b"metadata", bytes(10_000))
    assert used_by(root) > 15_000_000
    with SQLiteCache(root, max_bytes=1_000_000) as cache:
        store(cache, "new", b"metadata", b"body")
    assert used_by(root) < 2_000_000
    with SQLiteCache(root) as cache:
        assert load(cache, "new") == (b"metadata", b"body")
        assert load(cache, "old 1499") == (b"metadata", bytes(10_000))
        assert cache.stats().bytes <= 1_000_000
        assert cache.verify().is_sound


def test_what_is_far_over_the_bound_goes_behind_the_store(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for number in range(9000):
            store(cache, f"old {number}", b"", b"")
        most = cache.stats().bytes // 100
    with SQLiteCache(root, max_bytes=most) as cache:
        store(cache, "new", b"", b"")
        assert load(cache, "new") == (b"", b"")
    with SQLiteCache(root) as cache:
        assert cache.stats().bytes <= most
        assert load(cache, "new") == (b"", b"")


def test_a_database_that_was_compacted_goes_on(root: Path) -> None:
    with SQLiteCache(root) as cache, SQLiteCache(root) as other:
        for number in range(200):
            store(cache, str(number), b"", bytes(10_000))
        store(cache, "large", b"metadata", LARGE)
        file = database_of(root)
        reading = other.open("large")
        assert reading is not None
        with reading, other.writer("late") as late:
            late.write(LARGE)
            cache.prune(max_bytes=200_000)
            assert database_of(root) != file
            assert not list(root.glob(f"{file.name}*"))
            assert reading.read() == LARGE
            late.commit(b"metadata")
        for one in (cache, other):
            assert load(one, "large") == (b"metadata", LARGE)
            assert load(one, "late") == (b"metadata", LARGE)
            assert load(one, "199") is not None
            assert one.verify().is_sound
        assert len(list(root.glob("bodies-*"))) == 1
        cache.clear()
        assert other.open("large") is None


def test_freed_space_goes_back_to_the_file_system(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for number in range(300):
            store(cache, str(number), b"", bytes(10_000))
        cache.prune(max_bytes=100_000)
        size = sum(file.stat().st_size for file in root.iterdir())
        assert size < 400_000
        cache.clear()
        assert sum(file.stat().st_size for file in root.iterdir()) < 200_000


def test_who_peeks_is_not_counted(tmp_path: Path) -> None:
    with SQLiteCache(tmp_path / "cache") as cache:
        store(cache, "key", b"metadata", b"body")
        for key in ("key", "none"):
            entry = cache.peek(key)
            assert entry is None or entry.read() == b"body"
        stats = cache.stats()
    assert (stats.hits, stats.misses, stats.served) == (0, 0, 0)
