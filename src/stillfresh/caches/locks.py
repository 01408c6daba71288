"""Locks of whole files (`flock`), for what two processes should not do at once.

Nothing that is stored depends on them, and the kernel takes back what a dead process has. Where
there are none all works the same, and what is left by a killed writer stays a while longer.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# How often a file is made that somebody sweeps at once.
_TRIES: Final = 16
# How long to wait, in seconds, before a lock that somebody holds is asked for again: 30 ms in all.
# Its holder is about to rename a file; one that takes longer is stuck, or a stranger.
_LOCK_PAUSES: Final = (0.0, 0.0, 0.0, *[0.001] * 30)

try:
    import fcntl
except ImportError:  # no POSIX system
    HOLDS = False

    def _try_lock(fd: int, kind: int = 0) -> bool:
        del fd, kind
        return True

    def unlock(fd: int) -> None:
        """Give the lock of a file back."""
        del fd

    def hold(fd: int) -> None:
        """Show that a file is being written. Without locks, that it is open has to do."""
        del fd

    def is_held(fd: int) -> bool:
        """Tell whether somebody writes a file; where that can't be told, nobody has killed it."""
        del fd
        return True

    def lock_at_once(fd: int) -> bool:
        """Take the lock of a file if nobody has it."""
        del fd
        return True

else:
    HOLDS = True

    def hold(fd: int) -> None:
        """Show that a file is being written, until it is closed or its writer dies."""
        # Who sweeps has it for a moment.
        _try_lock(fd, fcntl.LOCK_SH)

    def is_held(fd: int) -> bool:
        """Tell whether somebody is writing a file; one that can't be locked might be."""
        return not lock_at_once(fd)

    def lock_at_once(fd: int) -> bool:
        """Take the lock of a file if nobody has it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(fd: int) -> None:
        """Give the lock of a file back, also for a child that was made meanwhile and has it too."""
        try:
            fcntl.flock(fd, fcntl.LOCK_UN)
        except OSError:
            pass

    def _try_lock(fd: int, kind: int = fcntl.LOCK_EX) -> bool:
        for pause in _LOCK_PAUSES:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(pause)
            except OSError:
                return True
            else:
                return True
        return False


class Turn:
    """Holds the lock of a directory or a file, if it can be had."""

    __slots__ = ("_fd", "_held")

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._held = False

    def __enter__(self) -> bool:
        self._held = self._fd is not None and _try_lock(self._fd)
        return self._held or self._fd is None

    def __exit__(self, *exc: object) -> None:
        if self._fd is not None and self._held:
            unlock(self._fd)


def create_held(create: Callable[[], int]) -> int:
    """Make a file, and show that it is being written until it is closed or its writer dies.

    In between somebody may take it for a killed writer's and sweep it: then it is made again.
    """
    for _ in range(_TRIES):
        fd = create()
        hold(fd)
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)
    raise OSError(errno.EBUSY, "is removed faster than it is made")
