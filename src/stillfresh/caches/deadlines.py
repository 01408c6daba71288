"""Operations under a limit of time that holds whatever they do.

No setting of a socket bounds an operation: names are looked up, several addresses and servers are
tried, and a reply may come a byte at a time, each in time. So it is done in a thread, and whoever
wants it done waits no longer than the limit. A thread has connections of its own and is used again;
one that is late is left to itself, ends when its sockets give up, and does nothing more.

An event loop needs no thread for it: what takes too long is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillfresh.caches.coroutines import run
from stillfresh.caches.redislinks import Line
from stillfresh.errors import CacheUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stillfresh.caches.redislinks import Servers

T = TypeVar("T")

# Threads, and connections, that are kept while nothing is to be done. Beyond them each operation
# would make its own.
_KEPT: Final = 32


class Crew:
    """The threads of one cache."""

    def __init__(self, servers: Servers) -> None:
        """Start a thread when there is something to do."""
        self._servers = servers
        self._idle: list[_Worker] = []
        self._closed = False
        _crews.add(self)

    def do(self, operation: Callable[[Line], Coroutine[Any, Any, T]], limit: float) -> T:
        """Do it, and return or raise what it does.

        Raises:
            CacheUnavailable: it took longer than `limit` seconds.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = self._hire()
        try:
            result: T = worker.do(operation, limit)
        finally:
            if worker.is_free:
                self._keep(worker)
        return result

    def close(self) -> None:
        """Let the threads end, and with them their connections."""
        self._closed = True
        while self._idle:
            self._idle.pop().dismiss()

    def __del__(self) -> None:
        """Leave no thread behind."""
        with contextlib.suppress(Exception):
            self.close()

    def _hire(self) -> _Worker:
        try:
            return _Worker(Line(self._servers))
        except RuntimeError as error:
            msg = f"no thread for it: {error}"
            raise CacheUnavailable(msg) from error

    def _keep(self, worker: _Worker) -> None:
        self._idle.append(worker)
        if self._closed or len(self._idle) > _KEPT:
            with contextlib.suppress(IndexError):
                self._idle.pop(0).dismiss()

    def _renew(self) -> None:
        """Begin anew in a child: threads of its parent are not here, and connections not its."""
        self._idle = []
        self._servers.renew()


class _Worker:
    """One thread.

    Attributes:
        is_free: whether it waits for something to do.
    """

    def __init__(self, line: Line) -> None:
        self.is_free = True
        self._line = line
        self._begun = threading.Lock()
        self._done = threading.Lock()
        self._begun.acquire()
        self._done.acquire()
        self._job: Callable[[Line], Coroutine[Any, Any, Any]] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        threading.Thread(target=self._work, name="stillfresh-redis", daemon=True).start()

    def do(self, job: Callable[[Line], Coroutine[Any, Any, Any]], limit: float) -> Any:
        self._job = job
        self._begun.release()
        try:
            in_time = self._done.acquire(timeout=limit)
        except BaseException:
            self._line.hang_up()
            self.dismiss()
            raise
        if not in_time:
            self.dismiss()
            raise self._line.late(limit)
        result, self._result = self._result, None
        error, self._error = self._error, None
        if error is None:
            return result
        try:
            raise error
        finally:
            # Or it would keep itself alive by its own traceback.
            del error

    def dismiss(self) -> None:
        """End when what is under way has."""
        self.is_free = False
        self._job = None
        # If it has not even begun it will do so once, and find nothing.
        with contextlib.suppress(RuntimeError):
            self._begun.release()

    def _work(self) -> None:
        while True:
            self._begun.acquire()
            job, self._job = self._job, None
            if job is None:
                break
            try:
                self._result = run(job(self._line))
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                self._error = error
            del job
            self._done.release()
        run(self._line.close())


class Lines:
    """The connections of one cache to whoever an event loop has ask."""

    def __init__(self, servers: Servers) -> None:
        """Connect when there is something to do."""
        self._servers = servers
        self._idle: list[Line] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def do(self, operation: Callable[[Line], Coroutine[Any, Any, T]], limit: float) -> T:
        """Do it, and return or raise what it does.

        Raises:
            CacheUnavailable: it took longer than `limit` seconds.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # Connections belong to the loop that they were made in.
            self._loop, self._idle = loop, []
        line = self._idle.pop() if self._idle else Line(self._servers)
        within = asyncio.timeout(limit)
        try:
            async with within:
                result = await operation(line)
        except TimeoutError as error:
            await line.close()
            if within.expired():
                raise line.late(limit) from error
            raise
        except Exception:
            self._keep(line)
            raise
        except BaseException:
            await line.close()
            raise
        self._keep(line)
        return result

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().close()

    def _keep(self, line: Line) -> None:
        self._idle.append(line)


_crews: Final[weakref.WeakSet[Crew]] = weakref.WeakSet()


def _renew_all() -> None:
    for crew in list(_crews):
        crew._renew()  # noqa: SLF001 - this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
