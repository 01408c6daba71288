"""Bodies on their way: recorded while they are read, or read out of the cache.

A `Recorder` commits only at the clean end of a body whose length agrees with its Content-Length;
anything else leaves no trace. Its coroutines are the one implementation; `BlockingTee` drives
them for blocking clients.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, Protocol

from stillfresh.engine.ports import E, W, run
from stillfresh.rfc9111.decisions import Reason, why

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stillfresh.caches.base import Entry
    from stillfresh.engine.guard import Guard
    from stillfresh.rfc9111.decisions import Why


class Recorder(Generic[E, W]):
    """Writes one body into the cache while somebody else reads it.

    Once it has ended, however that came, its methods do nothing.

    Attributes:
        stored: whether the response is in the cache now.
    """

    def __init__(
        self,
        guard: Guard[E, W],
        abort: Callable[[W], Awaitable[None]],
        key: str,
        writer: W,
        metadata: bytes,
        *,
        expected: int | None,
        limit: int | None,
        ended: Callable[[Why | None, int], None],
    ) -> None:
        self.stored = False
        self._guard = guard
        self._abort = abort
        self._key = key
        self._writer: W | None = writer
        self._metadata = metadata
        self._expected = expected
        self._limit = limit
        self._ended = ended
        self._size = 0

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes, and commit with the last ones where their number is known."""
        writer = self._writer
        if writer is None or not chunk:
            return
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            await self._give_up(why(Reason.TOO_LARGE, f"over {self._limit} bytes"))
        elif not await self._guard.write(self._key, writer, chunk):
            self._writer = None
            self._ended(why(Reason.CACHE_FAILED), self._size)
        elif self._size == self._expected:
            await self.finish()

    async def finish(self) -> None:
        """Commit: the body has come to its end without an error."""
        writer = self._writer
        if writer is None:
            return
        if self._expected is not None and self._size != self._expected:
            await self.abort()
            return
        self._writer = None
        version = await self._guard.commit(self._key, writer, self._metadata)
        self.stored = version is not None
        self._ended(None if self.stored else why(Reason.CACHE_FAILED), self._size)

    async def abort(self) -> None:
        """Give up: the body was cut off, or its reader has lost interest."""
        if self._writer is not None:
            of = "" if self._expected is None else f" of {self._expected}"
            await self._give_up(why(Reason.PARTIAL, f"read {self._size}{of} bytes"))

    async def _give_up(self, reason: Why) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            await self._abort(writer)
            self._ended(reason, self._size)


class Source(Protocol):
    """The body of a response from the origin, as a blocking client reads it."""

    def read(self, amt: int | None) -> bytes:
        """Return `amt` bytes, all that are left if None; fewer only at the end."""

    def read1(self, amt: int | None) -> bytes:
        """Return what is there, at most `amt` bytes; nothing only at the end."""

    def close(self) -> None:
        """Stop reading."""


class BlockingTee(Generic[E, W]):
    """A file that reads from the origin and records what it has read."""

    def __init__(self, source: Source, recorder: Recorder[E, W]) -> None:
        """Read `source` to its end, or close."""
        self._source = source
        self._recorder = recorder
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left."""
        return self._record(self._source.read, amt)

    def read1(self, amt: int | None = None) -> bytes:
        """Read what is there."""
        return self._record(self._source.read1, amt)

    def close(self) -> None:
        """Stop; a body that has not come to its end is not stored."""
        if not self.closed:
            self.closed = True
            run(self._recorder.abort())
            self._source.close()

    def __del__(self) -> None:
        """Leave no trace of a body that nobody read to its end."""
        with contextlib.suppress(Exception):
            run(self._recorder.abort())

    def _record(self, read: Callable[[int | None], bytes], amt: int | None) -> bytes:
        if self.closed:
            return b""
        try:
            chunk = read(amt)
        except BaseException:
            run(self._recorder.abort())
            raise
        if chunk:
            run(self._recorder.write(chunk))
        if amt is None or amt < 0 or (not chunk and amt != 0):
            run(self._recorder.finish())
        return chunk


class BlockingBody:
    """A file that reads a stored body."""

    def __init__(self, entry: Entry) -> None:
        """Read `entry`, which is closed at the end."""
        self._entry = entry
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left.

        Raises:
            BodyLost: the stored body turned out to be damaged.
        """
        if self.closed:
            return b""
        return self._entry.read(-1 if amt is None else amt)

    read1 = read

    def close(self) -> None:
        """Let go of the entry."""
        self.closed = True
        self._entry.close()
