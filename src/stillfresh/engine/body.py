"""Bodies as files: read out of the cache, or recorded while they are read from the origin.

This is how clients hand them out that sit on urllib3; the others take them chunk by chunk
(`delivery`).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, NoReturn, Protocol, TypeAlias

from stillfresh.engine.ports import E, W, run
from stillfresh.errors import BodyLost

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from stillfresh.caches.base import Entry
    from stillfresh.engine.recorder import Recorder
    from stillfresh.rfc9111.decisions import Pieces


Lost: TypeAlias = "Callable[[Exception], Coroutine[Any, Any, BodyLost]]"
"""Takes note of a stored body that can't be read on, and returns what its reader is to be told."""

# How much of a stored body is handed out at once.
STEP: Final = 1 << 16


class Source(Protocol):
    """The body of a response from the origin, as a blocking client reads it."""

    def read(self, amt: int | None) -> bytes:
        """Return `amt` bytes, all that are left if None; fewer only at the end."""

    def read1(self, amt: int | None) -> bytes:
        """Return what is there, at most `amt` bytes; nothing only at the end."""

    def close(self) -> None:
        """Stop reading."""


class BlockingTee(Generic[E, W]):
    """A file that reads from the origin and records what it has read.

    Attributes:
        closed: whether nothing more will come.
        is_cut_short: whether the connection is ended from here, so that its end is none of the
            body's.
    """

    def __init__(self, source: Source, recorder: Recorder[E, W]) -> None:
        """Read `source` to its end, or close."""
        self._source = source
        self._recorder = recorder
        self._read = 0
        self.closed = False
        self.is_cut_short = False

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._read

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left."""
        if amt is None or amt < 0:
            # Bit by bit: of a body that breaks off, what has come is worth keeping.
            return b"".join(iter(partial(self.read, STEP), b""))
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
        if not self._recorder.ended and not self.is_cut_short:
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
        except Exception as error:  # noqa: BLE001 - `tell_lost` raises it
            self.close()
            run(tell_lost(self._lost, error))
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


async def tell_lost(lost: Lost | None, error: Exception) -> NoReturn:
    """Raise what the reader of a stored body is to be told of an error; `lost` takes note of it."""
    told = error if lost is None else await lost(error)
    if told is error:
        raise told
    raise told from error
