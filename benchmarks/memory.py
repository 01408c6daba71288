"""What a long body costs in memory, and how soon its first bytes are there.

Each load is a process of its own, through `CachedSession.get(stream=True)` in steps of 64 KiB, and
through the other clients as they stream; the origin, in another, makes the body as it sends it.
Measured and checked:

    peak   resident memory at its highest, above that of a process that loads 1 KiB in the same
           way. Goal: at most 32 MiB for 1 GiB, on a miss and on a hit
    first  the origin holds back all but the first MiB until the client, which has read the first
           64 KiB by then, asks it to go on
    copy   the bytes in the folder for temporary files while the body is read, unlinked ones too
    same   the digest of what came, for 1 GiB and for 2.2 GiB: single calls of the operating
           system end at 2 GiB, and so did bodies

The cache lies in a temporary folder, which takes 2.2 GiB at most. `--peer` loads through
CacheControl's SeparateBodyFileCache as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import urllib3
import xxhash

from benchmarks.contestants import OURS, THEIRS, session_with
from benchmarks.origin import Origin, blocks
from benchmarks.report import Options, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Reading: TypeAlias = "tuple[bool, Iterator[bytes]]"

_KIB: Final = 1 << 10
_MIB: Final = 1 << 20
_GIB: Final = 1 << 30
_STEP: Final = 64 * _KIB
_MOST_ABOVE: Final = 32.0
_ROOT: Final = Path(__file__).parents[1]


def run(options: Options) -> list[Report]:
    sizes = (64 * _MIB, 80 * _MIB) if options.quick else (_GIB, 22 * _GIB // 10)
    names = [*(name for name in OURS if "File" in name), *READERS]
    if options.peer:
        names.append(THEIRS[1])
    report = Report(
        "memory: long bodies",
        ("through", "body MiB", "answer", "peak MiB", "above 1 KiB", "first", "copy MiB", "same"),
    )
    with Origin() as origin:
        for name in names:
            small = _both(name, f"{origin.url}/stream/{_KIB}")
            for size in sizes:
                # A hit has nobody to wait for.
                long = _both(name, f"{origin.url}/wait/{size}/{uuid.uuid4().hex}")
                for kind in ("miss", "hit"):
                    _add(report, name, kind, size, long[kind], small[kind])
    return [report]


def _add(
    report: Report, name: str, kind: str, size: int, long: dict[str, Any], small: dict[str, Any]
) -> None:
    above = (long["peak"] - small["peak"]) / _MIB
    same = long.get("digest") == _digest_of(size)
    first = long["error"] is None if kind == "miss" else None
    report.add(
        name,
        size // _MIB,
        kind if long["from_cache"] == (kind == "hit") else f"no {kind}",
        long["peak"] / _MIB,
        above,
        None if first is None else "yes" if first else "NO",
        long["copied"] / _MIB,
        "yes" if same else "NO",
    )
    if long["error"] is not None:
        report.notes.append(f"{name}, {kind} of {size // _MIB} MiB: {long['error']}")
    if name not in OURS and name not in READERS:
        return
    what = f"{name}, {kind} of {size // _MIB} MiB"
    met = (
        same and long["from_cache"] == (kind == "hit") and not long["copied"] and first is not False
    )
    report.expect(f"{what}: as it should be", met=met)
    report.expect(f"{what}: at most {_MOST_ABOVE:.0f} MiB above 1 KiB", met=above <= _MOST_ABOVE)


def _both(name: str, url: str) -> dict[str, dict[str, Any]]:
    """Load `url` in two processes, one after the other."""
    with tempfile.TemporaryDirectory() as place:
        temporary = Path(place, "temporary")
        temporary.mkdir()
        found = {}
        for kind in ("miss", "hit"):
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.memory", name, url, place],
                cwd=_ROOT,
                env=os.environ | {"TMPDIR": str(temporary)},
                stdout=subprocess.PIPE,
                check=True,
                timeout=300,
            )
            found[kind] = json.loads(done.stdout)
        return found


def _load(name: str, url: str, place: Path) -> dict[str, Any]:
    """Read the body of `url`; this is the process that is measured."""
    go = url.replace(f"/wait/{url.split('/')[-2]}/", "/go/") if "/wait/" in url else None
    hasher = xxhash.xxh3_128()
    size, copied, error = 0, 0, None
    with READERS.get(name, _by_requests)(name, place, url) as (from_cache, chunks):
        try:
            for chunk in chunks:
                hasher.update(chunk)
                if go is not None and not size and not from_cache:
                    urllib3.request("GET", go, timeout=10)
                before, size = size, size + len(chunk)
                # Now and then: looking takes longer than reading.
                if before // (8 * _MIB) != size // (8 * _MIB):
                    copied = max(copied, _bytes_in(Path(tempfile.gettempdir())))
        except Exception as failure:  # noqa: BLE001 - of whatever library it is
            error = f"{type(failure).__name__}: {failure}"
    return {
        "digest": hasher.hexdigest(),
        "peak": peak(),
        "from_cache": from_cache,
        "copied": copied,
        # Had the signal come too late, the origin would have given up.
        "error": error,
    }


# The clients: whether the body comes from the cache, and its chunks.


@contextlib.contextmanager
def _by_requests(name: str, place: Path, url: str) -> Iterator[Reading]:
    with session_with(name, place) as session:
        response = session.get(url, stream=True, timeout=60)
        yield vars(response)["from_cache"], response.iter_content(_STEP)


@contextlib.contextmanager
def _by_urllib3(_: str, place: Path, url: str) -> Iterator[Reading]:
    from stillfresh.clients.urllib3 import CachedPoolManager

    with CachedPoolManager(cache=place / "cache") as manager:
        response = manager.request("GET", url, preload_content=False)
        yield vars(response)["from_cache"], response.stream(_STEP)


@contextlib.contextmanager
def _by_httpx(_: str, place: Path, url: str) -> Iterator[Reading]:
    from stillfresh.clients.httpx import CachedClient

    with CachedClient(place / "cache", trust_env=False) as client, client.stream("GET", url) as got:
        yield got.extensions["cache"].from_cache, got.iter_bytes()


@contextlib.contextmanager
def _by_async_httpx2(_: str, place: Path, url: str) -> Iterator[Reading]:
    from stillfresh.clients.httpx2 import AsyncCachedClient

    with asyncio.Runner() as runner:

        async def begin() -> Any:
            client = AsyncCachedClient(place / "cache", trust_env=False)
            return client, await client.send(client.build_request("GET", url), stream=True)

        client, response = runner.run(begin())
        chunks = response.aiter_bytes()

        async def pull() -> bytes:
            return await anext(chunks, b"")

        pulled = iter(lambda: runner.run(pull()), b"")
        yield response.extensions["cache"].from_cache, pulled
        runner.run(client.aclose())


@contextlib.contextmanager
def _by_aiohttp(_: str, place: Path, url: str) -> Iterator[Reading]:
    import aiohttp

    from stillfresh.clients.aiohttp import CacheMiddleware

    with asyncio.Runner() as runner:

        async def begin() -> Any:
            session = aiohttp.ClientSession(middlewares=[CacheMiddleware(place / "cache")])
            return session, await session.get(url)

        session, response = runner.run(begin())
        pulled = iter(lambda: runner.run(response.content.read(_STEP)), b"")
        yield response.from_cache, pulled
        runner.run(session.close())


READERS: Final[dict[str, Callable[..., contextlib.AbstractContextManager[Reading]]]] = {
    "urllib3 SeparateBodyFileCache": _by_urllib3,
    "httpx SeparateBodyFileCache": _by_httpx,
    "httpx2 async SeparateBodyFileCache": _by_async_httpx2,
    "aiohttp SeparateBodyFileCache": _by_aiohttp,
}


def _bytes_in(folder: Path) -> int:
    """Count the bytes of files in `folder`, and of those opened there and unlinked."""
    sizes = {}
    for file in folder.rglob("*"):
        with contextlib.suppress(OSError):
            status = file.stat()
            sizes[status.st_ino] = status.st_size if file.is_file() else 0
    for link in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(folder):
                status = link.stat()
                sizes[status.st_ino] = status.st_size
    return sum(sizes.values())


def peak() -> int:
    # What Linux answers for ru_maxrss starts with the peak of whoever started the process.
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    unit = 1 if sys.platform == "darwin" else _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _digest_of(size: int) -> str:
    hasher = xxhash.xxh3_128()
    for block in blocks(size):
        hasher.update(block)
    return hasher.hexdigest()


if __name__ == "__main__":
    json.dump(_load(sys.argv[1], sys.argv[2], Path(sys.argv[3])), sys.stdout)
