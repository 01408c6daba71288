"""Writing one entry of a file cache, from its first byte to the rename that commits it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from stillfresh.caches import frames
from stillfresh.caches.entryfiles import body_file_of, file_name, write_new
from stillfresh.caches.files import fail, write_all
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY
from stillfresh.caches.locks import HOLDS, create_held, unlock
from stillfresh.caches.writing import appended
from stillfresh.errors import CacheFull, CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from stillfresh.caches.directory import Directory
    from stillfresh.caches.leaf import Leaf
    from stillfresh.caches.writing import Seal

_T = TypeVar("_T")

# Up to this size a body waits in memory for its commit.
_HELD: Final = 1 << 16
# How often a writer starts over because somebody removes the directory under its hands.
_TRIES: Final = 16


class _Replace(Protocol):
    def __call__(self, leaf: Leaf, name: str, temporary: str, /, *, is_first: bool) -> None: ...


class FileSink:
    """Writes one version: small ones at the commit, longer ones as they come."""

    def __init__(
        self,
        tree: Directory,
        key: str,
        version: str,
        ride_along: int | None,
        *,
        replace: _Replace,
        check_open: Callable[[], None],
        check_room: Callable[[], None],
        published: Callable[[int], None],
        max_bytes: int | None,
        durable: bool,
    ) -> None:
        """Write below `tree`.

        Args:
            tree: where the cache has its files.
            key: of the entry.
            version: its name.
            ride_along: bodies longer than this go to a file of their own; None is never.
            replace: lets a finished file take the place of the present entry file.
            check_open: raises `CacheClosed` once the cache is.
            check_room: raises `CacheFull` while there is none.
            published: is told how many bytes an entry takes that has taken its place.
            max_bytes: entries larger than the cache may be are refused.
            durable: wait until all of it is on the disk.
        """
        self._tree = tree
        self._replace = replace
        self._check_open = check_open
        self._check_room = check_room
        self._published = published
        self._max_bytes = max_bytes
        self._durable = durable
        self._size = 0
        self._key = frames.encode_key(key)
        self._name = file_name(key)
        self._version = version
        self._elsewhere = ride_along is not None
        self._limit = _HELD if ride_along is None else ride_along
        self._held: bytes | bytearray = b""
        self._leaf: Leaf | None = None
        self._fd = -1
        self._file = ""

    def write(self, chunk: bytes | memoryview, /) -> None:
        """Take the next bytes of the body."""
        self._size += len(chunk)
        self._check_size(self._size)
        try:
            if self._fd < 0:
                if self._size <= self._limit:
                    self._held = appended(self._held, chunk)
                    return
                self._begin_file()
            write_all(self._fd, chunk)
        except OSError as error:
            fail(error, f"writing a body in {self._tree.root}")

    def publish(self, seal: Seal) -> None:
        """Let the entry take its place."""
        self._check_open()
        self._check_room()
        flags = HAS_BODY if seal.has_body else 0
        if self._fd >= 0 and self._elsewhere:
            flags |= BODY_ELSEWHERE
        head, tail = frames.encode_sealed(self._key, seal, flags)
        size = len(head) + seal.size + len(tail)
        self._check_size(size)
        try:
            if self._fd < 0:
                self._publish_held(b"".join((head, self._held, tail)))
            elif self._elsewhere:
                if os.fstat(self._fd).st_nlink == 0:
                    msg = "the body was removed while it was written"
                    raise CacheUnavailable(msg)
                if self._durable:
                    os.fsync(self._fd)
                # Open, and so held, until an entry names it: nobody sweeps it before.
                self._place(self._leaf_here(), head + tail, is_first=False)
                self._let_file_go()
            else:
                self._publish_file(head, tail)
        except OSError as error:
            fail(error, f"storing in {self._tree.root}")
        self._file = ""
        self._let_go()
        self._published(size)

    def discard(self) -> None:
        """Remove every trace."""
        with contextlib.suppress(OSError):
            self._close_file()
        if self._file and self._leaf is not None:
            with contextlib.suppress(OSError):
                # After an exception from outside (Ctrl-C, say) the entry may be there after all.
                if body_file_of(self._leaf, self._name) != self._file:
                    self._leaf.unlink(self._file)
        self._file = ""
        self._let_go()

    def detach(self) -> None:
        """Let go, and leave what is there to the process whose it is."""
        self._file = ""
        with contextlib.suppress(OSError):
            self._close_file()
        self._let_go()

    def _check_size(self, size: int) -> None:
        if self._max_bytes is not None and size > self._max_bytes:
            msg = f"an entry of {size} bytes where at most {self._max_bytes} are kept of one"
            raise CacheFull(msg)

    def _begin_file(self) -> None:
        kind = "body" if self._elsewhere else "tmp"
        name = f"{self._name}.{self._version}.{kind}"

        def begin(leaf: Leaf) -> tuple[Leaf, int]:
            # Until the last byte has come.
            leaf.hold()
            return leaf, create_held(lambda: leaf.create(name))

        self._leaf, self._fd = self._again_if_swept(begin)
        self._file = name
        if not self._elsewhere:
            write_all(self._fd, bytes(frames.HEAD_SIZE))
        write_all(self._fd, self._held)
        self._held = b""

    def _publish_held(self, data: bytes) -> None:
        def place(leaf: Leaf) -> None:
            with leaf:
                if self._durable:
                    leaf.hold()
                self._place(leaf, data, is_first=leaf.is_new)

        self._again_if_swept(place)

    def _again_if_swept(self, use: Callable[[Leaf], _T]) -> _T:
        """Give the leaf to `use`; again, if somebody clears the cache meanwhile."""
        for _ in range(_TRIES):
            try:
                leaf = self._tree.leaf(self._name, create=True)
                try:
                    return use(leaf)
                except BaseException:
                    leaf.close()
                    raise
            except FileNotFoundError:
                continue
        msg = f"directories in {self._tree.root} are removed faster than they are made"
        raise CacheUnavailable(msg)

    def _publish_file(self, head: bytes, tail: bytes) -> None:
        write_all(self._fd, tail)
        os.lseek(self._fd, 0, os.SEEK_SET)
        write_all(self._fd, head)
        leaf = self._leaf_here()
        if self._durable:
            os.fsync(self._fd)
        if not HOLDS:
            # No open file has its name changed there.
            self._close_file()
        self._replace(leaf, self._name, self._file, is_first=False)
        # Open, and so held, until now: nobody has swept it.
        self._let_file_go()
        if self._durable:
            leaf.sync()

    def _place(self, leaf: Leaf, data: bytes, *, is_first: bool) -> None:
        """Have `data` for the entry file."""
        temporary = f"{self._name}.{self._version}.tmp"
        for left in range(_TRIES, 0, -1):
            write_new(leaf, temporary, data, durable=self._durable)
            try:
                self._replace(leaf, self._name, temporary, is_first=is_first)
            except FileNotFoundError:
                # Somebody has swept it, taking it for a killed writer's.
                if left == 1:
                    raise
            except BaseException:
                with contextlib.suppress(OSError):
                    leaf.unlink(temporary)
                raise
            else:
                break
        if self._durable:
            leaf.sync()

    def _leaf_here(self) -> Leaf:
        if self._leaf is None:  # pragma: no cover - there is a file, so there is its leaf
            msg = "no leaf"
            raise OSError(msg)
        return self._leaf

    def _let_file_go(self) -> None:
        """Close a file that is in its place, and is to be refreshed and pruned like any other."""
        if self._fd >= 0:
            # A child that was made meanwhile has it open too, and would hold it on.
            unlock(self._fd)
        self._close_file()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _let_go(self) -> None:
        self._held = b""
        if self._leaf is not None:
            self._leaf.close()
            self._leaf = None
