"""Changing what lies under a name in a directory, in turn with others who do.

What is stored is whole in any case. But who looks at what is there before changing it must not be
overtaken in between: what another has put there would be undone, or its body file left behind.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

from stillfresh.caches import frames
from stillfresh.caches.entryfiles import Look, body_file_of, is_present, unamended
from stillfresh.caches.files import write_all
from stillfresh.caches.locks import Turn
from stillfresh.errors import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from stillfresh.caches.frames import Frame
    from stillfresh.caches.leaf import Leaf

# How long a lock of the caller's kind is waited for, in seconds.
_LOCK_TIMEOUT: Final = 0.05


class Present:
    """The entry files that are in their places. Methods raise `OSError`.

    Attributes:
        lock_class: makes the lock from a path that the caller wants to be taken as well, if any.
    """

    def __init__(self, root: str, lock_class: Callable[[str], Any] | None) -> None:
        """Take turns below `root`."""
        self._root = root
        self.lock_class = lock_class

    def unlink(self, leaf: Leaf, name: str) -> bool:
        """Remove an entry file, then its body file, and say whether it was there."""
        with self.turn(leaf):
            body = body_file_of(leaf, name)
            existed = leaf.unlink(name)
        sweep(leaf, body)
        return existed

    def unlink_version(self, leaf: Leaf, name: str, version: str, old: bytes | None) -> bool:
        """Remove an entry of just this version, and of `old` metadata if given; was it there?"""
        return self._unlink_if(
            leaf, name, lambda held: self._is_present(leaf, name, version, old, held=held)
        )

    def unlink_damaged(self, leaf: Leaf, name: str, is_damaged: Callable[[], bool]) -> bool:
        """Remove an entry with which something is wrong, unless it was replaced meanwhile."""
        return self._unlink_if(leaf, name, lambda held: held and is_damaged())

    def amend(self, fd: int, frame: Frame, look: Look) -> Look | None:
        """Append an amendment to an open entry file that is as it was looked at, and has room.

        Whoever replaces or removes it meanwhile comes after that. Returns how it looks then, or
        None if it was not done.

        Raises:
            CacheUnavailable: a stranger has its lock.
        """
        amendment = frames.encode_amendment(frame)
        if len(amendment) > look.room or not frames.may_be_amended(frame):
            return None
        if self.lock_class is None:
            status = self._append(fd, amendment, look.status.st_size)
        else:
            with self._own_lock(self.lock_class):
                status = self._append(fd, amendment, look.status.st_size)
        if status is None:
            return None
        return Look(status, look.head, frame, look.room - len(amendment))

    def replace_version(
        self,
        leaf: Leaf,
        name: str,
        version: str,
        temporary: str,
        old: bytes | None,
    ) -> bool:
        """Let a finished file take the place of the entry file of just this version.

        If it had `old` metadata, it must still have that: by its number and size it may be another
        one by now, of those that have come and gone.
        """
        with self.turn(leaf) as held, unamended(leaf, name) as still:
            if not self._is_present(leaf, name, version, old, held=held and still):
                return False
            leaf.rename(temporary, name)
            return True

    def replace(self, leaf: Leaf, name: str, temporary: str, *, is_first: bool) -> None:
        """Let a finished file take the place of whatever is present, and sweep behind it.

        What `is_first` has nothing before it: the leaf was made a moment ago.
        """
        if is_first and self.lock_class is None:
            leaf.rename(temporary, name)
            return
        with self.turn(leaf):
            old_body = body_file_of(leaf, name)
            leaf.rename(temporary, name)
        sweep(leaf, old_body)

    def turn(self, leaf: Leaf) -> AbstractContextManager[bool]:
        """Keep others out, and say whether that could be had, as `Leaf.turn`."""
        if self.lock_class is None:
            return leaf.turn()
        return self._turn_with_lock(leaf, self.lock_class)

    @contextlib.contextmanager
    def _turn_with_lock(self, leaf: Leaf, lock_class: Callable[[str], Any]) -> Iterator[bool]:
        with self._own_lock(lock_class), leaf.turn() as held:
            yield held

    def _own_lock(self, lock_class: Callable[[str], Any]) -> AbstractContextManager[object]:
        return _held(lock_class, os.path.join(self._root, ".lock"))

    def _append(self, fd: int, amendment: bytes, size: int) -> os.stat_result | None:
        with Turn(fd) as held:
            if not held:
                raise self._busy()
            status = os.fstat(fd)
            # What was replaced is linked from nowhere any more. What is linked from elsewhere, a
            # backup say, is not ours alone to change.
            if status.st_size != size or status.st_nlink != 1:
                return None
            try:
                write_all(fd, amendment)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, size)
                raise
            return os.fstat(fd)

    def _busy(self) -> CacheUnavailable:
        return CacheUnavailable(f"others are at work in {self._root}")

    def _is_present(
        self, leaf: Leaf, name: str, version: str, old: bytes | None, *, held: bool
    ) -> bool:
        if not held:
            raise self._busy()
        return is_present(leaf, name, version, old)

    def _unlink_if(self, leaf: Leaf, name: str, may_go: Callable[[bool], bool]) -> bool:
        with self.turn(leaf) as held, unamended(leaf, name) as still:
            if not may_go(held and still):
                return False
            body = body_file_of(leaf, name)
            existed = leaf.unlink(name)
        sweep(leaf, body)
        return existed


def sweep(leaf: Leaf, file: str | None) -> None:
    """Remove a file that nothing names any more; if it can't be, it is only litter."""
    if file is not None:
        with contextlib.suppress(OSError):
            leaf.unlink(file)


def _held(lock_class: Callable[[str], Any], path: str) -> AbstractContextManager[object]:
    """Take the caller's kind of lock; where a stranger holds it, go on without."""
    lock = lock_class(path)
    stack = contextlib.ExitStack()
    acquire, release = getattr(lock, "acquire", None), getattr(lock, "release", None)
    if acquire is None or release is None:
        stack.enter_context(lock)
        return stack
    try:
        got = acquire(timeout=_LOCK_TIMEOUT)
    except Exception:  # noqa: BLE001 - each kind has its own word for a lock that is taken
        return stack
    if got is not False:
        stack.callback(release)
    return stack
