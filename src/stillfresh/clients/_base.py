"""What all clients have, whatever their library: a cache, settings, an ear and a clock."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from stillfresh import events
from stillfresh.caches.asynchronous import AsyncBaseCache
from stillfresh.caches.urls import async_cache_of, cache_of
from stillfresh.engine.behind import LEFT_OUT
from stillfresh.engine.credentials import Vault
from stillfresh.errors import ConfigError
from stillfresh.forks import call_in_children
from stillfresh.rfc9111.decisions import Reason, why
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import targeted
from stillfresh.rfc9111.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor
    from typing import Concatenate, ParamSpec

    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.urls import CacheLike
    from stillfresh.rfc9111.decisions import Why
    from stillfresh.rfc9111.messages import Request

    Given = ParamSpec("Given")
    R = TypeVar("R")

    def taking_what(
        theirs: Callable[Given, object],
    ) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, Given], R]]:
        """Declare a method that takes what a library's does, in whatever version.

        It is for type checkers: where a client inherits the method and only what comes out of it is
        of another kind.
        """
        raise NotImplementedError


Line = tuple[str, str]
P = TypeVar("P")


_NO_LINES: Final[tuple[list[Any], Fields]] = ([], Fields())


class UnverifiedError(Exception):
    """A response came over TLS from a server whose certificate nobody has looked at."""


class _Side:
    """The side of a client that its library knows nothing of.

    Attributes:
        policy: the user's settings.
        hook: is given every event.
        clock: the time, in seconds since the epoch.
        vault: where the key of credentials' digests is.
        closings: how often the client has been closed.
        is_own: whether the cache was made here, and so is closed here.
    """

    def __init__(
        self,
        cache: CacheLike | AsyncBaseCache | None = None,
        *,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take a cache, a URL or path of one, or an object to adapt; None is the default cache.

        Raises:
            ConfigError: `cache` can't be made sense of, or `policy` or `hook` is none.
        """
        _check(policy, hook)
        self.policy = policy or Policy()
        self.hook = hook or events.log_event
        self.clock = clock
        self.vault = Vault(self.clock)
        self._last: tuple[list[Any], Fields] = _NO_LINES
        self.closings = 0
        self._renew()
        call_in_children(self._renew)
        self._given: Any = cache
        self.is_own = _is_made_of(cache)
        self._cache: Any = self._made()

    def _renew(self) -> None:
        """Begin, in this process: a thread of its parent may have held the lock."""
        self._opening = threading.Lock()

    def _made(self) -> Any:
        """Make a cache of what was given."""
        return cache_of(self._given)

    def _opened(self) -> Any:
        cache = self._cache
        if cache is None:
            with self._opening:
                cache = self._cache
                if cache is None:
                    cache = self._cache = self._made()
        return cache

    def _let_go(self) -> Any:
        """Return the cache if it is to be closed here."""
        with self._opening:
            cache, self._cache = self._cache, None
        return cache if self.is_own else None

    def fields_of(self, lines: list[Any], read: Callable[[list[Any]], Fields]) -> Fields:
        """Return what `read` makes of the lines of a request.

        Most requests of a client have the same as the last one, of which all is known.
        """
        last, fields = self._last
        if lines != last:
            fields = read(lines)
            self._last = lines, fields
        return fields

    def tell_failed(self, key: str, error: Exception) -> None:
        """Tell of a refresh behind that came to nothing."""
        events.emit(self.hook, events.RefreshFailed(key, error))

    def wants_content(self, method: str, url: str) -> bool:
        """Tell whether a rule makes the content of such a request a part of its key."""
        return bool(self.policy.rules) and self.policy.wants_content(method, url)


def _is_made_of(given: object) -> bool:
    """Tell whether a cache is made of what a user has given, and isn't that itself."""
    return given is None or isinstance(given, str | os.PathLike)


