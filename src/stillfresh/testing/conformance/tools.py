"""What the tests of the suite work with: keys, moments, contents, threads and children."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import traceback
import warnings
from array import array
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

    from stillfresh.caches.base import BaseCache, Entry, SeparateBodyBaseCache
    from stillfresh.caches.expiry import Expires

T = TypeVar("T")

KEYS: Final = {
    "empty": "",
    "url": "https://example.org/a?b=c&d=%20#e",
    "dots": "../../../../etc/passwd",
    "dot": ".",
    "absolute": "/etc/passwd",
    "backslash": "..\\..\\boot.ini",
    "nul": "a\0b",
    "only nul": "\0",
    "newlines": "a\r\nb: c\n",
    "spaces": "  ",
    "percent": "%00%2e%2e%2f",
    "glob": "*?[a-z]",
    "latin-1": "caf\xe9",
    "decomposed": "cafe\u0301",
    "astral": "\U0001f370",
    "lone surrogate": "\ud800",
    "surrogateescape": b"/caf\xe9".decode("ascii", "surrogateescape"),
    "upper": "ABC",
    "lower": "abc",
    "64 KiB": "k" * 65_536,
    "64 KiB and one": "k" * 65_537,
}

BYTES_LIKE: Final[dict[str, Callable[[bytes], Buffer]]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "slice": lambda data: memoryview(b"<" + data + b">")[1:-1],
    "array of words": lambda data: array("H", data),
}

# Around every size at which a cache may change its ways: ours do at 16 KiB, 64 KiB and 1 MiB.
SIZES: Final = (
    0,
    1,
    4095,
    (1 << 14) - 1,
    1 << 14,
    (1 << 14) + 1,
    1 << 16,
    (1 << 16) + 1,
    1 << 20,
    (1 << 20) + 1,
    (3 << 20) + 17,
)

IN_A_MINUTE: Final[dict[str, Callable[[float], Expires]]] = {
    "int": lambda _: 60,
    "float": lambda _: 60.0,
    "timedelta": lambda _: timedelta(minutes=1),
    "aware datetime": lambda now: datetime.fromtimestamp(now + 60, UTC),
    "datetime elsewhere": lambda now: datetime.fromtimestamp(
        now + 60, timezone(timedelta(hours=-7))
    ),
    "naive datetime": lambda now: datetime.fromtimestamp(now + 60, UTC).replace(tzinfo=None),
}

PAST: Final[dict[str, Callable[[float], Expires]]] = {
    "0": lambda _: 0,
    "0.0": lambda _: 0.0,
    "negative": lambda _: -1,
    "negative float": lambda _: -0.5,
    "huge negative": lambda _: -(10**400),
    "negative infinity": lambda _: float("-inf"),
    "no timedelta": lambda _: timedelta(0),
    "negative timedelta": lambda _: timedelta(days=-1),
    "aware datetime": lambda now: datetime.fromtimestamp(now - 1, UTC),
    "naive datetime": lambda now: datetime.fromtimestamp(now - 1, UTC).replace(tzinfo=None),
    "first datetime": lambda _: datetime.min,  # noqa: DTZ901 - naive is one of the forms
}

NEVER: Final[dict[str, Expires]] = {
    "None": None,
    "huge": 10**400,
    "infinity": float("inf"),
    "last datetime": datetime.max,  # noqa: DTZ901 - naive is one of the forms
}


@lru_cache(maxsize=32)
def content(seed: str, size: int) -> bytes:
    """Make `size` bytes that only `seed` gives."""
    return hashlib.shake_128(seed.encode()).digest(size)


def store(
    cache: BaseCache, key: str, metadata: bytes, body: bytes | None, expires: Expires = None
) -> str:
    """Commit an entry, without a body where that is None, and return its version."""
    with cache.writer(key) as writer:
        if body is not None:
            writer.write(body)
        return writer.commit(metadata, expires=expires)


def load(cache: BaseCache, key: str) -> tuple[bytes, bytes | None] | None:
    """Read a whole entry: its metadata, and its body or None where it has none."""
    entry = cache.open(key)
    if entry is None:
        return None
    with entry:
        body = entry.read()
        assert len(body) == entry.size
        return entry.metadata, body if entry.has_body else None


def load_pair(cache: SeparateBodyBaseCache, key: str) -> tuple[bytes, bytes | None] | None:
    """Read a value and its body by the two classic calls."""
    value = cache.get(key)
    if value is None:
        return None
    body = cache.get_body(key)
    if body is None:
        return value, None
    with body:
        return value, body.read()


@contextlib.contextmanager
def opened(cache: BaseCache, key: str) -> Iterator[Entry]:
    """Open an entry that has to be there."""
    entry = cache.open(key)
    assert entry is not None
    with entry:
        yield entry


def together(*jobs: Callable[[], object]) -> None:
    """Run each job in a thread of its own, at the same time, and raise what one raised."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


def elsewhere(job: Callable[[], T]) -> T:
    """Run `job` in a thread that ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


def in_child(job: Callable[[], bytes]) -> bytes:
    """Run `job` in a child made by `fork()`, and return its answer."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The test runner may have threads; what a cache does in the child is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            answer = b"+" + job()
        except BaseException:  # noqa: BLE001 - whatever it is, the parent tells
            answer = b"-" + traceback.format_exc().encode()
        with contextlib.suppress(OSError), os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    assert answer.startswith(b"+"), answer.decode()
    return answer[1:]
