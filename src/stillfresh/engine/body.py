"""Bodies on their way: recorded while they are read, or read out of the cache.

A `Recorder` commits at the clean end of a body whose length agrees with its Content-Length. One
that breaks off is kept as the part that it is, where the rest can be asked for; else it leaves no
trace. Its coroutines are the one implementation; `BlockingTee` drives
them for blocking clients.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, Protocol, TypeAlias

from stillfresh.engine.ports import E, W, run
from stillfresh.errors import BodyLost, CacheClosed
from stillfresh.rfc9111.decisions import Reason, why

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from stillfresh.caches.base import Entry
    from stillfresh.engine.guard import Guard
    from stillfresh.engine.ports import Useful
    from stillfresh.rfc9111.decisions import Pieces, Why


Lost: TypeAlias = "Callable[[Exception], Coroutine[Any, Any, BodyLost]]"
"""Takes note of a stored body that can't be read on, and returns what its reader is to be told."""


class Recorder(Generic[E, W]):
    """Writes one body into the cache while somebody else reads it.

    Once it has ended, however that came, its methods do nothing.

    Attributes:
        stored: whether the response is in the cache now.
        complete: whether it has seen as many bytes as there are to be.
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
        useful: Useful | None = None,
        cut_off: Callable[[int], bytes | None] | None = None,
        behind: bytes = b"",
        outdone: Callable[[int], Awaitable[bool]] | None = None,
    ) -> None:
        """Write to `writer`, and publish it with `metadata` when `expected` bytes have come.

        `limit` is the most there may be of them. A body that breaks off after so many bytes is
        kept as what it is with the metadata that `cut_off` makes of their number. What is `behind`
        goes after the last one. It is kept while it is `useful`. `ended` is told why nothing was
        stored, or None, and the size.
        """
        self.stored = False
        self.complete = False
        self._guard = guard
        self._abort = abort
        self._key = key
        self._writer: W | None = writer
        self._metadata = metadata
        self._expected = expected
        self._limit = limit
        self._ended = ended
        self._useful = useful
        self._cut_off = cut_off
        self._behind = behind
        self._outdone = outdone
        self._size = 0

    @property
    def ended(self) -> bool:
        """Whether it has committed or given up."""
        return self._writer is None

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes, and commit with the last ones where their number is known."""
        writer = self._writer
        if writer is None or not chunk:
            return
        self._size += len(chunk)
        if self._limit is not None and self._size > self._limit:
            await self._give_up(why(Reason.TOO_LARGE, f"over {self._limit} bytes"))
        elif not await self._written(writer, chunk):
            self._writer = None
            self._ended(why(Reason.NOT_KEPT), self._size)
        elif self._size == self._expected:
            self.complete = True
            await self.finish()

    async def finish(self) -> None:
        """Commit: the body has come to its end without an error."""
        writer = self._writer
        if writer is None:
            return
        if self._expected is not None and self._size != self._expected:
            await self.abort()
            return
        if self._behind and not await self._written(writer, self._behind):
            self._writer = None
        else:
            await self._commit(writer, self._metadata)
        self._ended(None if self.stored else why(Reason.NOT_KEPT), self._size)

    async def abort(self) -> None:
        """Give up: the body was cut off, or its reader has lost interest."""
        writer = self._writer
        if writer is None:
            return
        of = "" if self._expected is None else f" of {self._expected}"
        detail = f"{self._size}{of} bytes"
        too_long = self._expected is not None and self._size > self._expected
        # Of a body that is longer than it may be nobody knows which bytes belong to it.
        metadata = None if self._cut_off is None or too_long else self._cut_off(self._size)
        if metadata is not None and self._outdone is not None:
            outdone = True
            try:
                outdone = await self._outdone(self._size)
            except CacheClosed:
                pass
            finally:
                if outdone:
                    metadata = None
                    await self._give_up(why(Reason.BROKEN_OFF, detail))
        if metadata is None:
            await self._give_up(why(Reason.BROKEN_OFF, detail))
            return
        await self._commit(writer, metadata)
        kept, self.stored = self.stored, False
        self._ended(why(Reason.CUT_OFF if kept else Reason.NOT_KEPT, detail), self._size)

    async def _commit(self, writer: W, metadata: bytes) -> None:
        self._writer = None
        try:
            # Closed meanwhile, that is: the request was right when it was made, so it goes on.
            with contextlib.suppress(CacheClosed):
                version = await self._guard.commit(self._key, writer, metadata, self._useful)
                self.stored = version is not None
        except BaseException:
            # Cancelled, and nobody knows whether it is there.
            self._ended(why(Reason.BROKEN_OFF), self._size)
            raise

    async def _written(self, writer: W, chunk: bytes) -> bool:
        try:
            return await self._guard.write(self._key, writer, chunk)
        except CacheClosed:
            return False
        except BaseException:
            # Cancelled, and the writer is gone.
            self._writer = None
            self._ended(why(Reason.BROKEN_OFF), self._size)
            raise

    async def _give_up(self, reason: Why) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                await self._abort(writer)
            finally:
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
        self._read = 0
        self.closed = False

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._read

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left."""
        chunk = self._record(self._source.read, amt)
        if not self.closed and (amt is None or amt < 0 or (not chunk and amt != 0)):
            self._end()
        return chunk

    def read1(self, amt: int | None = None) -> bytes:
        """Read what is there; nothing only at the end."""
        chunk = self._record(self._source.read1, amt)
        if not self.closed and not chunk and amt != 0:
            self._end()
        return chunk

    def close(self) -> None:
        """Stop; a body that has not come to its end is not stored."""
        if not self.closed:
            self.closed = True
            if not self._recorder.ended:
                run(self._recorder.abort())
            self._source.close()

    def __del__(self) -> None:
        """Leave no trace of a body that nobody read to its end."""
        if not self._recorder.ended:
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
            self._read += len(chunk)
            run(self._recorder.write(chunk))
            if self._recorder.complete:
                # Nothing follows, so nobody needs to ask for it.
                self.close()
        return chunk

    def _end(self) -> None:
        """Commit, and be closed at the end as an `http.client.HTTPResponse` is."""
        if not self._recorder.ended:
            run(self._recorder.finish())
        self.close()


class BlockingBody:
    """A file that reads a stored body, or pieces of it."""

    def __init__(
        self, entry: Entry, lost: Lost | None = None, pieces: Pieces | None = None
    ) -> None:
        """Read `entry`, which is closed at the end; `lost` is told where that can't be reached.

        With `pieces` it reads these in their order: bytes as they are, spans out of the entry.
        """
        self._entry = entry
        self._lost = lost
        self._pieces = None if pieces is None else list(pieces)
        # What is left of the piece that is being read.
        self._here = b""
        self._left = entry.size if pieces is None else 0
        self._read = 0
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left.

        Raises:
            BodyLost: the stored body turned out to be damaged.
        """
        if self.closed:
            return b""
        wanted = -1 if amt is None else amt
        try:
            chunk = self._entry.read(wanted) if self._pieces is None else self._of_pieces(wanted)
        except Exception as error:
            self.close()
            lost = error if self._lost is None else run(self._lost(error))
            if lost is error:
                raise
            raise lost from error
        self._read += len(chunk)
        if self._pieces is None:
            self._left -= len(chunk)
        if self._left == 0 and not self._here and not self._pieces:
            self.close()
        return chunk

    read1 = read

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._read

    def close(self) -> None:
        """Let go of the entry."""
        if not self.closed:
            self.closed = True
            # The bytes are the caller's already, whatever a cache may still say.
            with contextlib.suppress(Exception):
                self._entry.close()

    def _of_pieces(self, wanted: int) -> bytes:
        """Read on in the pieces, over the ends of them."""
        chunks = []
        while wanted != 0:
            if not self._here and self._left == 0 and not self._next_piece():
                break
            if self._here:
                chunk = self._here if wanted < 0 else self._here[:wanted]
                self._here = self._here[len(chunk) :]
            else:
                chunk = self._entry.read(self._left if wanted < 0 else min(wanted, self._left))
                self._left -= len(chunk)
            chunks.append(chunk)
            wanted -= len(chunk) if wanted > 0 else 0
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _next_piece(self) -> bool:
        if not self._pieces:
            return False
        piece = self._pieces.pop(0)
        if isinstance(piece, bytes):
            self._here = piece
        else:
            self._entry.seek(piece.first)
            self._left = piece.size
        return True


