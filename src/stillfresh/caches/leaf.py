"""One directory of files."""

from __future__ import annotations

import os
import re
from typing import Final, Self

from stillfresh.caches.files import (
    APPEND,
    CREATE,
    DIRECTORY,
    NOFOLLOW,
    open_regular,
    set_mode,
)
from stillfresh.caches.locks import Turn

# So many directories lead to one of the layout.
LEVELS: Final = 5
# The layout's file names begin with the digest of a key.
_NAME: Final = re.compile(r"[0-9a-f]{56}(\..*)?", re.DOTALL)


class Leaf:
    """One directory at the bottom of the layout, held open but where it is new. Close it.

    Names are those of files in it; methods raise `OSError`.

    Attributes:
        is_new: whether it has just been made.
        path: where it is, for where it isn't held open, and for listings.
    """

    def __init__(
        self,
        path: str,
        fd: int | None,
        filemode: int,
        *,
        is_new: bool = False,
        keeps_modes: bool = False,
    ) -> None:
        """Take over `fd`.

        One that `is_new` need not be open: nobody else knows of it yet, and most of those who make
        one are done with it after one file. In one that `keeps_modes` the umask has no part in the
        mode of a file.
        """
        self.is_new = is_new
        self.path = path
        self._fd = fd
        self._filemode = filemode
        self._keeps_modes = keeps_modes

    def hold(self) -> int | None:
        """Have it open from now on, whatever becomes of its path; return its descriptor.

        There is none where a system doesn't open directories.
        """
        if self._fd is None and self.is_new:
            self._fd = os.open(self.path, DIRECTORY)
        return self._fd

    def open(self, name: str) -> tuple[int, os.stat_result]:
        """Open a regular file to read; anything else of that name is an error."""
        return open_regular(self._at(name), self._fd)

    def open_to_append(self, name: str) -> tuple[int, os.stat_result]:
        """Open a regular file to read and to write behind its end."""
        return open_regular(self._at(name), self._fd, APPEND)

    def create(self, name: str) -> int:
        """Make a new file to read and write, with the mode asked for whatever the umask."""
        fd = os.open(self._at(name), CREATE, self._filemode, dir_fd=self._fd)
        if not self._keeps_modes:
            set_mode(fd, self._filemode)
        return fd

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; what had that name is gone in the same step."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> bool:
        """Remove a file and say whether it was there."""
        try:
            os.unlink(self._at(name), dir_fd=self._fd)
        except FileNotFoundError:
            return False
        return True

    def names(self, pattern: re.Pattern[str] = _NAME) -> list[str]:
        """List the files of these names (the layout's), sorted, and all else but directories.

        There are none where somebody has removed the directory meanwhile.
        """
        try:
            with os.scandir(self.path if self._fd is None else self._fd) as scan:
                return sorted(
                    entry.name
                    for entry in scan
                    if pattern.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False)
                )
        except FileNotFoundError:
            return []

    def sync(self) -> None:
        """Wait until the directory, and the ones above that lead to it, are on the disk."""
        own = self.hold()
        if own is None:
            return
        os.fsync(own)
        if self.is_new:
            # A new name in a directory is lost with that: each one up to the root has one.
            for level in range(1, LEVELS + 1):
                fd = os.open("/".join([".."] * level), DIRECTORY & ~NOFOLLOW, dir_fd=own)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def turn(self) -> Turn:
        """Keep others out who replace or remove what is here, and say whether that could be had.

        What is stored is whole in any case. But of two who replace the same entry, one might undo
        what the other has done in between, or leave its body file behind. The kernel drops the
        lock when its holder dies. A file system without locks counts as having given it.
        """
        return Turn(self.hold())

    def close(self) -> None:
        """Let go. May be called twice."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __enter__(self) -> Self:
        """Close at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def _at(self, name: str) -> str:
        return f"{self.path}{os.sep}{name}" if self._fd is None else name
