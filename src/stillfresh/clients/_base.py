"""What all clients have, whatever their library: a cache, settings, an ear and a clock."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from stillfresh import events
from stillfresh.caches.urls import cache_of
from stillfresh.engine.behind import LEFT_OUT
from stillfresh.engine.credentials import Vault
from stillfresh.rfc9111.decisions import Reason, why
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.rfc9111.decisions import Why
    from stillfresh.rfc9111.messages import Request

Line = tuple[str, str]


class UnverifiedError(Exception):
    """A response came over TLS from a server whose certificate nobody has looked at."""


class CacheSide:
    """The side of a client that its library knows nothing of; it can be pickled.

    Attributes:
        policy: the user's settings.
        hook: is given every event.
        clock: the time, in seconds since the epoch.
        vault: where the key of credentials' digests is.
    """

    def __init__(
        self,
        cache: CacheLike | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a cache, a URL or path of one, or an object to adapt; None is the default cache.

        Raises:
            ConfigError: `cache` can't be made sense of.
        """
        self.policy = policy or Policy()
        self.hook = hook or events.log_event
        self.clock = clock
        self.vault = Vault()
        self._given = cache
        self._cache: BaseCache | None = cache_of(cache)

    def __getstate__(self) -> dict[str, Any]:
        # The logger's own hook has a lock, and is the same everywhere.
        hook = None if self.hook is events.log_event else self.hook
        return {"cache": self._given, "policy": self.policy, "hook": hook, "clock": self.clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come out of a pickle with nothing open."""
        self.policy = state["policy"]
        self.hook = state["hook"] or events.log_event
        self.clock = state["clock"]
        self.vault = Vault()
        self._given = state["cache"]
        self._cache = None

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if it was made here and has been closed since."""
        if self._cache is None:
            self._cache = cache_of(self._given)
        return self._cache

    def close(self) -> None:
        """Close the cache if it was made here."""
        cache, self._cache = self._cache, None
        is_ours = self._given is None or isinstance(self._given, str | os.PathLike)
        if cache is not None and is_ours:
            cache.close()

    def tell_failed(self, key: str, error: Exception) -> None:
        """Tell of a refresh behind that came to nothing."""
        events.emit(self.hook, events.RefreshFailed(key, error))

    def wants_content(self, method: str, url: str) -> bool:
        """Tell whether a rule makes the content of such a request a part of its key."""
        return bool(self.policy.rules) and self.policy.wants_content(method, url)


class ClientPorts:
    """The ports that are the same for all clients."""

    def __init__(self, side: CacheSide, request: Request) -> None:
        """Serve one exchange about `request`."""
        self.request = request
        self.vault = side.vault
        self.now = side.clock
        self._hook = side.hook
        self.listening = events.is_listening(side.hook)

    def emit(self, event: events.Event) -> None:
        """Take note of an event."""
        events.emit(self._hook, event)


def credential(identity: object) -> Line:
    """Return the field as which a request counts whose connection says who asks.

    A client certificate does as Authorization does. It is never sent as one.
    """
    return ("authorization", f"certificate {identity!r}")


def for_cache(lines: Iterable[Line]) -> list[Line]:
    """Leave out of a request what is about its caller, not about what is stored."""
    return [(name, value) for name, value in lines if name.lower() not in LEFT_OUT]


def unverified() -> Why:
    """Say that a response could be anybody's, and must not be given to who wants to be sure."""
    return why(Reason.UNVERIFIED)


def encoded(text: str) -> bytes:
    """Return the bytes that stood on the wire for a field's value or a reason phrase."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        # No client of ours stores such a thing; another program's entry may have it.
        return text.encode("utf-8", "replace")


def encoded_lines(lines: Sequence[Line]) -> list[tuple[bytes, bytes]]:
    """Return field lines as they stood on the wire."""
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    except UnicodeEncodeError:
        return [(encoded(name), encoded(value)) for name, value in lines]


def decoded(raw: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Read field lines as they came; a field's value is latin-1 where it is not ASCII."""
    return Fields([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
