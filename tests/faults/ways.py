"""Values that say what they are, and the ways in which caches are used.

A value's metadata name its key, a number, and which bytes its body has. Whoever loads one can tell
from that whether it is whole, and whether value and body belong together.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, NamedTuple, ParamSpec

import pytest

from stillfresh import BaseCache, BodyLost, Policy, SeparateBodyBaseCache, StoreError
from stillfresh.caches.base import CHECKED_AT_ONCE
from stillfresh.clients.requests import CachedResponse, CachedSession
from stillfresh.events import Event, StoreFailed
from stillfresh.testing.conformance.tools import content, load, store
from tests.faults.tally import Tally
from tests.origin import Origin, Received, Reply

P = ParamSpec("P")

# Within the entry file; beside it; written as it comes; too long to be checked before it is read.
SIZES: Final = (300, 20_000, 150_000, CHECKED_AT_ONCE + 70_000)

# Where metadata and body are one value.
_BETWEEN: Final = b"\n\n"


class Value(NamedTuple):
    """What is stored under a key."""

    metadata: bytes
    body: bytes


def value_of(key: str, number: int, size: int) -> Value:
    """Make the value of a number."""
    return Value(_metadata(key, number, number, size), content(f"{key} {number}", size))


def number_of(key: str, found: Value) -> int | None:
    """Tell which value was found; None where nobody has stored that."""
    try:
        said, number, of, size = _said(found.metadata)
    except ValueError:
        return None
    right = said == key and found.body == content(f"{key} {of}", size)
    return number if right and found.metadata == _metadata(key, number, of, size) else None


def _metadata(key: str, number: int, of: int, size: int) -> bytes:
    return f"{key} {number} {of} {size}".encode()


def _said(metadata: bytes) -> tuple[str, int, int, int]:
    key, number, of, size = metadata.decode().rsplit(" ", 3)
    return key, int(number), int(of), int(size)


def renumbered(metadata: bytes, number: int) -> bytes:
    """Let a value's metadata have another number."""
    key, _, of, size = _said(metadata)
    return _metadata(key, number, of, size)


class Way(ABC):
    """One interface of a cache; its methods raise what that raises.

    Attributes:
        refuses: what may be raised for a backend that fails.
        told: the events of the cache.
    """

    refuses: tuple[type[Exception], ...]

    def __init__(self, cache: BaseCache) -> None:
        self.cache = cache
        self.told: list[Event] = []
        cache.hook = self.told.append

    @abstractmethod
    def store(self, key: str, value: Value) -> None:
        """Store a version."""

    @abstractmethod
    def load(self, key: str) -> Value | None:
        """Load what is there."""

    @abstractmethod
    def refresh(self, key: str, number: int) -> bool:
        """Let what is there have another number, its body untouched."""

    @abstractmethod
    def remove(self, key: str) -> bool:
        """Remove what is there."""

    def failures(self) -> int:
        """Count the events of failures since this was last asked."""
        failures = sum(isinstance(event, StoreFailed) for event in self.told)
        self.told.clear()
        return failures


class WholeEntries(Way):
    """`open`, `writer`, `update`, `remove`."""

    refuses = (StoreError,)

    def store(self, key: str, value: Value) -> None:
        store(self.cache, key, *value)

    def load(self, key: str) -> Value | None:
        found = load(self.cache, key)
        return None if found is None else Value(found[0], found[1] or b"")

    def refresh(self, key: str, number: int) -> bool:
        entry = self.cache.open(key)
        if entry is None:
            return False
        with entry:
            metadata = renumbered(entry.metadata, number)
        return self.cache.update(key, metadata, version=entry.version)

    def remove(self, key: str) -> bool:
        return self.cache.remove(key)


