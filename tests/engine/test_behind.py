"""Work behind the caller's back: once for a key, not too much at once, and no error gets out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from stillfresh.engine.behind import Behind
from stillfresh.testing.conformance.tools import in_child

KEY = "http://origin.example/"


class Work:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.done = 0
        self.begun = threading.Semaphore(0)
        self._gate = threading.Event()

    def __call__(self) -> None:
        self.begun.release()
        assert self._gate.wait(10)
        self.done += 1

    def let_go(self) -> None:
        self._gate.set()


class Failed:
    """What could not be done, and why."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Exception]] = []

    def __call__(self, key: str, error: Exception) -> None:
        self.told.append((key, error))


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.let_go()


@pytest.fixture
def failed() -> Failed:
    return Failed()


@pytest.fixture
def behind(failed: Failed) -> Behind:
    return Behind(failed)


def test_it_is_done_in_a_thread_that_keeps_nothing_alive(behind: Behind) -> None:
    threads: list[threading.Thread] = []
    assert behind.start(KEY, lambda: threads.append(threading.current_thread()))
    assert behind.settle(10)
    (thread,) = threads
    assert thread is not threading.current_thread()
    assert thread.daemon


def test_once_at_a_time_for_a_key(behind: Behind, work: Work, failed: Failed) -> None:
    assert behind.start(KEY, work)
    assert not behind.start(KEY, work)
    assert behind.start(KEY + "other", work)
    work.let_go()
    assert behind.settle(10)
    assert work.done == 2
    assert behind.start(KEY, work)
    assert behind.settle(10)
    assert work.done == 3
    assert not failed.told


def test_not_too_much_at_once(behind: Behind, work: Work) -> None:
    started = [behind.start(f"{KEY}{number}", work) for number in range(20)]
    most = sum(started)
    assert 1 <= most < 20
    assert started == [True] * most + [False] * (20 - most)
    work.let_go()
    assert behind.settle(10)
    assert work.done == most
    assert behind.start(KEY + "19", work)
    assert behind.settle(10)


def test_settling_waits_no_longer_than_it_is_told(behind: Behind, work: Work) -> None:
    assert behind.settle(0)
    assert behind.settle()
    behind.start(KEY, work)
    assert work.begun.acquire(timeout=10)
    assert not behind.settle(0)
    assert not behind.settle(0.001)
    assert work.done == 0
    work.let_go()
    assert behind.settle(10)
    assert work.done == 1


def test_who_waits_waits_for_all(behind: Behind) -> None:
    several = [Work() for _ in range(3)]
    for number, one in enumerate(several):
        behind.start(f"{KEY}{number}", one)
    for one in several:
        assert not behind.settle(0)
        one.let_go()
    assert behind.settle(10)


def test_an_error_is_told_and_goes_no_further(behind: Behind, failed: Failed) -> None:
    error = ZeroDivisionError()

    def fail() -> None:
        raise error

    assert behind.start(KEY, fail)
    assert behind.settle(10)
    assert failed.told == [(KEY, error)]
    assert behind.start(KEY, lambda: None)
    assert behind.settle(10)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt])
def test_whatever_ends_it_the_key_is_free_again(
    behind: Behind, raised: type[BaseException], failed: Failed
) -> None:
    threads: list[threading.Thread] = []

    def end() -> None:
        threads.append(threading.current_thread())
        raise raised

    assert behind.start(KEY, end)
    assert behind.settle(10)
    # It is this test that is told of its end.
    threads[0].join(10)
    assert not failed.told
    assert behind.start(KEY, lambda: None)
    assert behind.settle(10)


def test_where_no_thread_is_to_be_had_it_is_left_to_later(behind: Behind, failed: Failed) -> None:
    # There is no room in memory for one with such a stack.
    before = threading.stack_size(1 << 48)
    try:
        assert not behind.start(KEY, lambda: None)
    finally:
        threading.stack_size(before)
    assert behind.settle(0)
    assert not failed.told
    assert behind.start(KEY, lambda: None)
    assert behind.settle(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork()")
def test_a_forked_child_has_nothing_under_way(behind: Behind, work: Work) -> None:
    """The thread that does it is the parent's."""

    def job() -> bytes:
        assert behind.settle(0)
        done: list[bool] = []
        assert behind.start(KEY, lambda: done.append(True))
        assert behind.settle(10)
        return b"done" if done else b""

    assert behind.start(KEY, work)
    assert work.begun.acquire(timeout=10)
    assert in_child(job) == b"done"
    assert not behind.settle(0)
    work.let_go()
    assert behind.settle(10)


def test_many_threads_start_it_once(behind: Behind, work: Work) -> None:
    barrier = threading.Barrier(8)
    started: list[bool] = []

    def start() -> None:
        barrier.wait(10)
        started.append(behind.start(KEY, work))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(started) == [False] * 7 + [True]
    work.let_go()
    assert behind.settle(10)
    assert work.done == 1
