"""Entries: one committed version to read, and the writer that makes one.

Both are finished here once for every cache: lengths, digests, the states a writer can be in and
what happens to it after `fork()` or when it is forgotten. A cache brings only where the bytes come
from (`BodySource`) and where they go (`EntrySink`). `Reading` and `Writing` are coroutines, so that
caches which have to be waited for (`asynchronous.py`) have the very same.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

import xxhash

from stillfresh.caches import frames
from stillfresh.caches.coroutines import Settle, at_once, run
from stillfresh.caches.expiry import Expires, moment
from stillfresh.errors import BodyLost, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

# A body up to this size is checked as a whole before its first byte is handed out: large enough
# for nearly every page and API answer, small enough to hold in memory for a moment.
CHECKED_AT_ONCE: Final = 1 << 20
# The beginning of a URL: its scheme, and the authority.
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.ASCII | re.IGNORECASE)
# Reads of a longer body to its end go in steps of this size.
_STEP: Final = 1 << 20


def host_of(key: str) -> str:
    """Return the host of a key that is a URL, with its port; "" for all others."""
    url = _URL.match(key)
    if url is None:
        return ""
    host = url[1].rpartition("@")[2].lower()
    return host if host.isascii() else host.encode("ascii", "replace").decode()


def as_bytes(data: Buffer) -> bytes:
    """Copy any bytes-like object; what is none raises `TypeError`.

    `bytes()` itself takes 5 for five NULs.
    """
    return data if type(data) is bytes else memoryview(data).tobytes()


class BodySource(Protocol):
    """Where the bytes of one committed body are; they never change."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer only at the end. Raises `OSError`."""

    def close(self) -> None:
        """Let go of the bytes. May be called twice."""


class AsyncBodySource(Protocol):
    """A `BodySource` that is waited for."""

    async def read_at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer only at the end. Raises `OSError`."""

    def close(self) -> None:
        """Let go of the bytes. May be called twice."""


class InMemory:
    """A body that is already here."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, offset: int, size: int) -> bytes:
        """Return a slice."""
        if offset == 0 and size >= len(self.data):
            return self.data
        return self.data[offset : offset + size]

    def close(self) -> None:
        """Nothing to let go of."""


