"""The caches that are tested here, one line each, and how their files are looked at."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import pytest

from stillfresh import BaseCache, FileCache, MemoryCache, SeparateBodyFileCache
from stillfresh.caches.directory import TAG
from stillfresh.caches.sqlite import INLINE_LIMIT, SQLiteCache
from tests.faults.tally import Tally


class Keeps(Enum):
    """Where a cache has its entries."""

    IN_MEMORY = "nothing is left when its process ends"
    IN_A_DATABASE = "all in one file, and what goes with that; longer bodies beside it"
    IN_A_TREE = "a file or two for each, below a root"


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of caches.

    Attributes:
        make: makes one in a folder that need not exist; it may be given settings by name.
        keeps: where the entries are.
    """

    name: str
    make: Callable[..., BaseCache]
    keeps: Keeps

    def __str__(self) -> str:
        return self.name

    @property
    def holds_files_open(self) -> bool:
        """Whether it goes on with what it has open, whatever becomes of names and modes."""
        return self.keeps is Keeps.IN_A_DATABASE

    def __call__(self, place: Path, **settings: Any) -> BaseCache:
        return self.make(place, **settings)


KINDS: Final = (
    Kind("MemoryCache", lambda place, **settings: MemoryCache(**settings), Keeps.IN_MEMORY),
    Kind("FileCache", FileCache, Keeps.IN_A_TREE),
    Kind("SeparateBodyFileCache", SeparateBodyFileCache, Keeps.IN_A_TREE),
    Kind("SQLiteCache", SQLiteCache, Keeps.IN_A_DATABASE),
)

# What the root of a tree has of its own, beside entries.
MARKERS: Final = {TAG, ".stillfresh-claims", ".stillfresh-pruned", ".stillfresh-written"}


def _each(*keeps: Keeps) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.keeps in keeps], ids=str)


each_cache: Final = _each(*Keeps)
each_cache_on_disk: Final = _each(Keeps.IN_A_DATABASE, Keeps.IN_A_TREE)
each_tree: Final = _each(Keeps.IN_A_TREE)


def files_below(place: Path) -> list[Path]:
    """List what isn't a directory, but for the root's markers."""
    return sorted(
        path
        for path in place.rglob("*")
        if not stat.S_ISDIR(path.lstat().st_mode)
        and not (path.parent == place and path.name in MARKERS)
    )


def is_its_own(kind: Kind, place: Path, path: Path) -> bool:
    """Tell whether a cache without entries may have this file, or this directory."""
    if path.parent != place:
        return False
    database = kind.keeps is Keeps.IN_A_DATABASE
    return path.name in MARKERS or (database and path.name.startswith(("cache-", "bodies-")))


def look_for_leftovers(tally: Tally, kind: Kind, place: Path) -> None:
    """Blame the bytes in files that no entry accounts for; an empty file counts as one."""
    with kind(place) as cache:
        files = [path for path in files_below(place) if not is_its_own(kind, place, path)]
        if kind.keeps is Keeps.IN_A_DATABASE:
            bodies = [entry.body_size for entry in cache.entries()]
            stored = sum(size for size in bodies if size > INLINE_LIMIT)
        else:
            stored = sum(entry.size for entry in cache.entries())
        left = sum(max(1, path.lstat().st_size) for path in files) - stored
    if left and kind.keeps is not Keeps.IN_MEMORY:
        tally.blame("leftover bytes", [path.name for path in files], times=left)


def sweep(tally: Tally, kind: Kind, place: Path) -> None:
    """Prune without a bound, and see that nothing is left but entries."""
    with kind(place) as cache:
        tally.attempt(cache.prune)
    look_for_leftovers(tally, kind, place)
