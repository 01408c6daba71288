"""SQLite caches whose folder, numbers or turn others have taken away, and what becomes of them."""

from __future__ import annotations

import contextlib
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stillfresh import ConfigError, CorruptEntry, Repair, SQLiteCache, StoreError
from stillfresh.caches import schema
from stillfresh.testing.conformance.tools import load, opened, store
from tests.caches.helpers import stranger
from tests.faults.children import in_child, mount_small_disk, needs_fork, small_disk

__all__ = ["small_disk"]

LARGE = bytes(100_000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf, 1e9])
def test_a_timeout_that_makes_no_sense_is_refused(root: Path, timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        SQLiteCache(root, timeout=timeout)


# Bounds.


def test_processes_that_live_shortly_keep_to_the_bound_together(root: Path) -> None:
    for number in range(60):
        with SQLiteCache(root, max_bytes=1_000_000) as cache:
            # Less than a process writes before it looks again.
            store(cache, f"{number}", b"metadata", bytes(40_000)[: 1000 + 39_000 * (number % 2)])
    assert cache.max_bytes == 1_000_000
    with SQLiteCache(root, max_bytes=100_000) as small:
        store(small, "one", b"metadata", b"body")
    with SQLiteCache(root, max_bytes=100_000) as small:
        assert small.stats().bytes <= 105_000


@pytest.mark.parametrize("change", [1 << 40, -(1 << 40)])
@pytest.mark.parametrize("how", ["by storing", "by pruning", "by verifying"])
def test_a_total_that_was_damaged_is_counted_anew(root: Path, change: int, how: str) -> None:
    with SQLiteCache(root, max_bytes=1_000_000) as cache:
        for number in range(50):
            store(cache, f"{number}", b"metadata", bytes(4000))
        stored = cache.stats().bytes
        with stranger(root) as database:
            database.execute("UPDATE total SET bytes = bytes + ?", (change,))
        if how == "by pruning":
            cache.prune()
        elif how == "by verifying":
            cache.verify(repair=Repair.REMOVE)
    with SQLiteCache(root, max_bytes=1_000_000) as cache:
        store(cache, "another", b"metadata", bytes(4000))
        assert len(list(cache.entries())) == 51
        with stranger(root) as database:
            (total,) = database.execute("SELECT bytes FROM total").fetchone()
        assert stored < total == cache.stats().bytes


def test_what_killed_writers_left_goes_when_others_store(root: Path) -> None:
    with SQLiteCache(root) as cache:
        writer = cache.writer("killed")
        writer.write(LARGE)
        (left,) = root.glob("bodies-*/*")
        copy = left.with_name("0123456789abcdef")
        # As if its writer had been killed: nobody holds it.
        shutil.copyfile(left, copy)
        store(cache, "key", b"metadata", LARGE)
        assert not copy.exists()
        writer.commit(b"metadata")
        assert load(cache, "killed") == (b"metadata", LARGE)
        assert load(cache, "key") == (b"metadata", LARGE)


# A folder that is removed, a database that is followed.


@pytest.mark.parametrize("by", ["another cache", "another thread"])
def test_a_folder_that_is_removed_and_begun_anew_is_noticed(root: Path, by: str) -> None:
    with SQLiteCache(root) as cache, ThreadPoolExecutor(1) as thread:
        store(cache, "old", b"metadata", b"body")
        thread.submit(load, cache, "old").result()
        shutil.rmtree(root)
        if by == "another cache":
            with SQLiteCache(root) as other:
                store(other, "new", b"metadata", b"body")
        else:
            thread.submit(store, cache, "new", b"metadata", b"body").result()
        assert cache.open("old") is None
        assert load(cache, "new") == (b"metadata", b"body")
        store(cache, "newer", b"metadata", b"body")
        with SQLiteCache(root) as other:
            assert load(other, "newer") == (b"metadata", b"body")


def test_what_waits_while_another_compacts_is_done_in_its_place(root: Path) -> None:
    with SQLiteCache(root, timeout=20) as cache, ThreadPoolExecutor(1) as thread:
        for key in ("removed", "kept"):
            store(cache, key, b"metadata", b"body")
        place = root / "cache-2.sqlite"
        with stranger(root) as source, stranger(root) as writing:
            writing.execute("BEGIN IMMEDIATE")
            removed = thread.submit(cache.remove, "removed")
            # It waits now, or comes later.
            removed.running()
            schema.compact(source, f"{place}.tmp")
            Path(f"{place}.tmp").rename(place)
            schema.retire(writing)
            writing.execute("COMMIT")
        assert removed.result()
        assert cache.open("removed") is None
        assert load(cache, "kept") == (b"metadata", b"body")
        with SQLiteCache(root) as other:
            assert other.open("removed") is None


# Somebody else's turn.


def test_questions_are_answered_while_another_has_the_lock(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", b"body")
        for _ in range(10):
            load(cache, "key")
        with stranger(root) as database:
            database.execute("BEGIN IMMEDIATE")
            assert cache.stats().entries == 1
            assert [entry.key for entry in cache.entries()] == ["key"]
        # And what could not be noted then is noted later.
        assert cache.stats().hits == 10


def test_what_could_not_be_removed_comes_back_with_its_next_version(root: Path) -> None:
    with SQLiteCache(root) as cache, SQLiteCache(root) as other:
        for finish in (cache.remove, lambda _: cache.clear(), lambda _: None):
            store(cache, "key", b"old", b"body")
            with stranger(root) as database:
                database.execute("BEGIN IMMEDIATE")
                assert cache.delete("key") is False
            assert cache.open("key") is None
            finish("key")
            store(other, "key", b"new", b"body")
            assert load(cache, "key") == (b"new", b"body")


class Late:
    """A lock whose waiters hear that they have waited for too long when all is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.waiting, self.over = threading.Event(), threading.Event()
        self.release = self._lock.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        if blocking:
            self.waiting.set()
            self.over.wait()
        return False


def test_whose_turn_comes_when_it_has_waited_for_too_long_goes_on(root: Path) -> None:
    with SQLiteCache(root) as cache, ThreadPoolExecutor(2) as threads:
        store(cache, "key", b"metadata", b"body")
        late = Late()
        cache._database._turn = late  # type: ignore[assignment]  # noqa: SLF001
        begun = threading.Event()

        def hold() -> None:
            with cache._database.change("holding"):  # noqa: SLF001
                begun.set()
                late.waiting.wait()

        holding = threads.submit(hold)
        begun.wait()
        removed = threads.submit(cache.remove, "key")
        holding.result()
        late.over.set()
        assert removed.result()
        store(cache, "key", b"again", b"body")
        assert load(cache, "key") == (b"again", b"body")


def test_two_who_remove_the_same_files_leave_the_next_one_on_the_list(root: Path) -> None:
    with SQLiteCache(root) as cache, SQLiteCache(root) as other:
        for key in "ab":
            store(cache, key, b"metadata", LARGE)
        unlink = cache._bodies.unlink  # noqa: SLF001

        def unlink_slowly(number: int, version: str) -> bool:
            done = unlink(number, version)
            # Another one is quicker, and is killed after a removal of its own.
            other._housekeeping.remove_gone()  # noqa: SLF001
            with stranger(root) as database:
                database.execute("DELETE FROM entry WHERE key = ?", (b"b",))
            return done

        cache._bodies.unlink = unlink_slowly  # type: ignore[method-assign]  # noqa: SLF001
        cache.remove("a")
        assert len(list(root.glob("bodies-*/*"))) == 1
        # The next one that removes anything removes this as well.
        store(other, "c", b"metadata", LARGE)
        other.remove("c")
        assert not list(root.glob("bodies-*/*"))


def test_what_was_listed_is_not_taken_for_what_has_its_number_now(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "old", b"metadata", b"body")
        (listed,) = cache.entries()
        with opened(cache, "old") as entry:
            assert entry.metadata == b"metadata"
        cache.remove("old")
        store(cache, "new", b"another's", b"body")
        assert [entry.name for entry in cache.entries()] == [listed.name]
        assert cache.open_listed(listed) is None


# Repairs.


@pytest.mark.parametrize("used_at", ["text", b"\0"])
def test_a_use_that_is_no_number_is_damage(root: Path, used_at: str | bytes) -> None:
    with SQLiteCache(root) as cache:
        for key in "ab":
            store(cache, key, b"metadata", b"body")
        with stranger(root) as database:
            database.execute("UPDATE entry SET used_at = ? WHERE rid = 1", (used_at,))
        assert list(cache.verify(repair=Repair.REMOVE).damaged) == ["a"]
        assert [entry.key for entry in cache.entries()] == ["b"]


@pytest.mark.parametrize("how", ["by storing", "by pruning"])
def test_damage_that_shows_in_housekeeping_is_told(root: Path, how: str) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "old", b"metadata", b"body")
    with stranger(root) as database:
        database.execute("ALTER TABLE total RENAME COLUMN counted TO another")
    with SQLiteCache(root) as cache:
        # All of it is gone by then, and what was just stored with it.
        with pytest.raises(CorruptEntry, match="begun anew"):
            cache.prune() if how == "by pruning" else store(cache, "new", b"metadata", b"body")
        assert cache.open("new") is None
        store(cache, "new", b"metadata", b"body")
        assert [entry.key for entry in cache.entries()] == ["new"]


def test_a_repair_spares_what_has_taken_the_place_of_what_was_damaged(root: Path) -> None:
    with SQLiteCache(root) as cache:
        for key in "abcde":
            store(cache, key, b"metadata", LARGE)
        with opened(cache, "e") as entry:
            version = entry.version
        (root / "bodies-1" / version).unlink()

        def replace(done: int, _: int | None) -> None:
            if done == 1:
                store(cache, "e", b"new", LARGE)

        report = cache.verify(repair=Repair.REMOVE, progress=replace)
        assert report.is_sound
        assert load(cache, "e") == (b"new", LARGE)


DAMAGES = {
    "a file outside": "INSERT INTO gone VALUES ('../../victim')",
    "a file with a NUL": "INSERT INTO gone VALUES ('a' || char(0) || 'b')",
    "a file that is a blob": "INSERT INTO gone VALUES (x'00ff')",
    "a size that is a text": "UPDATE entry SET size = 'text' WHERE rid = 3",
    "a size that is a blob": "UPDATE entry SET size = x'00' WHERE rid = 3",
    "sizes that are huge": "UPDATE entry SET size = 9223372036854775807",
    "a use that is a text": "UPDATE entry SET used_at = 'text' WHERE rid = 4",
    "a use that is a blob": "UPDATE entry SET used_at = x'01' WHERE rid = 4",
    "an end that is a text": "UPDATE entry SET expires_at = 'text' WHERE rid = 4",
    "a time that is a text": "UPDATE entry SET stored_at = 'text' WHERE rid = 4",
    "a host that is a blob": "UPDATE entry SET host = x'ff' WHERE rid = 4",
    "a total that is a text": "UPDATE total SET bytes = 'text', hits = 'text'",
    "a key that is a number": "UPDATE entry SET key = 5 WHERE rid = 3",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_numbers_and_names_that_were_damaged_do_no_harm(root: Path, damage: str) -> None:
    victim = root.parent / "victim"
    victim.touch()
    with SQLiteCache(root, max_bytes=700_000) as cache:
        for number in range(6):
            store(cache, f"{number}", b"metadata", LARGE)
        with stranger(root) as database:
            database.execute(damage)
    with SQLiteCache(root, max_bytes=700_000) as cache:
        for number in range(6):
            assert cache.get(f"{number}") in {b"metadata", None}
        for number in range(4, 12):
            cache.set(f"{number}", b"again")
            cache.set_body(f"{number}", LARGE)
            cache.delete(f"{number - 2}")
        cache.stats()
        list(cache.entries())
        cache.verify(repair=Repair.REMOVE)
        cache.prune(max_bytes=300_000)
        assert cache.verify().is_sound
        assert cache.stats().bytes <= 300_000
        store(cache, "last", b"metadata", LARGE)
        assert load(cache, "last") == (b"metadata", LARGE)
    assert victim.exists()


def test_no_bit_of_the_schema_makes_a_call_raise(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", b"body")
    image = (root / "cache-1.sqlite").read_bytes()
    first = image.index(b"CREATE TABLE")
    for at in range(first - 300, min(first + 900, 4096), 5):
        place = root / str(at)
        place.mkdir(mode=0o700)
        damaged = bytearray(image)
        # What is no ASCII any more turns up in SQLite's own words for what is wrong.
        damaged[at] ^= 0x80
        (place / "cache-1.sqlite").write_bytes(damaged)
        with SQLiteCache(place) as cache:
            for _ in range(2):
                assert cache.get("key") in {b"metadata", None}
                cache.set("key", b"metadata")
                cache.delete("key")
            with contextlib.suppress(StoreError):
                cache.verify()
            # What shows only where something is stored has all begun anew by then.
            with contextlib.suppress(StoreError):
                store(cache, "key", b"again", b"body")
            store(cache, "key", b"again", b"body")
            assert load(cache, "key") == (b"again", b"body")


# Forks, and disks without room.


@needs_fork
def test_a_child_waits_for_no_lock_that_a_thread_of_its_parent_has(root: Path) -> None:
    with SQLiteCache(root) as cache:
        store(cache, "key", b"metadata", b"body")
        for _ in range(5):
            load(cache, "key")

        def job() -> int:
            claim = cache.claim("key", 5)
            assert claim is not None
            claim.release()
            load(cache, "key")
            return cache.stats().hits or 0

        # As another thread would in the moment of the fork.
        with cache._claims._lock, cache._usage._lock:  # noqa: SLF001
            # And what its parent has noted is not the child's to count.
            assert in_child(job) == 1
        assert cache.stats().hits == 6


@needs_fork
@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_full_disk_can_be_cleared(small_disk: Path, size: int) -> None:
    def job() -> bool:
        mount_small_disk(small_disk, "size=4m")
        cache = SQLiteCache(small_disk / "cache", max_bytes=None)
        for number in range(20_000):
            try:
                store(cache, f"{number}", b"metadata", bytes(size))
            except StoreError:
                break
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", 0) as filler:
            while True:
                filler.write(bytes(4096))
        cache.clear()
        cache.set("key", b"value")
        return [entry.key for entry in cache.entries()] == ["key"]

    assert in_child(job)