class Reading:
    """Reads one body to its end and checks it on the way, for `Entry` and `AsyncEntry`."""

    __slots__ = ("_body", "_digest", "_hasher", "_offset", "_settle", "_size", "_source")

    def __init__(
        self, source: BodySource | AsyncBodySource, size: int, digest: bytes | None, settle: Settle
    ) -> None:
        """Read `size` bytes of `source`, whose answers `settle` makes bytes of."""
        self._source: BodySource | AsyncBodySource | None = source
        self._size = size
        self._digest = digest
        self._settle = settle
        self._hasher: xxhash.xxh3_128 | None = None
        self._offset = 0
        # All of it, once that has been checked.
        self._body: bytes | None = None

    def is_here(self) -> bool:
        """Tell whether all of the body is in memory, and has been checked, without any waiting."""
        if self._body is not None:
            return True
        source = self._source
        if type(source) is not InMemory or len(source.data) != self._size:
            return False
        if self._digest is not None:
            if self._size > CHECKED_AT_ONCE:
                return False
            self._compare(source.data, self._digest)
        self._body = source.data
        return True

    def take(self, size: int) -> bytes:
        """Return what `read` does, of a body that is here."""
        body, start, end = self._body, self._offset, self._size
        assert body is not None  # noqa: S101 - that is what is_here has said
        if not start and (size < 0 or size >= end):
            self._offset = end
            return body
        self._offset = end if size < 0 else min(start + size, end)
        return body[start : self._offset]

    async def check(self) -> None:
        """Check as much of the body as can be known to be right before it is read."""
        if self.is_here():
            return
        self._require_open()
        if self._digest is not None and self._size <= CHECKED_AT_ONCE:
            body = await self._exactly(0, self._size)
            self._compare(body, self._digest)
            self._require_open().close()
            self._body = body

    async def verify(self) -> None:
        """Check the whole body, whatever its size."""
        await self.check()
        if self._digest is None:
            return
        if self._offset:
            msg = "the body has been read already"
            raise ValueError(msg)
        hasher = xxhash.xxh3_128()
        for offset in range(0, self._size, _STEP):
            hasher.update(await self._exactly(offset, min(_STEP, self._size - offset)))
        if hasher.digest() != self._digest:
            raise self._wrong()

    async def read(self, size: int) -> bytes:
        """Return the next `size` bytes of the body, all that are left if it is negative."""
        await self.check()
        if self._body is not None:
            return self.take(size)
        left = self._size - self._offset
        wanted = left if size < 0 else min(size, left)
        if wanted == 0:
            return b""
        if self._digest is None:
            chunk = await self._exactly(self._offset, wanted)
        else:
            chunk = await self._checked_on_the_way(self._digest, wanted)
        self._offset += len(chunk)
        return chunk

    async def seek(self, offset: int) -> None:
        """Check the whole body, and go on reading at `offset`."""
        if not 0 <= offset <= self._size:
            msg = f"byte {offset} of {self._size}"
            raise ValueError(msg)
        if self._digest is not None:
            here = self._offset, self._hasher
            self._offset, self._hasher = 0, None
            try:
                await self.verify()
            except BaseException:
                self._offset, self._hasher = here
                raise
            self._digest = None
        self._require_open()
        self._offset = offset

    def close(self) -> None:
        """Let go of the source. May be called twice."""
        source, self._source = self._source, None
        self._body = None
        if source is not None:
            source.close()

    def _require_open(self) -> BodySource | AsyncBodySource:
        if self._source is None:
            msg = "read of a closed entry"
            raise ValueError(msg)
        return self._source

    async def _exactly(self, offset: int, size: int) -> bytes:
        source = self._require_open()
        parts = []
        end = offset + size
        while offset < end:
            try:
                part: bytes = await self._settle(source.read_at(offset, end - offset))
            except OSError as error:
                msg = f"the body can't be read at byte {offset} of {self._size}: {error}"
                raise BodyLost(msg) from error
            if not part:
                msg = f"the body ends at byte {offset} of {self._size}"
                raise BodyLost(msg)
            parts.append(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _compare(self, body: bytes, digest: bytes) -> None:
        if frames.digest(body) != digest:
            raise self._wrong()
        # There is nothing to check after that.
        self._digest = None

    async def _checked_on_the_way(self, digest: bytes, wanted: int) -> bytes:
        if self._hasher is None:
            self._hasher = xxhash.xxh3_128()
        parts = []
        offset, end = self._offset, self._offset + wanted
        while offset < end:
            part = await self._exactly(offset, min(end - offset, _STEP))
            self._hasher.update(part)
            offset += len(part)
            parts.append(part)
        # Before the last byte goes out, not after it.
        if end == self._size and self._hasher.digest() != digest:
            raise self._wrong()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wrong(self) -> BodyLost:
        self.close()
        return BodyLost(f"the body of {self._size} bytes is not the one that was written")


class Entry:
    """One committed version: metadata and body that belong together.

    Attributes:
        metadata: the bytes kept beside the body; whole and checked.
        version: names this version; a cache's `update` swaps metadata of just this one.
        size: length of the body in bytes.
        has_body: whether a body was ever written; an empty one counts.
        expires_at: the moment it stops existing, in seconds since the epoch.
    """

    __slots__ = (
        "__weakref__",
        "_reading",
        "expires_at",
        "has_body",
        "metadata",
        "size",
        "version",
    )

    def __init__(
        self,
        metadata: bytes,
        *,
        version: str,
        size: int,
        source: BodySource,
        digest: bytes | None,
        has_body: bool = True,
        expires_at: float | None = None,
    ) -> None:
        """Describe a version; without a `digest` (another program's entry) nothing is checked."""
        self.metadata = metadata
        self.version = version
        self.size = size
        self.has_body = has_body
        self.expires_at = expires_at
        self._reading = Reading(source, size, digest, at_once)

    def check(self) -> None:
        """Check as much of the body as can be known to be right before it is read.

        That is all of a body of up to 1 MiB; of a longer one its length, which is known.

        Raises:
            BodyLost: it is not what was written.
            ValueError: the entry is closed.
        """
        if not self._reading.is_here():
            run(self._reading.check())

    def verify(self) -> None:
        """Check the whole body, whatever its size, in constant memory. It can be read after that.

        Raises:
            BodyLost: it is not what was written.
            ValueError: the entry is closed, or reading has begun.
        """
        self.check()
        if not self._reading.is_here():
            run(self._reading.verify())

    def read(self, size: int = -1, /) -> bytes:
        """Return the next `size` bytes of the body, all that are left if it is negative.

        Fewer bytes come back only at the end of the body, and then `b""`.

        Raises:
            BodyLost: the body is not what was written, or can't be read to its end.
            ValueError: the entry is closed.
        """
        reading = self._reading
        return reading.take(size) if reading.is_here() else run(reading.read(size))

    def seek(self, offset: int, /) -> None:
        """Go on reading at `offset`, counted from the first byte.

        The whole body is checked before, since a part of it can't be.

        Raises:
            BodyLost: the body is not what was written.
            ValueError: the entry is closed, or there is no such byte.
        """
        run(self._reading.seek(offset))

    def readinto(self, buffer: Buffer, /) -> int:
        """Fill `buffer` from the body and return how many bytes were written.

        Raises:
            BodyLost: as `read`.
        """
        with memoryview(buffer).cast("B") as view:
            chunk = self.read(len(view))
            view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        """Let go of files and memory. May be called twice."""
        self._reading.close()

    def __enter__(self) -> Self:
        """Close the entry at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the entry."""
        self.close()

    def __repr__(self) -> str:
        """Name the version and its size."""
        return f"<Entry {self.version} of {self.size} bytes>"


class Seal(NamedTuple):
    """What is known about an entry once its body is whole."""

    metadata: bytes
    has_body: bool
    size: int
    digest: bytes
    version: str
    stored_at: float
    expires_at: float | None


class EntrySink(Protocol):
    """Where the bytes of one new entry go. Each method raises `StoreError` only."""

    def write(self, chunk: memoryview, /) -> None:
        """Take the next bytes of the body, all of them."""

    def publish(self, seal: Seal) -> None:
        """Make the entry visible, in one step."""

    def discard(self) -> None:
        """Remove every trace. Never raises."""

    def detach(self) -> None:
        """Let go without removing anything: the entry is another process's. Never raises."""


class AsyncEntrySink(Protocol):
    """An `EntrySink` that is waited for."""

    async def write(self, chunk: memoryview, /) -> None:
        """Take the next bytes of the body, all of them."""

    async def publish(self, seal: Seal) -> None:
        """Make the entry visible, in one step."""

    async def discard(self) -> None:
        """Remove every trace. Never raises."""

    def detach(self) -> None:
        """Let go without removing anything: nobody can wait for that. Never raises."""


class Writing:
    """The states of one version that is being written, for `EntryWriter` and `AsyncEntryWriter`."""

    __slots__ = (
        "_clock",
        "_hasher",
        "_pid",
        "_remove",
        "_settle",
        "_sink",
        "_version",
        "_wrote",
        "size",
    )

    def __init__(
        self,
        sink: EntrySink | AsyncEntrySink,
        version: str,
        clock: Callable[[], float],
        remove: Callable[[], object],
        settle: Settle | None,
    ) -> None:
        """Write `version` to `sink`, whose answers `settle` waits for; None is not to wait."""
        self._sink: EntrySink | AsyncEntrySink | None = sink
        self._version = version
        self._clock = clock
        self._remove = remove
        self._settle = settle
        self._hasher = xxhash.xxh3_128()
        self._wrote = False
        self._pid = os.getpid()
        self.size = 0

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._sink is not None

    async def write(self, chunk: Buffer) -> None:
        """Append to the body. After an error the version is aborted."""
        sink = self._open_sink()
        with memoryview(chunk).cast("B") as view:
            try:
                answer = sink.write(view)
                if self._settle is not None:
                    await self._settle(answer)
            except BaseException:
                await self.abort()
                raise
            self._hasher.update(view)
            self.size += len(view)
            self._wrote = True

    async def commit(self, metadata: Buffer, expires: Expires) -> str:
        """Publish metadata and body together and return the new version."""
        sink = self._open_sink()
        now = self._clock()
        try:
            expires_at = moment(expires, now)
            if expires_at is not None and expires_at <= now:
                await self.abort()
                removed = self._remove()
                if self._settle is not None:
                    await self._settle(removed)
                return self._version
            seal = Seal(
                as_bytes(metadata),
                self._wrote,
                self.size,
                self._hasher.digest(),
                self._version,
                now,
                expires_at,
            )
            answer = sink.publish(seal)
            if self._settle is not None:
                await self._settle(answer)
        except BaseException:
            await self.abort()
            raise
        self._sink = None
        return self._version

    async def abort(self) -> None:
        """End without a trace. Does nothing when it has ended."""
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if os.getpid() == self._pid:
            answer = sink.discard()
            if self._settle is not None:
                await self._settle(answer)
        else:
            sink.detach()

    def detach(self) -> None:
        """End where nothing can be waited for any more."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.detach()

    def _open_sink(self) -> EntrySink | AsyncEntrySink:
        if self._sink is None:
            msg = "the writer has ended"
            raise ValueError(msg)
        if os.getpid() != self._pid:
            self.detach()
            msg = "the writer belongs to the process that made it"
            raise StoreError(msg)
        return self._sink


class EntryWriter:
    """Writes one entry, which nobody sees before `commit()`.

    Leaving the `with` block without a commit, or forgetting the writer, leaves no trace. One
    thread at a time may use it, and only the process that made it.
    """

    __slots__ = ("__weakref__", "_writing")

    def __init__(
        self,
        sink: EntrySink,
        *,
        version: str,
        clock: Callable[[], float],
        remove: Callable[[], object],
    ) -> None:
        """Write `version` to `sink`; `remove` drops what is stored under the key now."""
        self._writing = Writing(sink, version, clock, remove, None)

    @property
    def size(self) -> int:
        """The bytes of body written so far."""
        return self._writing.size

    def write(self, chunk: Buffer, /) -> None:
        """Append to the body. After an error the writer is aborted.

        Raises:
            StoreError: the backend failed.
            ValueError: the writer has ended.
        """
        run(self._writing.write(chunk))

    def commit(self, metadata: Buffer, *, expires: Expires = None) -> str:
        """Publish metadata and body together and return the new version.

        An entry without any `write` has no body. Where `expires` is already past, nothing is
        stored and what was stored under the key is removed.

        Raises:
            StoreError: the backend failed; nothing has changed.
            ValueError: the writer has ended.
        """
        return run(self._writing.commit(metadata, expires))

    def abort(self) -> None:
        """End without a trace. Does nothing after `commit()` or another `abort()`."""
        if self._writing.is_open:
            run(self._writing.abort())

    def __enter__(self) -> Self:
        """Abort at the end of the block unless it was committed."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Abort unless committed."""
        self.abort()

    def __del__(self) -> None:
        """Abort unless committed."""
        try:
            self.abort()
        except Exception:  # noqa: BLE001, S110 - at interpreter exit anything may be gone already
            pass


class EntryInfo(NamedTuple):
    """One line of a listing.

    Attributes:
        key: the key, or None where it can't be known (another program's entry).
        name: what the backend calls the entry.
        size: bytes it takes in the backend, body included.
        body_size: bytes of the body.
        stored_at: when it was written, seconds since the epoch.
        used_at: when it was last used, to within an hour.
        expires_at: when it stops existing, or None.
        foreign: another program wrote it.
    """

    key: str | None
    name: str
    size: int
    body_size: int
    stored_at: float
    used_at: float
    expires_at: float | None
    foreign: bool = False

    @property
    def host(self) -> str:
        """The host of a key that is a URL, with its port; "" for all others."""
        return "" if self.key is None else host_of(self.key)
