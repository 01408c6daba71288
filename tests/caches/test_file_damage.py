"""Whatever happens to its files, a cache hands out what was stored, or nothing."""

import os
import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import pytest
import xxhash

from stillfresh.caches import frames
from stillfresh.caches.directory import TAG
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import BodyLost, CorruptEntry, StoreError
from stillfresh.testing.conformance.tools import content, elsewhere, load, load_pair, store
from tests.caches.helpers import files_below

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
# Inside the entry file; beside it; too long to be checked before it is read.
SIZES = {"small": 700, "medium": 50_000, "large": 1_100_000}
ROUNDS = 250


def value_of(key: str) -> bytes:
    return b"value of " + key.encode()


@cache
def body_of(key: str) -> bytes:
    return content(key, SIZES[key])


@pytest.fixture(name="cache", params=KINDS)
def cache_of_three(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Either]:
    with request.param(tmp_path / "cache") as made:
        made.hook = lambda event: None
        for key in SIZES:
            store(made, key, value_of(key), body_of(key))
        yield made


def check(cache: Either, key: str) -> bool:
    """Read by every way there is; answer whether the entry was still there."""
    assert cache.get(key) in {None, value_of(key)}
    try:
        found = load(cache, key)
    except StoreError:
        found = None
    assert found in {None, (value_of(key), body_of(key))}
    try:
        streamed = stream(cache, key)
    except StoreError:
        streamed = None
    assert streamed in {None, body_of(key)}
    for offset in (0, SIZES[key] // 2, SIZES[key]):
        try:
            rest = read_from(cache, key, offset)
        except StoreError:
            rest = None
        assert rest in {None, body_of(key)[offset : offset + 1000]}
    if isinstance(cache, SeparateBodyFileCache):
        try:
            pair = load_pair(cache, key)
        except OSError:
            # The end of a long body that turns out to be wrong.
            assert SIZES[key] > 1 << 20
            pair = None
        assert pair in {None, (value_of(key), body_of(key))}
    return found is not None


def stream(cache: Either, key: str) -> bytes | None:
    entry = cache.open(key)
    if entry is None:
        return None
    chunks = []
    with entry:
        while chunk := entry.read(100_003):
            chunks.append(chunk)
    return b"".join(chunks)


def read_from(cache: Either, key: str, offset: int) -> bytes | None:
    entry = cache.open(key)
    if entry is None:
        return None
    with entry:
        entry.seek(offset)
        return entry.read(1000)


def flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data))]


def lengthen(data: bytes, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.randrange(1, 5000))


def empty(data: bytes, chance: random.Random) -> bytes:
    return b""


