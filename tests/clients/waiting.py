"""Threads that take their time."""

from __future__ import annotations

import threading

import pytest


def slowly(late: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have threads that refresh behind begin their work no sooner than `late` is set."""

    class Late(threading.Thread):
        def run(self) -> None:
            if self.name == "stillfresh-refresh":
                assert late.wait(10)
            super().run()

    monkeypatch.setattr(threading, "Thread", Late)
