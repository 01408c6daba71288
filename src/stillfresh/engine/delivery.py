"""Bodies chunk by chunk, as they come: the same for blocking and async clients."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, Protocol

from stillfresh.engine.body import STEP, tell_lost
from stillfresh.engine.ports import E, W, run
from stillfresh.errors import BodyLost
from stillfresh.rfc9111.fields import content_length

if TYPE_CHECKING:
    from typing import Any

    from stillfresh.engine.answers import Answer
    from stillfresh.engine.ports import CachePorts


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
    if size > STEP:
        return None
    try:
        body = await ports.read(entry, size)
        if len(body) != size:
            msg = f"the body ended {size - len(body)} bytes before its end"
            raise BodyLost(msg)
    except Exception as error:  # noqa: BLE001 - `tell_lost` raises it
        await tell_lost(answer.lost, error)
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
                chunk = await self._ports.read(entry, min(self._left, STEP))
                self._left -= len(chunk)
                if not chunk:
                    msg = f"the body ended {self._left} bytes before its end"
                    raise BodyLost(msg)
        except Exception as error:  # noqa: BLE001 - `tell_lost` raises it
            await tell_lost(self._lost, error)
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