class ClassicCalls(Way):
    """`get`, `set`, `delete`, and `get_body` and `set_body` where there are these."""

    refuses = ()

    def store(self, key: str, value: Value) -> None:
        if isinstance(self.cache, SeparateBodyBaseCache):
            self.cache.set(key, value.metadata)
            self.cache.set_body(key, value.body)
        else:
            self.cache.set(key, _BETWEEN.join(value))

    def load(self, key: str) -> Value | None:
        found = self.cache.get(key)
        if found is None:
            return None
        if isinstance(self.cache, SeparateBodyBaseCache):
            return self._with_body(self.cache, key, found)
        metadata, _, body = found.partition(_BETWEEN)
        return Value(metadata, body)

    def refresh(self, key: str, number: int) -> bool:
        found = self.cache.get(key)
        if found is None:
            return False
        metadata, *body = found.split(_BETWEEN, 1)
        self.cache.set(key, _BETWEEN.join([renumbered(metadata, number), *body]))
        # Until this thread's next call the value might still get a body.
        self.cache.get("another key")
        return True

    def remove(self, key: str) -> bool:
        return self.cache.delete(key)

    @staticmethod
    def _with_body(cache: SeparateBodyBaseCache, key: str, metadata: bytes) -> Value | None:
        file = cache.get_body(key)
        if file is None:
            # To CacheControl that is a response with an empty body.
            return Value(metadata, b"")
        with file:
            try:
                return Value(metadata, file.read())
            except BodyLost:
                # So a long one ends that turns out to be wrong while it is read.
                if _said(metadata)[-1] <= CHECKED_AT_ONCE:
                    raise
                return None


WAYS: Final = (WholeEntries, ClassicCalls)
each_way: Final = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def judge(tally: Tally, way: Way, key: str) -> int | None:
    """Load a value in any way and look whether it is one; None where there is none."""
    found = tally.attempt_or(way.refuses, way.load, key)
    if found is None:
        return None
    number = number_of(key, found)
    tally.blame_unless(number is not None, "wrong", f"{key} {found.metadata[:80]!r}")
    return number


def manages(
    tally: Tally, way: Way, do: Callable[P, object], *args: P.args, **options: P.kwargs
) -> bool:
    """Do what may fail, and tell by what is raised and by events whether it went well."""
    way.failures()
    before = tally.tries["refused"]
    tally.attempt_or(way.refuses, do, *args, **options)
    return tally.tries["refused"] == before and not way.failures()


def pages(origin: Origin, count: int, sizes: tuple[int, ...] = SIZES) -> list[str]:
    """Let an origin have pages, of each size in turn, that say what they are."""
    paths = [f"/{number}/{sizes[number % len(sizes)]}" for number in range(count)]
    return [origin.on(path, _serve_page) for path in paths]


def _serve_page(request: Received) -> Reply:
    path = request.path
    headers = {"Cache-Control": "max-age=1000", "ETag": f'"{path}"', "X-Page": path}
    if request.header("If-None-Match") == headers["ETag"]:
        return Reply(304, headers=headers)
    return Reply(headers=headers, body=_page(path))


def _page(path: str) -> bytes:
    return content(path, int(path.rpartition("/")[2]))


class Visitor:
    """A session in front of a cache."""

    def __init__(
        self,
        cache: BaseCache,
        clock: Callable[[], float] = time.time,
        policy: Policy | None = None,
    ) -> None:
        self.told: list[Event] = []
        self.session = CachedSession(cache, policy=policy, hook=self.told.append, clock=clock)
        self.session.trust_env = False

    def visit(self, tally: Tally, url: str) -> bool:
        """Get a page, look whether it is the right one, and tell whether it was stored."""
        answer = tally.attempt(self.session.get, url, timeout=30)
        if not isinstance(answer, CachedResponse):
            return False
        path = "/" + url.split("/", 3)[3]
        right = (answer.status_code, answer.headers.get("X-Page"), answer.content)
        tally.blame_unless(right == (200, path, _page(path)), "wrong", url)
        return answer.from_cache

    def failures(self) -> int:
        """Count the events of failures since this was last asked."""
        failures = sum(isinstance(event, StoreFailed) for event in self.told)
        self.told.clear()
        return failures
