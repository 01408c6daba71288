"""Nobody but the user gets at what is stored, and nothing leads out of the root."""

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stillfresh.caches.directory import TAG
from stillfresh.caches.file import FileCache, SeparateBodyFileCache
from stillfresh.errors import CacheUnavailable, ConfigError, StoreError
from stillfresh.testing.conformance.tools import load, store
from tests.caches.helpers import files_below
from tests.faults.children import heed_modes, in_child, needs_fork

Either = FileCache | SeparateBodyFileCache
KINDS = [FileCache, SeparateBodyFileCache]
LARGE = bytes(300_000)

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes")
only_superuser = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser can give files away"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, root: Path) -> Iterator[Either]:
    with request.param(root) as made:
        made.hook = lambda event: None
        yield made


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def fill(cache: Either) -> None:
    for body in (None, b"body", LARGE):
        version = store(cache, f"key {body and len(body)}", b"metadata", body)
        cache.update(f"key {body and len(body)}", b"new", version=version)


# Modes.


def test_only_the_user_gets_at_anything_whatever_the_umask(
    cache: Either, root: Path, umask: int
) -> None:
    fill(cache)
    with cache.writer("unfinished") as writer:
        writer.write(LARGE)
        for directory, _, files in os.walk(root):
            assert mode(Path(directory)) == 0o700
            assert all(mode(Path(directory, file)) == 0o600 for file in files)
        assert len(files_below(root)) > 3


@pytest.mark.parametrize(("filemode", "dirmode"), [(0o640, 0o750), (0o644, 0o700)])
@pytest.mark.parametrize("kind", KINDS)
def test_modes_asked_for_are_given_whatever_the_umask(
    root: Path, kind: type[Either], umask: int, filemode: int, dirmode: int
) -> None:
    fill(kind(root, filemode=filemode, dirmode=dirmode))
    for directory, _, files in os.walk(root):
        assert mode(Path(directory)) == dirmode
        assert all(mode(Path(directory, file)) == filemode for file in files)


def test_parents_that_had_to_be_made_are_the_users_too(tmp_path: Path, umask: int) -> None:
    FileCache(tmp_path / "one/two/cache").set("key", b"value")
    assert mode(tmp_path / "one") == mode(tmp_path / "one/two") == 0o700


def test_what_was_there_keeps_its_mode(root: Path) -> None:
    root.mkdir(mode=0o755)
    FileCache(root).set("key", b"value")
    assert mode(root) == 0o755


# The root.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writable", [0o770, 0o702, 0o777, 0o1777], ids=oct)
def test_a_root_that_others_may_write_to_is_refused(
    root: Path, kind: type[Either], writable: int
) -> None:
    root.mkdir()
    root.chmod(writable)
    with pytest.raises(ConfigError, match="may be written to by others"):
        kind(root)
    assert list(root.iterdir()) == []


def test_a_root_that_others_may_write_to_is_taken_if_the_user_says_so(root: Path) -> None:
    root.mkdir()
    root.chmod(0o770)
    for cache in (FileCache(root, dirmode=0o770), FileCache(root, allow_unsafe_root=True)):
        cache.set("key", b"value")
        assert cache.get("key") == b"value"
    with pytest.raises(ConfigError):
        FileCache(root, dirmode=0o707)


def test_a_root_that_others_may_read_is_taken(root: Path) -> None:
    root.mkdir()
    root.chmod(0o755)
    FileCache(root).set("key", b"value")
    assert FileCache(root).get("key") == b"value"


def test_a_root_that_is_opened_to_others_later_is_used_no_more(cache: Either, root: Path) -> None:
    store(cache, "key", b"value", None)
    root.chmod(0o777)
    before = files_below(root)
    assert cache.get("key") is None
    cache.set("key", b"new")
    assert cache.get("key") is None
    assert cache.delete("key") is False
    for use in (cache.entries, lambda: iter([cache.clear()])):
        with pytest.raises(CacheUnavailable, match="by others"):
            list(use())
    assert files_below(root) == before
    root.chmod(0o700)
    assert cache.get("key") == b"value"


@only_superuser
def test_a_root_of_another_user_is_refused(root: Path) -> None:
    root.mkdir()
    os.chown(root, 12_345, -1)
    with pytest.raises(ConfigError, match="another user"):
        FileCache(root)
    FileCache(root, allow_unsafe_root=True).set("key", b"value")


def test_a_root_may_be_a_link_of_the_users_own(tmp_path: Path, root: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "real")
    FileCache(root).set("key", b"value")
    assert FileCache(tmp_path / "real").get("key") == b"value"


@only_superuser
def test_a_root_that_is_another_users_link_is_refused(tmp_path: Path, root: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "real")
    os.chown(root, 12_345, -1, follow_symlinks=False)
    with pytest.raises(ConfigError, match="link"):
        FileCache(root)


