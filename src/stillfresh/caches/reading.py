"""How one body is read: to its end, and checked on the way.

`Reading` is a coroutine, so that caches which have to be waited for (`asynchronous`) have the very
same. A cache brings only where the bytes come from (`BodySource`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import xxhash

from stillfresh.caches import frames
from stillfresh.errors import BodyLost

if TYPE_CHECKING:
    from stillfresh.caches.coroutines import Settle

# A body up to this size is checked as a whole before its first byte is handed out: large enough
# for nearly every page and API answer, small enough to hold in memory for a moment.
CHECKED_AT_ONCE: Final = 1 << 20
# Reads of a longer body to its end go in steps of this size.
_STEP: Final = 1 << 20


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
        if self._hasher is not None:
            # It is being checked on the way.
            self._require_open()
        else:
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
            offset += len(part)
            parts.append(part)
        # All at once: what has failed on the way may be read again.
        for part in parts:
            self._hasher.update(part)
        # Before the last byte goes out, not after it.
        if end == self._size and self._hasher.digest() != digest:
            raise self._wrong()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _wrong(self) -> BodyLost:
        self.close()
        return BodyLost(f"the body of {self._size} bytes is not the one that was written")