class Following:
    """A file that begins with a stored body and goes on with what the origin sends."""

    def __init__(self, stored: BlockingBody, rest: Source, size: int) -> None:
        """Read `stored` to its end, then `rest`, until there are `size` bytes in all."""
        self._stored = stored
        self._rest = rest
        self._left = size
        self._read = 0
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """Return `amt` bytes, or all that are left.

        Raises:
            BodyLost: the rest ended before the place that it was said to be for.
        """
        if self.closed:
            return b""
        wanted = self._left if amt is None or amt < 0 else min(amt, self._left)
        chunk = self._stored.read(wanted)
        if len(chunk) < wanted:
            chunk += self._rest.read(wanted - len(chunk))
        return self._counted(chunk, complete=len(chunk) == wanted)

    def read1(self, amt: int | None = None) -> bytes:
        """Return what is there, at most `amt` bytes; nothing only at the end.

        Raises:
            BodyLost: as `read`.
        """
        if self.closed:
            return b""
        wanted = self._left if amt is None or amt < 0 else min(amt, self._left)
        chunk = self._stored.read(wanted)
        if not chunk and wanted:
            chunk = self._rest.read1(wanted)
        return self._counted(chunk, complete=bool(chunk) or wanted == 0)

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._read

    def close(self) -> None:
        """Stop reading."""
        if not self.closed:
            self.closed = True
            self._stored.close()
            self._rest.close()

    def _counted(self, chunk: bytes, *, complete: bool) -> bytes:
        self._read += len(chunk)
        self._left -= len(chunk)
        if not complete:
            self.close()
            msg = f"the rest ended {self._left} bytes before its end"
            raise BodyLost(msg)
        if self._left == 0:
            self.close()
        return chunk
