"""The classic two-call interface, made atomic.

`set(key, value)` says too little: it is either the first half of a new version, whose body comes
with `set_body`, or the whole of a refresh after a 304, whose body is the one already stored. If
the new value were visible at once, a reader would see it beside the old body, or where there is
none take it for a response with an empty one (CacheControl does); and if its writer were killed
then, for ever. If it were hidden until a body comes, a refresh would have no effect. Nothing in
the call tells the two apart, so what the same thread does next has to. Till then the value is a
draft, held in the thread:

- `set_body` publishes draft and body as one version.
- Any other call of that thread (or its end, or the end of the process, or `close`) shows that no
  body will come. If the thread had read a version with a body, the draft was a refresh of that:
  its metadata is swapped, if it is still the present one. Else the draft is a value that has no
  body, and is published as such, unless another thread's pair has come between.

A killed thread loses at most a refresh. A reader's two calls are joined the same way: `get` pins
the version it has read, `get_body` hands out the body of that version, or None if it is gone.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from stillfresh.caches.reading import CHECKED_AT_ONCE
from stillfresh.errors import CacheClosed, CacheError, StoreError
from stillfresh.memo import brief

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


class _Seen(NamedTuple):
    """What a thread knows to have been under a key."""

    version: str
    has_body: bool


@dataclass(slots=True)
class _Draft:
    """A value that was set and may still get a body."""

    owner: weakref.ref[Pairing]
    clock: Callable[[], float]
    key: str
    metadata: bytes
    expires_at: float | None
    # What it refreshes if no body comes; None is nothing.
    base: str | None = None
    # Where it has yet to take effect.
    pending: BaseCache | None = None
    # A child inherits the drafts of all threads by fork(), but they are not its own.
    pid: int = field(default_factory=os.getpid)

    @property
    def expires(self) -> Expires:
        return None if self.expires_at is None else self.expires_at - self.clock()

    def publish(self) -> None:
        """Take effect without a body of its own, unless it has or never will."""
        cache, self.pending = self.pending, None
        if cache is None or os.getpid() != self.pid:
            return
        thread = threading.get_ident()
        _publishing.add(thread)
        try:
            if self.base is not None:
                if not cache.update(
                    self.key, self.metadata, version=self.base, expires=self.expires
                ):
                    self._take_over(cache, self.base)
            elif not _has_body(cache, self.key):
                with cache.writer(self.key) as writer:
                    writer.commit(self.metadata, expires=self.expires)
        except StoreError as error:
            # That is the fault of no later call.
            cache._swallow("set", self.key, error)  # noqa: SLF001 - this is its `set`
        except CacheClosed:
            # By another thread, which can't know of this draft.
            pass
        finally:
            _publishing.discard(thread)

    def _take_over(self, cache: BaseCache, base: str) -> None:
        """Refresh what another program has stored, which is rewritten as one of ours."""
        entry = cache.open(self.key)
        if entry is None:
            return
        try:
            # Else it is not the one any more.
            if entry.version == base:
                with cache.writer(self.key) as writer:
                    while chunk := entry.read(_BUFFER):
                        writer.write(chunk)
                    writer.commit(self.metadata, expires=self.expires)
        finally:
            entry.close()

    def cancel(self) -> bool:
        """Never take effect; say whether it would have become a value without a body."""
        waiting, self.pending = self.pending is not None, None
        return waiting and self.base is None

    def __del__(self) -> None:
        # The thread has ended without a body for it.
        if not sys.is_finalizing():
            self.publish()


@dataclass(slots=True)
class _Hand:
    """What one thread has read."""

    pinned: tuple[str, Entry] | None = None
    # By key, in brief.
    seen: OrderedDict[str, _Seen] = field(default_factory=OrderedDict)

    def pin(self, key: str, entry: Entry) -> None:
        self.unpin()
        self.pinned = (key, entry)

    def unpin(self) -> None:
        pinned, self.pinned = self.pinned, None
        if pinned is not None:
            pinned[1].close()

    def remember(self, key: str, version: str, *, has_body: bool) -> None:
        name = brief(key)
        self.seen[name] = _Seen(version, has_body)
        self.seen.move_to_end(name)
        if len(self.seen) > _REMEMBERED:
            self.seen.popitem(last=False)

    def forget(self, key: str) -> None:
        self.seen.pop(brief(key), None)
        if self.pinned is not None and self.pinned[0] == key:
            self.unpin()


class _Hands(threading.local):
    """One hand for each thread, for one cache."""

    def __init__(self) -> None:
        self.mine = _Hand()


class _Drafts(threading.local):
    """One draft for each thread, whichever cache it is for."""

    last: _Draft | None = None


class Pairing:
    """Joins the two calls of each thread for one cache. Methods raise what the cache raises."""

    def __init__(self, cache: BaseCache, clock: Callable[[], float]) -> None:
        """Serve `cache`, which is not kept alive by it."""
        self._cache = weakref.ref(cache)
        self._clock = clock
        self._hands = _Hands()

    def get(self, key: str) -> bytes | None:
        """Return the metadata under `key` and pin its version for this thread."""
        _settle()
        hand = self._hands.mine
        hand.unpin()
        entry = self._alive().open(key)
        if entry is None:
            hand.forget(key)
            return None
        try:
            # Whoever has got a value takes a body that is lost for one that is empty.
            entry.check()
        except BaseException:
            entry.close()
            raise
        hand.remember(key, entry.version, has_body=entry.has_body)
        if entry.has_body:
            hand.pin(key, entry)
        else:
            entry.close()
        return entry.metadata

    def get_body(self, key: str) -> IO[bytes] | None:
        """Return the body of the version pinned for `key`, or of the present one if none was."""
        _settle()
        hand = self._hands.mine
        pinned, hand.pinned = hand.pinned, None
        if pinned is not None:
            if pinned[0] == key:
                return _as_file(pinned[1])
            pinned[1].close()
        entry = self._alive().open(key)
        if entry is None:
            return None
        seen = hand.seen.get(brief(key))
        if not entry.has_body or (seen is not None and seen.version != entry.version):
            entry.close()
            return None
        hand.remember(key, entry.version, has_body=True)
        return _as_file(entry)

    def set(self, key: str, metadata: bytes, expires_at: float | None) -> None:
        """Begin a version of `key`, or refresh the one that this thread has read."""
        unpublished = self._take_up(key)
        if unpublished is not None:
            unpublished.cancel()
        hand = self._hands.mine
        hand.unpin()
        _drafts.last = draft = self._draft(key, metadata, expires_at)
        if expires_at is not None and expires_at <= self._clock():
            self._alive().remove(key)
            return
        seen = hand.seen.get(brief(key)) or self._present(key)
        if seen is not None and seen.has_body:
            draft.base = seen.version
        draft.pending = self._alive()
        _watch_the_end_of_this_process()

    def set_body(self, key: str, body: Buffer | IO[bytes]) -> None:
        """Publish the value last set for `key` in this thread together with `body`."""
        hand = self._hands.mine
        hand.unpin()
        draft = self._take_up(key) or self._draft_of_present(key)
        draft.cancel()
        with self._alive().writer(key) as writer:
            if hasattr(body, "read"):
                while chunk := body.read(_BUFFER):
                    writer.write(chunk)
                writer.write(b"")
            else:
                writer.write(body)
            version = writer.commit(draft.metadata, expires=draft.expires)
        hand.remember(key, version, has_body=True)

    def forget(self, key: str) -> bool:
        """Drop what this thread has in hand of `key`; the rest takes effect.

        Returns whether there was a value of its own in it.
        """
        self._hands.mine.forget(key)
        draft = self._take_up(key)
        return draft is not None and draft.cancel()

    def settle(self) -> None:
        """Let the draft of this thread take effect."""
        if _drafts.last is not None and threading.get_ident() not in _publishing:
            _settle()

    def drop(self) -> None:
        """Forget all that this thread has in hand; nothing of it takes effect."""
        hand = self._hands.mine
        hand.unpin()
        hand.seen.clear()
        draft = _drafts.last
        if draft is not None and draft.owner() is self:
            draft.cancel()

    def close(self) -> None:
        """Let a draft of this thread take effect and let go of what is pinned."""
        _settle()
        self._hands.mine.unpin()

    def _draft(self, key: str, metadata: bytes, expires_at: float | None) -> _Draft:
        return _Draft(weakref.ref(self), self._clock, key, metadata, expires_at)

    def _alive(self) -> BaseCache:
        cache = self._cache()
        if cache is None:  # pragma: no cover - the cache calls us, so it is alive
            msg = "the cache is gone"
            raise CacheError(msg)
        return cache

    def _present(self, key: str) -> _Seen | None:
        present = _open_or_lost(self._alive(), key)
        if present is None:
            return None
        present.close()
        return _Seen(present.version, present.has_body)

    def _take_up(self, key: str) -> _Draft | None:
        """Return what this thread has last set, if that was `key`; else it takes effect."""
        draft = _drafts.last
        if draft is None or draft.owner() is not self or draft.key != key:
            _settle()
            return None
        _drafts.last = None
        return draft

    def _draft_of_present(self, key: str) -> _Draft:
        """Treat a `set_body` that no `set` came before as one for the value that is there."""
        present = _open_or_lost(self._alive(), key)
        if present is None:
            return self._draft(key, b"", None)
        with present:
            return self._draft(key, present.metadata, present.expires_at)


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


def _open_or_lost(cache: BaseCache, key: str) -> Entry | None:
    """Open what is there; damage counts as nothing, since it is about to be replaced."""
    try:
        return cache.open(key)
    except StoreError:
        return None


def _has_body(cache: BaseCache, key: str) -> bool:
    present = _open_or_lost(cache, key)
    if present is None:
        return False
    present.close()
    return present.has_body


def _as_file(entry: Entry) -> IO[bytes]:
    if entry.size <= CHECKED_AT_ONCE:
        with entry:
            return io.BytesIO(entry.read())
    return io.BufferedReader(_BodyFile(entry), _BUFFER)


_drafts: Final = _Drafts()
# Threads that publish a draft now: what they call for it settles nothing. A thread's end may be
# why, and it would get its thread-local values back.
_publishing: Final[set[int]] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_publishing.clear)


def _settle() -> None:
    draft = _drafts.last
    if draft is not None:
        draft.publish()


def _watch_the_end_of_this_process() -> None:
    """Settle in a child of `multiprocessing` too, which ends without running `atexit`'s calls."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None and os.getpid() not in _watched:
        _watched.add(os.getpid())
        util.Finalize(None, _settle_at_exit, exitpriority=0)


_watched: Final[set[int]] = set()


@atexit.register
def _settle_at_exit() -> None:
    # After an exception that nobody caught (Ctrl-C, say) a draft may be half of a new version.
    if not hasattr(sys, "last_type"):
        _settle()
