"""Operations under a limit of time that holds whatever they do.

No setting of a socket bounds an operation. Names are looked up, several addresses and servers are
tried, and a reply may come a byte at a time, each in time. So:

- Over connections that are open an operation runs in its caller's thread, since handing it to
  another one takes as long as a hit. A thread that watches all of them ends the connections of one
  that is late, by which it fails.
- What has to connect first is done in a thread of its own, and its caller waits no longer than the
  limit: nothing ends a look-up of a name. A late one comes to its end alone, and does nothing more.

An event loop needs neither: what takes too long is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillfresh.caches.coroutines import run
from stillfresh.caches.redislinks import Line, NotConnected
from stillfresh.errors import CacheUnavailable
from stillfresh.forks import call_in_children

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stillfresh.caches.redislinks import Servers

T = TypeVar("T")

# Lines that are kept open while nothing is asked: so many threads may ask at once.
_KEPT: Final = 32
# So many tasks of an event loop may; the others wait for their turn, within their time.
_AT_ONCE: Final = 64
# Seconds without any operation after which nobody watches any more.
_IDLE: Final = 10.0


class Crew:
    """Has the blocking operations of one cache done in time."""

    def __init__(self, servers: Servers, usual: float) -> None:
        """Connect when there is something to do; limits are `usual` seconds, or more."""
        self._servers = servers
        self._idle: list[Line] = []
        self._closed = False
        self._watch = _Watch(usual)
        call_in_children(self._renew)

    def do(self, operation: Callable[[Line], Coroutine[Any, Any, T]], limit: float) -> T:
        """Do it, and return or raise what it does. It may be begun twice.

        Raises:
            CacheUnavailable: it took longer than `limit` seconds.
        """
        deadline = time.monotonic() + limit
        try:
            line = self._idle.pop()
        except IndexError:
            line = Line(self._servers)
        line.begin(deadline, limit)
        if not line.is_open:
            return self._do_apart(line, operation, deadline)
        line.may_connect = False
        self._watch.begin(line, deadline)
        connects = False
        try:
            return run(operation(line))
        except NotConnected:
            connects = True
        finally:
            self._watch.end(line)
            if not connects:
                self._keep(line)
        return self._do_apart(line, operation, deadline)

    def close(self) -> None:
        """Close the connections, but for those in use, which are when they aren't any more."""
        self._closed = True
        self._watch.stop()
        while self._idle:
            run(self._idle.pop().close())

    def __del__(self) -> None:
        """Leave no connection and no thread behind."""
        with contextlib.suppress(Exception):
            self.close()

    def _do_apart(
        self, line: Line, operation: Callable[[Line], Coroutine[Any, Any, T]], deadline: float
    ) -> T:
        line.may_connect = True
        job = _Job(line, operation)
        in_time = False
        try:
            job.start()
            in_time = job.done.acquire(timeout=max(0.0, deadline - time.monotonic()))
        except RuntimeError as error:
            msg = f"no thread for it: {error}"
            raise CacheUnavailable(msg) from error
        finally:
            if not in_time:
                line.hang_up()
        if not in_time:
            raise line.late()
        self._keep(line)
        result: T = job.result()
        return result

    def _keep(self, line: Line) -> None:
        self._idle.append(line)
        if self._closed or len(self._idle) > _KEPT:
            with contextlib.suppress(IndexError):
                run(self._idle.pop(0).close())

    def _renew(self) -> None:
        """Begin anew in a child: threads of its parent are not here, and connections not its."""
        self._idle = []
        self._watch.renew()
        self._servers.renew()


class _Job:
    """One operation in a thread of its own.

    Attributes:
        done: can be acquired when it is.
    """

    def __init__(self, line: Line, operation: Callable[[Line], Coroutine[Any, Any, Any]]) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self._line = line
        self._operation = operation
        self._result: Any = None
        self._error: BaseException | None = None

    def start(self) -> None:
        threading.Thread(target=self._work, name="stillfresh-redis", daemon=True).start()

    def result(self) -> Any:
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            # Or it would keep itself alive by its own traceback.
            del error

    def _work(self) -> None:
        try:
            self._result = run(self._operation(self._line))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        self.done.release()
        if self._line.hung_up:
            run(self._line.close())


