"""How one version is written: the states it goes through, and what becomes of it after `fork()`.

`Writing` is a coroutine, so that caches which have to be waited for (`asynchronous`) have the very
same. A cache brings only where the bytes go (`EntrySink`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

import xxhash

from stillfresh.caches.expiry import Expires, moment
from stillfresh.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from stillfresh.caches.coroutines import Settle


def as_bytes(data: Buffer) -> bytes:
    """Copy any bytes-like object; what is none raises `TypeError`.

    `bytes()` itself takes 5 for five NULs.
    """
    return data if type(data) is bytes else memoryview(data).tobytes()


def appended(held: bytes | bytearray, chunk: bytes | memoryview) -> bytes | bytearray:
    """Return what is held of a body with the next bytes of it.

    Of one that comes in one piece, as small ones do, no copy is made.
    """
    if not held:
        return bytes(chunk)
    if isinstance(held, bytes):
        held = bytearray(held)
    held += chunk
    return held


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

    def write(self, chunk: bytes | memoryview, /) -> None:
        """Take the next bytes of the body, all of them; a view is gone afterwards."""

    def publish(self, seal: Seal) -> None:
        """Make the entry visible, in one step."""

    def discard(self) -> None:
        """Remove every trace. Never raises."""

    def detach(self) -> None:
        """Let go without removing anything: the entry is another process's. Never raises."""


class AsyncEntrySink(Protocol):
    """An `EntrySink` that is waited for."""

    async def write(self, chunk: bytes | memoryview, /) -> None:
        """Take the next bytes of the body, all of them; a view is gone afterwards."""

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
        view = None
        if type(chunk) is not bytes:
            chunk = view = memoryview(chunk).cast("B")
        try:
            answer = sink.write(chunk)
            if self._settle is not None:
                await self._settle(answer)
            self._hasher.update(chunk)
            self.size += len(chunk)
            self._wrote = True
        except BaseException:
            await self.abort()
            raise
        finally:
            if view is not None:
                view.release()

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
