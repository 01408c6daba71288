"""What an entry in a database costs, beside others who keep theirs on a disk.

Bodies of 4 KiB with 300 bytes of metadata, among 10,000 and among 200,000 entries, beside
CacheControl's file caches (among 10,000 only: 200,000 take a million directories), hishel's and
requests-cache's SQLite, and diskcache:

    get        an entry that is there, all its bytes read
    set        a key that nobody has used
    overwrite  a key that is there

Goals: a get costs no more than diskcache's, though that checks nothing and maps its file into
memory; a set at most 0.7 of it; an overwrite no more. Among the many, 1.3 times that among the
few. On disk, 1.3 times the payload. Listing 200,000 in under a second, pruning to half of them in
under five, clearing in under one.

Then eight processes for some seconds, one store for nine gets over 2,000 keys: more operations
than any other, none of them failing. And which bodies are better kept as rows, and which as files.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks.report import Options, Report
from benchmarks.timing import interleaved, median
from stillfresh import SQLiteCache

if TYPE_CHECKING:
    from collections.abc import Callable

_FEW: Final = 10_000
_MANY: Final = 200_000
_BODY: Final = random.Random(1).randbytes(4096)
_METADATA: Final = random.Random(2).randbytes(300)
_PAYLOAD: Final = len(_BODY) + len(_METADATA)
_OURS: Final = "stillfresh SQLiteCache"
_PEER: Final = "diskcache"
_PROCESSES: Final = 8
_KEYS: Final = 2000
_KIB: Final = 1 << 10


class Contestant(Protocol):
    """A cache, by the two things that are measured."""

    def get(self, key: str) -> int:
        """Read all of an entry, and return its length; 0 where there is none."""

    def set(self, key: str, body: bytes) -> None:
        """Store an entry."""


class Ours:
    def __init__(self, place: Path, **settings: Any) -> None:
        self.cache = SQLiteCache(place, max_bytes=None, **settings)

    def get(self, key: str) -> int:
        entry = self.cache.open(key)
        if entry is None:
            return 0
        with entry:
            return len(entry.metadata) + len(entry.read())

    def set(self, key: str, body: bytes) -> None:
        with self.cache.writer(key) as writer:
            writer.write(body)
            writer.commit(_METADATA)


class Diskcache:
    def __init__(self, place: Path) -> None:
        import diskcache

        self.cache = diskcache.Cache(str(place), size_limit=1 << 40)

    def get(self, key: str) -> int:
        return len(self.cache.get(key, b""))

    def set(self, key: str, body: bytes) -> None:
        self.cache.set(key, _METADATA + body)


class Hishel:
    def __init__(self, place: Path) -> None:
        import hishel

        place.mkdir(parents=True, exist_ok=True)
        self.storage = hishel.SqliteStorage(database_path=place / "cache.db", max_size=None)
        self.hishel = hishel

    def get(self, key: str) -> int:
        found = self.storage.get_entries(key)
        if not found:
            return 0
        stream: Any = found[0].response.stream
        return sum(map(len, stream)) + len(_METADATA)

    def set(self, key: str, body: bytes) -> None:
        request = self.hishel.Request("GET", key)
        headers = self.hishel.Headers({"x-metadata": _METADATA.hex()[:300]})
        response = self.hishel.Response(200, headers, iter([body]))
        # What replaces an entry there is one more under the same key; its caller removes the old.
        for old in self.storage.get_entries(key):
            self.storage.remove_entry(old.id)
        stored: Any = self.storage.create_entry(request, response, key).response.stream
        for _ in stored:
            pass


class RequestsCache:
    def __init__(self, place: Path) -> None:
        from requests_cache.backends.sqlite import SQLiteDict

        place.mkdir(parents=True, exist_ok=True)
        self.responses: Any = SQLiteDict(place / "cache.db", serializer=None, wal=True)

    def get(self, key: str) -> int:
        return len(self.responses.get(key, b""))

    def set(self, key: str, body: bytes) -> None:
        self.responses[key] = _METADATA + body


class CacheControlFile:
    def __init__(self, place: Path) -> None:
        from cachecontrol.caches import FileCache

        self.cache = FileCache(str(place), forever=True)

    def get(self, key: str) -> int:
        return len(self.cache.get(key) or b"")

    def set(self, key: str, body: bytes) -> None:
        self.cache.set(key, _METADATA + body)


class CacheControlSeparate:
    def __init__(self, place: Path) -> None:
        from cachecontrol.caches import SeparateBodyFileCache

        self.cache = SeparateBodyFileCache(str(place), forever=True)

    def get(self, key: str) -> int:
        metadata, body = self.cache.get(key), self.cache.get_body(key)
        if metadata is None or body is None:
            return 0
        with body:
            return len(metadata) + len(body.read())

    def set(self, key: str, body: bytes) -> None:
        self.cache.set(key, _METADATA)
        self.cache.set_body(key, body)


_IN_DATABASES: Final[dict[str, Callable[[Path], Contestant]]] = {
    _OURS: Ours,
    _PEER: Diskcache,
    "hishel SqliteStorage": Hishel,
    "requests-cache SQLite": RequestsCache,
}
_ALL: Final[dict[str, Callable[[Path], Contestant]]] = {
    **_IN_DATABASES,
    "CacheControl FileCache": CacheControlFile,
    "CacheControl SeparateBody": CacheControlSeparate,
}


def run(options: Options) -> list[Report]:
    few, many = (500, 2000) if options.quick else (_FEW, _MANY)
    rounds = 5 if options.quick else 60
    seconds = options.seconds or (1.0 if options.quick else 10.0)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        single, caches = _single_calls(place, few, many, rounds)
        through = _through_all(caches, many)
        limits = _limits(place / "limits", 3 if options.quick else 40)
    with tempfile.TemporaryDirectory() as folder:
        return [single, through, _processes(Path(folder), seconds), limits]


def _key(number: int) -> str:
    return f"https://example.org/{number}"


# One call.


def _single_calls(
    place: Path, few: int, many: int, rounds: int
) -> tuple[Report, dict[tuple[str, int], tuple[Contestant, Path]]]:
    report = Report(
        "sqlite: one call, of 4 KiB",
        ("operation", "cache", f"µs of {few:,}", "of ours", f"µs of {many:,}", "of ours"),
    )
    caches = {}
    for count, kinds in ((few, _ALL), (many, _IN_DATABASES)):
        for name, kind in kinds.items():
            at = place / f"{name} {count}"
            cache = kind(at)
            for number in range(count):
                cache.set(_key(number), _BODY)
            caches[name, count] = cache, at
    for operation in ("get", "set", "overwrite"):
        calls = {
            f"{name}/{count}": _call(operation, cache, count)
            for (name, count), (cache, _) in caches.items()
        }
        for number in range(-20, 0):
            for call in calls.values():
                call(number)
        samples = interleaved(calls, rounds)
        ratios: dict[str, float] = {}
        for name in _ALL:
            cells: list[float | None] = []
            for count in (few, many):
                mine = samples.get(f"{name}/{count}")
                if mine is None:
                    cells += [None, None]
                    continue
                ours = samples[f"{_OURS}/{count}"]
                ratio = statistics.median(a / b for a, b in zip(mine, ours, strict=True))
                ratios[f"{name}/{count}"] = ratio
                cells += [median(mine), ratio]
            report.add(operation, name, *cells)
        most = 0.7 if operation == "set" else 1.0
        for count in (few, many):
            report.expect(
                f"{operation} among {count:,}: at most {most} of {_PEER}'s",
                met=1 / ratios[f"{_PEER}/{count}"] <= most,
            )
        if operation != "overwrite":
            grown = statistics.median(
                late / early
                for early, late in zip(
                    samples[f"{_OURS}/{few}"], samples[f"{_OURS}/{many}"], strict=True
                )
            )
            report.expect(f"{operation}: {grown:.2f} times that among the many", met=grown <= 1.3)
    return report, caches


def _call(operation: str, cache: Contestant, count: int) -> Callable[[int], object]:
    chance = random.Random(count)

    def get(_: int) -> None:
        assert cache.get(_key(chance.randrange(count))) >= _PAYLOAD - 300

    match operation:
        case "get":
            return get
        case "set":
            return lambda number: cache.set(f"https://example.org/new/{number}", _BODY)
        case _:
            return lambda _: cache.set(_key(chance.randrange(count)), _BODY)


# All of them.


def _through_all(caches: dict[tuple[str, int], tuple[Contestant, Path]], many: int) -> Report:
    report = Report("sqlite: all entries", ("what", "cache", "of", "figure"))
    for (name, count), (_, at) in caches.items():
        entries = _count(caches[name, count][0], count)
        size = _blocks(at) / entries
        report.add("bytes on disk", name, count, size)
        if name == _OURS:
            report.expect(
                f"on disk, {size / _PAYLOAD:.2f} times the payload", met=size <= 1.3 * _PAYLOAD
            )
    ours = caches[_OURS, many][0]
    assert isinstance(ours, Ours)
    cache, stored = ours.cache, ours.cache.stats().bytes
    limits: list[tuple[str, Callable[[], object], float]] = [
        ("entries()", lambda: sum(1 for _ in cache.entries()), 1.0),
        ("stats()", cache.stats, 1.0),
        ("prune to half", lambda: cache.prune(max_bytes=stored // 2), 5.0),
        ("clear()", cache.clear, 1.0),
    ]
    for what, do, most in limits:
        before = time.perf_counter()
        do()
        seconds = time.perf_counter() - before
        report.add(f"{what}, s", _OURS, many, seconds)
        report.expect(f"{what} of {many:,} in under {most:.0f} s", met=seconds < most)
    return report


def _count(cache: Contestant, least: int) -> int:
    return cache.cache.stats().entries if isinstance(cache, Ours) else least


def _blocks(place: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in place.rglob("*"))


# Several processes.


def _processes(place: Path, seconds: float) -> Report:
    report = Report(
        f"sqlite: {_PROCESSES} processes, {seconds:.0f} s, one store for nine gets",
        ("cache", "operations/s", "hits", "misses", "exceptions"),
    )
    spawn = multiprocessing.get_context("spawn")
    speeds = {}
    for name, kind in _ALL.items():
        at = place / name
        cache = kind(at)
        for number in range(_KEYS):
            cache.set(_key(number), _BODY)
        del cache
        with spawn.Pool(_PROCESSES) as pool:
            done = pool.starmap(
                _work, [(name, at, seconds, number) for number in range(_PROCESSES)]
            )
        operations, hits, misses, errors = (sum(column) for column in zip(*done, strict=True))
        speeds[name] = operations / seconds
        report.add(name, round(speeds[name]), hits, misses, errors)
        if name == _OURS:
            report.expect("no exception", met=errors == 0)
            report.expect("no hit was dropped", met=misses == 0)
        shutil.rmtree(at, ignore_errors=True)
    report.expect("more operations than any other", met=speeds[_OURS] == max(speeds.values()))
    return report


def _work(name: str, place: Path, seconds: float, number: int) -> tuple[int, int, int, int]:
    cache, chance = _ALL[name](place), random.Random(number)
    operations = hits = misses = errors = 0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        key = _key(chance.randrange(_KEYS))
        try:
            if chance.random() < 0.1:
                cache.set(key, _BODY)
            elif cache.get(key):
                hits += 1
            else:
                misses += 1
        except Exception:  # noqa: BLE001 - whatever a peer raises is counted
            errors += 1
        operations += 1
    return operations, hits, misses, errors


# Rows or files.


def _limits(place: Path, rounds: int) -> Report:
    report = Report(
        "sqlite: a body as a row, and as a file of its own",
        ("KiB", "get as row µs", "as file µs", "ratio", "set as row µs", "as file µs", "ratio"),
    )
    sizes = [size * _KIB for size in (4, 8, 16, 32, 64, 128, 256)]
    for size in sizes:
        body = random.Random(size).randbytes(size)
        with contextlib.ExitStack() as stack:
            caches = {}
            for name, limit in (("row", size), ("file", 0)):
                ours = Ours(place / f"{name} {size}", inline_limit=limit)
                stack.callback(ours.cache.close)
                for number in range(200):
                    ours.set(_key(number), body)
                caches[name] = ours
            cells: list[float] = []
            for operation in ("get", "set"):
                calls = {
                    name: _sized(operation, ours, body, random.Random(3))
                    for name, ours in caches.items()
                }
                samples = interleaved(calls, rounds, burst=10)
                ratio = statistics.median(
                    a / b for a, b in zip(samples["row"], samples["file"], strict=True)
                )
                cells += [median(samples["row"]), median(samples["file"]), ratio]
            report.add(size // _KIB, *cells)
    return report


def _sized(
    operation: str, ours: Ours, body: bytes, chance: random.Random
) -> Callable[[int], object]:
    if operation == "get":
        return lambda _: ours.get(_key(chance.randrange(200)))
    return lambda _: ours.set(_key(chance.randrange(200)), body)
