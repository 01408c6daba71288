"""One entry file: read, written and looked at, by the descriptor of its leaf directory.

An entry file is a frame (see `frames`) that holds the body or names the body file beside it, and
behind that the amendments that refreshes have appended.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from stillfresh.caches import frames
from stillfresh.caches.base import EntryInfo
from stillfresh.caches.files import write_all
from stillfresh.caches.frames import BODY_ELSEWHERE, Frame
from stillfresh.caches.locks import HOLDS, Turn
from stillfresh.errors import CorruptEntry
from stillfresh.memo import remembered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh.caches.leaf import Leaf

# Up to this size an entry file is read in one call.
AT_ONCE: Final = 1 << 16
# Amendments behind an entry take up to this many bytes before the file is written anew: some twenty
# refreshes, and still little to read.
_AMENDMENTS: Final = 1 << 13
# How versions of other programs' files begin.
FOREIGN: Final = "foreign-"
_COPY_STEP: Final = 1 << 20
# The name of an entry file is a digest in hexadecimal; what goes with it begins with that.
NAME_LENGTH: Final = 56


@remembered()
def file_name(key: str) -> str:
    """Return the name of the entry file of `key`; other programs know it, so it never changes."""
    return hashlib.sha224(frames.encode_key(key)).hexdigest()


class InFile:
    """The body's bytes in an open file."""

    __slots__ = ("_fd", "_start")

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._start = start

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        return _read_at(self._fd, self._start + offset, size)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def write_new(leaf: Leaf, temporary: str, data: bytes, *, durable: bool = False) -> None:
    """Write a whole entry file under a name that nobody knows; nothing stays of a failure."""
    fd = leaf.create(temporary)
    try:
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            leaf.unlink(temporary)
        raise


def rewrite(leaf: Leaf, name: str, frame: Frame, old: int) -> str:
    """Write the entry file anew, around the body that the file `old` may hold; return its name."""
    temporary = f"{name}.{frames.new_version()}.tmp"
    head, tail = frames.encode(frame)
    fd = leaf.create(temporary)
    try:
        try:
            if frame.inline_size <= _COPY_STEP:
                body = _read_exactly(old, frames.HEAD_SIZE, frame.inline_size)
                write_all(fd, b"".join((head, body, tail)))
            else:
                write_all(fd, head)
                for at in range(0, frame.inline_size, _COPY_STEP):
                    step = min(_COPY_STEP, frame.inline_size - at)
                    write_all(fd, _read_exactly(old, frames.HEAD_SIZE + at, step))
                write_all(fd, tail)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            leaf.unlink(temporary)
        raise
    return temporary


class Look(NamedTuple):
    """What an entry file was when it was looked at, and how many bytes may be appended to it."""

    status: os.stat_result
    head: bytes
    frame: Frame
    room: int

    @property
    def size(self) -> int:
        """How many bytes it takes to remember this."""
        return len(self.frame.key) + len(self.frame.metadata)

    def is_of(self, status: os.stat_result) -> bool:
        """Tell whether that seems to be the same file, and nothing in it, nor of it, has changed.

        A file that has come in its place may have got its number, within the same tick of the file
        system's clock: its head tells (`is_in`, or the bytes themselves).
        """
        mine = self.status
        return (
            mine.st_ino == status.st_ino
            and mine.st_ctime_ns == status.st_ctime_ns
            and mine.st_size == status.st_size
            and mine.st_dev == status.st_dev
        )

    def is_in(self, fd: int) -> bool:
        """Tell whether an open file which that seems to be of begins with the same head.

        There stands a checksum of what was written with it, its version and its time included.
        """
        return _read_at(fd, 0, frames.HEAD_SIZE) == self.head


def look_in(fd: int, status: os.stat_result) -> Look | None:
    """Read all but the body of an entry file; None where it is no frame, or a damaged one."""
    try:
        return look_at(_read_at(fd, 0, min(status.st_size, AT_ONCE)), fd, status)
    except CorruptEntry:
        return None


def look_up(leaf: Leaf, name: str) -> Look | None:
    """Open an entry file, and do `look_in`; one that isn't there raises `FileNotFoundError`."""
    fd, status = leaf.open(name)
    try:
        return look_in(fd, status)
    finally:
        os.close(fd)


