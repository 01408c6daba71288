"""Other people's caches: anything with `get`, `set` and `delete`.

Such an object keeps one value under a key, so metadata and body are put into one frame. What it
holds that is no frame is another program's value, and is handed out as it is.
"""

from __future__ import annotations

import inspect
import math
import time
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from stillfresh.caches import frames
from stillfresh.caches.base import (
    BaseCache,
    ComparingCache,
    Entry,
    EntryInfo,
    EntryWriter,
    Expires,
    InMemory,
    Seal,
    moment,
)
from stillfresh.caches.expiry import is_past
from stillfresh.caches.frames import HAS_BODY, Frame
from stillfresh.caches.writing import appended
from stillfresh.errors import CacheUnavailable, ConfigError, CorruptEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# Seconds beyond which an object isn't told when a value ends: it may have a last moment.
_LONGEST: Final = 100 * 366 * 86_400


@runtime_checkable
class ClassicCache(Protocol):
    """The least that a cache can be. `set` may also take `expires` in seconds."""

    def get(self, key: str, /) -> bytes | None:
        """Return the value under `key`, or None."""

    def set(self, key: str, value: bytes, /) -> object:
        """Keep `value` under `key`."""

    def delete(self, key: str, /) -> object:
        """Remove what is under `key`."""


def adapt(cache: object, *, clock: Callable[[], float] = time.time) -> BaseCache:
    """Make a whole cache out of an object with `get`, `set` and `delete`.

    The object is asked for the rest where it has it: `clear()`, `close()`, and `keys()` for a
    listing. Bodies pass through memory, and `update` compares and swaps in two steps, as there is
    no one step for it.

    Raises:
        ConfigError: it lacks one of the three methods, or is a class.
    """
    if isinstance(cache, BaseCache):
        return cache
    if isinstance(cache, type):
        msg = f"{cache!r} is a class, not a cache"
        raise ConfigError(msg)
    if not isinstance(cache, ClassicCache):
        msg = f"{cache!r} has no get, set and delete"
        raise ConfigError(msg)
    return AdaptedCache(cache, clock=clock)


