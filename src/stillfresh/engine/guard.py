"""The promise that a cache never breaks a request, in one place.

Whatever a cache raises becomes the answer that it had nothing to say, and an event. What the
user did wrong (a closed cache, a bad option) is raised as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from stillfresh.engine.ports import CachePorts, E, W
from stillfresh.errors import CacheError, CacheUnavailable, StoreError
from stillfresh.events import Event, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
D = TypeVar("D")


class Guard(Generic[E, W]):
    """A cache that fails quietly.

    Attributes:
        failed: whether an operation has failed in this exchange.
    """

    __slots__ = ("_emit", "_ports", "failed")

    def __init__(self, ports: CachePorts[E, W], emit: Callable[[Event], None]) -> None:
        """Watch over `ports` and tell `emit` of failures."""
        self._ports = ports
        self._emit = emit
        self.failed = False

    async def open(self, key: str) -> E | None:
        """Open an entry, or find nothing."""
        return await self._attempt("open", key, self._ports.open(key), None)

    async def metadata(self, key: str) -> bytes | None:
        """Return the metadata under `key`, or nothing."""
        entry = await self.open(key)
        if entry is None:
            return None
        await self._ports.close(entry)
        return self._ports.describe(entry)[0]

    async def prime(self, key: str, entry: E) -> bool:
        """Tell whether a body can be read, as far as that can be known."""
        return await self._attempt("read", key, self._done(self._ports.prime(entry)), False)

    async def read(self, key: str, entry: E, size: int) -> bytes | None:
        """Read on in a body; None if that fails."""
        return await self._attempt("read", key, self._ports.read(entry, size), None)

    async def writer(self, key: str) -> W | None:
        """Start a version, or nothing."""
        return await self._attempt("writer", key, self._ports.writer(key), None)

    async def write(self, key: str, writer: W, chunk: bytes) -> bool:
        """Append to a body and tell whether that worked; if not, the writer is aborted."""
        written = False
        try:
            done = self._done(self._ports.write(writer, chunk))
            written = await self._attempt("write", key, done, False)
        finally:
            if not written:
                await self._ports.abort(writer)
        return written

    async def commit(self, key: str, writer: W, metadata: bytes) -> str | None:
        """Publish a version and return its name, or None if that fails."""
        version = None
        try:
            committed = self._ports.commit(writer, metadata)
            version = await self._attempt("commit", key, committed, None)
        finally:
            if version is None:
                await self._ports.abort(writer)
        return version

    async def update(self, key: str, metadata: bytes, version: str) -> bool:
        """Swap metadata and tell whether that happened."""
        return await self._attempt("update", key, self._ports.update(key, metadata, version), False)

    async def remove(self, key: str) -> bool:
        """Remove an entry and tell whether there was one."""
        return await self._attempt("remove", key, self._ports.remove(key), False)

    def report(self, operation: str, key: str, error: StoreError) -> None:
        """Tell of a failure that showed elsewhere."""
        self.failed = True
        self._emit(StoreFailed(key, operation, error))

    async def _done(self, operation: Awaitable[None]) -> bool:
        await operation
        return True

    async def _attempt(self, operation: str, key: str, answer: Awaitable[T], nothing: D) -> T | D:
        try:
            return await answer
        except StoreError as error:
            self.report(operation, key, error)
        except CacheError:
            raise
        except Exception as error:  # noqa: BLE001 - a cache of anybody's, with bugs of its own
            unexpected = CacheUnavailable(f"{type(error).__name__}: {error}")
            unexpected.__cause__ = error
            self.report(operation, key, unexpected)
        return nothing
