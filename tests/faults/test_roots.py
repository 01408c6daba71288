"""Roots that fail: misses and events, no exception, and all is well again without a restart."""

from __future__ import annotations

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stillfresh import ConfigError, Policy, StoreError
from stillfresh.testing import ManualClock
from tests.faults.children import (
    can_heed_modes,
    heed_modes,
    in_child,
    make_read_only,
    mount_small_disk,
    needs_fork,
)
from tests.faults.conftest import Effort
from tests.faults.kinds import Kind, each_cache_on_disk, look_for_leftovers
from tests.faults.tally import Tally
from tests.faults.ways import SIZES, Visitor, Way, each_way, judge, manages, pages, value_of
from tests.origin import Origin

resource = pytest.importorskip("resource")

pytestmark = needs_fork

KEYS: Final = {f"key of {size}": size for size in SIZES}


class Trouble(ABC):
    """What can become of a root.

    Attributes:
        needs_disk: whether it takes a disk of its own.
        needs_modes: whether it takes a user to whom modes mean something.
        keeps: whether what is stored can be read all the same.
        forgets: whether what was stored is gone for good.
        stores: whether something can be stored all the same.
    """

    needs_disk = False
    needs_modes = False
    keeps = False
    forgets = False
    stores = False

    def __str__(self) -> str:
        return type(self).__name__

    def prepare(self, place: Path) -> None:
        if self.needs_disk:
            mount_small_disk(place, "size=32m")
        if self.needs_modes:
            heed_modes()

    @contextlib.contextmanager
    def at(self, root: Path) -> Iterator[None]:
        self._begin(root)
        try:
            yield
        finally:
            self._end(root)

    @abstractmethod
    def _begin(self, root: Path) -> None: ...

    @abstractmethod
    def _end(self, root: Path) -> None: ...


class Removed(Trouble):
    """It isn't there, until something is stored."""

    forgets = True
    stores = True

    def _begin(self, root: Path) -> None:
        shutil.rmtree(root)

    def _end(self, root: Path) -> None:
        """Nothing has to be mended."""


class ReplacedByAFile(Trouble):
    forgets = True

    def _begin(self, root: Path) -> None:
        shutil.rmtree(root)
        root.write_bytes(b"a file")

    def _end(self, root: Path) -> None:
        root.unlink()


class ReplacedByALinkToNothing(ReplacedByAFile):
    def _begin(self, root: Path) -> None:
        shutil.rmtree(root)
        root.symlink_to("nothing")


class ReplacedByAFifo(ReplacedByAFile):
    def _begin(self, root: Path) -> None:
        shutil.rmtree(root)
        os.mkfifo(root)


class ParentReplacedByAFile(Trouble):
    forgets = True

    def _begin(self, root: Path) -> None:
        shutil.rmtree(root.parent)
        root.parent.write_bytes(b"a file")

    def _end(self, root: Path) -> None:
        root.parent.unlink()


class Renamed(Trouble):
    stores = True

    def _begin(self, root: Path) -> None:
        root.rename(root.with_name("aside"))

    def _end(self, root: Path) -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.with_name("aside").rename(root)


class NoPermission(Trouble):
    needs_modes = True

    def _begin(self, root: Path) -> None:
        root.chmod(0)

    def _end(self, root: Path) -> None:
        root.chmod(0o700)


class NoPermissionBelow(Trouble):
    needs_modes = True

    def _begin(self, root: Path) -> None:
        self._below = [path for path in root.rglob("*") if path.is_dir()]
        for path in reversed(self._below):
            path.chmod(0)

    def _end(self, root: Path) -> None:
        for path in self._below:
            path.chmod(0o700)


class NoPermissionForFiles(Trouble):
    needs_modes = True
    stores = True

    def _begin(self, root: Path) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                path.chmod(0)

    def _end(self, root: Path) -> None:
        for path in root.rglob("*"):
            if path.is_file():
                path.chmod(0o600)


class MayOnlyBeRead(Trouble):
    needs_modes = True
    keeps = True

    def _begin(self, root: Path) -> None:
        for path in (root, *root.rglob("*")):
            path.chmod(0o500 if path.is_dir() else 0o400)

    def _end(self, root: Path) -> None:
        for path in (root, *root.rglob("*")):
            path.chmod(0o700 if path.is_dir() else 0o600)


class ReadOnlyDisk(Trouble):
    needs_disk = True
    keeps = True

    def _begin(self, root: Path) -> None:
        make_read_only(root.parent, read_only=True)

    def _end(self, root: Path) -> None:
        make_read_only(root.parent, read_only=False)


class NoDescriptors(Trouble):
    """This process may open no more files."""

    def _begin(self, root: Path) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, self._limits[1]))

    def _end(self, root: Path) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)


OF_THE_ROOT: Final = [
    Removed(),
    ReplacedByAFile(),
    ReplacedByALinkToNothing(),
    ReplacedByAFifo(),
    ParentReplacedByAFile(),
    Renamed(),
    NoPermission(),
    NoPermissionBelow(),
    NoPermissionForFiles(),
    MayOnlyBeRead(),
    ReadOnlyDisk(),
]
each_trouble: Final = pytest.mark.parametrize("trouble", [*OF_THE_ROOT, NoDescriptors()], ids=str)
# Without descriptors a session has no connection either.
each_trouble_of_the_root: Final = pytest.mark.parametrize("trouble", OF_THE_ROOT, ids=str)