def test_a_root_that_becomes_a_link_is_not_followed(
    cache: Either, root: Path, tmp_path: Path
) -> None:
    fill(cache)
    root.rename(tmp_path / "elsewhere")
    root.symlink_to(tmp_path / "elsewhere")
    unharmed(cache, tmp_path / "elsewhere")


# Links in the tree.


def unharmed(cache: Either, elsewhere: Path) -> None:
    """Use the cache in every way, and see that it neither reads nor changes what is elsewhere."""
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    for key in ("key None", "key 4", f"key {len(LARGE)}"):
        assert cache.get(key) is None
        with pytest.raises(StoreError):
            cache.open(key)
        with pytest.raises(StoreError):
            store(cache, key, b"new", LARGE)
        with pytest.raises(StoreError):
            store(cache, key, b"new", None)
        with pytest.raises(StoreError):
            cache.update(key, b"new", version="0" * 16)
        cache.set(key, b"new")
        assert cache.get(key) is None
        assert cache.delete(key) is False
    try:
        assert [info.key for info in cache.entries()] == []
        cache.clear()
    except StoreError:
        assert Path(cache.directory).is_symlink()
    after = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("level", range(1, 6))
def test_a_link_in_the_place_of_a_directory_is_not_followed(
    cache: Either, root: Path, tmp_path: Path, level: int
) -> None:
    fill(cache)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for number, key in enumerate(("key None", "key 4", f"key {len(LARGE)}")):
        parts = Path(cache.path(key)).relative_to(root).parts[:level]
        directory = root.joinpath(*parts)
        directory.rename(elsewhere / str(number))
        directory.symlink_to(elsewhere / str(number))
    unharmed(cache, elsewhere)


@pytest.mark.parametrize("target", ["file", "nothing", "itself"])
def test_a_link_in_the_place_of_an_entry_is_not_followed(
    cache: Either, tmp_path: Path, target: str
) -> None:
    store(cache, "key", b"metadata", b"body")
    path, elsewhere = Path(cache.path("key")), tmp_path / "elsewhere"
    whole = path.read_bytes()
    path.unlink()
    if target == "file":
        elsewhere.write_bytes(whole)
    path.symlink_to(path if target == "itself" else elsewhere)

    assert cache.get("key") is None
    with pytest.raises(StoreError):
        cache.open("key")
    assert list(cache.entries()) == []
    store(cache, "key", b"new", LARGE)
    assert not path.is_symlink()
    assert load(cache, "key") == (b"new", LARGE)
    path.unlink()
    path.symlink_to(elsewhere)
    assert cache.delete("key") is True
    assert not path.is_symlink()
    assert elsewhere.exists() is (target == "file")
    if target == "file":
        assert elsewhere.read_bytes() == whole


def test_a_link_in_the_place_of_a_body_is_not_followed(root: Path, tmp_path: Path) -> None:
    cache = SeparateBodyFileCache(root)
    cache.hook = lambda event: None
    store(cache, "key", b"metadata", LARGE)
    path = Path(cache.path("key"))
    (body,) = [each for each in path.parent.iterdir() if each != path]
    body.rename(tmp_path / "elsewhere")
    body.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        cache.open("key")
    assert cache.get("key") is None
    assert cache.get_body("key") is None
    store(cache, "key", b"new", LARGE)
    assert not body.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == LARGE


