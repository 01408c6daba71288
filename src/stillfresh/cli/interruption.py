"""Signals that wait for the cache: a step of its work that is broken off undoes all before it."""

from __future__ import annotations

import inspect
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
# Where bodies are recorded. It is no public name; a test fails where it is no longer this one.
_RECORDER: Final = "stillfresh.engine.recorder"
# And where what is recorded, and all else, is begun.
_RUNNER: Final = "stillfresh.caches.coroutines"


@contextmanager
def put_off() -> Iterator[Callable[[], None]]:
    """Have a signal that comes while a body is recorded wait until the function given is called.

    Only the first one: whoever insists is heard at once.
    """
    handlers = {
        number: handler
        for number in (getattr(signal, name, None) for name in _NAMES)
        if number is not None and callable(handler := signal.getsignal(number))
    }
    waiting: list[int] = []
    insisted = False

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal insisted
        if not insisted and _is_recording(frame):
            insisted = True
            waiting.append(number)
            return
        for coroutine in _unbegun(frame):
            # Or Python would say on stderr that nobody has awaited it.
            coroutine.close()
        handlers[signal.Signals(number)](number, frame)

    def due() -> None:
        if waiting:
            number = waiting.pop()
            handlers[signal.Signals(number)](number, None)

    for number in handlers:
        signal.signal(number, hear)
    try:
        yield due
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    due()


def _is_recording(frame: FrameType | None) -> bool:
    return any(one.f_globals.get("__name__") == _RECORDER for one in _with_callers(frame))


def _unbegun(frame: FrameType | None) -> Iterator[Coroutine[object, object, object]]:
    """Go through what has been made to be run, and has not begun."""
    for one in _with_callers(frame):
        if one.f_globals.get("__name__") == _RUNNER:
            for value in filter(inspect.iscoroutine, one.f_locals.values()):
                if inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                    yield value


def _with_callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
