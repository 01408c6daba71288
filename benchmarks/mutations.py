"""What comes out of a cache whose files somebody has damaged.

An entry is stored, one of its files is damaged, and the entry is asked for again: through a
session, which should fetch the response anew, and through the classic interface, which should
answer None. A damage is a bit flipped, a file cut short, emptied, filled with garbage, or removed;
all of it follows from `--seed`. Counted are

    wrong      bytes (or, through a session, status or fields) that nobody had stored
    raised     exceptions out of `session.get`, or out of the classic methods
    lost       `BodyLost` out of a body over 1 MiB, which is checked while it is handed out: the
               one exception that is as it should be
    refetched  the session asked the origin again; or the classic method answered None
    served     what was stored, from a damaged entry: harmless

Goal: nothing wrong, nothing raised. `--peer` puts CacheControl through the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from benchmarks.contestants import OURS, THEIRS, session_with, their_cache
from benchmarks.origin import Origin, body_of
from benchmarks.report import Options, Report
from stillfresh import BodyLost

if TYPE_CHECKING:
    import requests

_KINDS: Final = ("flip", "truncate", "empty", "garbage", "delete")
# Around the sizes at which something changes: riding along in the entry file (16 KiB), reading in
# one go (64 KiB), checking as a whole (1 MiB).
_SIZES: Final = (0, 1, 300, 4096, 16384, 16385, 70_000, 300_000, 1 << 20)
_LONG: Final = (1 << 20) + 1, 3_000_000
_COUNTED: Final = ("wrong", "raised", "lost", "refetched", "served")
# Fields that a cache writes itself.
_OWN: Final = frozenset({"age", "cache-status", "date"})


def run(options: Options) -> list[Report]:
    logging.getLogger("stillfresh").setLevel(logging.CRITICAL)
    many = 50 if options.quick else 2000
    names = [name for name in OURS if "File" in name]
    if options.peer:
        names += THEIRS
    report = Report("mutations: damaged files", ("of", "through", "damages", *_COUNTED))
    with Origin() as origin:
        for name in names:
            for way, trial in (("session", _through_session), ("classic", _classic)):
                for sizes, count in ((_SIZES, many), (_LONG, many // 10)):
                    counts = Counter[str]()
                    for number in range(count):
                        rng = random.Random(f"{options.seed} {sizes is _LONG} {number}")
                        with tempfile.TemporaryDirectory() as place:
                            counts[trial(name, Path(place), origin, rng, rng.choice(sizes))] += 1
                    long = ", over 1 MiB" if sizes is _LONG else ""
                    report.add(name, way + long, count, *(counts[what] for what in _COUNTED))
                    if name in OURS:
                        bad = counts["wrong"] + counts["raised"]
                        met = bad == 0 and (sizes is _LONG or not counts["lost"])
                        report.expect(f"{name}, {way}{long}: nothing wrong, no error", met=met)
    return [report]


def _through_session(name: str, place: Path, origin: Origin, rng: random.Random, size: int) -> str:
    seed = rng.getrandbits(32)
    url = f"{origin.url}/body/{seed}/{size}"
    with session_with(name, place) as session:
        stored = session.get(url)
        assert stored.content == body_of(seed, size)
        _damage(_files_of(place, url), rng)
        try:
            again = session.get(url)
        except BodyLost:
            return "lost"
        except Exception:  # noqa: BLE001 - any is one too many
            return "raised"
        if again.content != stored.content or _head(again) != _head(stored):
            return "wrong"
        return "served" if vars(again)["from_cache"] else "refetched"


def _classic(name: str, place: Path, _: Origin, rng: random.Random, size: int) -> str:
    key = "https://example.org/"
    body = rng.randbytes(size)
    # What CacheControl's values begin with; of others a file cache might not know them as whole.
    value = b"cc=4," + rng.randbytes(300)
    make = OURS.get(name)
    cache: Any = their_cache(name, place) if make is None else make(place / "cache")
    with contextlib.closing(cache):
        if hasattr(cache, "set_body"):
            cache.set(key, value)
            cache.set_body(key, body)
        else:
            value += body
            cache.set(key, value)
        _damage(_files_of(place, key), rng)
        try:
            found = cache.get(key)
            if found is None:
                return "refetched"
            if found != value:
                return "wrong"
            if hasattr(cache, "get_body"):
                file: IO[bytes] | None = cache.get_body(key)
                if file is None:
                    return "refetched"
                with file:
                    return "served" if file.read() == body else "wrong"
        except BodyLost:
            return "lost"
        except Exception:  # noqa: BLE001 - any is one too many
            return "raised"
        return "served"


def _files_of(place: Path, key: str) -> list[Path]:
    """Find what the layout that all of these caches share has under `key`."""
    name = hashlib.sha224(key.encode()).hexdigest()
    files = [file for file in place.rglob(f"{name}*") if file.suffix != ".lock"]
    assert files
    return sorted(files)


def _damage(files: list[Path], rng: random.Random) -> None:
    # In the order of their length: names of versions are random, and would not repeat.
    file = rng.choice(sorted(files, key=lambda file: len(file.name)))
    kind = rng.choice(_KINDS)
    data = bytearray(file.read_bytes())
    if kind == "delete":
        file.unlink()
        return
    if kind == "flip" and data:
        bit = rng.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    elif kind == "truncate" and data:
        del data[rng.randrange(len(data)) :]
    elif kind == "garbage":
        data[:] = rng.randbytes(rng.choice((len(data), rng.randrange(1, 2000))))
    else:
        data.clear()
    # A new file with the old one's place: what is open somewhere must not change.
    beside = file.with_name("damaged")
    beside.write_bytes(data)
    shutil.copymode(file, beside)
    beside.replace(file)


def _head(response: requests.Response) -> tuple[int, dict[str, str]]:
    fields = {name.lower(): value for name, value in response.headers.items()}
    return response.status_code, {n: v for n, v in fields.items() if n not in _OWN}
