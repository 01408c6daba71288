import errno
import os
import stat
from pathlib import Path

import pytest

from stillfresh.caches.directory import TAG, Directory
from stillfresh.caches.files import read_all, store_error, write_all
from stillfresh.errors import CacheFull, CacheUnavailable

NAME = "abcde" + "0" * 51
OTHER = "abcde" + "1" * 51


@pytest.fixture
def tree(tmp_path: Path) -> Directory:
    return Directory(tmp_path / "root", filemode=0o600, dirmode=0o700, trusted=False)


def put(tree: Directory, name: str, content: bytes = b"content") -> None:
    with tree.leaf(name, create=True) as leaf:
        fd = leaf.create(name)
        try:
            write_all(fd, content)
        finally:
            os.close(fd)


def test_a_name_lies_under_its_first_five_letters(tree: Directory, tmp_path: Path) -> None:
    assert tree.path(NAME) == str(tmp_path / "root/a/b/c/d/e" / NAME)
    put(tree, NAME)
    assert Path(tree.path(NAME)).read_bytes() == b"content"


def test_nothing_is_made_by_looking(tree: Directory, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tree.leaf(NAME)
    assert list(tree.leaves()) == []
    assert not tree.is_ours()
    tree.remove_empty()
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_was_made_here_bears_the_tag(tree: Directory, tmp_path: Path) -> None:
    put(tree, NAME)
    assert tree.is_ours()
    tag = (tmp_path / "root" / TAG).read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55\n")
    assert Directory(tmp_path / "root", filemode=0o600, dirmode=0o700, trusted=False).is_ours()


@pytest.mark.parametrize("tag", [None, b"", b"Signature: 8a477f597d28d172789f06886806bc55\n"])
def test_a_root_that_was_there_is_somebody_elses(
    tree: Directory, tmp_path: Path, tag: bytes | None
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if tag is not None:
        (root / TAG).write_bytes(tag)
    put(tree, NAME)
    assert not tree.is_ours()
    assert (root / TAG).exists() is (tag is not None)


def test_a_root_that_is_made_anew_is_looked_at_anew(tree: Directory, tmp_path: Path) -> None:
    put(tree, NAME)
    assert tree.is_ours()
    (tmp_path / "root").rename(tmp_path / "old")
    (tmp_path / "root").mkdir()
    assert not tree.is_ours()


def test_leaves_lists_files_of_the_layout_only(tree: Directory, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in (NAME, OTHER, f"{NAME}.body", "f" * 56):
        put(tree, name)
    leaf = root / "a/b/c/d/e"
    for stranger in ("README", NAME[:-1], NAME + "0", NAME.upper()):
        (leaf / stranger).touch()
    (leaf / ("abcde" + "2" * 51)).mkdir()
    (root / "g/b/c/d/e").mkdir(parents=True)
    (root / "a/bb/c/d/e").mkdir(parents=True)
    (root / "b").touch()
    (root / "c").symlink_to(root / "a")
    found = []
    for each in tree.leaves():
        with each:
            found.append((each.path, each.names()))
    assert found == [
        (str(leaf), [NAME, f"{NAME}.body", OTHER]),
        (str(root / "f/f/f/f/f"), ["f" * 56]),
    ]


def test_empty_directories_are_removed_and_no_others(tree: Directory, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in (NAME, "abcdf" + "0" * 51, "b" * 56):
        put(tree, name)
    Path(tree.path(NAME)).unlink()
    Path(tree.path("b" * 56)).unlink()
    tree.remove_empty()
    assert not (root / "a/b/c/d/e").exists()
    assert (root / "a/b/c/d/f").exists()
    assert not (root / "b").exists()


def test_turns_are_taken_one_at_a_time(tree: Directory) -> None:
    put(tree, NAME)
    with tree.leaf(NAME) as mine, tree.leaf(OTHER) as theirs:
        with mine.turn() as held:
            assert held
            with theirs.turn() as held_too:
                # Waited for no longer than a moment, and gone on without.
                assert not held_too
        with theirs.turn() as held:
            assert held


def test_a_turn_ends_with_an_exception_too(tree: Directory) -> None:
    put(tree, NAME)
    with tree.leaf(NAME) as mine, tree.leaf(NAME) as theirs:
        with pytest.raises(KeyError), mine.turn():
            raise KeyError
        with theirs.turn() as held:
            assert held


def test_a_file_system_without_locks_has_them_all_given(
    tree: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    put(tree, NAME)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with tree.leaf(NAME) as leaf, leaf.turn() as held:
        assert held


def test_a_leaf_may_be_closed_twice(tree: Directory) -> None:
    put(tree, NAME)
    leaf = tree.leaf(NAME)
    leaf.close()
    leaf.close()


def test_a_file_is_made_only_where_none_is(tree: Directory) -> None:
    put(tree, NAME)
    with pytest.raises(FileExistsError):
        put(tree, NAME)


def test_files_and_directories_have_the_modes_asked_for(tmp_path: Path) -> None:
    tree = Directory(tmp_path / "root", filemode=0o640, dirmode=0o750, trusted=False)
    before = os.umask(0o077)
    try:
        put(tree, NAME)
    finally:
        os.umask(before)
    path = Path(tree.path(NAME))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    while path != tmp_path / "root":
        path = path.parent
        assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_all_is_written_and_read_though_the_kernel_takes_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = os.write, os.read
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
    monkeypatch.setattr(os, "read", lambda fd, size: read(fd, min(size, 7)))
    content = bytes(range(100))
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        write_all(fd, content)
        os.lseek(fd, 0, os.SEEK_SET)
        assert read_all(fd, 60) == content[:60]
        assert read_all(fd, 1000) == content[60:]
        assert read_all(fd, 10) == b""
        assert read_all(fd, 0) == b""
    finally:
        os.close(fd)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_no_room_is_a_full_cache(number: int) -> None:
    error = store_error(OSError(number, os.strerror(number)), "doing")
    assert type(error) is CacheFull
    assert str(error) == f"doing: {os.strerror(number)}"


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ELOOP])
def test_any_other_trouble_is_an_unavailable_cache(number: int) -> None:
    assert type(store_error(OSError(number, "?"), "doing")) is CacheUnavailable
