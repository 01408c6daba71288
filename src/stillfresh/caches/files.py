"""Single files and what the operating system says of them, in the words of this library."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, NoReturn

from stillfresh.errors import CacheFull, CacheUnavailable, StoreError

NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_COMMON: Final = NOFOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# How things are opened: never through a link, never kept by a program that is started.
DIRECTORY: Final = os.O_RDONLY | _COMMON | getattr(os, "O_DIRECTORY", 0)
# O_NONBLOCK: opening a FIFO that somebody put there must not wait for its writer.
_AT_ONCE: Final = _COMMON | getattr(os, "O_NONBLOCK", 0)
READ: Final = os.O_RDONLY | _AT_ONCE | getattr(os, "O_NOCTTY", 0)
APPEND: Final = (READ & ~os.O_RDONLY) | os.O_RDWR | os.O_APPEND
CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | _COMMON
CREATE_OR_OPEN: Final = os.O_CREAT | _AT_ONCE
# When an entry was last used is noted by who uses it. A listing, and the kernel, note nothing.
_NOATIME: Final = getattr(os, "O_NOATIME", 0)
# One write call takes at most this much: Linux cuts at 2 GiB less a page, others sooner.
_WRITE_STEP: Final = 1 << 30


def store_error(error: OSError, doing: str) -> StoreError:
    """Say in our words what the operating system said."""
    kind = CacheFull if is_full(error) else CacheUnavailable
    return kind(f"{doing}: {error.strerror or error}")


def is_full(error: OSError) -> bool:
    """Tell whether there was no room for something."""
    return error.errno in {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def fail(error: OSError, doing: str) -> NoReturn:
    """Raise `error` as a `StoreError`."""
    raise store_error(error, doing) from error


def open_quietly(path: str, flags: int, dir_fd: int | None) -> int:
    """Open what is there, without the kernel's noting that it was used."""
    try:
        return os.open(path, flags | _NOATIME, dir_fd=dir_fd)
    except PermissionError:
        if not _NOATIME:
            raise
    # Of another user's file the kernel does note it.
    return os.open(path, flags, dir_fd=dir_fd)


def open_regular(path: str, dir_fd: int | None, flags: int = READ) -> tuple[int, os.stat_result]:
    """Open a regular file; anything else is an error."""
    fd = open_quietly(path, flags, dir_fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "is not a regular file", path)
    return fd, status


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data`: one call may take less, and never takes over 2 GiB."""
    view = memoryview(data)
    while view:
        written = os.write(fd, view[:_WRITE_STEP])
        view = view[written:]


def read_all(fd: int, size: int) -> bytes:
    """Read `size` bytes from the position of `fd`; fewer if the file ends before."""
    data = os.read(fd, min(size, _WRITE_STEP)) if size else b""
    if len(data) == size:
        return data
    parts = [data]
    left = size - len(data)
    while left and parts[-1]:
        parts.append(os.read(fd, min(left, _WRITE_STEP)))
        left -= len(parts[-1])
    return b"".join(parts)


def set_mode(fd: int, mode: int) -> None:
    """Give what was just made the mode that the umask may have narrowed.

    Where that can't be done, it stays narrower.
    """
    if hasattr(os, "fchmod"):
        try:
            os.fchmod(fd, mode)
        except OSError:
            pass