@pytest.fixture
def place(trouble: Trouble, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where the root is, one below what a test may do anything with."""
    if trouble.needs_modes and not can_heed_modes():
        pytest.skip("modes mean nothing to this user")
    parent: Path = (
        request.getfixturevalue("small_disk") if trouble.needs_disk else tmp_path / "disk"
    )
    parent.mkdir(exist_ok=True)
    return parent / "cache"


@each_cache_on_disk
@each_way
@each_trouble
def test_what_becomes_of_a_root(
    kind: Kind, way: type[Way], trouble: Trouble, place: Path, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "not told", "not recovered")
    # Whether it is known what can be done all the same.
    known = trouble.forgets or not kind.holds_files_open
    if not known and trouble.needs_disk:
        pytest.skip("a disk can't become read-only while a database on it is open")

    def use(user: Way, number: int) -> None:
        """Load and store while there is trouble."""
        for key in KEYS:
            found = judge(tally, user, key)
            kept = {number - 1 if trouble.keeps else None} if known else {number - 1, None}
            tally.blame_unless(found in kept, "lost", f"{key}: {found} instead of {kept}")
        for key, size in KEYS.items():
            value = value_of(key, number, size)
            met = manages(tally, user, user.store, key, value)
            told = met == trouble.stores or not known
            tally.blame_unless(told, "not told", f"{key} stored: {met}")
            found = judge(tally, user, key)
            wanted = {number} if met else kept
            tally.blame_unless(found in wanted, "lost", f"{key}: {found} instead of {wanted}")
            manages(tally, user, user.refresh, key, number)
            manages(tally, user, user.remove, "another")
        for look in (lambda: list(user.cache.entries()), user.cache.stats, user.cache.verify):
            tally.attempt_or(StoreError, look)
        tally.attempt_or(StoreError, user.cache.prune)

    def job() -> Tally:
        trouble.prepare(place.parent)
        user = way(kind(place))
        for number in range(1, effort(1, soak=20) * 3, 3):
            for key, size in KEYS.items():
                user.store(key, value_of(key, number, size))
            with trouble.at(place):
                tally.tried("troubles")
                use(user, number + 1)
            for key, size in KEYS.items():
                found = judge(tally, user, key)
                if known and not (trouble.forgets or trouble.stores):
                    tally.blame_unless(found == number, "lost", f"{key}: {found} after that")
                user.store(key, value_of(key, number + 2, size))
                found = judge(tally, user, key)
                tally.blame_unless(found == number + 2, "not recovered", f"{key}: {found}")
            tally.attempt(user.cache.prune)
            look_for_leftovers(tally, kind, place)
        return tally

    tally.add(in_child(job))
    assert tally.blamed == []


@each_cache_on_disk
@each_way
@each_trouble_of_the_root
def test_a_cache_that_is_made_while_there_is_trouble(
    kind: Kind, way: type[Way], trouble: Trouble, place: Path, tally: Tally
) -> None:
    tally.expect_no("wrong", "exceptions", "not recovered")

    def job() -> Tally:
        trouble.prepare(place.parent)
        way(kind(place)).store("old", value_of("old", 1, SIZES[0]))
        with trouble.at(place):
            tally.tried("troubles")
            # That the root is a file, say, is told at once.
            made = tally.attempt_or(ConfigError, kind, place)
            user = None if made is None else way(made)
            if user is not None:
                judge(tally, user, "old")
                manages(tally, user, user.store, "new", value_of("new", 1, SIZES[1]))
                judge(tally, user, "new")
        user = way(kind(place)) if user is None else user
        for key, size in KEYS.items():
            user.store(key, value_of(key, 2, size))
            found = judge(tally, user, key)
            tally.blame_unless(found == 2, "not recovered", f"{key}: {found}")
        return tally

    tally.add(in_child(job))
    assert tally.blamed == []


@pytest.mark.one_in(2)
@each_cache_on_disk
@each_trouble_of_the_root
def test_what_becomes_of_the_root_of_a_session(
    kind: Kind, trouble: Trouble, place: Path, origin: Origin, effort: Effort, tally: Tally
) -> None:
    tally.expect_no("wrong", "lost", "exceptions", "not told", "not recovered")
    urls = pages(origin, len(SIZES))
    known = trouble.forgets or not kind.holds_files_open
    if not known and trouble.needs_disk:
        pytest.skip("a disk can't become read-only while a database on it is open")

    def job() -> Tally:
        trouble.prepare(place.parent)
        clock = ManualClock()
        # Nor while a file of claims is, which is what the waiting for others takes.
        policy = Policy(collapse_wait=0) if trouble.needs_disk else None
        visitor = Visitor(kind(place, clock=clock), clock, policy)
        for _ in range(effort(2, soak=20)):
            for url in urls:
                visitor.visit(tally, url)
            with trouble.at(place):
                tally.tried("troubles")
                visitor.failures()
                for url in urls * 2:
                    from_cache = visitor.visit(tally, url)
                    kept = trouble.keeps and known
                    tally.blame_unless(from_cache or not kept, "lost", url)
                clock.advance(2000)
                for url in urls:
                    visitor.visit(tally, url)
                told = visitor.failures()
                expected = known and not trouble.stores
                tally.blame_unless(told > 0 or not expected, "not told", trouble)
            for url in urls:
                visitor.visit(tally, url)
            for url in urls:
                tally.blame_unless(visitor.visit(tally, url), "not recovered", url)
        return tally

    tally.add(in_child(job))
    assert tally.blamed == []