class AdaptedCache(ComparingCache):
    """A cache over a classic object; made by `adapt`."""

    def __init__(self, cache: ClassicCache, *, clock: Callable[[], float] = time.time) -> None:
        """Keep everything in `cache`."""
        super().__init__(clock=clock)
        self.wrapped = cache
        self._takes_expires = _takes_expires(cache.set)

    def __repr__(self) -> str:
        """Name what it stands on."""
        return f"adapt({self.wrapped!r})"

    def open(self, key: str) -> Entry | None:
        """Take the one value apart."""
        self._check_open()
        value = self._get(key)
        if value is None:
            return None
        if not value.startswith(frames.MAGIC):
            frames.refuse_damaged(value)
            return Entry(
                value,
                version=f"foreign-{frames.digest(value).hex()}",
                size=0,
                source=InMemory(b""),
                digest=None,
                has_body=False,
            )
        frame, body = frames.decode_under(key, value)
        if is_past(frame.expires_at, self._clock()):
            return None
        return Entry(
            frame.metadata,
            version=frame.version,
            size=frame.body_size,
            source=InMemory(body),
            digest=frame.digest,
            has_body=bool(frame.flags & HAS_BODY),
            expires_at=frame.expires_at,
        )

    def writer(self, key: str) -> EntryWriter:
        """Collect the body and set one value at the commit."""
        self._check_open()
        return EntryWriter(
            _FrameSink(self, key),
            version=frames.new_version(),
            clock=self._clock,
            remove=lambda: self.remove(key),
        )

    def _change(
        self, key: str, old: bytes | None, metadata: bytes, version: str, expires: Expires
    ) -> bool:
        """Get, compare, set: another writer may come between."""
        self._check_open()
        now = self._clock()
        expires_at = moment(expires, now)
        value = self._get(key)
        if value is None or not value.startswith(frames.MAGIC):
            return False
        frame, body = frames.decode_under(key, value)
        if frame.version != version or is_past(frame.expires_at, now):
            return False
        if old is not None and frame.metadata != old:
            return False
        if is_past(expires_at, now):
            self.remove(key)
        else:
            changed = frame._replace(metadata=metadata, stored_at=now, expires_at=expires_at)
            self._set(changed, body)
        return True

    def remove(self, key: str) -> bool:
        """Delete the value."""
        self._check_open()
        existed = self._ask(self.wrapped.get, key) is not None
        if existed:
            self._ask(self.wrapped.delete, key)
        return existed

    def entries(self) -> Iterator[EntryInfo]:
        """List what `keys()` of the object names.

        Raises:
            CacheUnavailable: it has no `keys()`.
        """
        now = self._clock()
        return (entry for entry in self._all_entries() if not is_past(entry.expires_at, now))

    def _all_entries(self) -> Iterator[EntryInfo]:
        self._check_open()
        for key in list(self._ask(self._method("keys"))):
            value = b""
            try:
                found = self._get(key)
                if found is None:
                    continue
                value = found
                frame, _ = frames.decode_under(key, value)
            except CorruptEntry:
                # Nobody says when: then now, or it would be the first to go.
                now = self._clock()
                yield EntryInfo(key, key, len(value), 0, now, now, None, foreign=True)
                continue
            yield EntryInfo(
                key,
                key,
                len(value),
                frame.body_size,
                frame.stored_at,
                frame.stored_at,
                frame.expires_at,
            )

    def clear(self) -> None:
        """Have the object clear itself, whatever that means to it.

        Raises:
            CacheUnavailable: it has no `clear()`.
        """
        self._check_open()
        self._ask(self._method("clear"))

    def close(self) -> None:
        """Close the object too, if it can be closed."""
        was_closed = self._closed
        super().close()
        if not was_closed and callable(getattr(self.wrapped, "close", None)):
            self._ask(self._method("close"))

    def _get(self, key: str) -> bytes | None:
        value: object = self._ask(self.wrapped.get, key)
        if value is not None and not isinstance(value, bytes | bytearray | memoryview):
            msg = f"{self.wrapped!r} answers a {type(value).__name__} where bytes were set"
            raise CorruptEntry(msg)
        return None if value is None else bytes(value)

    def _set(self, frame: Frame, body: bytes) -> None:
        head, tail = frames.encode(frame)
        value = b"".join((head, body, tail))
        if self._takes_expires and frame.expires_at is not None:
            # To some caches 0 is for ever.
            left = max(1, math.ceil(frame.expires_at - self._clock()))
            if left <= _LONGEST:
                self._ask(self.wrapped.set, frame.key, value, expires=left)
                return
        self._ask(self.wrapped.set, frame.key, value)

    def _method(self, name: str) -> Callable[..., Any]:
        method = getattr(self.wrapped, name, None)
        if not callable(method):
            msg = f"{self.wrapped!r} has no {name}()"
            raise CacheUnavailable(msg)
        return method  # type: ignore[no-any-return]

    def _ask(self, method: Callable[..., Any], *args: object, **options: object) -> Any:
        try:
            return method(*args, **options)
        except Exception as error:
            msg = f"{self.wrapped!r}: {error}"
            raise CacheUnavailable(msg) from error


class _FrameSink:
    """Collects a body for one value."""

    def __init__(self, cache: AdaptedCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._body: bytes | bytearray = b""

    def write(self, chunk: bytes | memoryview, /) -> None:
        self._body = appended(self._body, chunk)

    def publish(self, seal: Seal) -> None:
        self._cache._check_open()  # noqa: SLF001 - the sink is the cache's own
        frame = Frame(
            self._key,
            seal.metadata,
            HAS_BODY if seal.has_body else 0,
            seal.size,
            seal.digest,
            seal.version,
            seal.stored_at,
            seal.expires_at,
        )
        self._cache._set(frame, bytes(self._body))  # noqa: SLF001

    def discard(self) -> None:
        self._body = b""

    def detach(self) -> None:
        self._body = b""


def _takes_expires(method: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(method).parameters
    except (TypeError, ValueError):
        return False
    return "expires" in parameters or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )
