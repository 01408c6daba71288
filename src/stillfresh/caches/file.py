"""Caches in a directory, in the layout that CacheControl and pip fixed: `a/b/c/d/e/abcde…`.

The file of that name is the entry. It is a frame (see `frames`) that holds the body too, or names
a body file beside it. A commit is one rename of a finished entry file into its place, so a reader
sees the old version or the new one, and needs no lock. The body file of a version is written
before, under a name that only the coming entry file knows, and removed after the next version has
taken the place; a reader who had opened the old entry file but not its body yet starts over.

A file that doesn't begin with a frame's magic is another program's value, and is handed out as it
is. Only where the root was made by this library (it bears a tag) must such a value look like one
of CacheControl's: anything else there is damage.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillfresh.caches import frames
from stillfresh.caches.base import (
    BaseCache,
    BodySource,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    SeparateBodyBaseCache,
    as_bytes,
    moment,
)
from stillfresh.caches.directory import Directory, Leaf, fail, read_all, write_all
from stillfresh.caches.frames import BODY_ELSEWHERE, HAS_BODY, Frame
from stillfresh.caches.pairing import Pairing
from stillfresh.errors import CacheUnavailable, CorruptEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from typing_extensions import Buffer

_T = TypeVar("_T")

# Up to this size an entry file is read in one call, and a body waits in memory for its commit.
_AT_ONCE: Final = 1 << 16
# Bodies up to this size ride along in the entry file of a SeparateBodyFileCache: a second file
# costs more than copying this much again when the metadata is refreshed.
_RIDE_ALONG: Final = 1 << 14
# How often a reader starts over because the version it had found was replaced under its hands.
_TRIES: Final = 16
# Recency is written once in this many seconds for an entry, not at every hit.
_RECENCY_STEP: Final = 3600.0
_COPY_STEP: Final = 1 << 20
# Amendments behind an entry take up to this many bytes before the file is written anew: about ten
# refreshes, and still little to read.
_AMENDMENTS: Final = 1 << 12
# How long a lock of the caller's kind is waited for, in seconds.
_LOCK_TIMEOUT: Final = 0.05

# How every value of CacheControl and pip begins.
_CACHECONTROL: Final = b"cc="
# A frame whose magic has been damaged still has most of its bytes in common with it.
_RESEMBLES: Final = 5
_NAME_LENGTH: Final = 56


@lru_cache(maxsize=64)
def file_name(key: str) -> str:
    """Return the name of the entry file of `key`; other programs know it, so it never changes."""
    return hashlib.sha224(frames.encode_key(key)).hexdigest()


class _DirectoryCache(BaseCache):
    """What the two file caches have in common: all but where a long body goes."""

    # Bodies longer than this have a file of their own; None is never.
    _ride_along: int | None = None

    def __init__(
        self,
        directory: str | os.PathLike[str],
        forever: bool = False,  # noqa: FBT001, FBT002 - the classic signature
        filemode: int = 0o600,
        dirmode: int = 0o700,
        lock_class: Callable[[str], Any] | None = None,
        *,
        allow_unsafe_root: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep entries below `directory`, which is made when first written to.

        Args:
            directory: the root.
            forever: `delete` does nothing.
            filemode: mode of new files, whatever the umask.
            dirmode: mode of new directories, whatever the umask.
            lock_class: makes a lock from a path, like those of `filelock`. Writers then take it
                as well, on one file in the root, where it can be had within a moment. Nothing
                needs it.
            allow_unsafe_root: use a root that another user owns or may write to.
            clock: the time, in seconds since the epoch.

        Raises:
            ConfigError: the root is a file, belongs to another user, or others may write to it
                (and `dirmode` doesn't say that they may).
        """
        super().__init__(clock=clock)
        self.directory = directory
        self.forever = forever
        self.filemode = filemode
        self.dirmode = dirmode
        self.lock_class = lock_class
        self._tree = Directory(
            directory, filemode=filemode, dirmode=dirmode, trusted=allow_unsafe_root
        )

    def __repr__(self) -> str:
        """Name the cache and its directory."""
        return f"{type(self).__name__}({os.fspath(self.directory)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the settings; what threads have in hand stays here."""
        return {name: value for name, value in vars(self).items() if name != "_pairing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings in another process."""
        vars(self).update(state)

    def path(self, key: str) -> str:
        """Return the path of the entry file of `key`, whether it exists or not."""
        return self._tree.path(file_name(key))

    def open(self, key: str) -> Entry | None:
        """Follow the entry file to the version it names."""
        self._check_open()
        name = file_name(key)
        headless: str | None = None
        try:
            for _ in range(_TRIES):
                try:
                    return self._open_present(name, key)
                except _BodyMissingError as missing:
                    # Either its writer has just removed it, and there is another version by now,
                    # or it is gone for good.
                    if missing.version == headless:
                        msg = f"the body file of {name} is missing"
                        raise CorruptEntry(msg) from None
                    headless = missing.version
        except FileNotFoundError:
            return None
        except OSError as error:
            fail(error, f"reading {name}")
        # Writers replace it faster than it can be opened.
        return None

    def writer(self, key: str) -> EntryWriter:
        """Write beside what is there, and take its place at the commit."""
        self._check_open()
        version = frames.new_version()
        return EntryWriter(
            _FileSink(self, key, version),
            version=version,
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def update(self, key: str, metadata: Buffer, *, version: str, expires: Expires = None) -> bool:
        """Append an amendment to the entry file, or write it anew if it has had many.

        Another program's entry is never updated: that answers False.
        """
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        metadata = as_bytes(metadata)
        name = file_name(key)
        try:
            with self._tree.leaf(name) as leaf:
                fd, status = leaf.open_to_append(name)
                try:
                    found = _read_frame_and_room(fd, status)
                    if found is None or found[0].version != version or _is_past(found[0], now):
                        return False
                    frame, room = found
                    if expires_at is not None and expires_at <= now:
                        return self._unlink_version(leaf, name, version)
                    changed = frame._replace(
                        metadata=metadata, stored_at=now, expires_at=expires_at
                    )
                    if self._amend(leaf, name, changed, fd, status, room):
                        return True
                    temporary = _rewrite(leaf, name, changed, fd)
                finally:
                    os.close(fd)
                try:
                    return self._replace_version(leaf, name, version, temporary)
                finally:
                    _sweep(leaf, temporary)
        except FileNotFoundError:
            return False
        except OSError as error:
            fail(error, f"updating {name}")

    def remove(self, key: str) -> bool:
        """Remove the entry file, then its body file; with `forever`, nothing."""
        self._check_open()
        if self.forever:
            return False
        name = file_name(key)
        try:
            with self._tree.leaf(name) as leaf:
                return self._unlink_present(leaf, name)
        except FileNotFoundError:
            return False
        except OSError as error:
            fail(error, f"removing {name}")

    def entries(self) -> Iterator[EntryInfo]:
        """List the entry files in the order of their names, other programs' too."""
        self._check_open()
        now = self._clock()
        try:
            for leaf in self._tree.leaves():
                with leaf:
                    for name in leaf.names():
                        info = _info(leaf, name) if len(name) == _NAME_LENGTH else None
                        if info is not None and not _is_past(info, now):
                            yield info
        except OSError as error:
            fail(error, f"listing {self._tree.root}")

    def clear(self) -> None:
        """Remove every file of the layout and the directories it leaves empty.

        Files of other names are left alone. Entries of other programs in the same layout are
        entries of this cache, and go too.
        """
        self._check_open()
        try:
            for leaf in self._tree.leaves():
                with leaf:
                    for name in leaf.names():
                        leaf.unlink(name)
            self._tree.remove_empty()
        except OSError as error:
            fail(error, f"clearing {self._tree.root}")

    def _open_present(self, name: str, key: str) -> Entry | None:
        fd, status = self._tree.open(name)
        try:
            data = read_all(fd, min(status.st_size, _AT_ONCE))
            if not data.startswith(frames.MAGIC):
                self._refuse_damage(data)
                return self._open_foreign(name, data, fd, status)
            frame, _ = _frame_of(data, fd, status)
            if frame.key != key:
                msg = f"{name} holds the entry of another key"
                raise CorruptEntry(msg)
            now = self._clock()
            if _is_past(frame, now):
                return None
            if now - status.st_atime >= _RECENCY_STEP:
                _touch(fd, now, status)
            source: BodySource
            if frame.flags & BODY_ELSEWHERE:
                source = self._open_body(name, frame)
            elif len(data) == status.st_size:
                at = frames.HEAD_SIZE
                source = InMemory(data[at : at + frame.body_size])
            else:
                source, fd = _InFile(fd, frames.HEAD_SIZE), -1
            return Entry(
                frame.metadata,
                version=frame.version,
                size=frame.body_size,
                source=source,
                digest=frame.digest,
                has_body=bool(frame.flags & HAS_BODY),
                expires_at=frame.expires_at,
            )
        finally:
            if fd >= 0:
                os.close(fd)

    def _open_body(self, name: str, frame: Frame) -> _InFile:
        try:
            fd, status = self._tree.open(name, f".{frame.version}.body")
        except FileNotFoundError:
            raise _BodyMissingError(frame.version) from None
        source = _InFile(fd, 0)
        if status.st_size != frame.body_size:
            source.close()
            msg = f"a body file of {status.st_size} bytes where {frame.body_size} were written"
            raise CorruptEntry(msg)
        return source

    def _open_foreign(self, name: str, data: bytes, fd: int, status: os.stat_result) -> Entry:
        """Take another program's file as it is, with the body file it has by its convention."""
        value = data + read_all(fd, status.st_size - len(data))
        version = _stamp(status)
        try:
            body_fd, body_status = self._tree.open(name, ".body")
        except FileNotFoundError:
            return Entry(
                value, version=version, size=0, source=InMemory(b""), digest=None, has_body=False
            )
        return Entry(
            value,
            version=f"{version}+{_stamp(body_status)}",
            size=body_status.st_size,
            source=_InFile(body_fd, 0),
            digest=None,
        )

    def _refuse_damage(self, data: bytes) -> None:
        if data.startswith(_CACHECONTROL):
            return
        common = sum(a == b for a, b in zip(data, frames.MAGIC, strict=False))
        # After a power failure there may be NULs where bytes never reached the disk.
        if (
            not data
            or data.startswith(bytes(len(frames.MAGIC)))
            or common >= min(_RESEMBLES, len(data))
            or self._tree.is_ours()
        ):
            msg = "neither an entry nor another program's value"
            raise CorruptEntry(msg)

    def _unlink_present(self, leaf: Leaf, name: str) -> bool:
        with self._turn(leaf):
            body = _body_file_of(leaf, name)
            existed = leaf.unlink(name)
        _sweep(leaf, body)
        return existed

    def _unlink_version(self, leaf: Leaf, name: str, version: str) -> bool:
        with self._turn(leaf) as held:
            if not _is_present(leaf, name, version, held=held):
                return False
            body = _body_file_of(leaf, name)
            existed = leaf.unlink(name)
        _sweep(leaf, body)
        return existed

    def _amend(
        self, leaf: Leaf, name: str, frame: Frame, fd: int, status: os.stat_result, room: int
    ) -> bool:
        """Append an amendment to the open file, if it is the present one and has room."""
        amendment = frames.encode_amendment(frame)
        # What is linked from elsewhere, a backup say, is not ours alone to change.
        if len(amendment) > room or status.st_nlink != 1:
            return False
        with self._turn(leaf) as held:
            if not held or not _same_file(leaf.status(name), status):
                return False
            try:
                write_all(fd, amendment)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, status.st_size)
                raise
        return True

    def _replace_version(self, leaf: Leaf, name: str, version: str, temporary: str) -> bool:
        """Let a finished file take the place of the entry file of just this version."""
        with self._turn(leaf) as held:
            if not _is_present(leaf, name, version, held=held):
                return False
            leaf.rename(temporary, name)
            return True

    def _replace_present(self, leaf: Leaf, name: str, temporary: str) -> None:
        """Let a finished file take the place of the present entry file, and sweep behind it."""
        if leaf.is_new and self.lock_class is None:
            # There was nothing a moment ago; who comes first now leaves litter at the most.
            leaf.rename(temporary, name)
            return
        with self._turn(leaf):
            old_body = _body_file_of(leaf, name)
            leaf.rename(temporary, name)
        _sweep(leaf, old_body)

    def _turn(self, leaf: Leaf) -> AbstractContextManager[bool]:
        if self.lock_class is None:
            return leaf.turn()
        return self._turn_with_lock(leaf, self.lock_class)

    @contextlib.contextmanager
    def _turn_with_lock(self, leaf: Leaf, lock_class: Callable[[str], Any]) -> Iterator[bool]:
        lock = _held(lock_class, os.path.join(self._tree.root, ".lock"))
        with lock, leaf.turn() as held:
            yield held


class FileCache(_DirectoryCache):
    """One file an entry, body included: for small responses."""


class SeparateBodyFileCache(_DirectoryCache, SeparateBodyBaseCache):
    """An entry file, and for all but small bodies a body file beside it: for downloads."""

    _ride_along = _RIDE_ALONG

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the settings, with nothing in hand."""
        super().__setstate__(state)
        self._pairing = Pairing(self, self._clock)

    def clear(self) -> None:
        """Remove every file of the layout and the directories it leaves empty."""
        self._check_open()
        self._pairing.drop()
        super().clear()


class _BodyMissingError(Exception):
    def __init__(self, version: str) -> None:
        self.version = version


class _InFile:
    """The body's bytes in an open file."""

    __slots__ = ("_fd", "_start")

    def __init__(self, fd: int, start: int) -> None:
        self._fd = fd
        self._start = start

    def read_at(self, offset: int, size: int) -> bytes:
        return _read_at(self._fd, self._start + offset, size)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class _FileSink:
    """Writes one version: small ones at the commit, longer ones as they come."""

    def __init__(self, cache: _DirectoryCache, key: str, version: str) -> None:
        self._cache = cache
        self._key = key
        self._name = file_name(key)
        self._version = version
        limit = cache._ride_along  # noqa: SLF001 - the sink is the cache's own
        self._elsewhere = limit is not None
        self._limit = _AT_ONCE if limit is None else limit
        self._held = bytearray()
        self._leaf: Leaf | None = None
        self._fd = -1
        self._file = ""

    def write(self, chunk: memoryview, /) -> None:
        try:
            if self._fd < 0:
                if len(self._held) + len(chunk) <= self._limit:
                    self._held += chunk
                    return
                self._begin_file()
            write_all(self._fd, chunk)
        except OSError as error:
            fail(error, f"writing the body of {self._name}")

    def publish(self, seal: Seal) -> None:
        self._cache._check_open()  # noqa: SLF001
        flags = HAS_BODY if seal.has_body else 0
        if self._fd >= 0 and self._elsewhere:
            flags |= BODY_ELSEWHERE
        frame = Frame(
            self._key,
            seal.metadata,
            flags,
            seal.size,
            seal.digest,
            seal.version,
            seal.stored_at,
            seal.expires_at,
        )
        try:
            if self._fd < 0:
                self._publish_held(frame)
            elif self._elsewhere:
                if os.fstat(self._fd).st_nlink == 0:
                    msg = f"the body of {self._name} was removed while it was written"
                    raise CacheUnavailable(msg)
                self._close_file()
                self._place(self._leaf_here(), frame, b"")
            else:
                self._publish_file(frame)
        except OSError as error:
            fail(error, f"storing {self._name}")
        self._file = ""
        self._let_go()

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            self._close_file()
        if self._file and self._leaf is not None:
            with contextlib.suppress(OSError):
                self._leaf.unlink(self._file)
        self._file = ""
        self._let_go()

    def detach(self) -> None:
        self._file = ""
        with contextlib.suppress(OSError):
            self._close_file()
        self._let_go()

    def _begin_file(self) -> None:
        kind = "body" if self._elsewhere else "tmp"
        name = f"{self._name}.{self._version}.{kind}"
        self._leaf, self._fd = self._again_if_swept(lambda leaf: (leaf, leaf.create(name)))
        self._file = name
        if not self._elsewhere:
            write_all(self._fd, bytes(frames.HEAD_SIZE))
        write_all(self._fd, bytes(self._held))
        self._held.clear()

    def _publish_held(self, frame: Frame) -> None:
        def place(leaf: Leaf) -> None:
            with leaf:
                self._place(leaf, frame, bytes(self._held))

        self._again_if_swept(place)

    def _again_if_swept(self, use: Callable[[Leaf], _T]) -> _T:
        """Give the leaf to `use`; again, if somebody clears the cache meanwhile."""
        for _ in range(_TRIES):
            with contextlib.suppress(FileNotFoundError):
                leaf = self._cache._tree.leaf(self._name, create=True)  # noqa: SLF001
                try:
                    return use(leaf)
                except BaseException:
                    leaf.close()
                    raise
        msg = f"the directory of {self._name} is removed faster than it is made"
        raise CacheUnavailable(msg)

    def _publish_file(self, frame: Frame) -> None:
        head, tail = frames.encode(frame)
        write_all(self._fd, tail)
        os.lseek(self._fd, 0, os.SEEK_SET)
        write_all(self._fd, head)
        self._close_file()
        self._cache._replace_present(self._leaf_here(), self._name, self._file)  # noqa: SLF001

    def _place(self, leaf: Leaf, frame: Frame, body: bytes) -> None:
        temporary = f"{self._name}.{frame.version}.tmp"
        _write_frame(leaf, temporary, frame, body)
        try:
            self._cache._replace_present(leaf, self._name, temporary)  # noqa: SLF001
        except BaseException:
            with contextlib.suppress(OSError):
                leaf.unlink(temporary)
            raise

    def _leaf_here(self) -> Leaf:
        if self._leaf is None:  # pragma: no cover - there is a file, so there is its leaf
            msg = "no leaf"
            raise OSError(msg)
        return self._leaf

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _let_go(self) -> None:
        self._held.clear()
        if self._leaf is not None:
            self._leaf.close()
            self._leaf = None


def _write_frame(leaf: Leaf, temporary: str, frame: Frame, body: bytes) -> None:
    head, tail = frames.encode(frame)
    fd = leaf.create(temporary)
    try:
        try:
            write_all(fd, b"".join((head, body, tail)))
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            leaf.unlink(temporary)
        raise


def _rewrite(leaf: Leaf, name: str, frame: Frame, old: int) -> str:
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


def _read_frame(fd: int, status: os.stat_result) -> Frame | None:
    """Read all but the body of an entry file; None where it is no frame, or a damaged one."""
    found = _read_frame_and_room(fd, status)
    return None if found is None else found[0]


def _read_frame_and_room(fd: int, status: os.stat_result) -> tuple[Frame, int] | None:
    try:
        return _frame_of(_read_at(fd, 0, min(status.st_size, _AT_ONCE)), fd, status)
    except CorruptEntry:
        return None


def _frame_of(data: bytes, fd: int, status: os.stat_result) -> tuple[Frame, int]:
    """Read the frame that `data` is the beginning of.

    Returns it, and how many bytes may be appended.
    """
    head = frames.parse_head(data)
    end, size = head.frame_size, status.st_size
    if not end <= size <= end + _AMENDMENTS:
        msg = f"{size} bytes where the frame has {end}"
        raise CorruptEntry(msg)
    if len(data) == size:
        tail = data[head.tail_at :]
    else:
        tail = _read_exactly(fd, head.tail_at, size - head.tail_at)
    if size == end:
        return frames.decode(head, data, tail), _AMENDMENTS
    frame = frames.decode(head, data, tail[: head.tail_size])
    frame, amendments = frames.amended(frame, tail[head.tail_size :])
    # Nothing can be found behind a write that was cut short.
    return frame, _AMENDMENTS - amendments if end + amendments == size else 0


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_size) == (other.st_dev, other.st_ino, other.st_size)


