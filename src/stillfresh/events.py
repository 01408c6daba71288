"""What happened, as data.

Each event is a frozen record given to a hook: any callable that takes one event. The standard
library's logging is just one such hook, and the default. A hook that raises is a bug of the hook:
it is reported through `logging` and the request goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from stillfresh.memo import brief

if TYPE_CHECKING:
    from stillfresh.errors import StoreError

logger: Final = logging.getLogger("stillfresh")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to what is kept under `key`."""

    key: str


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """A decision of the cache; `why` is its sentence with the section of the RFC."""

    method: str
    url: str
    why: str


@dataclass(frozen=True, slots=True)
class Hit(Decided):
    """A stored response answered the request; `age` and `ttl` are in seconds."""

    age: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Miss(Decided):
    """The request went to the origin and nothing stored had a part in the answer."""

    status: int


@dataclass(frozen=True, slots=True)
class Revalidated(Decided):
    """The origin said that a stored response is still good (304)."""

    age: float
    ttl: float


@dataclass(frozen=True, slots=True)
class Stored(Decided):
    """A response is now in the cache; `size` is that of its body in bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class NotStored(Decided):
    """A response was not kept."""

    status: int


@dataclass(frozen=True, slots=True)
class Invalidated(Decided):
    """A stored response was thrown out, since a request made it doubtful."""


@dataclass(frozen=True, slots=True)
class StoreFailed(Event):
    """The cache failed at `operation`; the request went on without it."""

    operation: str
    error: StoreError


@dataclass(frozen=True, slots=True)
class Pruned(Event):
    """A cache has kept itself within its bounds; `report` says what went."""

    report: str


@dataclass(frozen=True, slots=True)
class RefreshFailed(Event):
    """What has been served stale could not be validated behind; a later request tries again."""

    error: Exception


Hook: TypeAlias = Callable[[Event], None]


# Where a word begins within the name of an event.
_CAPITAL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class LoggingHook:
    """Logs decisions at DEBUG and failures at WARNING, the latter once for each cause.

    A cause is an outage of the backend, or else the operation, the kind of error and its text
    without the key; when the same one comes again it is logged at DEBUG.
    """

    _REMEMBERED = 256

    def __init__(self, log: logging.Logger = logger) -> None:
        self._log = log
        self._causes: set[object] = set()

    def __call__(self, event: Event) -> None:
        """Write one line about `event`."""
        if isinstance(event, StoreFailed):
            level = logging.WARNING if self._is_news(event) else logging.DEBUG
            self._log.log(
                level,
                "cache failed at %s of %r: %s: %s",
                event.operation,
                event.key,
                type(event.error).__name__,
                # A handler may keep what it is given, and an error what was under way.
                str(event.error),
            )
        elif isinstance(event, RefreshFailed):
            error = event.error
            said = (event.key, type(error).__name__, str(error))
            self._log.debug("refresh of %s failed: %s: %s", *said)
        elif isinstance(event, Pruned):
            self._log.debug("pruned: %s", event.report)
        elif isinstance(event, Decided) and self._log.isEnabledFor(logging.DEBUG):
            name = _CAPITAL.sub(" ", type(event).__name__).lower()
            self._log.debug("%s %s %s: %s", name, event.method, event.url, event.why)

    def _is_news(self, event: StoreFailed) -> bool:
        cause: object = getattr(event.error, "outage", None) or (
            event.operation,
            type(event.error).__name__,
            brief(repr(event.error.__cause__)) if event.error.__cause__ is not None else "",
        )
        # Without a lock, which a thread of the parent might have where this is a child: two at
        # once may both be told of it.
        if cause in self._causes:
            return False
        if len(self._causes) >= self._REMEMBERED:
            self._causes.clear()
        self._causes.add(cause)
        return True


log_event: Final = LoggingHook()


def is_listening(hook: Hook) -> bool:
    """Tell whether `hook` does anything with a decision; the default one does at DEBUG."""
    return hook is not log_event or logger.isEnabledFor(logging.DEBUG)


def emit(hook: Hook, event: Event) -> None:
    """Give `event` to `hook`, whose own failures are logged and end here."""
    try:
        hook(event)
    except Exception:
        logger.exception("an event hook failed on %r", event)
