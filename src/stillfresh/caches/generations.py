"""Databases that follow one another in a root, and which of them is the present one.

A database file is never replaced under its name: who has the old one open would then remove the
new one's log. So its name has a number: `cache-1.sqlite`, and the highest is the present one. What
is damaged, cleared or compacted is followed by the next number, made under another name and linked
into place as a whole.

Who has the old one open notices before its next statement, by a look at the root: the time of a
directory changes with any name in it, and nothing else comes and goes there but SQLite's own
files, with the first and the last connection. Body files lie in folders of the root, `bodies-1`; a
database says which is its own, for one that was compacted goes on with its forerunner's.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import time
from typing import TYPE_CHECKING, Final

from stillfresh.caches import frames, schema
from stillfresh.caches.files import DIRECTORY
from stillfresh.caches.locks import hold, is_held
from stillfresh.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.directory import Directory

BODY_NAME: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_DATABASE: Final = re.compile(r"cache-(\d{1,9})\.sqlite", re.ASCII)
_BESIDE: Final = re.compile(r"(cache-(\d{1,9})\.sqlite)(-wal|-shm|-journal)?", re.ASCII)
_BODIES: Final = re.compile(r"bodies-(\d{1,9})", re.ASCII)
_UNDONE: Final = re.compile(r"(cache-\d{1,9}\.sqlite\.[0-9a-f]{16}\.tmp)(-.*)?", re.ASCII)
_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
# How often it is tried again where others are quicker.
_TRIES: Final = 16
# A directory's time has steps of some milliseconds: what changes within one looks the same.
_SETTLED_NS: Final = 100_000_000
# Whether the root is still in its place is looked at so often, in seconds.
_LOOKING: Final = 1.0


class _Held:
    """A directory that is held open, by as many threads as look at it.

    Whoever becomes a daemon may close all descriptors, and then others have their numbers.

    Attributes:
        fd: its descriptor.
    """

    __slots__ = ("_status", "fd")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        """Take over a descriptor of the directory that has a status."""
        self.fd = fd
        self._status = status

    def is_still(self, status: os.stat_result) -> bool:
        """Tell whether the descriptor is of the directory that has a status."""
        try:
            return os.path.samestat(os.fstat(self.fd), status)
        except OSError:
            return False

    def __del__(self) -> None:
        """Close it."""
        if self.is_still(self._status):
            os.close(self.fd)


class Generations:
    """The databases in one root. Methods raise `OSError`, or `StoreError` for a bad root.

    Attributes:
        identity: what file the present database was when that was looked up, None where there is
            none. All of the root may be removed, and begin anew with the same number.
    """

    def __init__(self, tree: Directory) -> None:
        """Look in the root of `tree`."""
        self._tree = tree
        # The root, held open: to ask what it looks like costs half as much as by its path.
        self._root: _Held | None = None
        self._is_closed = False
        # How the root looked when its names were last read, and until when it need not be looked
        # for by its path; None where that isn't known.
        self._seen: tuple[object, float] | None = None
        self._number = 0
        self.identity: tuple[int, int] | None = None

    def path(self, number: int) -> str:
        """Return the path of a database."""
        return os.path.join(self._tree.root, f"cache-{number}.sqlite")

    def present(self) -> int:
        """Return the number of the present database, or 0 where there is none."""
        if self._seen is not None:
            looks, until = self._seen
            if looks == self._looks() and time.monotonic() < until:
                return self._number
        return self._look()

    def _look(self) -> int:
        self._seen = None
        try:
            status = os.lstat(self._tree.root)
        except FileNotFoundError:
            self.identity = None
            return 0
        self._tree.check(status)
        number = self._number = self._highest()
        self.identity = self.identity_of(number)
        root = self._hold(status)
        if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > _SETTLED_NS:
            self._seen = _looks_of(root, status), time.monotonic() + _LOOKING
        return number

    def _looks(self) -> object:
        """Say what changes with the root: its mode and owner, and the names in it."""
        root = self._root
        try:
            return _looks_of(root, os.lstat(self._tree.root) if root is None else os.fstat(root.fd))
        except OSError:
            return None

    def _hold(self, status: os.stat_result) -> _Held | None:
        """Hold the root open that has a status, where that can be done."""
        root = self._root
        if root is None or not root.is_still(status):
            root = self._root = None if self._is_closed else _held(self._tree.root, status)
            if self._is_closed:
                # By another thread, just now.
                self._root = None
        return root

    def let_go(self) -> None:
        """Let go of the root, until it is looked at again."""
        self._root = None

    def close(self) -> None:
        """Let go of the root, and hold it no more."""
        self._is_closed = True
        self._root = None

    def identity_of(self, number: int) -> tuple[int, int] | None:
        """Tell which file a database is: another one of that name isn't to be taken for it."""
        try:
            status = os.lstat(self.path(number))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def forget(self) -> None:
        """Look again next time: something was not as it seemed."""
        self._seen = None

    def first(self) -> int:
        """Make the first database, or find that somebody was quicker; return its number."""
        self._tree.make_root()
        self.follow(0)
        return self._highest()

    def follow(self, number: int, make: Callable[[str], None] | None = None) -> bool:
        """Make the database after `number`, all of it under a name that nobody knows.

        An empty one, or what `make` makes of an empty file. Tells whether it took the place.
        """
        made = None
        for _ in range(_TRIES):
            made = self._follow(number, make)
            if made is not None:
                break
        return bool(made)

    def _follow(self, number: int, make: Callable[[str], None] | None) -> bool | None:
        """Do `follow`; None where somebody has swept away what was made."""
        self._seen = None
        if self._highest() > number:
            return False
        following = self.path(number + 1)
        temporary = f"{following}.{frames.new_version()}.tmp"
        # Held, so that nobody takes it for a killed process's.
        fd = self._tree.open_beside(os.path.basename(temporary), os.O_RDWR | os.O_EXCL)
        try:
            hold(fd)
            if make is None:
                schema.create(temporary, number + 1)
            else:
                make(temporary)
            return _take(temporary, following)
        except (FileNotFoundError, sqlite3.OperationalError):
            # Between the making and the holding, somebody may have; or all of the root is gone.
            if os.path.lexists(temporary) or not os.path.isdir(self._tree.root):
                raise
            return None
        finally:
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    os.unlink(temporary + suffix)
            os.close(fd)

    def hollow_out(self, number: int) -> None:
        """Give the room of a database back, whose name has to stay until another follows it."""
        for suffix in ("", "-wal"):
            with contextlib.suppress(OSError):
                os.truncate(self.path(number) + suffix, 0)
        self.remove_bodies(number)

    def remove(self, number: int) -> None:
        """Remove a database that another has followed."""
        for suffix in _SUFFIXES:
            with contextlib.suppress(OSError):
                os.unlink(self.path(number) + suffix)

    def remove_bodies(self, most: int) -> int:
        """Remove the body files of all databases up to a number; how many were there?"""
        removed = 0
        for name in os.listdir(self._tree.root):
            match = _BODIES.fullmatch(name)
            if match is None or int(match[1]) > most:
                continue
            with contextlib.suppress(OSError, StoreError):
                with self._tree.folder(name) as folder:
                    for file in folder.names(BODY_NAME):
                        removed += folder.unlink(file)
                os.rmdir(os.path.join(self._tree.root, name))
        return removed

    def sweep(self, bodies: int) -> int:
        """Remove what is left of earlier databases, and of some that were never done; how many?

        What may be a stranger's stays. `bodies` is the number of the present one's folder.
        """
        present = self._highest()
        swept = self.remove_bodies(min(bodies, present) - 1)
        for name in os.listdir(self._tree.root):
            beside, undone = _BESIDE.fullmatch(name), _UNDONE.fullmatch(name)
            if undone is not None:
                given_up = not self._is_being_made(undone[1])
            else:
                given_up = (
                    beside is not None and int(beside[2]) < present and self._is_ours(beside[1])
                )
            if given_up:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._tree.root, name))
                    swept += 1
        return swept

    def may_be_removed(self, number: int) -> bool:
        """Tell whether a damaged database is surely no stranger's."""
        return self._is_ours(os.path.basename(self.path(number)))

    def _highest(self) -> int:
        """Look which numbers are there; whatever has one counts, so that nothing is in the way."""
        matches = map(_DATABASE.fullmatch, os.listdir(self._tree.root))
        return max((int(match[1]) for match in matches if match is not None), default=0)

    def _is_being_made(self, name: str) -> bool:
        try:
            fd = os.open(os.path.join(self._tree.root, name), os.O_RDONLY)
        except OSError:
            return False
        try:
            return is_held(fd)
        finally:
            os.close(fd)

    def _is_ours(self, name: str) -> bool:
        """Tell whether a database is ours, by its header or the root's tag, or gone."""
        try:
            return self._tree.is_ours() or schema.is_marked(os.path.join(self._tree.root, name))
        except FileNotFoundError:
            return True
        except OSError:
            return False


def _held(path: str, status: os.stat_result) -> _Held | None:
    """Hold the directory open that has a status, if it is still in its place."""
    try:
        fd = os.open(path, DIRECTORY)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(fd), status):
            return _Held(fd, status)
    os.close(fd)
    return None


def _looks_of(root: _Held | None, status: os.stat_result) -> object:
    """Say what changes with a root that has a status, and may be held open."""
    # Then the time of its last change says all.
    if root is None:
        return status[:5], status.st_mtime_ns
    return status.st_ctime_ns


def _take(temporary: str, place: str) -> bool:
    """Give what was made its name, unless somebody was quicker."""
    try:
        os.link(temporary, place, follow_symlinks=False)
    except FileExistsError:
        return False
    except (OSError, NotImplementedError):
        # No links here: then two who begin at once may lose what one of them has stored.
        if os.path.lexists(place):
            return False
        os.rename(temporary, place)
    return True
