"""Events and the hooks that are given them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import FrozenInstanceError

import pytest

from stillfresh import BodyLost, CacheFull, CacheUnavailable, StoreError
from stillfresh.events import (
    Decided,
    Event,
    Hit,
    Invalidated,
    LoggingHook,
    Miss,
    NotStored,
    RefreshFailed,
    Revalidated,
    Stored,
    StoreFailed,
    emit,
    log_event,
)

URL = "http://origin.example/"
HIT = Hit(URL, "GET", URL, "fresh (RFC 9111 §4.2)", 1.0, 59.0)
DECISIONS: list[Decided] = [
    HIT,
    Miss(URL, "GET", URL, "nothing", 200),
    Revalidated(URL, "GET", URL, "stale", 1.0, 59.0),
    Stored(URL, "GET", URL, "may be", 5),
    NotStored(URL, "GET", URL, "no-store", 200),
    Invalidated(URL, "POST", URL, "unsafe"),
]


def failed(error: StoreError, operation: str = "open", key: str = URL) -> StoreFailed:
    return StoreFailed(key, operation, error)


def caused_by(error: StoreError, cause: Exception) -> StoreError:
    error.__cause__ = cause
    return error


@pytest.fixture
def levels(caplog: pytest.LogCaptureFixture) -> Iterator[list[int]]:
    """The levels of what has been logged, filled by and by."""
    caplog.set_level(logging.DEBUG, "stillfresh")
    seen: list[int] = []

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.levelno)

    watch = Watch()
    logging.getLogger("stillfresh").addHandler(watch)
    yield seen
    logging.getLogger("stillfresh").removeHandler(watch)


def test_events_are_values() -> None:
    assert Hit(URL, "GET", URL, "fresh (RFC 9111 §4.2)", 1.0, 59.0) == HIT
    assert hash(HIT) == hash(HIT)
    with pytest.raises(FrozenInstanceError):
        HIT.__setattr__("age", 2.0)


@pytest.mark.parametrize("event", DECISIONS, ids=lambda event: type(event).__name__)
def test_decisions_are_logged_for_who_wants_to_know(
    event: Decided, caplog: pytest.LogCaptureFixture
) -> None:
    LoggingHook()(event)
    assert not caplog.records
    caplog.set_level(logging.DEBUG, "stillfresh")
    LoggingHook()(event)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.name == "stillfresh"
    name = {"NotStored": "not stored"}.get(type(event).__name__, type(event).__name__.lower())
    assert record.getMessage() == f"{name} {event.method} {URL}: {event.why}"


def test_a_failure_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    LoggingHook()(failed(CacheFull("no room")))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"cache failed at open of {URL!r}: CacheFull: no room"


def test_the_same_cause_is_a_warning_once(levels: list[int]) -> None:
    hook = LoggingHook()
    for number in range(3):
        cause = OSError(28, "No space left on device")
        hook(failed(caused_by(CacheFull(f"storing {number}"), cause), key=f"{URL}{number}"))
    assert levels == [logging.WARNING, logging.DEBUG, logging.DEBUG]


@pytest.mark.parametrize(
    "other",
    [
        failed(CacheFull("x"), "commit"),
        failed(CacheUnavailable("x")),
        failed(caused_by(CacheFull("x"), OSError(28, "No space left on device"))),
    ],
    ids=["operation", "kind", "cause"],
)
def test_another_cause_is_another_warning(levels: list[int], other: StoreFailed) -> None:
    hook = LoggingHook()
    hook(failed(CacheFull("x")))
    hook(other)
    assert levels == [logging.WARNING, logging.WARNING]


def test_hooks_remember_for_themselves(levels: list[int]) -> None:
    for _ in range(2):
        LoggingHook()(failed(BodyLost("x")))
    assert levels == [logging.WARNING, logging.WARNING]


def test_what_is_remembered_is_bounded(levels: list[int]) -> None:
    hook = LoggingHook()
    for number in range(600):
        hook(failed(CacheFull("x"), operation=str(number)))
    assert len(hook._causes) <= 256  # noqa: SLF001 - memory has no public side


def test_what_is_logged_keeps_nothing_alive(caplog: pytest.LogCaptureFixture) -> None:
    """A handler may keep it, and an error's traceback leads to the bodies that were under way."""
    caplog.set_level(logging.DEBUG, "stillfresh")
    log_event(failed(CacheUnavailable("kept alive")))
    log_event(RefreshFailed(URL, OSError("kept alive")))
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert isinstance(record.args, tuple)
        assert {type(each) for each in record.args} == {str}


def test_another_logger_may_be_named(caplog: pytest.LogCaptureFixture) -> None:
    LoggingHook(logging.getLogger("mine"))(failed(CacheFull("x")))
    assert [record.name for record in caplog.records] == ["mine"]


def test_a_hook_that_raises_is_reported_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    def hook(event: Event) -> None:
        raise ZeroDivisionError

    emit(hook, HIT)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_hook_may_be_interrupted() -> None:
    def hook(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        emit(hook, HIT)


def test_the_default_is_to_log() -> None:
    assert isinstance(log_event, LoggingHook)
