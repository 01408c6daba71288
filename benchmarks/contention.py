"""Writers that are killed, and readers who must not notice.

Four processes replace one entry again and again, with bodies of 256 KiB to 8 MiB. One of them at
random is ended by SIGKILL every few dozen milliseconds, wherever it may be, and started again. Two
processes load the entry meanwhile and check every byte: the metadata carries its own digest, the
length of its body and the digest of that, and each block of a body begins with the body's seed and
the block's number, so what is wrong can be told apart:

    mixed      metadata of one version, a body (or a part of one) of another
    truncated  the beginning of the body
    wrong      anything else that was never stored
    missing    nothing, though an entry has been there from the start (a miss: allowed)
    refused    an error instead of bytes (allowed where a cache may raise)

Goal: of 100,000 loads none mixed, truncated or wrong. The ways in are the whole-entry interface
(`open` / `writer`), the classic one (`get` + `get_body` / `set` + `set_body`), and that by
CacheControl's own adapter, which makes responses of what it gets. `--peer` does the latter two
with CacheControl's SeparateBodyFileCache too. `--seconds` is for each run.
"""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import random
import struct
import tempfile
import time
from multiprocessing.sharedctypes import Array
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import requests
import urllib3
import xxhash

import stillfresh
from benchmarks.contestants import THEIRS, their_cache
from benchmarks.report import Options, Report
from stillfresh.errors import CacheError
from stillfresh.rfc9111.dates import format_date

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess

_KEY: Final = "https://example.org/contended"
_WRITERS: Final = 4
_READERS: Final = 2
_LOADS_WANTED: Final = 100_000
_SMALLEST: Final = 256 << 10
_DOUBLINGS: Final = 5
# Small bodies are more frequent, so that there are many loads; one in six is over 1 MiB.
_SKEW: Final = 5
_BLOCK: Final = 1 << 16
_STEP: Final = struct.Struct("<Q Q")
_METADATA: Final = struct.Struct("<Q Q 16s 252s")
# Writers rest this long at most between two versions, and are killed this often: seconds.
_REST: Final = 0.01
_KILL_AFTER: Final = 0.01, 0.06

_BAD: Final = ("mixed", "truncated", "wrong")
_COUNTED: Final = ("loads", "versions", *_BAD, "missing", "refused")
_Counts: TypeAlias = Any  # a shared array of integers; multiprocessing's stubs don't say more


class _Loaded(NamedTuple):
    metadata: bytes
    body: bytes


class _Way(Protocol):
    """How a cache is written and read."""

    def __init__(self, place: Path) -> None: ...

    def store(self, metadata: bytes, body: bytes) -> None: ...

    def load(self) -> _Loaded | None: ...


class _WholeEntry:
    cache: stillfresh.BaseCache

    def __init__(self, place: Path) -> None:
        self.cache = stillfresh.SeparateBodyFileCache(place)

    def store(self, metadata: bytes, body: bytes) -> None:
        view = memoryview(body)
        with self.cache.writer(_KEY) as writer:
            for at in range(0, len(body), _BLOCK):
                writer.write(view[at : at + _BLOCK])
            writer.commit(metadata)

    def load(self) -> _Loaded | None:
        entry = self.cache.open(_KEY)
        if entry is None:
            return None
        with entry:
            return _Loaded(entry.metadata, entry.read())


class _WholeEntryOneFile(_WholeEntry):
    def __init__(self, place: Path) -> None:
        self.cache = stillfresh.FileCache(place)


class _TwoCalls:
    cache: Any

    def __init__(self, place: Path) -> None:
        self.cache = stillfresh.SeparateBodyFileCache(place)

    def store(self, metadata: bytes, body: bytes) -> None:
        self.cache.set(_KEY, metadata)
        self.cache.set_body(_KEY, body)

    def load(self) -> _Loaded | None:
        metadata = self.cache.get(_KEY)
        file = None if metadata is None else self.cache.get_body(_KEY)
        if file is None:
            return None
        with file:
            return _Loaded(metadata, file.read())


