"""What is damaged is found; what is sound, or other programs', is left alone."""

import os
import random
import time
from collections.abc import Callable, Iterator
from functools import cache as once
from pathlib import Path
from typing import Any

import cachecontrol.caches
import pytest
import requests
from cachecontrol.serialize import Serializer
from urllib3 import HTTPResponse

from stillfresh.caches.base import BaseCache
from stillfresh.caches.directory import TAG
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.foreign import adapt
from stillfresh.caches.memory import MemoryCache
from stillfresh.caches.pruning import Repair, VerifyReport
from stillfresh.testing import ManualClock
from stillfresh.testing.conformance.suite import Suite
from stillfresh.testing.conformance.tools import content, load, store
from stillfresh.testing.conformance.upkeep import Upkeep
from tests.caches.helpers import files_below
from tests.caches.test_file_damage import DAMAGE, swap

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
# Inside the entry file; beside it; too long to be checked as a whole when it is read.
SIZES = {"small": 700, "medium": 50_000, "large": 1_100_000}


@once
def body_of(key: str) -> bytes:
    return content(key, SIZES[key])


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[Either]:
    given: type[Either] = request.param
    return given


@pytest.fixture
def cache(kind: type[Either], tmp_path: Path) -> Iterator[Either]:
    with kind(tmp_path / "cache") as made:
        for key in SIZES:
            store(made, key, key.encode(), body_of(key))
        yield made


def files_of(cache: Either, key: str) -> list[Path]:
    """Name the entry file, and the body file if there is one."""
    path = Path(cache.path(key))
    return sorted(path.parent.glob(f"{path.name}*"), key=lambda file: len(file.name))


def record(length: int, body: bytes = b"") -> bytes:
    """Make what CacheControl writes for a response of that length, its body inside or not."""
    request = requests.Request("GET", "https://example.org/").prepare()
    headers = {"content-length": str(length)}
    response = HTTPResponse(b"", headers=headers, status=200, preload_content=False)
    return Serializer().dumps(request, response, body)


def name_of(cache: Either, key: str) -> str:
    return Path(cache.path(key)).name


def left(cache: Either) -> set[str]:
    """Read all of the three, and name those that are there."""
    found = {key: load(cache, key) for key in SIZES}
    assert all(found[key] in {None, (key.encode(), body_of(key))} for key in SIZES)
    return {key for key in SIZES if found[key] is not None}


def check_repair(cache: Either, *damaged: str) -> None:
    """Find just these damaged, and be rid of them after a repair."""
    before = files_below(Path(cache.directory))
    report = cache.verify()
    assert report.damaged.keys() == {name_of(cache, key) for key in damaged}
    assert all(report.damaged.values())
    assert (report.checked, report.unchecked, report.repaired) == (3 - len(damaged), 0, 0)
    assert files_below(Path(cache.directory)) == before
    repaired = cache.verify(repair=Repair.REMOVE)
    assert (repaired.damaged, repaired.repaired) == (report.damaged, len(damaged))
    assert left(cache) == SIZES.keys() - set(damaged)
    assert cache.verify() == VerifyReport(checked=3 - len(damaged))


class FileUpkeep(Upkeep):
    """The part of the suite on files that can be damaged."""

    def damage(self, place: Path, cache: BaseCache, key: str) -> bool:
        assert isinstance(cache, Either)
        file = files_of(cache, key)[-1]
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        return True


class TestFileCache(FileUpkeep):
    def make_cache(self, place: Path, clock: ManualClock) -> FileCache:
        return FileCache(place, clock=clock)


class TestSeparateBodyFileCache(FileUpkeep):
    def make_cache(self, place: Path, clock: ManualClock) -> SeparateBodyFileCache:
        return SeparateBodyFileCache(place, clock=clock)


class Values(dict[str, bytes]):
    """A classic cache over a dict."""

    def set(self, key: str, value: bytes) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


