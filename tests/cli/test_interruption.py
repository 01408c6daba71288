"""Signals that come in a moment that no other test meets."""

from __future__ import annotations

import gc
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from stillfresh.caches.coroutines import run
from stillfresh.cli.interruption import put_off

if TYPE_CHECKING:
    from types import FrameType


class _Interrupted(Exception):
    pass


def test_what_has_not_begun_is_not_complained_of() -> None:
    """Python warns of a coroutine that nobody awaits, in the middle of what the command says."""

    async def work() -> None:
        raise AssertionError

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _Interrupted

    def when_it_is_about_to_run(frame: FrameType, event: str, _: object) -> Any:
        if event == "call" and frame.f_code is run.__code__:
            sys.settrace(before)
            signal.raise_signal(signal.SIGTERM)

    def begin() -> None:
        sys.settrace(when_it_is_about_to_run)
        run(work())

    handler, before = signal.signal(signal.SIGTERM, interrupt), sys.gettrace()
    try:
        with pytest.raises(_Interrupted), put_off():
            begin()
        gc.collect()
    finally:
        sys.settrace(before)
        signal.signal(signal.SIGTERM, handler)
