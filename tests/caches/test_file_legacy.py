"""A directory that CacheControl or pip has filled, or goes on filling."""

import os
from collections.abc import Iterator
from pathlib import Path

import cachecontrol.caches
import pytest
import requests
from cachecontrol.serialize import Serializer
from urllib3 import HTTPResponse

from stillfresh.caches.directory import TAG
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import CorruptEntry
from stillfresh.testing.conformance.tools import content, elsewhere, load, load_pair, store
from tests.caches.helpers import files_below

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
URL = "https://files.example.org/wheel.whl"
BODY = content("wheel", 200_000)


def record(body: bytes) -> bytes:
    """Make what CacheControl writes for a response."""
    request = requests.Request("GET", URL).prepare()
    response = HTTPResponse(b"", {"etag": '"1"'}, status=200, preload_content=False)
    return Serializer().dumps(request, response, body)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "cache"
    made.mkdir(mode=0o755)
    return made


@pytest.fixture
def theirs(root: Path) -> cachecontrol.caches.FileCache:
    return cachecontrol.caches.FileCache(str(root))


@pytest.fixture
def their_pairs(root: Path) -> cachecontrol.caches.SeparateBodyFileCache:
    return cachecontrol.caches.SeparateBodyFileCache(str(root))


@pytest.fixture
def ours(root: Path) -> Iterator[SeparateBodyFileCache]:
    with SeparateBodyFileCache(root) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "value", [b"any", record(b"body"), b"\0", b"x" * 100_000, b"\x89PNG\r\n\x1a\nimage"]
)
def test_a_value_of_cachecontrol_is_read_as_it_is(
    root: Path, theirs: cachecontrol.caches.FileCache, kind: type[Either], value: bytes
) -> None:
    theirs.set(URL, value)
    assert kind(root).get(URL) == value
    assert load(kind(root), URL) == (value, None)


@pytest.mark.parametrize("size", [0, 10, 200_000, 3 << 20])
def test_a_pair_of_cachecontrol_is_read_as_it_is(
    ours: SeparateBodyFileCache,
    their_pairs: cachecontrol.caches.SeparateBodyFileCache,
    size: int,
) -> None:
    value, body = record(b""), content("body", size)
    their_pairs.set(URL, value)
    their_pairs.set_body(URL, body)
    assert load_pair(ours, URL) == (value, body)
    assert load(ours, URL) == (value, body)


def test_a_pair_of_pip_is_read_as_it_is(ours: SeparateBodyFileCache) -> None:
    # pip's http-v2: the same layout, under names that it computes itself.
    path = Path(ours.path(URL))
    path.parent.mkdir(parents=True)
    path.write_bytes(record(b""))
    path.with_name(path.name + ".body").write_bytes(BODY)
    assert load_pair(ours, URL) == (record(b""), BODY)
    (info,) = ours.entries()
    assert info.foreign
    assert info.key is None
    assert info.name == path.name
    assert info.body_size == len(BODY)
    assert info.size == len(BODY) + len(record(b""))
    assert ours.delete(URL) is True
    assert files_below(Path(ours.directory)) == []


def test_a_pair_of_pip_is_read_by_the_other_kind_too(
    root: Path, ours: SeparateBodyFileCache
) -> None:
    path = Path(ours.path(URL))
    path.parent.mkdir(parents=True)
    path.write_bytes(record(b""))
    path.with_name(path.name + ".body").write_bytes(BODY)
    assert load(FileCache(root), URL) == (record(b""), BODY)


@pytest.mark.parametrize("kind", KINDS)
def test_what_replaces_a_pair_leaves_nothing_of_it(
    root: Path, their_pairs: cachecontrol.caches.SeparateBodyFileCache, kind: type[Either]
) -> None:
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, BODY)
    cache = kind(root)
    store(cache, URL, b"metadata", b"body")
    assert load(cache, URL) == (b"metadata", b"body")
    name = os.path.relpath(cache.path(URL), root)
    # Its lock files are its own business.
    assert [file for file in files_below(root) if not file.endswith(".lock")] == [name]


