"""An entry is known as it was read last: what others do to it is seen all the same."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillfresh.caches.entryfiles import Look
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.caches.pruning import Repair
from stillfresh.caches.sqlite import SQLiteCache
from stillfresh.errors import CorruptEntry, StoreError

InFiles = FileCache | SeparateBodyFileCache
Local = InFiles | SQLiteCache
BODIES = [b"", b"body" * 100, b"body" * 50_000]


@pytest.fixture(params=[FileCache, SeparateBodyFileCache, SQLiteCache])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Local]:
    with request.param(tmp_path / "cache") as made:
        yield made


@pytest.fixture(params=[FileCache, SeparateBodyFileCache])
def in_files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InFiles]:
    with request.param(tmp_path / "cache") as made:
        yield made


@pytest.fixture
def other(cache: Local) -> Iterator[Local]:
    """Another process' cache in the same directory, as far as the first can tell."""
    with type(cache)(cache.directory) as made:
        yield made


def store(cache: Local, key: str, metadata: bytes, body: bytes) -> str:
    with cache.writer(key) as writer:
        writer.write(body)
        return writer.commit(metadata)


def look(cache: Local, key: str = "key") -> tuple[bytes, bytes] | None:
    entry = cache.open(key)
    if entry is None:
        return None
    with entry:
        return entry.metadata, entry.read()


