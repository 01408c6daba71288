"""A directory tree in the classic layout, reached without following a single symbolic link.

The leaf of a key is `a/b/c/d/e/` below the root, for a name that begins with `abcde`. Every step
down is an `open` of one component relative to the descriptor of its parent, with `O_NOFOLLOW`: a
link planted at any level is an error, and what was opened can't be swapped for something else
between two calls. Where the platform can't open relative to a descriptor, each level is looked at
with `lstat` instead, which is the best that can be done there. What is already there is reached by
a shorter way where the kernel tells the path behind a descriptor: the whole path is opened, and
compared with that. What is missing is made by its path where nobody else may write to anything on
the way there.

Files are created exclusively, under a name nobody knows, and get their place by one rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from stillfresh.caches.files import (
    APPEND,
    CREATE,
    CREATE_OR_OPEN,
    DIRECTORY,
    READ,
    open_quietly,
    set_mode,
    write_all,
)
from stillfresh.caches.leaf import LEVELS, Leaf
from stillfresh.errors import CacheUnavailable, ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEX: Final = re.compile(r"[0-9a-f]")

_BY_DESCRIPTOR: Final = (
    {os.open, os.mkdir, os.unlink, os.rmdir, os.stat} <= os.supports_dir_fd
    and os.scandir in os.supports_fd
    and hasattr(os, "O_DIRECTORY")
)

# Of a mode: what kind of file it is, and whether others may write to it.
_KIND: Final = stat.S_IFMT(0o777777)
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH

TAG: Final = "CACHEDIR.TAG"
# The signature is fixed by the Cache Directory Tagging Specification; backups skip such a folder.
_TAG_TEXT: Final = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory was made by stillfresh, an HTTP cache. It is safe to delete.\n"
)


class Directory:
    """The tree below one root.

    Raises:
        ConfigError: the root can't be trusted: it is another user's, or others may write to it.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, filemode: int, dirmode: int, trusted: bool
    ) -> None:
        """Use `root`, which need not exist; `trusted` skips the look at its owner and mode."""
        given = os.path.abspath(os.fspath(root))
        if "\0" in given:
            msg = f"{given!r} can't be a path"
            raise ConfigError(msg)
        self._refuse_strange_link(given, trusted=trusted)
        self.root = os.path.realpath(given)
        self._filemode = filemode
        self._dirmode = dirmode
        self._trusted = trusted
        self._prefix = self.root.rstrip(os.sep) + os.sep
        # Whether the kernel names the file behind a descriptor; Linux does.
        self._tells_paths = hasattr(os, "geteuid")
        self._user = os.geteuid() if hasattr(os, "geteuid") else -1
        # Whose directories are as good as one's own.
        self._trustworthy = (self._user, 0)
        # So many levels were there on the way to the last leaf that was written to.
        self._levels_there = 0
        # Mode and owner of the root when it was last found to be trustworthy.
        self._trusted_looks: tuple[int, int] | None = None
        self._tagged: tuple[tuple[int, int], bool] | None = None
        try:
            status = os.lstat(self.root)
        except OSError:
            return
        doubt = self._doubt(status)
        if doubt is not None:
            raise ConfigError(doubt)

    def make_root(self) -> None:
        """Make the root if it isn't there, and look whether it can be trusted.

        Raises:
            StoreError: it can't.
            OSError: it can't be made.
        """
        try:
            status = os.stat(self.root)
        except FileNotFoundError:
            self._make_root()
            status = os.stat(self.root)
        self.check(status)

    def check(self, status: os.stat_result) -> None:
        """See whether the root, which has that status, can be trusted.

        Raises:
            StoreError: it can't.
        """
        looks = (status.st_mode, status.st_uid)
        if looks != self._trusted_looks:
            doubt = self._doubt(status)
            if doubt is not None:
                raise CacheUnavailable(doubt)
            self._trusted_looks = looks

    def folder(self, name: str, *, create: bool = False) -> Leaf:
        """Go to a directory of ours in the root that isn't of the layout.

        Raises:
            FileNotFoundError: it isn't there, and was not to be made.
            OSError: it is a link, or no directory, or can't be entered.
            StoreError: the root can't be trusted any more.
        """
        if not _BY_DESCRIPTOR:
            return self._folder_by_path(name, create=create)
        root = self._open_root(create=create)
        try:
            if create:
                return Leaf("", self._make(name, root), self._filemode)
            return Leaf("", os.open(name, DIRECTORY, dir_fd=root), self._filemode)
        finally:
            os.close(root)

    def path(self, name: str) -> str:
        """Return the full path of a file of the layout."""
        return f"{self._prefix}{os.sep.join(name[:LEVELS])}{os.sep}{name}"

    def leaf(self, name: str, *, create: bool = False) -> Leaf:
        """Go to the directory where files of `name` belong.

        Raises:
            FileNotFoundError: it isn't there, and was not to be made.
            OSError: a component is a link, no directory, or can't be entered.
            StoreError: the root can't be trusted any more.
        """
        if not _BY_DESCRIPTOR:
            return self._leaf_by_path(name, create=create)
        if self._tells_paths and (not create or self._levels_there == LEVELS):
            found = self._enter_at_once(self._prefix + "/".join(name[:LEVELS]))
            if found is not None:
                return Leaf("", found, self._filemode)
        if create:
            made = self._make_by_paths(name)
            if made is not None:
                return made
        is_new = False
        fd = self._open_root(create=create)
        try:
            for part in name[:LEVELS]:
                is_new = False
                try:
                    child = os.open(part, DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    if not create:
                        raise
                    child, is_new = self._make(part, fd), True
                os.close(fd)
                fd = child
        except BaseException:
            os.close(fd)
            raise
        return Leaf("", fd, self._filemode, is_new=is_new)

    def open(self, name: str, suffix: str = "") -> tuple[int, os.stat_result]:
        """Open a regular file of the layout to read; the shortest way there for the hit.

        Raises:
            FileNotFoundError: it isn't there.
            OSError: it is no regular file, or a component is a link, or can't be entered.
            StoreError: the root can't be trusted any more.
        """
        if _BY_DESCRIPTOR and self._tells_paths:
            found = self._open_at_once(self.path(name + suffix), READ)
            if found is not None:
                return found
        with self.leaf(name) as leaf:
            return leaf.open(name + suffix)

    def open_to_append(self, name: str) -> tuple[int, os.stat_result] | None:
        """Open a regular file of the layout to append to it, if that can be done at once.

        Raises:
            FileNotFoundError: it isn't there.
            OSError: it can't be written to, or a link has taken its place.
            StoreError: the root can't be trusted any more.
        """
        if not (_BY_DESCRIPTOR and self._tells_paths):
            return None
        return self._open_at_once(self.path(name), APPEND)

    def _open_at_once(self, path: str, flags: int) -> tuple[int, os.stat_result] | None:
        """Open a file by its path, and have the kernel say which file that was.

        A regular file of this user's that is where it should be has been reached without a link.
        In any other case it counts as not tried.
        """
        fd = open_quietly(path, flags, None)
        try:
            # Only now: where there is no file, nothing hangs on who owns the root.
            self.check(os.lstat(self.root))
            status = os.fstat(fd)
            regular = stat.S_ISREG(status.st_mode) and status.st_uid == self._user
            if regular and self._path_behind(fd) == path:
                return fd, status
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _enter_at_once(self, path: str) -> int | None:
        """Open a directory by its path, as `_open_at_once` does a file."""
        try:
            fd = os.open(path, DIRECTORY)
        except OSError:
            # Which of those on the way it is that isn't as it should be is seen step by step.
            return None
        try:
            self.check(os.lstat(self.root))
            if os.fstat(fd).st_uid == self._user and self._path_behind(fd) == path:
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def _path_behind(self, fd: int) -> str | None:
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            self._tells_paths = False
            return None

    def leaves(self, hollow: list[str] | None = None) -> Iterator[Leaf]:
        """Visit every leaf directory there is. Links and strangers' names are passed over.

        Directories above that lead to none are told to `hollow`.
        """
        try:
            root = self._open_root(create=False) if _BY_DESCRIPTOR else None
        except FileNotFoundError:
            return
        yield from self._descend(self.root, root, LEVELS, hollow)

    def is_ours(self) -> bool:
        """Tell whether the root bears the tag that it was made by this library."""
        try:
            status = os.stat(self.root)
        except OSError:
            return False
        identity = (status.st_dev, status.st_ino)
        if self._tagged is None or self._tagged[0] != identity:
            self._tagged = (identity, self._has_tag())
        return self._tagged[1]

    def remove_empty(self) -> None:
        """Remove empty directories of the layout, the root stays."""
        hollow: list[str] = []
        for leaf in self.leaves(hollow):
            with leaf:
                path = leaf.path
            self.remove_if_empty(path)
        for path in hollow:
            self.remove_if_empty(path)

    def remove_if_empty(self, path: str) -> int:
        """Remove the leaf at `path` and what is above it where that is empty; count them."""
        parts = path[len(self._prefix) :].split(os.sep)
        removed = 0
        # By its parent's descriptor too: in the place of one there may be a link by now.
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError, StoreError):
            fds = self._open_all(parts[:-1], opened) if _BY_DESCRIPTOR else []
            for level in range(len(parts), 0, -1):
                if fds:
                    os.rmdir(parts[level - 1], dir_fd=fds[level - 1])
                else:
                    os.rmdir(os.path.join(self.root, *parts[:level]))
                removed += 1
        return removed

    def open_beside(self, name: str, flags: int) -> int:
        """Open a file of ours in the root, made where there is none.

        Raises:
            FileNotFoundError: there is no root.
            OSError: it is no regular file, or a link, or can't be opened.
            StoreError: the root can't be trusted any more.
        """
        flags |= CREATE_OR_OPEN
        if _BY_DESCRIPTOR:
            root = self._open_root(create=False)
            try:
                fd = os.open(name, flags, self._filemode, dir_fd=root)
            finally:
                os.close(root)
        else:
            self.check(os.lstat(self.root))
            fd = os.open(os.path.join(self.root, name), flags, self._filemode)
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "is not a regular file", name)
        if stat.S_IMODE(status.st_mode) != self._filemode:
            set_mode(fd, self._filemode)
        return fd

    def _open_all(self, parts: list[str], opened: contextlib.ExitStack) -> list[int]:
        """Open the root, and each directory on the way down."""
        fds = [self._open_root(create=False)]
        opened.callback(os.close, fds[0])
        for part in parts:
            fds.append(os.open(part, DIRECTORY, dir_fd=fds[-1]))
            opened.callback(os.close, fds[-1])
        return fds

    def _refuse_strange_link(self, given: str, *, trusted: bool) -> None:
        try:
            status = os.lstat(given)
        except OSError:
            return
        if stat.S_ISLNK(status.st_mode) and not trusted and not _is_mine(status):
            msg = f"{given} is a symbolic link that another user has made"
            raise ConfigError(msg)

    def _doubt(self, status: os.stat_result) -> str | None:
        if not stat.S_ISDIR(status.st_mode):
            return f"{self.root} is not a directory"
        if self._trusted:
            return None
        if not _is_mine(status):
            return f"{self.root} belongs to another user (uid {status.st_uid})"
        if hasattr(os, "geteuid") and status.st_mode & _OTHERS_WRITE & ~self._dirmode:
            return (
                f"{self.root} may be written to by others (mode {status.st_mode & 0o7777:04o}); "
                "run chmod go-w on it, or allow it in a program by allow_unsafe_root=True"
            )
        return None

    def _open_root(self, *, create: bool) -> int:
        try:
            fd = os.open(self.root, DIRECTORY)
        except FileNotFoundError:
            if not create:
                raise
            self._make_root()
            fd = os.open(self.root, DIRECTORY)
        try:
            self.check(os.fstat(fd))
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _make_root(self) -> None:
        _make_parents(os.path.dirname(self.root), self._dirmode)
        try:
            os.mkdir(self.root, self._dirmode)
        except FileExistsError:
            return
        with contextlib.suppress(OSError):
            os.chmod(self.root, self._dirmode)
        # Without the tag all works, with less certainty about what is a stranger's.
        with contextlib.suppress(OSError):
            tag = os.open(os.path.join(self.root, TAG), CREATE, self._filemode)
            try:
                set_mode(tag, self._filemode)
                write_all(tag, _TAG_TEXT)
            finally:
                os.close(tag)
        self._tagged = None

    def _has_tag(self) -> bool:
        try:
            fd = os.open(os.path.join(self.root, TAG), READ)
        except OSError:
            return False
        try:
            return os.read(fd, len(_TAG_TEXT)) == _TAG_TEXT
        except OSError:
            return False
        finally:
            os.close(fd)

    def _make_by_paths(self, name: str) -> Leaf | None:
        """Go to the leaf of `name` by its path, and make what is missing.

        Where nobody else may write, on the way and in what is made, nobody can put a link there
        between two calls. In any other case it counts as not tried.
        """
        if self._dirmode & _OTHERS_WRITE:
            return None
        # Most leaves are missing from the same level on.
        there = self._levels_there
        made: list[str] = []
        path = self._prefix[:-1]
        try:
            status = os.lstat(self.root)
            self.check(status)
            if not self._is_private(status):
                return None
            for level, part in enumerate(name[:LEVELS]):
                path = f"{path}/{part}"
                found = _found_or_made(path, self._dirmode, look=level < there and not made)
                if found is None:
                    made.append(path)
                elif not self._is_private(found):
                    return None
            is_narrowed = False
            if made and stat.S_IMODE(os.lstat(made[-1]).st_mode) != self._dirmode:
                # By the umask, and so are those above it.
                is_narrowed = True
                with contextlib.suppress(OSError):
                    for narrowed in made:
                        os.chmod(narrowed, self._dirmode)
            is_new = made[-1:] == [path]
            fd = None if is_new else os.open(path, DIRECTORY)
        except OSError:
            # The umask may take the owner's own permission: each has to be mended when it is made.
            with contextlib.suppress(OSError):
                for path in reversed(made):
                    os.rmdir(path)
            return None
        self._levels_there = LEVELS - len(made)
        # What the umask leaves of a directory's mode it leaves of one that has no more.
        keeps_modes = is_new and not is_narrowed and not self._filemode & ~self._dirmode
        return Leaf(path, fd, self._filemode, is_new=is_new, keeps_modes=keeps_modes)

    def _is_private(self, status: os.stat_result) -> bool:
        """Tell whether it is a directory that nobody but this user, or the superuser, writes to."""
        looks = status.st_mode & (_KIND | _OTHERS_WRITE)
        return looks == stat.S_IFDIR and status.st_uid in self._trustworthy

    def _make(self, part: str, parent: int) -> int:
        # Somebody may remove the empty directory before it is entered: that is tried again.
        for attempt in range(5):
            try:
                os.mkdir(part, self._dirmode, dir_fd=parent)
            except FileExistsError:
                made = False
            else:
                made = True
            try:
                fd = os.open(part, DIRECTORY, dir_fd=parent)
            except FileNotFoundError:
                if attempt == 4:
                    raise
                continue
            except PermissionError:
                # The umask may have taken the owner's own permission.
                if not made or attempt == 4 or self._dirmode & _OTHERS_WRITE:
                    raise
                os.chmod(part, self._dirmode, dir_fd=parent)
                continue
            if made:
                set_mode(fd, self._dirmode)
            return fd
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _leaf_by_path(self, name: str, *, create: bool) -> Leaf:
        path = self.root
        if create and not os.path.lexists(path):
            self._make_root()
        for part in ("", *name[:LEVELS]):
            path = os.path.join(path, part) if part else path
            if create and part:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, self._dirmode)
            status = os.lstat(path)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            if not part and (doubt := self._doubt(status)) is not None:
                raise CacheUnavailable(doubt)
        return Leaf(path, None, self._filemode)

    def _folder_by_path(self, name: str, *, create: bool) -> Leaf:
        path = os.path.join(self.root, name)
        if create:
            self.make_root()
            with contextlib.suppress(FileExistsError):
                os.mkdir(path, self._dirmode)
        self.check(os.lstat(self.root))
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return Leaf(path, None, self._filemode)

    def _descend(
        self, path: str, fd: int | None, levels: int, hollow: list[str] | None
    ) -> Iterator[Leaf]:
        if levels == 0:
            yield Leaf(path, fd, self._filemode)
            return
        try:
            with os.scandir(path if fd is None else fd) as scan:
                names = sorted(
                    entry.name
                    for entry in scan
                    if _HEX.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
                )
            if hollow is not None and not names and levels < LEVELS:
                hollow.append(path)
            for name in names:
                below = os.path.join(path, name)
                try:
                    child = None if fd is None else os.open(name, DIRECTORY, dir_fd=fd)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                yield from self._descend(below, child, levels - 1, hollow)
        except FileNotFoundError:
            return
        finally:
            if fd is not None:
                os.close(fd)


def _make_parents(path: str, mode: int) -> None:
    """Make the directories down to `path` that are missing, with `mode`, less the umask."""
    if not os.path.isdir(path):
        _make_parents(os.path.dirname(path), mode)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)


def _found_or_made(path: str, mode: int, *, look: bool) -> os.stat_result | None:
    """Return the status of what is at `path`, or make a directory there; `look` first, or try."""
    if look:
        try:
            return os.lstat(path)
        except FileNotFoundError:
            pass
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return os.lstat(path)
    return None


def _is_mine(status: os.stat_result) -> bool:
    """Tell whether this user, or the superuser, made it."""
    return not hasattr(os, "geteuid") or status.st_uid in {os.geteuid(), 0}