class CacheSide(_Side):
    """That of a blocking client; it can be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        # The logger's own hook has a lock, and is the same everywhere.
        hook = None if self.hook is events.log_event else self.hook
        return {"cache": self._given, "policy": self.policy, "hook": hook, "clock": self.clock}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Come out of a pickle with nothing open."""
        self.policy = state["policy"]
        self.hook = state["hook"] or events.log_event
        self.clock = state["clock"]
        self.vault = Vault(self.clock)
        self._last = _NO_LINES
        self.closings = 0
        self._renew()
        call_in_children(self._renew)
        self._given = state["cache"]
        self.is_own = _is_made_of(self._given)
        self._cache = None

    @property
    def cache(self) -> BaseCache:
        """The cache; opened anew if it was made here and has been closed since."""
        cache: BaseCache = self._opened()
        return cache

    def close(self) -> None:
        """Close the cache if it was made here."""
        cache = self._let_go()
        if cache is not None:
            cache.close()


class AsyncCacheSide(_Side):
    """That of an async client, whose cache may be one to be awaited, or to be called in threads."""

    def __init__(
        self,
        cache: CacheLike | AsyncBaseCache | None = None,
        *,
        offload: bool = False,
        policy: Policy | None = None,
        hook: events.Hook | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what a blocking one takes; with `offload`, a local cache is called in threads."""
        super().__init__(cache, policy=policy, hook=hook, clock=clock)
        self._offloads = offload
        self._executor: ThreadPoolExecutor | None = None
        self._executor_of = 0

    def _made(self) -> Any:
        return async_cache_of(self._given)

    @property
    def cache(self) -> BaseCache | AsyncBaseCache:
        """The cache; opened anew if it was made here and has been closed since."""
        cache: BaseCache | AsyncBaseCache = self._opened()
        return cache

    @property
    def executor(self) -> Executor:
        """The threads in which the cache is called."""
        # A child made by `fork()` has none of its parent's threads.
        if self._executor is None or self._executor_of != os.getpid():
            self._executor_of = os.getpid()
            self._executor = ThreadPoolExecutor(thread_name_prefix="stillfresh-cache")
        return self._executor

    def choose(self, local: type[P], offloaded: type[P], awaited: type[P]) -> type[P]:
        """Return the ports that the cache needs."""
        if isinstance(self.cache, AsyncBaseCache):
            return awaited
        return offloaded if self._offloads else local

    async def close(self) -> None:
        """Close the cache if it was made here, and end the threads."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        cache = self._let_go()
        if isinstance(cache, AsyncBaseCache):
            await cache.close()
        elif cache is not None:
            cache.close()


def _check(policy: object, hook: object) -> None:
    """Refuse now what no request could go by."""
    if not isinstance(policy, Policy | None):
        msg = f"policy is a Policy, not {policy!r}"
        raise ConfigError(msg)
    if hook is not None and not callable(hook):
        msg = f"hook is called with each event, and can't be {hook!r}"
        raise ConfigError(msg)


class ClientPorts:
    """The ports that are the same for all clients."""

    def __init__(self, side: _Side, request: Request) -> None:
        """Serve one exchange about `request`."""
        self.request = targeted(request)
        self.vault = side.vault
        self.now = side.clock
        self.listening = events.is_listening(side.hook)
        self.is_own = side.is_own
        self._hook = side.hook

    @property
    def patience(self) -> float | None:
        """For how many seconds the caller waits for an answer to begin; None is for ever."""
        return None

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


def encoded_lines(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Return field lines as they stood on the wire."""
    before, lines = fields.before, fields.lines
    if before is not None:
        return [*before.known(encoded_lines), *_encoded(lines[-1:])]
    return _encoded(lines)


def _encoded(lines: Iterable[Line]) -> list[tuple[bytes, bytes]]:
    try:
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in lines]
    except UnicodeEncodeError:
        return [(encoded(name), encoded(value)) for name, value in lines]


def decoded(raw: Iterable[tuple[bytes, bytes]]) -> Fields:
    """Read field lines as they came; a field's value is latin-1 where it is not ASCII."""
    return Fields([(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw])