def _body_file_of(leaf: Leaf, name: str) -> str | None:
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


def _is_present(leaf: Leaf, name: str, version: str, *, held: bool) -> bool:
    """Tell whether the present entry is `version`, which only who holds the lock can rely on."""
    if not held:
        msg = f"others are at work on {name}"
        raise CacheUnavailable(msg)
    try:
        fd, status = leaf.open(name)
    except FileNotFoundError:
        return False
    try:
        frame = _read_frame(fd, status)
    finally:
        os.close(fd)
    return frame is not None and frame.version == version


def _sweep(leaf: Leaf, file: str | None) -> None:
    """Remove a file that nothing names any more; if it can't be, it is only litter."""
    if file is not None:
        with contextlib.suppress(OSError):
            leaf.unlink(file)


def _stamp(status: os.stat_result) -> str:
    return f"foreign-{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _info(leaf: Leaf, name: str) -> EntryInfo | None:
    try:
        fd, status = leaf.open(name)
    except OSError:
        return None
    try:
        frame = _read_frame(fd, status)
    finally:
        os.close(fd)
    if frame is not None and file_name(frame.key) != name:
        frame = None
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


def _is_past(entry: Frame | EntryInfo, now: float) -> bool:
    return entry.expires_at is not None and entry.expires_at <= now


def _touch(fd: int, now: float, status: os.stat_result) -> None:
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
