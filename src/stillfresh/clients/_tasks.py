"""Work behind the caller's back in tasks of asyncio or trio, as `engine.behind` has it in threads.

Once at a time for a key. A task that is still at work when its loop ends is cancelled by it, and
cleans up after itself as any cancelled request does.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from stillfresh.engine.waiting import running_trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Work = Callable[[], Coroutine[Any, Any, None]]

# More stale responses than this at once are refreshed by later requests.
_MOST: Final = 8


class _Task(Protocol):
    def cancel(self) -> object: ...

    async def wait(self) -> None: ...


class TasksBehind:
    """The refreshes of one async client."""

    def __init__(self, failed: Callable[[str, Exception], None]) -> None:
        """Have nothing to do; `failed` is told of a key and why it could not be refreshed."""
        self._failed = failed
        self._tasks: dict[str, _Task] = {}

    def start(self, key: str, work: Work) -> bool:
        """Do `work` in a task, unless it is being done for `key`, or too much else is."""
        if key in self._tasks or len(self._tasks) >= _MOST:
            return False
        self._tasks[key] = _spawn(lambda: self._run(key, work), lambda: self._tasks.pop(key, None))
        return True

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await next(iter(self._tasks.values())).wait()

    async def drop(self) -> None:
        """Cancel what is under way, and wait until it has cleaned up."""
        for task in list(self._tasks.values()):
            task.cancel()
        await self.settle()

    async def _run(self, key: str, work: Work) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - nobody waits for it
            self._failed(key, error)


def _spawn(work: Work, ended: Callable[[], object]) -> _Task:
    trio = running_trio()
    return _OfAsyncio(work, ended) if trio is None else _OfTrio(trio, work, ended)


async def checkpoint() -> None:
    """Let others have their turn, and be cancelled if that is due."""
    trio = running_trio()
    await (asyncio.sleep(0) if trio is None else trio.lowlevel.checkpoint())


class _OfAsyncio:
    def __init__(self, work: Work, ended: Callable[[], object]) -> None:
        self._task = asyncio.get_running_loop().create_task(work(), name="stillfresh-refresh")
        self.cancel = self._task.cancel
        # Not by the task itself: one that is cancelled early never runs.
        self._task.add_done_callback(lambda _: ended())

    async def wait(self) -> None:
        await asyncio.wait([self._task])


class _OfTrio:
    def __init__(self, trio: Any, work: Work, ended: Callable[[], object]) -> None:
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.cancel = self._scope.cancel

        async def run() -> None:
            try:
                with self._scope:
                    await work()
            finally:
                ended()
                self._ended.set()

        trio.lowlevel.spawn_system_task(run, name="stillfresh-refresh")

    async def wait(self) -> None:
        await self._ended.wait()