class _Watch:
    """A thread that cuts the lines of operations which are late."""

    def __init__(self, usual: float) -> None:
        """Watch when there is something to; no limit is shorter than `usual` seconds."""
        self._usual = usual
        self._running: dict[Line, float] = {}
        self._stopped = threading.Event()
        self._is_on = False

    def begin(self, line: Line, deadline: float) -> None:
        """Watch an operation."""
        self._running[line] = deadline
        if not self._is_on:
            self._is_on = True
            try:
                threading.Thread(target=self._work, name="stillfresh-watch", daemon=True).start()
            except RuntimeError:
                # There is none to spare now. The next operation tries again.
                self._is_on = False

    def end(self, line: Line) -> None:
        """Hear that it is over."""
        self._running.pop(line, None)

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def renew(self) -> None:
        """Begin anew in a child."""
        self._running = {}
        self._stopped = threading.Event()
        self._is_on = False

    def _work(self) -> None:
        busy_at = time.monotonic()
        while True:
            now = time.monotonic()
            # What begins from now on is not late before a usual limit is over.
            wake_at = now + self._usual
            for line, deadline in list(self._running.items()):
                busy_at = now
                if deadline <= now:
                    # Just now it may have come to its end after all, and another one may have the
                    # line: to that it will seem that the server has closed it.
                    line.cut()
                    self._running.pop(line, None)
                else:
                    wake_at = min(wake_at, deadline)
            if now - busy_at > _IDLE:
                self._is_on = False
                # One may have begun meanwhile, and taken it that somebody watches.
                if not self._running:
                    return
                self._is_on = True
            if self._stopped.wait(wake_at - now) and not self._running:
                self._is_on = False
                return


class _OfLoop:
    """The idle lines of one event loop, and the turns to use one."""

    def __init__(self) -> None:
        self.idle: list[Line] = []
        self.turns = asyncio.Semaphore(_AT_ONCE)


class Lines:
    """Has the operations of one asynchronous cache done in time, for any number of loops."""

    def __init__(self, servers: Servers) -> None:
        """Connect when there is something to do."""
        self._servers = servers
        # Connections belong to the loop that they were made in.
        self._loops: dict[asyncio.AbstractEventLoop, _OfLoop] = {}

    async def do(self, operation: Callable[[Line], Coroutine[Any, Any, T]], limit: float) -> T:
        """Do it, and return or raise what it does.

        Raises:
            CacheUnavailable: it took longer than `limit` seconds.
        """
        mine = self._loops.get(asyncio.get_running_loop()) or self._begin()
        within = asyncio.timeout(limit)
        line: Line | None = None
        try:
            async with within, mine.turns:
                line = mine.idle.pop() if mine.idle else Line(self._servers)
                line.begin(math.inf, limit)
                return await operation(line)
        except TimeoutError as error:
            if not within.expired():
                raise
            if line is None:
                msg = f"no turn within {limit:g} s"
                raise CacheUnavailable(msg) from error
            raise line.late() from error
        finally:
            # What was cancelled has closed its connection.
            if line is not None:
                mine.idle.append(line)

    async def close(self) -> None:
        """Close the connections of this loop; those of others can't be awaited."""
        mine = self._loops.pop(asyncio.get_running_loop(), None)
        while mine is not None and mine.idle:
            await mine.idle.pop().close()

    def _begin(self) -> _OfLoop:
        mine = _OfLoop()
        # In one step, for other threads; loops that are closed have no use for theirs.
        others = {loop: its for loop, its in self._loops.copy().items() if not loop.is_closed()}
        self._loops = {**others, asyncio.get_running_loop(): mine}
        return mine