def change_in_place(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change bytes of a file, until the file system says that it is another one than before."""
    before = path.stat().st_ctime_ns
    data = bytearray(path.read_bytes())
    change(data)
    while path.stat().st_ctime_ns == before:
        with path.open("r+b") as file:
            file.write(data)


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_others_refresh_is_seen(cache: Local, other: Local, body: bytes) -> None:
    version = store(cache, "key", b"metadata 0", body)
    for number in range(100):
        assert look(cache) == (b"metadata %d" % number, body)
        refresher = (cache, other)[number % 3 == 0]
        assert refresher.update("key", b"metadata %d" % (number + 1), version=version)
    assert look(other) == look(cache) == (b"metadata 100", body)


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_others_replace_is_seen(cache: Local, other: Local, body: bytes) -> None:
    for number in range(10):
        version = store(cache, "key", b"metadata %d" % number, body)
        assert look(cache) == (b"metadata %d" % number, body)
        # Of the same size, so that its size doesn't tell.
        store(other, "key", b"metadata X", body)
        assert cache.update("key", b"refreshed", version=version) is False
        assert look(cache) == (b"metadata X", body)


def test_what_others_remove_is_gone(cache: Local, other: Local) -> None:
    version = store(cache, "key", b"metadata", b"body")
    assert look(cache) is not None
    assert other.remove("key")
    assert cache.update("key", b"refreshed", version=version) is False
    assert look(cache) is None


def test_only_what_is_still_there_is_swapped(cache: Local, other: Local) -> None:
    version = store(cache, "key", b"first", b"body")
    assert look(cache) is not None
    assert other.swap("key", b"first", b"second", version=version)
    assert cache.swap("key", b"first", b"third", version=version) is False
    assert look(cache) == (b"second", b"body")
    assert cache.swap("key", b"second", b"third", version=version)
    assert look(other) == (b"third", b"body")


@pytest.mark.parametrize("body", BODIES, ids=len)
def test_damage_is_seen(in_files: InFiles, body: bytes) -> None:
    version = store(in_files, "key", b"metadata", body)
    assert look(in_files) == (b"metadata", body)
    path = Path(in_files.path("key"))

    def change(data: bytearray) -> None:
        data[data.rindex(b"metadata")] ^= 0x20

    change_in_place(path, change)
    damaged = path.read_bytes()
    with pytest.raises(CorruptEntry):
        look(in_files)
    assert in_files.update("key", b"refreshed", version=version) is False
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("level", range(1, 7))
@pytest.mark.parametrize("how", ["copied", "moved"])
def test_a_link_that_has_taken_a_place_is_not_followed(
    in_files: InFiles, tmp_path: Path, level: int, how: str
) -> None:
    version = store(in_files, "key", b"metadata", b"body")
    assert look(in_files) is not None
    path = Path(in_files.path("key"))
    here = Path(in_files.directory).joinpath(*path.relative_to(in_files.directory).parts[:level])
    outside = tmp_path / "outside"
    if how == "moved":
        here.rename(outside)
    elif here.is_dir():
        shutil.copytree(here, outside)
        shutil.rmtree(here)
    else:
        shutil.copy2(here, outside)
        here.unlink()
    here.symlink_to(outside)
    elsewhere = outside / path.relative_to(here)
    before = elsewhere.read_bytes()
    with pytest.raises(StoreError):
        look(in_files)
    with pytest.raises(StoreError):
        in_files.update("key", b"refreshed", version=version)
    assert elsewhere.read_bytes() == before


def test_more_are_used_in_turn_than_are_remembered(cache: Local) -> None:
    versions = {
        f"key {number}": store(cache, f"key {number}", b"0", b"body") for number in range(50)
    }
    for turn in range(3):
        for key, version in versions.items():
            assert look(cache, key) == (b"%d" % turn, b"body")
            assert cache.update(key, b"%d" % (turn + 1), version=version)
    for key, version in versions.items():
        assert look(cache, key) == (b"3", b"body")
        assert cache.update(key, b"4", version=version)
        assert look(cache, key) == (b"4", b"body")


def test_long_metadata_is_refreshed_as_well(cache: Local) -> None:
    version = store(cache, "key", b"m" * 100_000, b"body")
    for letter in (b"n", b"o", b"p"):
        assert look(cache) is not None
        assert cache.update("key", letter * 100_000, version=version)
        assert look(cache) == (letter * 100_000, b"body")


def test_a_file_that_others_link_to_is_left_alone(in_files: InFiles, tmp_path: Path) -> None:
    version = store(in_files, "key", b"metadata", b"body")
    assert look(in_files) is not None
    os.link(in_files.path("key"), tmp_path / "backup")
    before = (tmp_path / "backup").read_bytes()
    assert in_files.update("key", b"refreshed", version=version)
    assert look(in_files) == (b"refreshed", b"body")
    assert (tmp_path / "backup").read_bytes() == before


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files look the same that were made in one moment, of one size.

    Many a kernel's clock takes 4 ms for a tick, some file systems' takes a second, and the number
    of a file that is gone is given to the next one.
    """
    monkeypatch.setattr(Look, "is_of", lambda self, status: self.status.st_size == status.st_size)


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("body", BODIES, ids=len)
def test_a_file_with_the_number_of_the_one_before_is_another(
    in_files: InFiles, body: bytes
) -> None:
    first = store(in_files, "key", b"first", body)
    assert look(in_files) == (b"first", body)
    second = store(in_files, "key", b"other", body)
    assert look(in_files) == (b"other", body)
    store(in_files, "key", b"third", body)
    assert in_files.update("key", b"refreshed", version=first) is False
    assert in_files.update("key", b"refreshed", version=second) is False
    assert in_files.swap("key", b"other", b"refreshed", version=second) is False
    assert look(in_files) == (b"third", body)


@pytest.mark.usefixtures("slow_clock")
def test_a_link_to_a_file_with_the_number_of_the_one_before_is_not_followed(
    in_files: InFiles, tmp_path: Path
) -> None:
    store(in_files, "key", b"first", b"body")
    assert look(in_files) == (b"first", b"body")
    store(in_files, "key", b"other", b"body")
    directory = Path(in_files.path("key")).parent
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        look(in_files)


@pytest.mark.usefixtures("slow_clock")
@pytest.mark.parametrize("body", BODIES, ids=len)
def test_what_a_disk_has_damaged_is_found_whatever_is_remembered(
    in_files: InFiles, body: bytes
) -> None:
    # No time changes with that.
    store(in_files, "key", b"metadata", body)
    assert look(in_files) == (b"metadata", body)
    path = Path(in_files.path("key"))
    damaged = bytearray(path.read_bytes())
    damaged[damaged.rindex(b"metadata")] ^= 0x20
    path.write_bytes(damaged)
    assert list(in_files.verify().damaged) == [path.name]
    assert in_files.verify(repair=Repair.REMOVE).repaired == 1
    assert look(in_files) is None
