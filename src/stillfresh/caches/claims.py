"""Claims: of all processes that share a cache, one fetches what is missing, and the others wait.

A claim is advice and nothing hangs on it: whoever can't have one, or doesn't ask, fetches too.

In a directory a claim is the lock of one byte of one empty file in its root, the byte that the
digest of the key numbers. So nothing is left of it, two keys don't meet, and the kernel takes it
back when its holder dies. The locks are those that belong to an open file (`F_OFD_SETLK`) where
there are such: several caches in one process keep each other out with them as processes do. Each
who has the file open shares the lock of one more byte, which shows the others that it is there.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import xxhash

from stillfresh.errors import StoreError
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.directory import Directory

try:
    import fcntl
except ImportError:  # no POSIX system
    _POSIX = False
else:
    _POSIX = True

_FILE: Final = ".stillfresh-claims"
# The bytes of keys are those before it.
_PRESENCE: Final = 1 << 62
# C's struct flock as Linux has it: type, whence, start, length, and a pid that has to be 0.
_FLOCK: Final = struct.Struct("hhqqi4x")
# Whether the file is still in its place is looked at so often, in seconds.
_LOOKING: Final = 1.0


class Claim:
    """Leave to fetch what is under a key, until `release`, or until nobody has it any more.

    Attributes:
        others: others may have stored it since one last looked.
    """

    __slots__ = ("_ending", "_release", "others")

    def __init__(
        self,
        release: Callable[[], None] | None = None,
        *,
        others: bool = False,
        ending: Callable[[], None] | None = None,
    ) -> None:
        """Hold what `release`, which never raises, gives back, as a version may after `ending`."""
        self._release = release
        self._ending = ending
        self.others = others

    def release(self) -> None:
        """Give it back. May be called twice, from any thread, and never raises."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def forgo(self) -> None:
        """Give it back, unless another one has taken it up since (`BaseCache.open_or_claim`)."""
        self.release()

    def ending(self) -> None:
        """Hear that what is stored next under the key is what it is for; it may end with that."""
        if self._ending is not None:
            self._ending()

    def __del__(self) -> None:
        """Give it back."""
        # At the end of the interpreter nothing can be waited for, and claims end by themselves.
        if not sys.is_finalizing():
            self.release()


class DirectoryClaims:
    """The claims of one cache in a directory. All that it needs of that is a root to trust."""

    def __init__(self, tree: Directory) -> None:
        """Claim nothing yet."""
        self._tree = tree
        self.begin()
        call_in_children(self.begin)

    def begin(self) -> None:
        """Have claimed nothing, in this process."""
        self._lock = threading.Lock()
        self._file: _File | None = None

    def claim(self, key: str) -> Claim | None:
        """Claim `key`; None while another process, or another cache of this one, has it.

        Where there can be no locks it is granted.
        """
        if not _POSIX:
            return Claim(others=True)
        try:
            file = self._opened()
        except (OSError, StoreError):
            return Claim(others=True)
        at = xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass")) % _PRESENCE
        if at in file.held:
            # Who has gone on without waiting for one of its own.
            return Claim(others=True)
        taken = file.take(at)
        if taken is None:
            return Claim(others=True)
        if not taken:
            return None
        return Claim(partial(file.give_back, at), others=not file.is_alone())

    def close(self) -> None:
        """Let go of the file, and of what is claimed."""
        with self._lock:
            file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> _File:
        file = self._file
        if file is not None and file.is_there():
            return file
        with self._lock:
            if self._file is None or not self._file.is_there():
                self._tree.make_root()
                self._file = _File(self._tree.open_beside(_FILE, os.O_RDWR))
            return self._file


class _File:
    """The open file.

    What is called by `Claim.__del__` takes no lock of Python's: the garbage collector may call it
    anywhere.

    Attributes:
        held: the bytes that are locked by it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.held: set[int] = set()
        self._is_there = True
        self._looked = time.monotonic()
        # As long as parent or child has it open, the kernel takes nothing back.
        call_in_children(self.close)
        if _OWNED:
            with contextlib.suppress(OSError):
                _set_lock(fd, _SHARED, _PRESENCE)

    def is_there(self) -> bool:
        """Tell whether others who come find this file, as far as one has looked lately."""
        now = time.monotonic()
        if now - self._looked >= _LOOKING:
            self._looked = now
            try:
                self._is_there = os.fstat(self._fd).st_nlink > 0
            except OSError:
                self._is_there = False
        return self._is_there

    def take(self, at: int) -> bool | None:
        """Lock a byte, and tell whether that could be had; None if locks don't work here."""
        self.held.add(at)
        try:
            _set_lock(self._fd, _EXCLUSIVE, at)
        except OSError as error:
            self.held.discard(at)
            if not isinstance(error, BlockingIOError | PermissionError):
                return None
            # A lock on more than just this byte is a stranger's, who claims nothing.
            return None if _OWNED and _conflict(self._fd, at) not in {None, (at, 1)} else False
        return True

    def give_back(self, at: int) -> None:
        self.held.discard(at)
        if self._fd >= 0:
            try:
                _set_lock(self._fd, _UNLOCKED, at)
            except OSError:
                pass

    def is_alone(self) -> bool:
        """Tell whether nobody else has the file open."""
        try:
            return _OWNED and _conflict(self._fd, _PRESENCE) is None
        except OSError:
            return False

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        self._is_there = False
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


if _POSIX:
    _OWNED: Final = hasattr(fcntl, "F_OFD_SETLK")
    _SHARED: Final = fcntl.F_RDLCK
    _EXCLUSIVE: Final = fcntl.F_WRLCK
    _UNLOCKED: Final = fcntl.F_UNLCK
    _OF_LOCKF: Final = {_EXCLUSIVE: fcntl.LOCK_EX | fcntl.LOCK_NB, _UNLOCKED: fcntl.LOCK_UN}

    def _set_lock(fd: int, kind: int, at: int) -> None:
        if _OWNED:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, at, 1, 0))
        else:
            # These belong to the process, and end when it closes any file of the same name: that
            # a claim ends too early is no harm.
            fcntl.lockf(fd, _OF_LOCKF[kind], 1, at)

    def _conflict(fd: int, at: int) -> tuple[int, int] | None:
        """Return first byte and length of a lock that keeps this one byte from being locked."""
        asked = _FLOCK.pack(_EXCLUSIVE, os.SEEK_SET, at, 1, 0)
        found: tuple[int, ...] = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
        kind, _, start, length, _ = found
        return None if kind == _UNLOCKED else (start, length)
