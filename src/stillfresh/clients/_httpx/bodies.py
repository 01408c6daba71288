"""Bodies between a library and a delivery: the origin's chunks, and the streams that are read."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from stillfresh.clients._tasks import checkpoint
from stillfresh.engine.ports import run
from stillfresh.errors import BodyLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stillfresh.engine.delivery import Delivery

# How much of a stored body is handed out before other tasks have their turn.
_TURN: Final = 1 << 20


class BlockingChunks:
    """The body of a response, from a blocking transport."""

    __slots__ = ("_iterator", "_stream", "resumable")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._iterator: Any = None
        self.resumable = False

    async def next(self) -> bytes:
        if self._iterator is None:
            self._iterator = iter(self._stream)
        # A transport may hand out empty chunks, which end nothing.
        return next(filter(None, self._iterator), b"")

    async def close(self) -> None:
        try:
            if hasattr(self._iterator, "close"):
                with suppress(ValueError):  # another thread is just reading it
                    self._iterator.close()
        finally:
            self._stream.close()


class AsyncChunks:
    """The body of a response, from an async transport."""

    __slots__ = ("_iterator", "_stream", "resumable")

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._iterator: Any = None
        self.resumable = False

    async def next(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(self._stream)
        async for chunk in self._iterator:
            if chunk:
                return bytes(chunk)
        return b""

    async def close(self) -> None:
        try:
            if hasattr(self._iterator, "aclose"):
                with suppress(RuntimeError):  # another task is just reading it
                    await self._iterator.aclose()
        finally:
            await self._stream.aclose()


class BlockingStream:
    """A body as the library reads it."""

    lost: ClassVar[type[BodyLost]]

    def __init__(self, delivery: Delivery[Any, Any]) -> None:
        """Hand out what `delivery` brings."""
        self._delivery = delivery

    def __iter__(self) -> Iterator[bytes]:
        """Go through the chunks."""
        try:
            while chunk := run(self._delivery.next()):
                yield chunk
        except BodyLost as lost:
            raise self.lost(str(lost)) from lost

    def close(self) -> None:
        """Stop reading."""
        run(self._delivery.close())


class AsyncStream:
    """A body as the library reads it, in an async client."""

    lost: ClassVar[type[BodyLost]]

    def __init__(self, delivery: Delivery[Any, Any]) -> None:
        """Hand out what `delivery` brings."""
        self._delivery = delivery
        self._since = 0

    # Its own iterator: there is no generator that could be left suspended.
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Go through the chunks."""
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._delivery.next()
        except BodyLost as lost:
            raise self.lost(str(lost)) from lost
        if not chunk:
            raise StopAsyncIteration
        self._since += len(chunk)
        if self._since >= _TURN:
            self._since = 0
            await checkpoint()
        return chunk

    async def aclose(self) -> None:
        """Stop reading."""
        await self._delivery.close()
