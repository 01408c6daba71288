"""A refresh appends to the entry file: what that may and may not do."""

import os
import random
from pathlib import Path

import pytest

from stillfresh.caches import frames
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import CorruptEntry
from tests.caches.helpers import files_below
from tests.faults.children import Child, needs_fork

Either = FileCache | SeparateBodyFileCache
SIZES = [0, 100, 20_000, 200_000]


@pytest.fixture(params=[FileCache, SeparateBodyFileCache])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Either:
    made: Either = request.param(tmp_path / "cache")
    return made


def stored(cache: Either, size: int, metadata: bytes = b"first") -> tuple[str, bytes]:
    body = random.Random(size).randbytes(size)
    with cache.writer("key") as writer:
        writer.write(body)
        return writer.commit(metadata), body


def read(cache: Either) -> tuple[bytes, bytes] | None:
    entry = cache.open("key")
    if entry is None:
        return None
    with entry:
        return entry.metadata, entry.read()


@pytest.mark.parametrize("size", SIZES)
def test_many_refreshes_keep_the_body_and_the_file_small(cache: Either, size: int) -> None:
    version, body = stored(cache, size)
    path = Path(cache.path("key"))
    before = path.stat().st_size
    for number in range(200):
        metadata = f"refresh {number} ".encode() * 20
        assert cache.update("key", metadata, version=version)
        assert read(cache) == (metadata, body)
        assert path.stat().st_size < before + 20_000
    [info] = cache.entries()
    assert info.key == "key"
    assert info.body_size == size


@pytest.mark.parametrize("size", SIZES)
def test_a_refresh_that_was_torn_leaves_the_metadata_before_it(cache: Either, size: int) -> None:
    version, body = stored(cache, size)
    path = Path(cache.path("key"))
    assert cache.update("key", b"second", version=version)
    whole = path.stat().st_size
    assert cache.update("key", b"third" * 50, version=version)
    complete = path.read_bytes()
    for length in range(whole, len(complete)):
        path.write_bytes(complete[:length])
        assert read(cache) == (b"second", body)
    # And the next refresh is not lost behind what was torn.
    assert cache.update("key", b"fourth", version=version)
    assert read(cache) == (b"fourth", body)


@pytest.mark.parametrize("size", SIZES)
def test_a_damaged_refresh_is_never_believed(cache: Either, size: int) -> None:
    version, body = stored(cache, size)
    path = Path(cache.path("key"))
    before = path.stat().st_size
    assert cache.update("key", b"second" * 10, version=version)
    complete = path.read_bytes()
    for at in range(before, len(complete)):
        damaged = bytearray(complete)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        # Only a length that points behind the end looks like a write that was cut short.
        try:
            # A file system whose clock ticks slowly tells no two writes of one moment apart.
            found = read(type(cache)(cache.directory))
        except CorruptEntry:
            found = (b"first", body)
        assert found == (b"first", body)
        assert cache.get("key") in {None, b"first"}


def test_a_refresh_changes_no_file_that_is_linked_from_elsewhere(
    cache: Either, tmp_path: Path
) -> None:
    version, body = stored(cache, 100)
    backup = tmp_path / "backup"
    os.link(cache.path("key"), backup)
    before = backup.read_bytes()
    assert cache.update("key", b"second", version=version)
    assert read(cache) == (b"second", body)
    assert backup.read_bytes() == before


def test_a_reader_keeps_the_metadata_it_has(cache: Either) -> None:
    version, body = stored(cache, 200_000)
    entry = cache.open("key")
    assert entry is not None
    with entry:
        assert cache.update("key", b"second", version=version)
        assert (entry.metadata, entry.read()) == (b"first", body)


def test_a_refresh_may_shorten_and_end_the_life_of_an_entry(cache: Either) -> None:
    version, _ = stored(cache, 100)
    assert cache.update("key", b"second", version=version, expires=60)
    assert read(cache) is not None
    assert cache.update("key", b"third", version=version, expires=-1)
    assert read(cache) is None
    assert not files_below(Path(cache.directory))


def test_metadata_may_look_like_a_refresh(cache: Either) -> None:
    version, body = stored(cache, 100)
    inner = frames.Frame("key", b"inner", 1, 100, b"", version, 0.0, None)
    for number in range(4):
        metadata = b"%d: " % number + frames.encode_amendment(inner)
        assert cache.update("key", metadata, version=version)
        assert read(cache) == (metadata, body)
        assert cache.update("key", b"plain", version=version)
        assert read(cache) == (b"plain", body)


@needs_fork
@pytest.mark.parametrize("kind", [FileCache, SeparateBodyFileCache])
@pytest.mark.parametrize("size", SIZES)
def test_a_child_made_while_it_was_written_keeps_nobody_from_changing_an_entry(
    tmp_path: Path, kind: type[Either], size: int
) -> None:
    cache = kind(tmp_path / "cache")
    with cache.writer("key") as writer:
        writer.write(bytes(size))
        reading, writing = os.pipe()
        child = Child(lambda: os.read(reading, 1))
        version = writer.commit(b"first")
    try:
        assert cache.update("key", b"second", version=version)
        assert cache.swap("key", b"second", b"third", version=version)
        assert read(cache) == (b"third", bytes(size))
        assert cache.prune(max_bytes=0).kept == 0
    finally:
        os.write(writing, b".")
        assert child.answer() == b"."
        os.close(reading)
        os.close(writing)