def garbage(data: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(len(data))


def garble(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    junk = chance.randbytes(min(len(data) - at, chance.randrange(1, 5000)))
    return data[:at] + junk + data[at + len(junk) :]


def zero(data: bytes, chance: random.Random) -> bytes:
    # What a crash leaves of blocks that never reached the disk.
    at = chance.randrange(len(data)) // 512 * 512
    end = min(len(data), at + 512 * chance.randrange(1, 9))
    return data[:at] + bytes(end - at) + data[end:]


def shift(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + 1 :] + b"\0"


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    flip,
    flip,
    truncate,
    lengthen,
    empty,
    garbage,
    garble,
    zero,
    shift,
]


def test_no_damage_lets_a_wrong_byte_through(cache: Either) -> None:
    chance = random.Random(20)
    root = Path(cache.directory)
    keys = {Path(cache.path(key)).parent: key for key in SIZES}
    whole = {root / name: (root / name).read_bytes() for name in files_below(root)}
    noticed = 0
    for _ in range(ROUNDS):
        file = chance.choice(list(whole))
        file.write_bytes(chance.choice(DAMAGE)(whole[file], chance))
        noticed += not check(cache, keys[file.parent])
        file.write_bytes(whole[file])
    # A few leave all as it was: NULs that were there before, and the like.
    assert noticed > ROUNDS * 0.9
    assert all(check(cache, key) for key in SIZES)


@pytest.mark.parametrize("key", ["small", "medium"])
def test_no_byte_of_an_entry_file_can_be_changed(cache: Either, key: str) -> None:
    path = Path(cache.path(key))
    whole = path.read_bytes()
    places = [*range(400), *range(len(whole) - 60, len(whole))]
    for at in places[: len(whole)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        assert not check(cache, key), at


@pytest.mark.parametrize("key", ["small", "medium"])
def test_no_entry_file_can_be_cut(cache: Either, key: str) -> None:
    path = Path(cache.path(key))
    whole = path.read_bytes()
    for size in [*range(100), *range(len(whole) - 60, len(whole))]:
        path.write_bytes(whole[:size])
        assert not check(cache, key), size


@pytest.mark.parametrize("key", SIZES)
def test_an_entry_without_one_of_its_files_is_gone(cache: Either, key: str) -> None:
    leaf = Path(cache.path(key)).parent
    whole = {file: file.read_bytes() for file in leaf.iterdir()}
    for file, data in whole.items():
        file.unlink()
        assert not check(cache, key)
        file.write_bytes(data)
        assert check(cache, key)


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("damage", DAMAGE[1:])
def test_a_damaged_entry_is_replaced_by_the_next(
    cache: Either, key: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path = Path(cache.path(key))
    path.write_bytes(damage(path.read_bytes(), random.Random(1)))
    store(cache, key, b"new", b"new body")
    assert load(cache, key) == (b"new", b"new body")


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("damage", DAMAGE[1:])
def test_a_damaged_entry_can_be_removed(
    cache: Either, key: str, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    path = Path(cache.path(key))
    path.write_bytes(damage(path.read_bytes(), random.Random(2)))
    assert cache.delete(key) is True
    assert cache.open(key) is None


def test_a_damaged_entry_is_never_updated(cache: Either) -> None:
    for key in SIZES:
        entry = cache.open(key)
        assert entry is not None
        entry.close()
        path = Path(cache.path(key))
        whole = path.read_bytes()
        for at in (*range(0, 80, 7), len(whole) - 1):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert cache.update(key, b"new", version=entry.version) is False
            assert not check(cache, key)
        path.write_bytes(whole)


def test_an_update_does_not_make_a_damaged_body_good(cache: Either) -> None:
    for key in SIZES:
        entry = cache.open(key)
        assert entry is not None
        entry.close()
        for file in Path(cache.path(key)).parent.iterdir():
            data = bytearray(file.read_bytes())
            at = 300 if file.name == Path(cache.path(key)).name else 10
            if at < len(data) - 50:
                data[at] ^= 1
                file.write_bytes(data)
        cache.update(key, value_of(key), version=entry.version)
        assert not check(cache, key)


def test_files_that_changed_places_are_not_taken_for_each_other(cache: Either) -> None:
    root = Path(cache.directory)
    files = [root / name for name in files_below(root)]
    for one in files:
        for other in files:
            if one != other:
                swap(one, other)
                moved = {one, other} & {Path(cache.path(key)) for key in SIZES}
                for key in SIZES:
                    assert check(cache, key) is (
                        Path(cache.path(key)) not in moved and not bodies(cache, key) & {one, other}
                    )
                swap(one, other)
    assert all(check(cache, key) for key in SIZES)


def bodies(cache: Either, key: str) -> set[Path]:
    path = Path(cache.path(key))
    return set(path.parent.iterdir()) - {path}


def swap(one: Path, other: Path) -> None:
    aside = one.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def test_a_body_of_an_older_version_is_not_taken_for_the_present_one(cache: Either) -> None:
    files = {
        path: path.read_bytes()
        for path in Path(cache.path("medium")).parent.iterdir()
        if path.name != Path(cache.path("medium")).name
    }
    store(cache, "medium", value_of("medium"), body_of("medium")[::-1])
    present = bodies(cache, "medium")
    for old in files.values():
        for path in present:
            path.write_bytes(old)
            with pytest.raises(StoreError):
                load(cache, "medium")


def test_a_strayed_entry_is_not_listed_under_its_key(cache: Either) -> None:
    swap(Path(cache.path("small")), Path(cache.path("medium")))
    assert [info.key for info in cache.entries() if info.key is not None] == ["large"]


def test_damage_does_not_stop_a_listing(cache: Either) -> None:
    for key in ("small", "medium"):
        path = Path(cache.path(key))
        path.write_bytes(flip(path.read_bytes(), random.Random(3)))
    assert len(list(cache.entries())) == 3
    cache.clear()
    assert files_below(Path(cache.directory)) == []


def test_a_body_that_is_cut_while_it_is_read_is_lost(cache: Either) -> None:
    entry = cache.open("large")
    assert entry is not None
    for file in bodies(cache, "large") or {Path(cache.path("large"))}:
        os.truncate(file, SIZES["large"] // 2)
    with entry:
        assert entry.read(1000) == body_of("large")[:1000]
        with pytest.raises(BodyLost):
            entry.read()


def test_a_long_body_is_found_out_before_its_last_byte(cache: Either) -> None:
    files = bodies(cache, "large") or {Path(cache.path("large"))}
    for file in files:
        data = bytearray(file.read_bytes())
        data[1000] ^= 1
        file.write_bytes(data)
    entry = cache.open("large")
    assert entry is not None
    with entry:
        entry.read(SIZES["large"] - 1)
        with pytest.raises(BodyLost):
            entry.read()


def test_a_value_whose_short_body_is_wrong_is_not_handed_out(tmp_path: Path) -> None:
    # To CacheControl, a value whose body is None is a response with an empty body.
    with SeparateBodyFileCache(tmp_path / "cache") as cache:
        cache.hook = lambda event: None
        for key in ("small", "medium"):
            store(cache, key, value_of(key), body_of(key))
            for file in bodies(cache, key) or {Path(cache.path(key))}:
                data = bytearray(file.read_bytes())
                data[200] ^= 1
                file.write_bytes(data)
            assert cache.get(key) is None
            assert elsewhere(partial(cache.get, key)) is None


@pytest.mark.parametrize("damage", [flip, truncate, empty, lengthen])
def test_where_others_keep_values_too_damage_is_noticed_all_the_same(
    cache: Either, damage: Callable[[bytes, random.Random], bytes]
) -> None:
    (Path(cache.directory) / TAG).unlink()
    chance = random.Random(4)
    for key in SIZES:
        path = Path(cache.path(key))
        whole = path.read_bytes()
        for _ in range(20):
            path.write_bytes(damage(whole, chance))
            check(cache, key)


def test_where_others_keep_values_too_no_entry_can_be_cut(cache: Either) -> None:
    (Path(cache.directory) / TAG).unlink()
    path = Path(cache.path("small"))
    whole = path.read_bytes()
    for size in range(100):
        path.write_bytes(whole[:size])
        assert not check(cache, "small")


@pytest.mark.parametrize("data", [b"", b"\0" * 600, b"\x89", b"\x89sfres", b"\x89sfrash\nvalue"])
def test_what_may_have_been_an_entry_is_nobodys_value(cache: Either, data: bytes) -> None:
    (Path(cache.directory) / TAG).unlink()
    Path(cache.path("small")).write_bytes(data)
    with pytest.raises(CorruptEntry):
        cache.open("small")
    assert cache.get("small") is None


def test_a_key_that_is_no_text_is_damage_though_all_checksums_are_right(cache: Either) -> None:
    path = Path(cache.path("small"))
    whole = path.read_bytes()
    head = frames.parse_head(whole)
    tail = b"\xff" + whole[head.tail_at + 1 :]
    checked = whole[: frames.HEAD_SIZE - 8]
    checksum = xxhash.xxh3_64_intdigest(checked + tail).to_bytes(8, "little")
    path.write_bytes(checked + checksum + whole[frames.HEAD_SIZE : head.tail_at] + tail)
    with pytest.raises(CorruptEntry):
        cache.open("small")
    assert cache.get("small") is None