def look_at(data: bytes, fd: int, status: os.stat_result) -> Look:
    """Read the frame that `data` is the beginning of.

    Raises:
        CorruptEntry: it is none, or a damaged one.
    """
    head = frames.parse_head(data)
    tail_at, end, size = head.tail_at, head.frame_size, status.st_size
    if not end <= size <= end + _AMENDMENTS:
        msg = f"{size} bytes where the frame has {end}"
        raise CorruptEntry(msg)
    if len(data) == size:
        tail, behind = data[tail_at:end], data[end:]
    else:
        rest = _read_exactly(fd, tail_at, size - tail_at)
        tail, behind = rest[: end - tail_at], rest[end - tail_at :]
    frame, raw = frames.decode(head, data, tail), data[: frames.HEAD_SIZE]
    if not behind:
        return Look(status, raw, frame, _AMENDMENTS)
    frame, amendments = frames.amended(frame, behind)
    # Nothing can be found behind a write that was cut short.
    return Look(status, raw, frame, _AMENDMENTS - amendments if end + amendments == size else 0)


def body_file_of(leaf: Leaf, name: str) -> str | None:
    """Return the name of the body file that goes with the present entry file, if one does."""
    try:
        fd, status = leaf.open(name)
    except OSError:
        return None
    try:
        head = frames.parse_head(_read_at(fd, 0, frames.HEAD_SIZE))
    except CorruptEntry:
        return f"{name}.body" if status.st_size else None
    except OSError:
        return None
    finally:
        os.close(fd)
    if head.flags & BODY_ELSEWHERE:
        return f"{name}.{head.version.hex()}.body"
    return None


@contextlib.contextmanager
def unamended(leaf: Leaf, name: str) -> Iterator[bool]:
    """Let nobody amend the present entry file in the block, and say whether that could be had.

    That nobody replaces it is for who holds the lock of the leaf.
    """
    if not HOLDS:
        # Where there are no locks, no open file can be replaced or removed either.
        yield True
        return
    try:
        fd, _ = leaf.open(name)
    except OSError:
        # Nobody amends what isn't there, or can't be opened.
        yield True
        return
    try:
        with Turn(fd) as held:
            yield held
    finally:
        os.close(fd)


def is_present(leaf: Leaf, name: str, version: str, metadata: bytes | None) -> bool:
    """Tell whether the present entry is `version`, and has this `metadata` if it is given.

    Only who holds the lock of the leaf can rely on it, and of the file (`unamended`).
    """
    try:
        look = look_up(leaf, name)
    except FileNotFoundError:
        return False
    if look is None or look.frame.version != version:
        return False
    return metadata is None or look.frame.metadata == metadata


def stamp(status: os.stat_result) -> str:
    """Name a version of another program's file by what changes with it."""
    return f"{FOREIGN}{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def info(leaf: Leaf, name: str) -> EntryInfo | None:
    """Describe an entry file for a listing; None if it is gone."""
    try:
        fd, status = leaf.open(name)
    except OSError:
        return None
    try:
        look = look_in(fd, status)
    finally:
        os.close(fd)
    frame = None if look is None or file_name(look.frame.key) != name else look.frame
    body = f"{name}.body" if frame is None else f"{name}.{frame.version}.body"
    beside = 0
    if frame is None or frame.flags & BODY_ELSEWHERE:
        with contextlib.suppress(OSError):
            body_fd, body_status = leaf.open(body)
            os.close(body_fd)
            beside = body_status.st_size
    return EntryInfo(
        key=None if frame is None else frame.key,
        name=name,
        size=status.st_size + beside,
        body_size=beside if frame is None else frame.body_size,
        stored_at=status.st_mtime if frame is None else frame.stored_at,
        used_at=status.st_atime,
        expires_at=None if frame is None else frame.expires_at,
        foreign=frame is None,
    )


def touch(fd: int, now: float, status: os.stat_result) -> None:
    """Note that an entry was used."""
    # A read-only file system keeps no recency; that is no reason to fail a hit.
    with contextlib.suppress(OSError, OverflowError, TypeError):
        os.utime(fd, ns=(int(now * 1e9), status.st_mtime_ns))


def _read_exactly(fd: int, offset: int, size: int) -> bytes:
    parts = []
    while size:
        part = _read_at(fd, offset, size)
        if not part:
            msg = f"the entry file ends at byte {offset}"
            raise CorruptEntry(msg)
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


if hasattr(os, "pread"):

    def _read_at(fd: int, offset: int, size: int) -> bytes:
        return os.pread(fd, size, offset)

else:

    def _read_at(fd: int, offset: int, size: int) -> bytes:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)
