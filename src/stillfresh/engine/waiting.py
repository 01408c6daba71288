"""Waiting for somebody else in this process: in a thread, or in a task of asyncio or trio.

A signal is set once, from any thread. Who waits for it has made it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import suppress
from typing import Any, Protocol


class Signal(Protocol):
    """Something to wait for.

    Attributes:
        blocks: waiting for it keeps the whole thread from going on.
    """

    blocks: bool

    def set(self) -> None:
        """Wake who waits. From any thread; may be called twice, and never raises."""

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait, `seconds` at most, and tell whether it was set."""


class ThreadSignal:
    """What a blocking client waits for."""

    __slots__ = ("_event", "set")

    blocks = True

    def __init__(self) -> None:
        """Be not set."""
        self._event = threading.Event()
        self.set = self._event.set

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait, without ever suspending."""
        return self._event.wait(seconds)


def task_signal() -> Signal:
    """Make what a task waits for, of asyncio or of trio, whichever runs it."""
    trio = running_trio()
    return _AsyncioSignal() if trio is None else _TrioSignal(trio)


def running_trio() -> Any:
    """Return trio if this is one of its tasks; who runs under it has imported it."""
    trio = sys.modules.get("trio")
    return trio if trio is not None and trio.lowlevel.in_trio_task() else None


class _AsyncioSignal:
    __slots__ = ("_event", "_loop")

    blocks = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        # The loop is closed when nobody is left to wait.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float | None = None) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        return self._event.is_set()


class _TrioSignal:
    __slots__ = ("_event", "_token", "_trio")

    blocks = False

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def set(self) -> None:
        with suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._event.set)

    async def wait(self, seconds: float | None = None) -> bool:
        with self._trio.move_on_after(float("inf") if seconds is None else seconds):
            await self._event.wait()
        return bool(self._event.is_set())
