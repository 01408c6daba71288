"""Recording a body while somebody else reads it.

A `Recorder` commits at the clean end of a body whose length agrees with its Content-Length. One
that breaks off is kept as the part that it is, where the rest can be asked for; else it leaves no
trace. Its coroutines are the one implementation, for blocking and async clients.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, Protocol

from stillfresh.engine.ports import E, W
from stillfresh.errors import CacheClosed
from stillfresh.rfc9111.decisions import Reason, why

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stillfresh.engine.guard import Guard
    from stillfresh.rfc9111.decisions import Why


class Plan(Protocol):
    """What is to become of a body that is recorded."""

    def useful(self) -> float:
        """Return for how many seconds it will be of use."""

    def overtaken(self) -> Why | None:
        """Return why it isn't to be stored any more, whatever it was when it was asked for."""

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
        writer, plan = self._writer, self._plan
        if writer is None or plan is None:
            return
        if self._expected is not None and self._size != self._expected:
            await self.abort()
            return
        refusal: Why | None
        if self._behind and not await self._written(writer, self._behind):
            self._writer = None
            refusal = why(Reason.NOT_KEPT)
        else:
            refusal = await self._commit(writer, plan, self._metadata)
            self.stored = refusal is None
        self._end(refusal)

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
        refusal = await self._commit(writer, plan, metadata)
        self._end(why(Reason.CUT_OFF if refusal is None else refusal.reason, detail))

    async def _commit(self, writer: W, plan: Plan, metadata: bytes) -> Why | None:
        """Publish what was written; return why that came to nothing, if it did."""
        self._writer = None
        try:
            refusal = plan.overtaken()
            if refusal is not None:
                await self._abort(writer)
                return refusal
            plan.committing()
            try:
                version = await self._guard.commit(self._key, writer, metadata, plan.useful)
            except CacheClosed:
                # Meanwhile, that is: the request was right when it was made, so it goes on.
                version = None
            if version is None:
                return why(Reason.NOT_KEPT)
            # Who overtook it while it was being published has not found it.
            refusal = plan.overtaken()
            if refusal is not None:
                with contextlib.suppress(CacheClosed):
                    await self._guard.remove(self._key)
        except BaseException:
            # Cancelled, and nobody knows whether it is there.
            self._end(why(Reason.BROKEN_OFF))
            raise
        return refusal

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
