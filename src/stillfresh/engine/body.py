"""Bodies on their way: recorded while they are read, or read out of the cache.

A `Recorder` commits at the clean end of a body whose length agrees with its Content-Length. One
that breaks off is kept as the part that it is, where the rest can be asked for; else it leaves no
trace. Its coroutines are the one implementation. A client hands bodies out in one of two ways: as
files (`BlockingTee`, `BlockingBody`, `Following`), or chunk by chunk as they come (`Delivery`),
which is the same for blocking and async clients.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, NoReturn, Protocol, TypeAlias

from stillfresh.engine.ports import E, W, run
from stillfresh.errors import BodyLost, CacheClosed
from stillfresh.rfc9111.decisions import Reason, why
from stillfresh.rfc9111.fields import content_length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from stillfresh.caches.base import Entry
    from stillfresh.engine.answers import Answer
    from stillfresh.engine.guard import Guard
    from stillfresh.engine.ports import CachePorts
    from stillfresh.rfc9111.decisions import Pieces, Why


Lost: TypeAlias = "Callable[[Exception], Coroutine[Any, Any, BodyLost]]"
"""Takes note of a stored body that can't be read on, and returns what its reader is to be told."""

# How much of a stored body is handed out at once.
_STEP: Final = 1 << 16


class Plan(Protocol):
    """What is to become of a body that is recorded."""

    def useful(self) -> float:
        """Return for how many seconds it will be of use."""

    def committing(self) -> None:
        """Hear that all of it has come, and is about to be stored."""

    def cut_off(self, size: int) -> bytes | None:
        """Return the metadata of a body that breaks off after so many bytes; None: not kept."""

    async def outdone(self, size: int) -> bool:
        """Tell whether there is more of it by now than so many bytes."""

    def ended(self, reason: Why | None, size: int) -> None:
        """Take note of why nothing was stored, or None, after so many bytes."""


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
        plan: Plan,
        expected: int | None,
        limit: int | None,
        behind: bytes = b"",
    ) -> None:
        """Write to `writer`, and publish it with `metadata` when `expected` bytes have come.

        `limit` is the most there may be of them. What is `behind` goes after the last one. All
        else is the `plan`, which is forgotten at the end.
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
        self._plan: Plan | None = plan
        self._behind = behind
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
            self._end(why(Reason.NOT_KEPT))
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
        self._end(None if self.stored else why(Reason.NOT_KEPT))

    async def abort(self) -> None:
        """Give up: the body was cut off, or its reader has lost interest."""
        writer, plan = self._writer, self._plan
        if writer is None or plan is None:
            return
        of = "" if self._expected is None else f" of {self._expected}"
        detail = f"{self._size}{of} bytes"
        too_long = self._expected is not None and self._size > self._expected
        # Of a body that is longer than it may be nobody knows which bytes belong to it.
        metadata = None if too_long else plan.cut_off(self._size)
        if metadata is not None:
            outdone = True
            try:
                outdone = await plan.outdone(self._size)
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
        self._end(why(Reason.CUT_OFF if kept else Reason.NOT_KEPT, detail))

    async def _commit(self, writer: W, metadata: bytes) -> None:
        self._writer = None
        useful = None
        if self._plan is not None:
            useful = self._plan.useful
            self._plan.committing()
        try:
            # Closed meanwhile, that is: the request was right when it was made, so it goes on.
            with contextlib.suppress(CacheClosed):
                version = await self._guard.commit(self._key, writer, metadata, useful)
                self.stored = version is not None
        except BaseException:
            # Cancelled, and nobody knows whether it is there.
            self._end(why(Reason.BROKEN_OFF))
            raise

    async def _written(self, writer: W, chunk: bytes) -> bool:
        try:
            return await self._guard.write(self._key, writer, chunk)
        except CacheClosed:
            return False
        except BaseException:
            # Cancelled, and the writer is gone.
            self._writer = None
            self._end(why(Reason.BROKEN_OFF))
            raise

    async def _give_up(self, reason: Why) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                await self._abort(writer)
            finally:
                self._end(reason)

    def _end(self, reason: Why | None) -> None:
        """Say what came of it, once, and forget who wants to know: they may well know of this."""
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.ended(reason, self._size)


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
        if amt is None or amt < 0:
            # Bit by bit: of a body that breaks off, what has come is worth keeping.
            return b"".join(iter(partial(self.read, _STEP), b""))
        chunk = self._record(self._source.read, amt)
        if not self.closed and not chunk and amt != 0:
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
            # And whoever reads on finds nothing more, as in an `http.client.HTTPResponse`.
            self.close()
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
        except Exception as error:  # noqa: BLE001 - `_tell` raises it
            self.close()
            run(_tell(self._lost, error))
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
            try:
                self._entry.close()
            except Exception:  # noqa: BLE001, S110 - what it may raise is the cache's to choose
                pass

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


async def _tell(lost: Lost | None, error: Exception) -> NoReturn:
    """Raise what the reader of a stored body is to be told of an error; `lost` takes note of it."""
    told = error if lost is None else await lost(error)
    if told is error:
        raise told
    raise told from error


async def short_body(ports: CachePorts[E, W], answer: Answer[E, W, Any]) -> bytes | None:
    """Return all of a short body, and close its entry; None where it isn't short, or but a part.

    All of it is in the cache. Most are short, and need no delivery.

    Raises:
        BodyLost: it turned out to be damaged.
    """
    entry = answer.entry
    if entry is None or answer.pieces is not None:
        return None
    size = ports.describe(entry)[2]
    if size > _STEP:
        return None
    try:
        body = await ports.read(entry, size)
        if len(body) != size:
            msg = f"the body ended {size - len(body)} bytes before its end"
            raise BodyLost(msg)
    except Exception as error:  # noqa: BLE001 - `_tell` raises it
        await _tell(answer.lost, error)
    finally:
        await ports.close(entry)
    return body


class Chunks(Protocol):
    """The body of a response from the origin, as a client hands it out.

    Attributes:
        resumable: whether a `next` that was cancelled has lost nothing, and may be called again.
    """

    resumable: bool

    async def next(self) -> bytes:
        """Return the next bytes, as soon as they are there; nothing at the end."""

    async def close(self) -> None:
        """Stop reading."""


class Delivery(Generic[E, W]):
    """The body of an answer, chunk by chunk: what is stored of it, then what the origin sends.

    What is to be recorded is recorded before it is handed out. An error ends the delivery, and
    leaves nothing open; so does a cancellation, but for one at a place where it can be resumed.

    Attributes:
        closed: whether nothing more will come.
    """

    __slots__ = (
        "_entry",
        "_left",
        "_lost",
        "_may_resume",
        "_origin",
        "_pieces",
        "_ports",
        "_recorder",
        "_rest",
        "closed",
    )

    def __init__(
        self,
        ports: CachePorts[E, W],
        answer: Answer[E, W, Any],
        origin: Chunks | None = None,
    ) -> None:
        """Read the answer's entry by `ports`, then `origin`, wherever there is one."""
        self.closed = False
        self._may_resume = False
        self._ports = ports
        self._entry = entry = answer.entry
        self._lost = answer.lost
        self._recorder = answer.recorder
        self._origin = origin
        self._pieces = None if answer.pieces is None else list(answer.pieces)
        size = 0 if entry is None else ports.describe(entry)[2]
        # What is left of the entry, or of the piece of it that is being read.
        self._left = size if self._pieces is None else 0
        # What the origin is to send behind it. The law has seen to it that this is known.
        self._rest: int | None = None
        if entry is not None and origin is not None:
            self._rest = max(0, (content_length(answer.response.fields) or 0) - size)

    def __del__(self) -> None:
        """Leave no trace of a body that nobody read to its end."""
        recorder = self._recorder
        if recorder is not None and not recorder.ended:
            with contextlib.suppress(Exception):
                run(recorder.abort())

    async def next(self) -> bytes:
        """Return the next bytes; nothing at the end.

        Raises:
            BodyLost: the stored body turned out to be damaged, or the rest of it did not come.
        """
        if self.closed:
            return b""
        try:
            chunk = b"" if self._entry is None else await self._of_entry()
            if not chunk and self._origin is not None:
                chunk = await self._of_origin(self._origin)
            if self._recorder is not None:
                await (self._recorder.write(chunk) if chunk else self._recorder.finish())
            if not chunk or (self._entry is None and self._origin is None):
                await self.close()
        except BaseException:
            if not self._may_resume:
                await self.close()
            raise
        return chunk

    async def close(self) -> None:
        """Stop; a body that has not come to its end is not stored."""
        if self.closed:
            return
        self.closed = True
        # What it comes from may well lead back to who reads it.
        origin, self._origin = self._origin, None
        try:
            if self._recorder is not None:
                await self._recorder.abort()
        finally:
            try:
                await self._close_entry()
            finally:
                if origin is not None:
                    await origin.close()

    async def _of_entry(self) -> bytes:
        """Read on in what is stored; close it with the last byte."""
        entry = self._entry
        assert entry is not None  # noqa: S101 - or it would not have been asked for
        chunk = b""
        try:
            if not self._left and self._pieces:
                piece = self._pieces.pop(0)
                if isinstance(piece, bytes):
                    chunk = piece
                else:
                    await self._ports.seek(entry, piece.first)
                    self._left = piece.size
            if self._left:
                chunk = await self._ports.read(entry, min(self._left, _STEP))
                self._left -= len(chunk)
                if not chunk:
                    msg = f"the body ended {self._left} bytes before its end"
                    raise BodyLost(msg)
        except Exception as error:  # noqa: BLE001 - `_tell` raises it
            await _tell(self._lost, error)
        if not self._left and not self._pieces:
            await self._close_entry()
        return chunk

    async def _of_origin(self, origin: Chunks) -> bytes:
        self._may_resume = origin.resumable
        try:
            chunk = await origin.next()
        except Exception:
            self._may_resume = False
            raise
        self._may_resume = False
        if self._rest is None:
            return chunk
        if not chunk and self._rest:
            msg = f"the rest ended {self._rest} bytes before its end"
            raise BodyLost(msg)
        # The last bytes are not the end: a connection can be used again when that has been read.
        chunk = chunk[: self._rest]
        self._rest -= len(chunk)
        return chunk

    async def _close_entry(self) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            await self._ports.close(entry)