class TestAdaptedCache(Upkeep):
    @pytest.fixture
    def place(self) -> Values:
        return Values()

    def make_cache(self, place: Any, clock: ManualClock) -> BaseCache:
        return adapt(place, clock=clock)

    def damage(self, place: Values, cache: BaseCache, key: str) -> bool:
        value = bytearray(place[key])
        value[len(value) // 2] ^= 1
        place[key] = bytes(value)
        return True


# Each kind of damage.


def test_what_is_whole_is_right(cache: Either) -> None:
    told: list[tuple[int, int | None]] = []
    report = cache.verify(progress=lambda *done: told.append(done))
    assert report == VerifyReport(checked=3)
    assert [done for done, _ in told] == [1, 2, 3]
    assert left(cache) == SIZES.keys()


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("which", [0, -1], ids=["entry file", "last file"])
@pytest.mark.parametrize("damage", DAMAGE[1:])
def test_every_damage_is_found(
    cache: Either,
    key: str,
    which: int,
    damage: Callable[[bytes, random.Random], bytes],
) -> None:
    file = files_of(cache, key)[which]
    whole = file.read_bytes()
    # Some leave all as it was: NULs that were there before, and the like.
    damaged = next(
        made for seed in range(99) if (made := damage(whole, random.Random(seed))) != whole
    )
    file.write_bytes(damaged)
    check_repair(cache, key)


@pytest.mark.parametrize("key", ["small", "medium"])
def test_each_bit_counts(cache: Either, key: str) -> None:
    for file in files_of(cache, key):
        whole = file.read_bytes()
        for at in [*range(0, min(400, len(whole)), 13), len(whole) // 2, len(whole) - 1]:
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert cache.verify().damaged.keys() == {name_of(cache, key)}, at
        file.write_bytes(whole)
    assert cache.verify().is_sound


def test_entries_that_changed_places_are_found(cache: Either) -> None:
    swap(Path(cache.path("small")), Path(cache.path("medium")))
    check_repair(cache, "small", "medium")


def test_a_body_of_another_entry_is_found(tmp_path: Path) -> None:
    with SeparateBodyFileCache(tmp_path / "cache") as cache:
        for key in SIZES:
            store(cache, key, key.encode(), body_of(key))
        (body,) = files_of(cache, "medium")[1:]
        (other,) = files_of(cache, "large")[1:]
        body.write_bytes(other.read_bytes())
        check_repair(cache, "medium")


def test_a_body_of_another_entry_of_the_same_length_is_found(tmp_path: Path) -> None:
    with SeparateBodyFileCache(tmp_path / "cache") as cache:
        for key in SIZES:
            store(cache, key, key.encode(), body_of(key))
        (body,) = files_of(cache, "medium")[1:]
        body.write_bytes(content("another", SIZES["medium"]))
        check_repair(cache, "medium")


def test_a_body_that_is_missing_is_found(tmp_path: Path) -> None:
    with SeparateBodyFileCache(tmp_path / "cache") as cache:
        for key in SIZES:
            store(cache, key, key.encode(), body_of(key))
        for key in ("medium", "large"):
            (body,) = files_of(cache, key)[1:]
            body.unlink()
        check_repair(cache, "medium", "large")


def test_an_amendment_that_is_damaged_is_found(cache: Either) -> None:
    entry = cache.open("medium")
    assert entry is not None
    with entry:
        cache.update("medium", b"medium", version=entry.version)
    assert cache.verify() == VerifyReport(checked=3)
    path = Path(cache.path("medium"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    check_repair(cache, "medium")


def test_what_was_stored_by_nobody_known_is_damage_in_a_directory_of_ours(cache: Either) -> None:
    Path(cache.path("small")).write_bytes(b"of no known kind")
    check_repair(cache, "small")


def test_all_may_be_damaged(cache: Either) -> None:
    for key in SIZES:
        Path(cache.path(key)).write_bytes(b"")
    check_repair(cache, *SIZES)
    # Bodies that no entry names are litter.
    cache.clear()
    assert files_below(Path(cache.directory)) == []


@pytest.mark.parametrize("obstacle", ["directory", "fifo", "link", "broken link"])
def test_what_is_no_file_stops_nothing(cache: Either, tmp_path: Path, obstacle: str) -> None:
    path = Path(cache.path("small"))
    path.unlink()
    outside = tmp_path / "outside"
    match obstacle:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            outside.write_bytes(Path(cache.path("medium")).read_bytes())
            path.symlink_to(outside)
        case "broken link":
            path.symlink_to(outside)
    report = cache.verify(repair=Repair.REMOVE)
    assert report.checked == 2
    assert report.damaged.keys() <= {path.name}
    assert left_but(cache, "small") == {"medium", "large"}
    assert outside.exists() == (obstacle == "link")


def left_but(cache: Either, key: str) -> set[str]:
    return {other for other in SIZES if other != key and load(cache, other) is not None}


def test_what_has_expired_is_neither_right_nor_damaged(kind: type[Either], tmp_path: Path) -> None:
    clock = ManualClock()
    with kind(tmp_path / "cache", clock=clock) as cache:
        store(cache, "stays", b"metadata", b"body")
        store(cache, "expires", b"metadata", b"body", expires=60)
        clock.advance(60)
        assert cache.verify(repair=Repair.REMOVE) == VerifyReport(checked=1)


def test_forever_is_about_delete_and_not_about_damage(kind: type[Either], tmp_path: Path) -> None:
    with kind(tmp_path / "cache", forever=True) as cache:
        store(cache, "key", b"metadata", b"body")
        Path(cache.path("key")).write_bytes(b"damaged")
        assert cache.verify(repair=Repair.REMOVE).repaired == 1
        assert files_below(tmp_path / "cache") == []


# What happens meanwhile.


class Meanwhile:
    """A clock that lets something happen when it is next looked at."""

    def __init__(self) -> None:
        self.happen: Callable[[], object] = lambda: None

    def __call__(self) -> float:
        happen, self.happen = self.happen, lambda: None
        happen()
        return time.time()


@pytest.mark.parametrize("repair", Repair)
@pytest.mark.parametrize("size", [10, 50_000, 1_100_000])
def test_what_is_replaced_while_it_is_looked_at_is_not_damaged(
    kind: type[Either], tmp_path: Path, repair: Repair, size: int
) -> None:
    meanwhile = Meanwhile()
    with kind(tmp_path / "cache") as other, kind(tmp_path / "cache", clock=meanwhile) as cache:
        store(other, "key", b"old", content("old", size))
        meanwhile.happen = lambda: store(other, "key", b"new", content("new", size))
        assert cache.verify(repair=repair) == VerifyReport(checked=1)
        assert load(other, "key") == (b"new", content("new", size))


@pytest.mark.parametrize("size", [10, 50_000])
def test_what_is_replaced_after_it_was_found_damaged_stays(
    kind: type[Either], tmp_path: Path, size: int
) -> None:
    class LetGoFirst:
        """A kind of lock that lets somebody else go first."""

        def __init__(self, path: str) -> None: ...

        def __enter__(self) -> None:
            store(other, "key", b"new", content("new", size))

        def __exit__(self, *exc: object) -> None: ...

    with (
        kind(tmp_path / "cache") as other,
        kind(tmp_path / "cache", lock_class=LetGoFirst) as cache,
    ):
        store(other, "key", b"old", content("old", size))
        Path(cache.path("key")).write_bytes(b"damaged")
        assert cache.verify(repair=Repair.REMOVE).repaired == 0
        assert load(other, "key") == (b"new", content("new", size))


def test_what_is_removed_while_it_is_looked_at_is_not_damaged(
    kind: type[Either], tmp_path: Path
) -> None:
    meanwhile = Meanwhile()
    with kind(tmp_path / "cache") as other, kind(tmp_path / "cache", clock=meanwhile) as cache:
        store(other, "key", b"metadata", content("body", 50_000))
        meanwhile.happen = lambda: other.delete("key")
        assert cache.verify(repair=Repair.REMOVE).damaged == {}


# Other programs' entries.


def test_other_programs_entries_bear_no_digest_and_are_counted_apart(
    kind: type[Either], tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    root.mkdir(mode=0o755)
    pairs = cachecontrol.caches.SeparateBodyFileCache(str(root))
    cachecontrol.caches.FileCache(str(root)).set("value", record(5, b"value"))
    pairs.set("pair", record(50_000))
    pairs.set_body("pair", content("pair", 50_000))
    pairs.set("no body", record(0))
    with kind(root) as cache:
        store(cache, "ours", b"metadata", b"body")
        (root / "README").write_bytes(b"somebody's")
        before = files_below(root)
        for repair in Repair:
            assert cache.verify(repair=repair) == VerifyReport(checked=1, unchecked=3)
        assert files_below(root) == before
        assert not (root / TAG).exists()


def test_an_entry_of_ours_is_found_damaged_beside_other_programs_entries(
    kind: type[Either], tmp_path: Path
) -> None:
    root = tmp_path / "cache"
    root.mkdir(mode=0o755)
    theirs = cachecontrol.caches.FileCache(str(root))
    theirs.set("theirs", record(5, b"value"))
    with kind(root) as cache:
        store(cache, "ours", b"metadata", content("body", 50_000))
        files = files_of(cache, "ours")
        files[-1].write_bytes(files[-1].read_bytes()[:-100])
        report = cache.verify(repair=Repair.REMOVE)
        assert (report.checked, report.unchecked, report.repaired) == (0, 1, 1)
        assert theirs.get("theirs") == record(5, b"value")


# Caches that are no directories.


def test_what_memory_holds_is_right() -> None:
    cache = MemoryCache()
    for key in SIZES:
        store(cache, key, key.encode(), body_of(key))
    cache.set("value", b"value")
    assert cache.verify(repair=Repair.REMOVE) == VerifyReport(checked=4)
    assert load(cache, "large") == (b"large", body_of("large"))


def test_an_adapted_cache_knows_damage_from_other_programs_values() -> None:
    values = Values()
    cache = adapt(values)
    for key in ("right", "cut", "changed", "moved"):
        store(cache, key, b"metadata", content(key, 5000))
    values["cut"] = values["cut"][:-10]
    values["moved"] = values["right"]
    values["changed"] = values["changed"][:2000] + b"?" + values["changed"][2001:]
    values["theirs"] = b"cc=4,value"
    report = cache.verify()
    assert report.damaged.keys() == {"cut", "changed", "moved"}
    assert (report.checked, report.unchecked) == (1, 1)
    assert cache.verify(repair=Repair.REMOVE).repaired == 3
    assert values.keys() == {"right", "theirs"}


def test_a_value_that_is_no_bytes_stops_nothing() -> None:
    values: Any = Values()
    cache = adapt(values)
    store(cache, "right", b"metadata", b"body")
    values["text"] = "text"
    assert cache.stats().entries >= 1
    report = cache.verify()
    assert report.checked == 1
    assert report.damaged.keys() == {"text"}


def test_what_has_expired_goes_from_an_adapted_cache_too() -> None:
    clock = ManualClock()
    values = Values()
    cache = adapt(values, clock=clock)
    store(cache, "expires", b"metadata", b"body", expires=60)
    store(cache, "stays", b"metadata", b"body")
    clock.advance(60)
    cache.prune()
    assert values.keys() == {"stays"}


def test_the_suite_is_skipped_where_nothing_can_be_damaged(tmp_path: Path) -> None:
    cache = MemoryCache()
    store(cache, "key", b"metadata", b"body")
    assert Upkeep().damage(tmp_path, cache, "key") is False
    assert issubclass(Upkeep, Suite)


def test_pairs_of_cachecontrols_that_can_not_be_whole_are_found(tmp_path: Path) -> None:
    theirs = cachecontrol.caches.SeparateBodyFileCache(str(tmp_path), forever=True)
    keys = ["whole", "without its body", "cut short", "too long", "a record that is none"]
    for key in keys:
        theirs.set(key, record(4))
        theirs.set_body(key, b"body")
    with SeparateBodyFileCache(tmp_path) as cache:
        assert cache.verify() == VerifyReport(unchecked=len(keys))
        for key, change in zip(keys[1:4], (None, b"bod", b"body and more"), strict=True):
            body = Path(f"{cache.path(key)}.body")
            if change is None:
                body.unlink()
            else:
                body.write_bytes(change)
        Path(cache.path(keys[4])).write_bytes(b"cc=4,none")
        report = cache.verify()
        assert report.damaged.keys() == {name_of(cache, key) for key in keys[1:]}
        assert (report.checked, report.unchecked) == (0, 1)
        assert cache.verify(repair=Repair.REMOVE).repaired == 4
        assert cache.verify() == VerifyReport(unchecked=1)
    # Their locks they leave themselves.
    left = [
        name for file in files_below(tmp_path) if not (name := Path(file).name).endswith("lock")
    ]
    assert left == [name_of(cache, "whole"), f"{name_of(cache, 'whole')}.body"]