def test_a_link_in_the_place_of_anothers_body_is_not_followed(root: Path, tmp_path: Path) -> None:
    # The names of CacheControl's body files can be known before.
    cache = SeparateBodyFileCache(root)
    cache.hook = lambda event: None
    path = Path(cache.path("key"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cc=4,value")
    (tmp_path / "secret").write_bytes(b"secret")
    Path(f"{path}.body").symlink_to(tmp_path / "secret")
    assert cache.get("key") is None
    assert cache.get_body("key") is None
    cache.set("key", b"new")
    cache.set_body("key", LARGE)
    assert load(cache, "key") == (b"new", LARGE)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_link_in_the_place_of_the_tag_is_not_followed(root: Path, tmp_path: Path) -> None:
    FileCache(root).set("key", b"value")
    (root / TAG).rename(tmp_path / "tag")
    (root / TAG).symlink_to(tmp_path / "tag")
    cache = FileCache(root)
    Path(cache.path("key")).write_bytes(b"not an entry, and the root is not tagged")
    assert cache.get("key") == b"not an entry, and the root is not tagged"


# Other things in the place of files.


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


@pytest.mark.parametrize("make", [make_fifo, make_socket])
def test_what_is_no_file_is_not_waited_for_and_is_replaced(
    cache: Either, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)  # and back, after a socket was made
    path = Path(cache.path("key"))
    path.parent.mkdir(parents=True)
    make(path)
    assert cache.get("key") is None
    with pytest.raises(StoreError):
        cache.open("key")
    assert list(cache.entries()) == []
    store(cache, "key", b"metadata", LARGE)
    assert load(cache, "key") == (b"metadata", LARGE)
    cache.delete("key")
    make(path)
    assert cache.delete("key") is True
    make(path)
    cache.clear()
    assert files_below(Path(cache.directory)) == []


def test_a_body_that_is_no_file_is_not_waited_for(root: Path) -> None:
    cache = SeparateBodyFileCache(root)
    cache.hook = lambda event: None
    store(cache, "key", b"metadata", LARGE)
    path = Path(cache.path("key"))
    (body,) = [each for each in path.parent.iterdir() if each != path]
    body.unlink()
    os.mkfifo(body)
    assert cache.get("key") is None
    store(cache, "key", b"new", LARGE)
    assert load(cache, "key") == (b"new", LARGE)


@pytest.mark.parametrize("body", [b"body", LARGE], ids=len)
def test_a_directory_in_the_place_of_an_entry_is_a_miss_and_stays(
    cache: Either, root: Path, body: bytes
) -> None:
    path = Path(cache.path("key"))
    path.mkdir(parents=True)
    (path / "theirs").touch()
    theirs = files_below(root)
    assert cache.get("key") is None
    with pytest.raises(StoreError):
        store(cache, "key", b"metadata", body)
    cache.set("key", b"value")
    assert cache.get("key") is None
    assert cache.delete("another") is False
    with pytest.raises(StoreError):
        cache.remove("key")
    assert list(cache.entries()) == []
    cache.clear()
    assert files_below(root) == theirs


@pytest.mark.parametrize("level", range(1, 6))
def test_a_file_in_the_place_of_a_directory_is_a_miss_and_stays(
    cache: Either, root: Path, level: int
) -> None:
    parts = Path(cache.path("key")).relative_to(root).parts[:level]
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theirs")
    assert cache.get("key") is None
    for body in (b"body", LARGE):
        with pytest.raises(StoreError):
            store(cache, "key", b"metadata", body)
    cache.set("key", b"value")
    assert cache.get("key") is None
    assert cache.delete("key") is False
    assert list(cache.entries()) == []
    cache.clear()
    assert path.read_bytes() == b"theirs"


def test_a_cache_that_is_removed_under_its_hands_is_made_anew(cache: Either, root: Path) -> None:
    fill(cache)
    shutil.rmtree(root)
    assert cache.get("key 4") is None
    with cache.writer("key") as writer:
        writer.write(LARGE)
        shutil.rmtree(root)
        with pytest.raises(StoreError):
            writer.commit(b"metadata")
    fill(cache)
    assert load(cache, "key 4") == (b"new", b"body")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="the superuser may")
def test_a_directory_that_may_not_be_written_to_can_be_read(cache: Either, root: Path) -> None:
    fill(cache)
    directories = [Path(directory) for directory, _, _ in os.walk(root)]
    for directory in directories:
        directory.chmod(0o500)
    try:
        assert load(cache, "key 4") == (b"new", b"body")
        with pytest.raises(CacheUnavailable):
            store(cache, "key 4", b"newer", LARGE)
        cache.set("key 4", b"newer")
        assert cache.delete("key 4") is False
        assert load(cache, "key 4") == (b"new", b"body")
    finally:
        for directory in directories:
            directory.chmod(0o700)


@needs_fork
@pytest.mark.parametrize("kind", KINDS)
def test_a_umask_that_takes_the_owners_permission_takes_nothing(
    kind: type[Either], root: Path
) -> None:
    def job() -> bool:
        heed_modes()
        os.umask(0o777)
        with kind(root) as cache:
            for number in range(40):
                store(cache, f"{number}", b"metadata", LARGE)
            return all(load(cache, f"{number}") == (b"metadata", LARGE) for number in range(40))

    assert in_child(job)


@only_superuser
@needs_fork
@pytest.mark.parametrize("kind", KINDS)
def test_several_users_of_a_folder_prune_it_in_turn(kind: type[Either]) -> None:
    def job(user: int) -> int:
        os.setgroups([54_321])
        os.setgid(54_321)
        os.setuid(user)
        with kind(
            f"{shared}/cache",
            filemode=0o660,
            dirmode=0o770,
            allow_unsafe_root=True,
            max_bytes=1_000_000,
        ) as cache:
            for number in range(150):
                store(cache, f"{user} {number}", b"metadata", bytes(10_000))
            cache.prune()
            return sum(cache.get(f"{user} {number}") is not None for number in range(100, 150))

    # Where other users get to as well.
    with tempfile.TemporaryDirectory() as shared:
        os.chown(shared, 0, 54_321)
        Path(shared).chmod(0o770)
        assert in_child(lambda: job(65_534)) > 40
        assert in_child(lambda: job(65_533)) > 40
