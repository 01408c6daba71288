"""Planted links and strange owners: nothing outside the root is read, written or made."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import filelock
import pytest

from stillfresh import ConfigError, Repair, StoreError
from tests.faults.children import Child, in_child, needs_fork
from tests.faults.conftest import Effort
from tests.faults.kinds import MARKERS, Kind, each_cache_on_disk, each_tree, files_below
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, WAYS, Visitor, Way, each_way, judge, pages, value_of
from tests.origin import Origin

pytestmark = [
    pytest.mark.one_in(3),
    needs_fork,
    pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes"),
]
only_superuser = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser can give files away"
)

SEED: Final = 4
KEYS: Final = {f"key of {size}": size for size in SIZES[:-1]}
# Another user. Nobody needs to have this number.
STRANGER: Final = 12_345
LONG_AGO: Final = 10**18


class Look(NamedTuple):
    """What can be seen of a file without reading it, and what is in it."""

    mode: int
    owner: int
    links: int
    size: int
    read_at: int
    written_at: int
    changed_at: int
    content: bytes | str | None


class Outside:
    """Files that are none of the cache's business, and what they looked like."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._paths: list[Path] = []
        self._before: dict[Path, Look] = {}

    def remember(self) -> None:
        """Note what everything looks like from now on."""
        self._paths = [self.place, *self.place.rglob("*")]
        before = {path: _content(path) for path in self._paths}
        # Reading shows where something was last read before it was written.
        for path in self._paths:
            if not path.is_symlink():
                os.utime(path, ns=(LONG_AGO, LONG_AGO + 1))
        self._before = {path: _look(path, before[path]) for path in self._paths}

    def changes(self) -> list[str]:
        """Say what is otherwise now."""
        # All are looked at before one is read, since that shows.
        bare = {path: _look(path, None) for path in self._paths if os.path.lexists(path)}
        after = {path: look._replace(content=_content(path)) for path, look in bare.items()}
        there = {self.place, *self.place.rglob("*")}
        changes = [f"made {path}" for path in there - set(self._before)]
        for path, look in self._before.items():
            if path not in after:
                changes.append(f"removed {path}")
            elif after[path] != look:
                names = [
                    name
                    for name, one, other in zip(Look._fields, look, after[path], strict=True)
                    if one != other
                ]
                changes.append(f"changed {path}: {names}")
        return changes


def _look(path: Path, content: bytes | str | None) -> Look:
    status = path.lstat()
    return Look(
        status.st_mode,
        status.st_uid,
        status.st_nlink,
        status.st_size,
        status.st_atime_ns,
        status.st_mtime_ns,
        status.st_ctime_ns,
        content,
    )


def _content(path: Path) -> bytes | str | None:
    if path.is_symlink():
        return str(path.readlink())
    return path.read_bytes() if path.is_file() else None


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    (tmp_path / "outside").mkdir(mode=0o700)
    return Outside(tmp_path / "outside")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_these_tests_notice_what_happens(outside: Outside) -> None:
    file = outside.place / "file"
    file.write_bytes(b"content")
    happenings: list[Callable[[], object]] = [
        file.read_bytes,
        lambda: list(outside.place.iterdir()),
        lambda: file.chmod(0o640),
        lambda: file.write_bytes(b"content"),
        lambda: os.link(file, outside.place.parent / "link"),
        (outside.place / "another").touch,
        file.unlink,
    ]
    outside.remember()
    assert outside.changes() == []
    for happen in happenings:
        outside.remember()
        happen()
        if happen in happenings[:2] and outside.changes() == []:
            pytest.skip("this file system doesn't tell what was read")
        assert outside.changes() != []


def fill(user: Way) -> None:
    """Store a value under each key."""
    for key, size in KEYS.items():
        user.store(key, value_of(key, 0, size))


def use(tally: Tally, user: Way) -> None:
    """Do everything that can be done with a cache, and take nothing amiss that it may refuse."""
    cache = user.cache
    for key, size in KEYS.items():
        tally.tried("uses")
        judge(tally, user, key)
        tally.attempt_or(user.refuses, user.refresh, key, 1)
        for each in KEYS.values():
            value = value_of(key, 1, each)
            tally.attempt_or(user.refuses, user.store, key, value)
            judge(tally, user, key)
        # Under a key of its own: what can't be replaced stays, and this is no value that is known.
        tally.attempt(cache.set, f"{key}, set", b"value")
        tally.attempt_or(user.refuses, user.remove, key)
        tally.attempt_or(user.refuses, user.store, key, value_of(key, 2, size))
    for all_of_it in (
        lambda: list(cache.entries()),
        cache.stats,
        lambda: cache.verify(repair=Repair.REMOVE),
        lambda: cache.prune(max_bytes=100_000),
        lambda: cache.prune(max_age=0),
        cache.clear,
    ):
        tally.attempt_or(StoreError, all_of_it)


