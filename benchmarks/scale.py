"""What many entries cost: 200,000 of 4 KiB, beside 1,000.

One call each, of both caches in the same rounds:

    get        an entry that is there, all its bytes read
    set        a key that nobody has used
    overwrite  a key that is there

Goal: among the many no more than 1.5 times what it is among the few.

Going through all, each in a process of its own: `entries()`, `stats()` and `prune(dry_run=...)`,
in entries per second and in what resident memory was at its highest. Goal: no more than 2 MiB above
what it takes for the few. Beside them what can't be avoided, a bare walk of the tree by
`os.scandir`, and the same by diskcache, of which there is a row of SQLite for each entry: iterating
over its keys, and `check()`, which reads them.

FileCache, in a temporary folder, which takes some 4 GB, a quarter of it for directories. Filling
it is not measured, and takes minutes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.report import Options, Report
from benchmarks.timing import interleaved, median
from stillfresh import DryRun, FileCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.timing import Call

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_FEW: Final = 1000
_MANY: Final = 200_000
_MANY_QUICKLY: Final = 5000
_BODY: Final = random.Random(1).randbytes(4096)
_VALUE: Final = random.Random(2).randbytes(300)
_MOST_TIMES: Final = 1.5
_MOST_MIB: Final = 2.0
_ROOT: Final = Path(__file__).parents[1]
_OURS: Final = "stillfresh FileCache"
_PEER: Final = "diskcache"
_OPERATIONS: Final = ("get", "set", "overwrite")


def run(options: Options) -> list[Report]:
    many = _MANY_QUICKLY if options.quick else _MANY
    names = [_OURS, *([_PEER] if importlib.util.find_spec(_PEER) else [])]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        caches = {
            (name, count): _filled(name, place / f"{name} {count}", count)
            for name in names
            for count in (_FEW, many)
        }
        # First: single calls leave some more entries behind.
        through = _through_all(place, names, many, 3 if options.quick else 2)
        single = _single_calls(caches, names, many, 5 if options.quick else 50)
        for cache in caches.values():
            cache.close()
        if _PEER not in names:
            single.notes.append("diskcache is not installed")
        return [single, through]


def _single_calls(
    caches: dict[tuple[str, int], Any], names: list[str], many: int, rounds: int
) -> Report:
    report = Report(
        "scale: one call, of 4 KiB",
        ("operation", "cache", f"µs of {_FEW:,}", f"µs of {many:,}", "ratio"),
    )
    for operation in _OPERATIONS:
        calls = {
            f"{name}/{count}": _call(operation, cache, count)
            for (name, count), cache in caches.items()
        }
        for number in range(-20, 0):
            for call in calls.values():
                call(number)
        samples = interleaved(calls, rounds)
        for name in names:
            few, among = samples[f"{name}/{_FEW}"], samples[f"{name}/{many}"]
            # The machine is never quiet: each round by itself.
            ratio = statistics.median(late / early for early, late in zip(few, among, strict=True))
            report.add(operation, name, median(few), median(among), ratio)
            if name == _OURS:
                report.expect(
                    f"{operation}: at most {_MOST_TIMES} times as much among {many:,}",
                    met=ratio <= _MOST_TIMES,
                )
    return report


def _call(operation: str, cache: Any, count: int) -> Call:
    chance = random.Random(count)
    match operation:
        case "get":
            return lambda _: _get(cache, _key(chance.randrange(count)))
        case "set":
            return lambda number: _set(cache, f"https://example.org/new/{number}")
        case _:
            return lambda _: _set(cache, _key(chance.randrange(count)))


def _key(number: int) -> str:
    return f"https://example.org/{number}"


def _get(cache: Any, key: str) -> None:
    if isinstance(cache, FileCache):
        entry = cache.open(key)
        assert entry is not None
        with entry:
            assert len(entry.read()) == len(_BODY)
    else:
        assert len(cache.get(key)) == len(_VALUE) + len(_BODY)


def _set(cache: Any, key: str) -> None:
    if isinstance(cache, FileCache):
        with cache.writer(key) as writer:
            writer.write(_BODY)
            writer.commit(_VALUE)
    else:
        cache.set(key, _VALUE + _BODY)


def _opened(name: str, place: Path) -> Any:
    if name == _OURS:
        return FileCache(place)
    import diskcache

    return diskcache.Cache(str(place), size_limit=1 << 40)


def _filled(name: str, place: Path, count: int) -> Any:
    cache = _opened(name, place)
    for number in range(count):
        _set(cache, _key(number))
    return cache


# What is measured in a process of its own, by name.


def _walk(place: Path) -> int:
    """Go through the tree and name its files, as nothing can do without."""
    found, folders = 0, [str(place)]
    while folders:
        with os.scandir(folders.pop()) as scan:
            for entry in scan:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    found += len(entry.name) == 56
    return found


def _check(place: Path) -> int:
    with _opened(_PEER, place) as cache, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.check()
        return len(cache)


def _iterate(place: Path) -> int:
    with _opened(_PEER, place) as cache:
        return sum(1 for _ in cache)


def _planned(place: Path) -> int:
    report = FileCache(place).prune(max_bytes=_MIB, max_age=1e9, dry_run=DryRun.YES)
    return report.kept + report.removed.total()


_THROUGH: Final[dict[str, dict[str, Callable[[Path], int]]]] = {
    _OURS: {
        "entries()": lambda place: sum(1 for _ in FileCache(place).entries()),
        "stats()": lambda place: FileCache(place).stats().entries,
        "prune(dry_run)": _planned,
        "os.scandir": _walk,
    },
    _PEER: {"iteration": _iterate, "check()": _check},
}


def _through_all(place: Path, names: list[str], many: int, times: int) -> Report:
    report = Report(
        "scale: going through all",
        ("what", "of", f"per s of {_FEW:,}", f"per s of {many:,}", "peak MiB", "peak MiB", "above"),
    )
    for name in names:
        for what in _THROUGH[name]:
            few, among = (
                _in_process(name, what, place / f"{name} {count}", count, times)
                for count in (_FEW, many)
            )
            above = (among["peak"] - few["peak"]) / _MIB
            speeds = _FEW / few["seconds"], many / among["seconds"]
            report.add(
                what, name, *map(round, speeds), few["peak"] / _MIB, among["peak"] / _MIB, above
            )
            if name == _OURS and what != "os.scandir":
                report.expect(
                    f"{what}: within {_MOST_MIB:.0f} MiB for {many:,}", met=above <= _MOST_MIB
                )
    return report


def _in_process(name: str, what: str, place: Path, count: int, times: int) -> dict[str, Any]:
    """Go through a cache several times, each in a new process; return the least of each figure."""
    found = []
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", name, what, str(place)],
            cwd=_ROOT,
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
        found.append(json.loads(done.stdout))
        assert found[-1]["entries"] == count
    return {figure: min(one[figure] for one in found) for figure in ("seconds", "peak")}


def _measured(name: str, what: str, place: Path) -> dict[str, Any]:
    job = _THROUGH[name][what]
    before = time.perf_counter()
    entries = job(place)
    return {"entries": entries, "seconds": time.perf_counter() - before, "peak": _peak()}


def _peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    import resource

    unit = 1 if sys.platform == "darwin" else _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    json.dump(_measured(sys.argv[1], sys.argv[2], Path(sys.argv[3])), sys.stdout)
