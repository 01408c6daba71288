"""The promise that a cache never breaks a request, in one place.

Whatever a cache raises becomes the answer that it had nothing to say, and an event. What the
user did wrong (a closed cache, a bad option) is raised as it is. But a cache that a client has made
is closed with it, and that may be while others are waiting for their answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from stillfresh.caches.base import Claim
from stillfresh.engine.ports import CachePorts, E, Useful, W
from stillfresh.errors import CacheClosed, CacheError, CacheUnavailable, StoreError
from stillfresh.events import Event, StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable


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
        try:
            return await self._ports.open(key)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("open", key, error)
            return None

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> E | Claim | None:
        """Open an entry, or find nothing, which may be claimed then."""
        try:
            return await self._ports.open_or_claim(key, seconds)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("open", key, error)
            return None

    async def metadata(self, key: str) -> bytes | None:
        """Return the metadata under `key`, or nothing."""
        entry = await self.open(key)
        if entry is None:
            return None
        await self._ports.close(entry)
        return self._ports.describe(entry)[0]

    async def prime(self, key: str, entry: E) -> bool:
        """Tell whether a body can be read, as far as that can be known."""
        try:
            await self._ports.prime(entry)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("read", key, error)
            return False
        return True

    async def seek(self, key: str, entry: E, offset: int) -> bool:
        """Go on at another byte of a body, and tell whether it is what was written."""
        try:
            await self._ports.seek(entry, offset)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("read", key, error)
            return False
        return True

    async def read(self, key: str, entry: E, size: int) -> bytes | None:
        """Read on in a body; None if that fails."""
        try:
            return await self._ports.read(entry, size)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("read", key, error)
            return None

    async def writer(self, key: str) -> W | None:
        """Start a version, or nothing."""
        try:
            return await self._ports.writer(key)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("writer", key, error)
            return None

    async def write(self, key: str, writer: W, chunk: bytes) -> bool:
        """Append to a body and tell whether that worked; if not, the writer is aborted."""
        written = False
        try:
            await self._ports.write(writer, chunk)
            written = True
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("write", key, error)
        finally:
            if not written:
                await self._ports.abort(writer)
        return written

    async def commit(
        self, key: str, writer: W, metadata: bytes, useful: Useful | None = None
    ) -> str | None:
        """Publish a version and return its name, or None if that fails."""
        version = None
        try:
            version = await self._ports.commit(writer, metadata, useful)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("commit", key, error)
        finally:
            if version is None:
                await self._ports.abort(writer)
        return version

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        """Swap the metadata that a version has had, and tell whether that happened."""
        try:
            return await self._ports.update(key, old, new, version, useful)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("update", key, error)
            return False

    async def remove(self, key: str) -> bool:
        """Remove an entry and tell whether there was one."""
        try:
            return await self._ports.remove(key)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            self._swallow("remove", key, error)
            return False

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to fetch what is under a key; None while another process does."""
        try:
            return await self._ports.claim(key, seconds)
        except Exception as error:  # noqa: BLE001 - `_swallow` sorts them
            # It says nothing of what is stored.
            failed = self.failed
            self._swallow("claim", key, error)
            self.failed = failed
            return Claim()

    def report(self, operation: str, key: str, error: StoreError) -> None:
        """Tell of a failure that showed elsewhere."""
        self.failed = True
        self._emit(StoreFailed(key, operation, error))

    def _swallow(self, operation: str, key: str, error: Exception) -> None:
        """Report what an operation raised, unless it is the user's to know."""
        if not isinstance(error, StoreError):
            closed = isinstance(error, CacheClosed) and self._ports.is_own
            if isinstance(error, CacheError) and not closed:
                raise error
            # A cache may be anybody's, and have bugs of its own.
            unexpected = CacheUnavailable(f"{type(error).__name__}: {error}")
            unexpected.__cause__ = error
            error = unexpected
        self.report(operation, key, error)