class _TwoCallsOfPeer(_TwoCalls):
    def __init__(self, place: Path) -> None:
        self.cache = their_cache(THEIRS[1], place)


class _Adapter:
    """As responses go through CacheControl's adapter, but for the network."""

    cache: Any

    def __init__(self, place: Path) -> None:
        from cachecontrol import CacheControlAdapter

        self.adapter = CacheControlAdapter(self._make(place))
        self.request = requests.Request("GET", _KEY).prepare()

    def _make(self, place: Path) -> Any:
        from stillfresh.integrations.cachecontrol import SeparateBodyFileCache

        return SeparateBodyFileCache(place)

    def store(self, metadata: bytes, body: bytes) -> None:
        # Without Content-Length, as of a chunked response: nothing but the cache can tell what is
        # wrong with it then.
        headers = {
            "Date": format_date(time.time()),
            "Cache-Control": "max-age=86400",
            "X-Metadata": metadata.hex(),
        }
        came = urllib3.HTTPResponse(_Coming(body), headers, status=200, preload_content=False)
        # It is stored when it has been read to its end.
        assert self.adapter.build_response(self.request, came).content == body

    def load(self) -> _Loaded | None:
        found = self.adapter.controller.cached_request(self.request)
        if not found:
            return None
        response = self.adapter.build_response(self.request, found, from_cache=True)
        return _Loaded(bytes.fromhex(response.headers["X-Metadata"]), response.content)


class _AdapterOfPeer(_Adapter):
    def _make(self, place: Path) -> Any:
        return their_cache(THEIRS[1], place)


