"""The classic two-call interface, made atomic.

`set(key, value)` says too little: it is either the first half of a new version, whose body comes
with `set_body`, or the whole of a refresh after a 304, whose body is the one already stored. If
the new value were visible at once, a reader would see it beside the old body, and if its writer
were killed then, for ever. If it were hidden until a body comes, a refresh would have no effect.
Nothing in the call tells the two apart, so what the same thread does next has to:

- While there is no body to be mixed up with, the value is visible at once.
- Else it is a draft, held in the thread. `set_body` publishes draft and body as one version. Any
  other call of that thread (or its end, or the end of the process, or `close`) shows that it was
  a refresh: the metadata of the version that the thread had read is swapped, if that version is
  still the present one. A killed thread loses at most a refresh.

A reader's two calls are joined the same way: `get` pins the version it has read, `get_body` hands
out the body of that version, or None if it is gone.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import sys
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final

from stillfresh.caches.entry import CHECKED_AT_ONCE
from stillfresh.errors import CacheError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from stillfresh.caches.base import BaseCache
    from stillfresh.caches.entry import Entry
    from stillfresh.caches.expiry import Expires

# How many keys a thread remembers the version of. A client has one or two in hand at a time.
_REMEMBERED: Final = 128
# Large enough that reading a long body is not a matter of calls.
_BUFFER: Final = 1 << 18


@dataclass(slots=True, weakref_slot=True)
class _Draft:
    """A value that was set and may still get a body."""

    cache: weakref.ref[BaseCache]
    clock: Callable[[], float]
    key: str
    metadata: bytes
    expires_at: float | None
    base: str = ""
    # It has taken effect, or never will.
    published: bool = True
    # It stands in the cache without a body.
    alone: bool = False

    @property
    def expires(self) -> Expires:
        return None if self.expires_at is None else self.expires_at - self.clock()

    def publish(self) -> None:
        """Take effect as a refresh of the version it is based on."""
        cache = self.cache()
        if not self.published and cache is not None:
            self.published = True
            cache.update(self.key, self.metadata, version=self.base, expires=self.expires)

    def __del__(self) -> None:
        # The thread has ended without a body for it.
        with contextlib.suppress(CacheError):
            if not sys.is_finalizing():
                self.publish()


@dataclass(slots=True)
class _Hand:
    """What one thread has in hand."""

    draft: _Draft | None = None
    pinned: tuple[str, Entry] | None = None
    seen: OrderedDict[str, str] = field(default_factory=OrderedDict)

    def pin(self, key: str, entry: Entry) -> None:
        self.unpin()
        self.pinned = (key, entry)

    def unpin(self) -> None:
        pinned, self.pinned = self.pinned, None
        if pinned is not None:
            pinned[1].close()

    def remember(self, key: str, version: str) -> None:
        self.seen[key] = version
        self.seen.move_to_end(key)
        if len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)

    def forget(self, key: str) -> None:
        self.seen.pop(key, None)
        if self.pinned is not None and self.pinned[0] == key:
            self.unpin()
        if self.draft is not None and self.draft.key == key:
            self.draft.published = True
            self.draft = None


class _Hands(threading.local):
    """One hand for each thread."""

    def __init__(self) -> None:
        self.mine = _Hand()


class Pairing:
    """Joins the two calls of each thread for one cache. Methods raise what the cache raises."""

    def __init__(self, cache: BaseCache, clock: Callable[[], float]) -> None:
        """Serve `cache`, which is not kept alive by it."""
        self._cache = weakref.ref(cache)
        self._clock = clock
        self._hands = _Hands()
        _at_exit.add(self)

    def get(self, key: str) -> bytes | None:
        """Return the metadata under `key` and pin its version for this thread."""
        hand = self._settled()
        hand.unpin()
        entry = self._open(key)
        if entry is None:
            hand.forget(key)
            return None
        hand.remember(key, entry.version)
        if entry.has_body:
            hand.pin(key, entry)
        else:
            entry.close()
        return entry.metadata

    def get_body(self, key: str) -> IO[bytes] | None:
        """Return the body of the version pinned for `key`, or of the present one if none was."""
        hand = self._settled()
        pinned, hand.pinned = hand.pinned, None
        if pinned is not None:
            if pinned[0] == key:
                return _as_file(pinned[1])
            pinned[1].close()
        entry = self._open(key)
        if entry is None:
            return None
        if not entry.has_body or hand.seen.get(key, entry.version) != entry.version:
            entry.close()
            return None
        hand.remember(key, entry.version)
        return _as_file(entry)

    def set(self, key: str, metadata: bytes, expires_at: float | None) -> None:
        """Begin a version of `key`, or refresh the present one."""
        hand = self._settled()
        hand.unpin()
        draft = _Draft(self._cache, self._clock, key, metadata, expires_at)
        hand.draft = draft
        current = self._open_or_lost(key)
        past = expires_at is not None and expires_at <= self._clock()
        if current is not None:
            current.close()
        if current is not None and current.has_body and not past:
            draft.base = hand.seen.get(key, current.version)
            draft.published = False
            return
        with self._alive().writer(key) as writer:
            hand.remember(key, writer.commit(metadata, expires=draft.expires))
        draft.alone = True

    def set_body(self, key: str, body: Buffer | IO[bytes]) -> None:
        """Publish the value last set for `key` in this thread together with `body`."""
        hand = self._mine()
        hand.unpin()
        if hand.draft is not None and hand.draft.key != key:
            self._settled()
        draft, hand.draft = hand.draft, None
        if draft is None or draft.key != key:
            draft = self._draft_of_present(key)
        draft.published = True
        try:
            with self._alive().writer(key) as writer:
                if hasattr(body, "read"):
                    while chunk := body.read(_BUFFER):
                        writer.write(chunk)
                    writer.write(b"")
                else:
                    writer.write(body)
                hand.remember(key, writer.commit(draft.metadata, expires=draft.expires))
        except BaseException:
            # The value alone would be taken for a response with an empty body.
            if draft.alone:
                with contextlib.suppress(StoreError):
                    self._alive().remove(key)
            raise

    def forget(self, key: str) -> None:
        """Drop what this thread has in hand of `key`; the rest takes effect."""
        hand = self._mine()
        hand.forget(key)
        self._settled()

    def drop(self) -> None:
        """Forget all that this thread has in hand; nothing of it takes effect."""
        hand = self._mine()
        hand.unpin()
        hand.seen.clear()
        if hand.draft is not None:
            hand.draft.published = True
            hand.draft = None

    def close(self) -> None:
        """Let a draft of this thread take effect and let go of what is pinned."""
        self._settled().unpin()

    def _mine(self) -> _Hand:
        return self._hands.mine

    def _settled(self) -> _Hand:
        hand = self._mine()
        if hand.draft is not None:
            hand.draft.publish()
        return hand

    def _alive(self) -> BaseCache:
        cache = self._cache()
        if cache is None:  # pragma: no cover - the cache calls us, so it is alive
            msg = "the cache is gone"
            raise CacheError(msg)
        return cache

    def _open(self, key: str) -> Entry | None:
        return self._alive().open(key)

    def _open_or_lost(self, key: str) -> Entry | None:
        """Open what is there; damage counts as nothing, since it is about to be replaced."""
        try:
            return self._open(key)
        except StoreError:
            return None

    def _draft_of_present(self, key: str) -> _Draft:
        """Treat a `set_body` that no `set` came before as one for the value that is there."""
        present = self._open_or_lost(key)
        if present is None:
            return _Draft(self._cache, self._clock, key, b"", None)
        with present:
            return _Draft(self._cache, self._clock, key, present.metadata, present.expires_at)


class _BodyFile(io.RawIOBase):
    """An entry's body as a raw file."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self._entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        return self._entry.readinto(buffer)

    def close(self) -> None:
        self._entry.close()
        super().close()


def _as_file(entry: Entry) -> IO[bytes]:
    if entry.size <= CHECKED_AT_ONCE:
        with entry:
            return io.BytesIO(entry.read())
    return io.BufferedReader(_BodyFile(entry), _BUFFER)


_at_exit: weakref.WeakSet[Pairing] = weakref.WeakSet()


@atexit.register
def _settle_at_exit() -> None:
    # After an exception that nobody caught (Ctrl-C, say) a draft may be half of a new version.
    if hasattr(sys, "last_type"):
        return
    for pairing in list(_at_exit):
        with contextlib.suppress(CacheError):
            pairing.close()