# Where a link can be planted in a tree that is in use. Each answers whether there was a place.


def link(path: Path, target: Path) -> None:
    """Let a link stand where something was, which stands elsewhere now."""
    if os.path.lexists(path):
        path.rename(target)
    path.symlink_to(target)


def plant_at_entries(cache: Any, root: Path, outside: Path) -> None:
    for number, key in enumerate(KEYS):
        link(Path(cache.path(key)), outside / str(number))


def plant_at_bodies(cache: Any, root: Path, outside: Path) -> None:
    for number, file in enumerate(sorted(root.rglob("*.body"))):
        link(file, outside / str(number))
    for number, key in enumerate(KEYS):
        # The name of another program's body can be known before.
        (outside / f"body {number}").write_bytes(b"secret")
        Path(f"{cache.path(key)}.body").symlink_to(outside / f"body {number}")


def plant_at_level(level: int) -> Callable[[Any, Path, Path], None]:
    def plant(cache: Any, root: Path, outside: Path) -> None:
        for number, key in enumerate(KEYS):
            parts = Path(cache.path(key)).relative_to(root).parts[:level]
            if not root.joinpath(*parts).is_symlink():
                link(root.joinpath(*parts), outside / str(number))

    return plant


def plant_at_root(cache: Any, root: Path, outside: Path) -> None:
    link(root, outside / "root")


def plant_at_empty_root(cache: Any, root: Path, outside: Path) -> None:
    root.rename(root.with_name("aside"))
    (outside / "root").mkdir(mode=0o700)
    root.symlink_to(outside / "root")


def plant_at_markers(cache: Any, root: Path, outside: Path) -> None:
    for name in MARKERS | {".lock"}:
        link(root / name, outside / name)


def plant_at_markers_to_nothing(cache: Any, root: Path, outside: Path) -> None:
    for name in MARKERS | {".lock"}:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(outside / name)


PLANT: Final[dict[str, Callable[[Any, Path, Path], None]]] = {
    "at entries": plant_at_entries,
    "at bodies": plant_at_bodies,
    **{f"at level {level}": plant_at_level(level) for level in range(1, 6)},
    "at the root": plant_at_root,
    "at the root, to an empty one": plant_at_empty_root,
    "at markers": plant_at_markers,
    "at markers, to nothing": plant_at_markers_to_nothing,
}
SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "bounded": {"max_bytes": 4_000_000, "max_age": 3600},
    "locked": {"lock_class": filelock.FileLock},
    "open to others": {"dirmode": 0o770, "filemode": 0o660},
}


@each_tree
@each_way
@pytest.mark.parametrize("where", PLANT)
@pytest.mark.parametrize("settings", SETTINGS)
def test_links_that_were_planted(
    kind: Kind,
    way: type[Way],
    place: Path,
    outside: Outside,
    where: str,
    settings: str,
    tally: Tally,
) -> None:
    tally.expect_no("wrong", "exceptions", "changed outside")
    fill(way(kind(place)))
    # That makes the markers.
    kind(place).prune()
    user = way(kind(place, **SETTINGS[settings]))
    PLANT[where](user.cache, place, outside.place)
    outside.remember()

    def job() -> Tally:
        use(tally, user)
        return tally

    tally.add(in_child(job))
    for change in outside.changes():
        tally.blame("changed outside", change)
    assert tally.blamed == []


@each_tree
@each_way
def test_links_that_come_and_go(
    kind: Kind,
    way: type[Way],
    place: Path,
    outside: Outside,
    effort: Effort,
    tally: Tally,
) -> None:
    """Who may write to the root can swap a directory for a link between any two calls."""
    tally.expect_no("wrong", "exceptions", "changed outside")
    user = way(kind(place, **SETTINGS["open to others"]))
    fill(user)
    leaves = [file.parent.relative_to(place) for file in files_below(place)]
    # Directories of the same names, and empty: these could be removed.
    theirs = outside.place / "theirs"
    for leaf in leaves:
        (theirs / leaf).mkdir(parents=True, exist_ok=True)
    outside.remember()

    def swap() -> None:
        chance = random.Random(SEED)
        aside = place.with_name("aside")
        while True:
            leaf = chance.choice(leaves)
            parts = leaf.parts[: chance.randrange(1, len(leaf.parts) + 1)]
            here = place.joinpath(*parts)
            with contextlib.suppress(OSError):
                here.rename(aside)
            with contextlib.suppress(OSError):
                here.symlink_to(theirs.joinpath(*parts))
            with contextlib.suppress(OSError):
                here.unlink()
            with contextlib.suppress(OSError):
                aside.rename(here)
            shutil.rmtree(aside, ignore_errors=True)

    def job() -> Tally:
        for _ in range(effort(4, soak=100)):
            use(tally, user)
        return tally

    swapping = Child(swap)
    try:
        tally.add(in_child(job))
    finally:
        swapping.kill()
    for change in outside.changes():
        tally.blame("changed outside", change)
    assert tally.blamed == []


# Modes.


@each_cache_on_disk
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_whatever_the_umask_nobody_else_gets_at_anything(
    kind: Kind, place: Path, origin: Origin, umask: int, tally: Tally
) -> None:
    tally.expect_no("open to others")
    urls = pages(origin, len(SIZES))

    def look() -> None:
        for path in (place, *place.rglob("*")):
            mode = path.lstat().st_mode
            tally.tried("files")
            tally.blame_unless(mode & 0o077 == 0, "open to others", f"{path} {mode:o}")

    def job() -> Tally:
        os.umask(umask)
        with kind(place, max_bytes=8_000_000) as cache:
            for way in WAYS:
                user = way(cache)
                fill(user)
                for key in KEYS:
                    user.refresh(key, 1)
                    look()
            visitor = Visitor(cache)
            for url in urls:
                visitor.visit(tally, url)
            with cache.writer("unfinished") as writer:
                writer.write(bytes(SIZES[-1]))
                look()
        return tally

    tally.add(in_child(job))
    assert tally.blamed == []


# Owners.


def is_another_users(root: Path) -> None:
    os.chown(root, STRANGER, -1)


def may_be_written_to(root: Path) -> None:
    root.chmod(0o777)


def may_be_written_to_by_a_group(root: Path) -> None:
    root.chmod(0o770)


def is_another_users_link(root: Path) -> None:
    root.rename(root.with_name("real"))
    root.symlink_to(root.with_name("real"))
    os.chown(root, STRANGER, -1, follow_symlinks=False)


DOUBTS: Final = [
    pytest.param(is_another_users, marks=only_superuser),
    may_be_written_to,
    may_be_written_to_by_a_group,
    pytest.param(is_another_users_link, marks=only_superuser),
]


@each_cache_on_disk
@each_way
@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_root_that_can_not_be_trusted_is_refused(
    kind: Kind, way: type[Way], tmp_path: Path, doubt: Callable[[Path], None], tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "changed in the root")
    (tmp_path / "theirs").mkdir(mode=0o700)
    place = tmp_path / "theirs" / "cache"
    fill(way(kind(place)))
    doubt(place)
    root = Outside(tmp_path / "theirs")
    root.remember()
    tally.tried("uses")
    with pytest.raises(ConfigError):
        kind(place)
    for change in root.changes():
        tally.blame("changed in the root", change)
    assert tally.blamed == []


@each_cache_on_disk
@each_way
@pytest.mark.parametrize("settings", ["plain", "bounded"])
@pytest.mark.parametrize("doubt", DOUBTS)
def test_a_root_that_can_not_be_trusted_any_more_is_left_alone(
    kind: Kind,
    way: type[Way],
    tmp_path: Path,
    settings: str,
    doubt: Callable[[Path], None],
    tally: Tally,
) -> None:
    tally.expect_no("wrong", "exceptions", "read", "changed in the root")
    (tmp_path / "theirs").mkdir(mode=0o700)
    place = tmp_path / "theirs" / "cache"
    fill(way(kind(place)))
    user = way(kind(place, **SETTINGS[settings]))
    doubt(place)
    root = Outside(tmp_path / "theirs")
    root.remember()

    def job() -> Tally:
        for key in KEYS:
            tally.blame_unless(judge(tally, user, key) is None, "read", key)
        use(tally, user)
        return tally

    tally.add(in_child(job))
    for change in root.changes():
        tally.blame("changed in the root", change)
    assert tally.blamed == []