def test_an_entry_of_ours_is_a_miss_to_cachecontrol(
    ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    ours.set(URL, record(b""))
    ours.set_body(URL, BODY)
    value = their_pairs.get(URL)
    assert value is not None
    request = requests.Request("GET", URL).prepare()
    assert Serializer().loads(request, value, their_pairs.get_body(URL)) is None


def test_cachecontrol_may_replace_an_entry_of_ours(
    ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    store(ours, URL, b"metadata", BODY)
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, b"their body")
    assert load_pair(ours, URL) == (record(b""), b"their body")


def test_a_pair_that_is_replaced_between_two_calls_is_not_mixed(
    ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    their_pairs.set(URL, b"cc=4,old")
    their_pairs.set_body(URL, b"old body")
    assert ours.get(URL) == b"cc=4,old"
    their_pairs.set(URL, b"cc=4,new")
    their_pairs.set_body(URL, b"new body")
    body = ours.get_body(URL)
    assert body is not None
    with body:
        assert body.read() == b"old body"
    assert load_pair(ours, URL) == (b"cc=4,new", b"new body")


def test_another_programs_entry_is_not_updated(
    ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, BODY)
    entry = ours.open(URL)
    assert entry is not None
    with entry:
        assert ours.update(URL, b"new", version=entry.version) is False
    assert load_pair(ours, URL) == (record(b""), BODY)


def test_a_refresh_of_another_programs_pair_makes_it_ours(
    root: Path, ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, BODY)
    assert load_pair(ours, URL) == (record(b""), BODY)
    ours.set(URL, b"refreshed")
    assert load_pair(ours, URL) == (b"refreshed", BODY)
    assert not Path(f"{ours.path(URL)}.body").exists()
    # Unless another has come between.
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, BODY)
    assert load_pair(ours, URL) == (record(b""), BODY)
    their_pairs.set(URL, record(b"another"))
    ours.set(URL, b"refreshed")
    assert ours.get(URL) == record(b"another")


def test_a_new_pair_takes_the_place_of_another_programs(
    ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    their_pairs.set(URL, record(b""))
    their_pairs.set_body(URL, BODY)
    assert load_pair(ours, URL) == (record(b""), BODY)
    ours.set(URL, b"new")
    assert elsewhere(lambda: load_pair(ours, URL)) == (record(b""), BODY)
    ours.set_body(URL, b"new body")
    assert elsewhere(lambda: load_pair(ours, URL)) == (b"new", b"new body")


def test_a_directory_of_both_is_listed_and_cleared(
    root: Path, ours: SeparateBodyFileCache, their_pairs: cachecontrol.caches.SeparateBodyFileCache
) -> None:
    their_pairs.set("theirs", record(b""))
    their_pairs.set_body("theirs", BODY)
    store(ours, "ours", b"metadata", BODY)
    assert {(info.key, info.foreign) for info in ours.entries()} == {(None, True), ("ours", False)}
    assert sum(info.body_size for info in ours.entries()) == 2 * len(BODY)
    ours.clear()
    assert files_below(root) == []
    assert list(root.iterdir()) == []


def test_a_directory_that_was_there_gets_no_tag(root: Path, ours: SeparateBodyFileCache) -> None:
    store(ours, "key", b"value", None)
    assert not (root / TAG).exists()
    # A value of no known kind is somebody's, here.
    Path(ours.path("key")).write_bytes(b"no known kind")
    assert ours.get("key") == b"no known kind"


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_directory_of_ours_only_cachecontrols_values_are_taken(
    tmp_path: Path, kind: type[Either]
) -> None:
    cache = kind(tmp_path / "new")
    cache.hook = lambda event: None
    store(cache, "key", b"metadata", b"body")
    path = Path(cache.path("key"))
    path.write_bytes(record(b"body"))
    assert cache.get("key") == record(b"body")
    path.write_bytes(b"no known kind")
    with pytest.raises(CorruptEntry):
        cache.open("key")
    assert cache.get("key") is None
