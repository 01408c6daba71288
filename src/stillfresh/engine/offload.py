"""A cache on this machine that async code calls in threads, for disks that may take their time.

Each call costs a hop to another thread and back, a hundred microseconds, where on a good disk the
call itself takes ten: so it is not the usual way. What a cancelled call was to bring is closed when
it comes. What one exchange calls is done one after the other, also after a call that it no longer
waits for, so that a writer is not given up while it is still being written to.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from stillfresh.caches.base import Claim
from stillfresh.engine.ports import LocalCachePorts, expiry_of
from stillfresh.engine.waiting import task_signal

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from stillfresh.caches.base import BaseCache, Entry, EntryWriter
    from stillfresh.engine.ports import Useful

T = TypeVar("T")


class OffloadedCachePorts(LocalCachePorts):
    """The ports of a cache that is called in the threads of an executor; for one exchange.

    Under asyncio and trio alike. When the executor has been shut down, the cache fails, but what
    is open is still closed.
    """

    suspends = True

    def __init__(self, cache: BaseCache, executor: Executor) -> None:
        """Use `cache` in the threads of `executor`, whose owner shuts it down."""
        super().__init__(cache)
        self._executor = executor
        self._turn = threading.Lock()

    async def open(self, key: str) -> Entry | None:
        """Open the present version under `key`."""
        return await self._call(partial(self._cache.open, key), _close)

    async def open_or_claim(self, key: str, seconds: Callable[[], float]) -> Entry | Claim | None:
        """Open the present version, or claim it."""
        found = await self._call(partial(self._cache.open_or_claim, key, seconds), _let_go)
        return Claim(lambda: self._release(found)) if isinstance(found, Claim) else found

    async def prime(self, entry: Entry) -> None:
        """Check a body that is checked as a whole."""
        await self._call(entry.verify if self.whole else entry.check)

    async def seek(self, entry: Entry, offset: int) -> None:
        """Check the whole body, and go on reading at `offset`."""
        await self._call(partial(entry.seek, offset))

    async def read(self, entry: Entry, size: int) -> bytes:
        """Read on in the body."""
        return await self._call(partial(entry.read, size))

    async def close(self, entry: Entry) -> None:
        """Close an entry."""
        await self._finish(entry.close)

    async def writer(self, key: str) -> EntryWriter:
        """Start a version under `key`."""
        return await self._call(partial(self._cache.writer, key), _abort)

    async def write(self, writer: EntryWriter, chunk: bytes) -> None:
        """Append to a body."""
        await self._call(partial(writer.write, chunk))

    async def commit(
        self, writer: EntryWriter, metadata: bytes, useful: Useful | None = None
    ) -> str:
        """Publish a version; cancelled, it may be published all the same."""
        expires = expiry_of(self._cache, useful)
        return await self._call(partial(writer.commit, metadata, expires=expires))

    async def abort(self, writer: EntryWriter) -> None:
        """Give a version up."""
        await self._finish(writer.abort)

    async def update(
        self, key: str, old: bytes, new: bytes, version: str, useful: Useful | None = None
    ) -> bool:
        """Swap the metadata of `version`."""
        expires = expiry_of(self._cache, useful)
        return await self._call(
            partial(self._cache.swap, key, old, new, version=version, expires=expires)
        )

    async def remove(self, key: str) -> bool:
        """Remove what is under `key`."""
        return await self._call(partial(self._cache.remove, key))

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim to fetch what is under `key`."""
        claim = await self._call(partial(self._cache.claim, key, seconds), _release)
        if claim is None:
            return None
        return Claim(lambda: self._release(claim), others=claim.others)

    def _release(self, claim: Claim) -> None:
        self._begin(claim.release)

    async def _call(self, job: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Do `job` in a thread; `undo` what it has brought if nobody waits for it any more."""
        future = self._executor.submit(self._in_turn, job)
        try:
            await _ended(future)
        except BaseException:
            if not future.cancel() and undo is not None:
                future.add_done_callback(partial(_undone, undo))
            raise
        return future.result()

    async def _finish(self, job: Callable[[], object]) -> None:
        """Do `job` in a thread, whether anybody waits for it or not."""
        future = self._begin(job)
        if future is not None:
            await _ended(future)

    def _begin(self, job: Callable[[], object]) -> Future[object] | None:
        try:
            return self._executor.submit(self._in_turn, job)
        except RuntimeError:
            # It has been shut down, but this has to be done.
            with suppress(Exception):
                job()
            return None

    def _in_turn(self, job: Callable[[], T]) -> T:
        with self._turn:
            return job()


async def _ended(future: Future[T]) -> None:
    ended = task_signal()
    future.add_done_callback(lambda _: ended.set())
    await ended.wait()


def _undone(undo: Callable[[T], object], future: Future[T]) -> None:
    with suppress(Exception):
        undo(future.result())


def _close(entry: Entry | None) -> None:
    if entry is not None:
        entry.close()


def _let_go(found: Entry | Claim | None) -> None:
    if isinstance(found, Claim):
        found.release()
    else:
        _close(found)


def _abort(writer: EntryWriter) -> None:
    writer.abort()


def _release(claim: Claim | None) -> None:
    if claim is not None:
        claim.release()