class _Coming(io.BytesIO):
    """A body that closes itself at its end, as a connection's does."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if self.tell() == len(self.getbuffer()):
            self.close()
        return data


_WAYS: Final[dict[str, type[_Way]]] = {
    "SeparateBodyFileCache, whole entry": _WholeEntry,
    "SeparateBodyFileCache, two calls": _TwoCalls,
    "FileCache, whole entry": _WholeEntryOneFile,
    "SeparateBodyFileCache, by CacheControl's adapter": _Adapter,
}
_PEER: Final[dict[str, type[_Way]]] = {
    "CacheControl, two calls": _TwoCallsOfPeer,
    "CacheControl, by its adapter": _AdapterOfPeer,
}


def run(options: Options) -> list[Report]:
    seconds = options.seconds or (3.0 if options.quick else 60.0)
    report = Report(
        f"contention: {_WRITERS} writers, {_READERS} readers, {seconds:.0f} s each",
        ("cache and interface", "stored", "kills", *_COUNTED, "litter"),
    )
    for name, way in (_WAYS | _PEER if options.peer else _WAYS).items():
        with tempfile.TemporaryDirectory() as place:
            stored, kills, counts = _contend(way, Path(place), seconds, options.seed)
            litter = _litter(Path(place))
        report.add(name, stored, kills, *counts, litter)
        if name in _PEER:
            continue
        by_name = dict(zip(_COUNTED, counts, strict=True))
        bad = sum(by_name[what] for what in _BAD)
        report.expect(f"{name}: no wrong byte in {by_name['loads']:,} loads", met=bad == 0)
        if not options.quick and seconds >= 60:
            # An adapter makes a response each time.
            wanted = _LOADS_WANTED // 10 if issubclass(way, _Adapter) else _LOADS_WANTED
            report.expect(f"{name}: at least {wanted:,} loads", met=by_name["loads"] >= wanted)
    report.notes.append("versions: how often a reader found another one than at its last load")
    report.notes.append("litter: files left by killed writers")
    return [report]


def _contend(
    way: type[_Way], place: Path, seconds: float, seed: int
) -> tuple[int, int, tuple[int, ...]]:
    # Forked: a new writer has to be at work within milliseconds.
    context = multiprocessing.get_context("fork")
    rng = random.Random(seed)
    stored = [Array("q", 1, lock=False) for _ in range(_WRITERS)]
    counts = [Array("q", len(_COUNTED), lock=False) for _ in range(_READERS)]
    until = time.monotonic() + seconds
    _store_next(way(place), random.Random(seed))

    def started(work: Callable[..., None], found: _Counts) -> BaseProcess:
        process = context.Process(target=work, args=(way, place, until, found), daemon=True)
        process.start()
        return process

    readers = [started(_read, found) for found in counts]
    writers = [started(_write, found) for found in stored]
    kills = 0
    while time.monotonic() < until:
        time.sleep(rng.uniform(*_KILL_AFTER))
        victim = rng.randrange(_WRITERS)
        if writers[victim].is_alive():
            writers[victim].kill()
            kills += 1
        writers[victim].join()
        writers[victim] = started(_write, stored[victim])
    for process in readers + writers:
        process.join(30)
        process.kill()
    assert all(reader.exitcode == 0 for reader in readers)
    return (
        sum(found[0] for found in stored),
        kills,
        tuple(sum(found[at] for found in counts) for at in range(len(_COUNTED))),
    )


def _write(way: type[_Way], place: Path, until: float, stored: _Counts) -> None:
    cache = way(place)
    rng = random.Random(os.urandom(8))
    while time.monotonic() < until:
        _store_next(cache, rng)
        stored[0] += 1
        time.sleep(rng.uniform(0, _REST))


def _read(way: type[_Way], place: Path, until: float, counts: _Counts) -> None:
    cache = way(place)
    at = {name: number for number, name in enumerate(_COUNTED)}
    last = b""
    while time.monotonic() < until:
        try:
            loaded = cache.load()
        except (CacheError, OSError):
            counts[at["refused"]] += 1
            continue
        if loaded is None:
            counts[at["missing"]] += 1
            continue
        counts[at["loads"]] += 1
        if loaded.metadata != last:
            counts[at["versions"]] += 1
            last = loaded.metadata
        fault = _fault(loaded)
        if fault is not None:
            counts[at[fault]] += 1


def _store_next(cache: _Way, rng: random.Random) -> None:
    seed = rng.getrandbits(64)
    body = _body_of(seed)
    cache.store(_metadata_of(seed, body), body)


def _metadata_of(seed: int, body: bytes) -> bytes:
    packed = _METADATA.pack(seed, len(body), xxhash.xxh3_128_digest(body), bytes(252))
    return packed + xxhash.xxh3_128_digest(packed)


def _body_of(seed: int) -> bytes:
    rng = random.Random(seed)
    size = int(_SMALLEST * 2 ** (_DOUBLINGS * rng.random() ** _SKEW))
    filling = rng.randbytes(_BLOCK - _STEP.size)
    blocks = (size + _BLOCK - 1) // _BLOCK
    return b"".join(part for n in range(blocks) for part in (_STEP.pack(seed, n), filling))[:size]


def _fault(loaded: _Loaded) -> str | None:
    """Say what is wrong with what was loaded, if anything is."""
    metadata, body = loaded
    packed = metadata[: _METADATA.size]
    if len(packed) < _METADATA.size or metadata != packed + xxhash.xxh3_128_digest(packed):
        return "wrong"
    seed, size, digest, _ = _METADATA.unpack(packed)
    if len(body) == size and xxhash.xxh3_128_digest(body) == digest:
        return None
    if body == _body_of(seed)[: len(body)]:
        return "truncated"
    starts = range(0, len(body), _BLOCK)
    seeds = {_STEP.unpack_from(body, at)[0] for at in starts if at + _STEP.size <= len(body)}
    wholes = [_body_of(other) for other in seeds]
    if all(
        any(body[at : at + _BLOCK] == whole[at : at + _BLOCK] for whole in wholes) for at in starts
    ):
        return "mixed"
    return "wrong"


def _litter(place: Path) -> int:
    """Count the files that no entry needs: it has one or two, and may have a lock."""
    name = hashlib.sha224(_KEY.encode()).hexdigest()
    files = [file for file in place.rglob(f"{name[:5]}*") if file.is_file()]
    others = [file for file in place.rglob("tmp*") if file.is_file()]
    needed = 2 if any(file.name.endswith(".body") for file in files) else 1
    locks = sum(file.name.endswith(".lock") for file in files)
    return len(files) + len(others) - needed - locks
