"""What the caches themselves cost: 4 KiB bodies and 300 bytes of metadata.

    new        a key that nobody has used
    overwrite  a key that is there
    get        a key that is there, all its bytes read
    refresh    other metadata for a body that is there (`update`); classic: `set` of a value alone,
               and the next call of the thread, which is when that takes effect

Through the whole-entry interface, which the clients use, and through the classic one, which is all
that CacheControl's caches have; for its FileCache, as for ours, value and body are one value there.
Ratios are to CacheControl's cache of the same kind, in the same rounds.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contestants import OURS, THEIRS, their_cache
from benchmarks.report import Options, Report
from benchmarks.timing import interleaved, median, spread

if TYPE_CHECKING:
    from benchmarks.timing import Call
    from stillfresh import BaseCache

_BODY: Final = random.Random(1).randbytes(4096)
_VALUE: Final = b"cc=4," + random.Random(2).randbytes(295)
_OPERATIONS: Final = ("new", "overwrite", "get", "refresh")
_KEY: Final = "https://example.org/present"


def run(options: Options) -> list[Report]:
    rounds = 10 if options.quick else 200
    report = Report(
        "caches: 4 KiB bodies, 300 bytes of metadata",
        ("operation", "cache", "interface", "µs", "spread", "x same peer"),
    )
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        contestants: dict[tuple[str, str], dict[str, Call]] = {}
        for name, make in OURS.items():
            contestants[name, "whole entry"] = _whole(make(place / f"{name} whole"))
            contestants[name, "classic"] = _classic(make(place / f"{name} classic"))
        for name in THEIRS:
            contestants[name, "classic"] = _classic(their_cache(name, place / name))
        for operation in _OPERATIONS:
            calls = {
                "/".join(who): has[operation]
                for who, has in contestants.items()
                if operation in has
            }
            for number in range(-20, 0):
                for call in calls.values():
                    call(number)
            samples = interleaved(calls, rounds)
            for name, interface in contestants:
                mine = samples.get(f"{name}/{interface}")
                if mine is None:
                    continue
                peer = samples.get(f"CacheControl {name.split()[-1]}/classic")
                ratio = None if peer is None else median(mine) / median(peer)
                wide = f"{spread(samples, f'{name}/{interface}'):.0%}"
                report.add(operation, name, interface, median(mine), wide, ratio)
    report.notes.append("spread: between the quartiles, as a part of the median")
    return [report]


def _whole(cache: BaseCache) -> dict[str, Call]:
    def store(key: str) -> str:
        with cache.writer(key) as writer:
            writer.write(_BODY)
            return writer.commit(_VALUE)

    def load(_: int) -> None:
        entry = cache.open(_KEY)
        assert entry is not None
        with entry:
            assert entry.read() == _BODY
            assert entry.metadata == _VALUE

    def refresh(_: int) -> None:
        assert cache.update(_KEY, _VALUE, version=version)

    store(_KEY)
    present = cache.open(_KEY)
    assert present is not None
    version = present.version
    present.close()

    def overwrite(_: int) -> None:
        nonlocal version
        version = store(_KEY)

    return {
        "new": lambda number: store(f"https://example.org/{number}"),
        "overwrite": overwrite,
        "get": load,
        "refresh": refresh,
    }


def _classic(cache: Any) -> dict[str, Call]:
    apart = hasattr(cache, "set_body")
    value = _VALUE if apart else _VALUE + _BODY

    def store(key: str) -> None:
        cache.set(key, value)
        if apart:
            cache.set_body(key, _BODY)

    def load(_: int) -> None:
        assert cache.get(_KEY) == value
        if apart:
            with cache.get_body(_KEY) as file:
                assert file.read() == _BODY

    def refresh(_: int) -> None:
        cache.set(_KEY, _VALUE)
        cache.get("https://example.org/absent")

    store(_KEY)
    calls: dict[str, Call] = {
        "new": lambda number: store(f"https://example.org/{number}"),
        "overwrite": lambda _: store(_KEY),
        "get": load,
    }
    # Where the value has the body in it, setting it is overwriting.
    return calls | {"refresh": refresh} if apart else calls
