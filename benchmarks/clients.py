"""What a hit, a store and a revalidation of 4 KiB add to a request, through every client.

A contestant's *added* time is the median of what it took more than its control in the same round.

For a hit the control is the client's floor, with a no-op in the place of the network: a transport
that makes the same response of what it has (httpx, httpx2), a middleware or pool that returns one
that is finished (aiohttp, urllib3). For a store and a revalidation (304) it is the client alone, to
the same origin in another process.

Peers: hishel by RFC 9111 (`rfc=True`) in its SQLite, for httpx and httpx2, blocking and async;
aiohttp-client-cache in SQLite and in files, as it is by default: it keeps everything for as long as
it was told, whatever the response says. urllib3 has no peer.

Goals: a hit adds at most 0.5 of hishel's blocking, 0.1 of its async, and 0.3 of the best of
aiohttp-client-cache's; a store and a 304 add at most half of hishel's.

Async clients are called by `run_until_complete`, for whose cost their controls account too. What
counts is the time that the caller waits, for a store also for the disk that the temporary folder is
on: hishel's waits for it to be written, which on one in memory (`TMPDIR=/dev/shm`) costs nothing.
What is added of the CPU's time, by all threads, stands beside it.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import httpx
import httpx2
import urllib3

import stillfresh
import stillfresh.clients.httpx
import stillfresh.clients.httpx2
from benchmarks.origin import PAGE, Origin
from benchmarks.report import Options, Report
from benchmarks.timing import added, interleaved_twice, median, profiled
from stillfresh.clients.aiohttp import CachedResponse, CacheMiddleware
from stillfresh.clients.urllib3 import CachedPoolManager

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from benchmarks.timing import Call, Samples
    from stillfresh.caches.base import BaseCache

CACHES: Final[dict[str, Callable[[Path], BaseCache]]] = {
    "SQLiteCache": stillfresh.SQLiteCache,
    "FileCache": stillfresh.FileCache,
    "MemoryCache": lambda _: stillfresh.MemoryCache(),
}
_FLOOR: Final = "floor"
_ALONE: Final = "alone"
_CONDITION: Final = {"If-None-Match": '"5f2b-1a"'}


@dataclass(frozen=True, slots=True)
class Field:
    """Those who are compared through one client.

    Attributes:
        floor: fetches a URL by the client over a no-op.
        alone: fetches it by the client alone, with these headers.
        cached: fetches it by one who caches, by name; ours are those called as a cache of ours.
        most: how much of what the best peer adds ours may add to a hit.
    """

    floor: Callable[[str], object]
    alone: Callable[[str, dict[str, str] | None], object]
    cached: Mapping[str, Callable[[str], object]]
    most: float | None = None


def run(options: Options) -> list[Report]:
    rounds = 5 if options.quick else 60
    loop = asyncio.new_event_loop()
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder, Origin() as origin, ExitStack() as stack:
        stack.callback(loop.close)
        for name, make in FIELDS.items():
            place = Path(folder, name.replace(" ", "-"))
            place.mkdir()
            field = make(place, loop, stack)
            if options.profile:
                url = f"{origin.url}/page/"
                hit = _always(field.cached["MemoryCache"], url)
                reports.append(profiled(f"clients: {name}", hit, 500))
                continue
            reports.append(_hits(name, field, origin.url, rounds))
            if name.startswith("httpx2"):
                reports += _rest(name, field, origin.url, rounds)
    return reports


def _hits(name: str, field: Field, base: str, rounds: int) -> Report:
    url = f"{base}/page/"
    calls: dict[str, Call] = {_FLOOR: lambda _: field.floor(url)}
    calls |= {cache: _always(get, url) for cache, get in field.cached.items()}
    for call in calls.values():
        call(0)
    assert all(call(0) == PAGE for call in calls.values())
    interleaved_twice(calls, max(1, rounds // 10))
    samples, used = interleaved_twice(calls, rounds)
    report = _report(f"clients: a hit of 4 KiB, {name}", samples, used, _FLOOR)
    peers = {cache: added(samples, cache, _FLOOR) for cache in field.cached if cache not in CACHES}
    if peers and field.most is not None:
        best = min(peers.values())
        ratio = added(samples, "SQLiteCache", _FLOOR) / best
        report.expect(
            f"at most {field.most} of what the best peer adds ({ratio:.2f})",
            met=ratio <= field.most,
        )
    return report


def _rest(name: str, field: Field, base: str, rounds: int) -> list[Report]:
    """Measure stores, each of a new URL, and revalidations."""
    stores: dict[str, Call] = {_ALONE: lambda number: field.alone(f"{base}/page/{number}", None)}
    stores |= {cache: _numbered(get, f"{base}/page/") for cache, get in field.cached.items()}
    stale = f"{base}/stale/"
    revalidations: dict[str, Call] = {_ALONE: lambda _: field.alone(stale, _CONDITION)}
    revalidations |= {cache: _always(get, stale) for cache, get in field.cached.items()}
    reports = []
    for what, calls in (("a store", stores), ("a revalidation (304)", revalidations)):
        for number in range(-20, 0):
            for call in calls.values():
                call(number)
        samples, used = interleaved_twice(calls, rounds)
        report = _report(f"clients: {what} of 4 KiB, {name}", samples, used, _ALONE)
        theirs = added(samples, "hishel", _ALONE)
        ratio = added(samples, "SQLiteCache", _ALONE) / theirs
        report.expect(f"at most half of what hishel adds ({ratio:.2f})", met=ratio <= 0.5)
        reports.append(report)
    return reports


def _always(get: Callable[[str], object], url: str) -> Call:
    return lambda _: get(url)


def _numbered(get: Callable[[str], object], base: str) -> Call:
    return lambda number: get(f"{base}{number}")


def _report(title: str, samples: Samples, used: Samples, control: str) -> Report:
    report = Report(title, ("through", "µs", "added µs", "added of the CPU µs"))
    for name in samples:
        report.add(
            name, median(samples[name]), added(samples, name, control), added(used, name, control)
        )
    return report


# What is compared.


def _blocking(library: ModuleType, ours: Any, theirs: str) -> Callable[..., Field]:
    def make(place: Path, _: asyncio.AbstractEventLoop, stack: ExitStack) -> Field:
        import hishel

        peer = __import__(f"hishel.{theirs}", fromlist=["x"])

        class NoOp(library.BaseTransport):  # type: ignore[misc, name-defined]
            head: Any = None

            def handle_request(self, request: Any) -> Any:
                if self.head is None:
                    with library.Client(trust_env=False) as once:
                        self.head = once.get(request.url).headers.raw
                return library.Response(200, headers=self.head, stream=library.ByteStream(PAGE))

        def client(transport: Any) -> Any:
            return stack.enter_context(library.Client(transport=transport, trust_env=False))

        def getter(transport: Any) -> Callable[[str], object]:
            get = client(transport).get
            return lambda url: get(url).content

        cached = {
            name: getter(ours.CacheTransport(library.HTTPTransport(), cache(place / name)))
            for name, cache in CACHES.items()
        }
        storage = hishel.SqliteStorage(database_path=place / "hishel.db")
        transport_kind = getattr(peer, "CacheTransport", None) or peer.SyncCacheTransport
        cached["hishel"] = getter(transport_kind(library.HTTPTransport(), storage, rfc=True))
        alone = client(library.HTTPTransport())
        return Field(
            getter(NoOp()), lambda url, headers: alone.get(url, headers=headers), cached, 0.5
        )

    return make


def _async(library: ModuleType, ours: Any, theirs: str) -> Callable[..., Field]:
    def make(place: Path, loop: asyncio.AbstractEventLoop, stack: ExitStack) -> Field:
        import hishel

        peer = __import__(f"hishel.{theirs}", fromlist=["x"])
        wait = loop.run_until_complete

        class NoOp(library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
            head: Any = None

            async def handle_async_request(self, request: Any) -> Any:
                if self.head is None:
                    with library.Client(trust_env=False) as once:
                        self.head = once.get(request.url).headers.raw
                return library.Response(200, headers=self.head, stream=library.ByteStream(PAGE))

        def client(transport: Any) -> Any:
            made = library.AsyncClient(transport=transport, trust_env=False)
            stack.callback(lambda: wait(made.aclose()))
            return made

        def getter(transport: Any) -> Callable[[str], object]:
            get = client(transport).get

            async def content(url: str) -> object:
                return (await get(url)).content

            return lambda url: wait(content(url))

        cached = {
            name: getter(
                ours.AsyncCacheTransport(library.AsyncHTTPTransport(), cache(place / name))
            )
            for name, cache in CACHES.items()
        }
        storage = hishel.AsyncSqliteStorage(database_path=place / "hishel.db")
        cached["hishel"] = getter(
            peer.AsyncCacheTransport(library.AsyncHTTPTransport(), storage, rfc=True)
        )
        alone = client(library.AsyncHTTPTransport())
        return Field(
            getter(NoOp()),
            lambda url, headers: wait(alone.get(url, headers=headers)),
            cached,
            0.1,
        )

    return make


def _aiohttp(place: Path, loop: asyncio.AbstractEventLoop, stack: ExitStack) -> Field:
    from aiohttp_client_cache.backends.filesystem import FileBackend
    from aiohttp_client_cache.backends.sqlite import SQLiteBackend
    from aiohttp_client_cache.session import CachedSession

    wait = loop.run_until_complete

    def session(make: Callable[[], Any]) -> Any:
        async def begin() -> Any:
            return make()

        made = wait(begin())
        stack.callback(lambda: wait(made.close()))
        return made

    async def content(session: Any, url: str, headers: dict[str, str] | None = None) -> object:
        async with session.get(url, headers=headers) as response:
            return await response.read()

    def getter(made: Any) -> Callable[[str], object]:
        return lambda url: wait(content(made, url))

    def ours(cache: BaseCache) -> Callable[[], aiohttp.ClientSession]:
        return lambda: aiohttp.ClientSession(middlewares=[CacheMiddleware(cache)])

    def sqlite() -> object:
        return CachedSession(cache=SQLiteBackend(str(place / "theirs.db")))

    def files() -> object:
        return CachedSession(cache=FileBackend(str(place / "theirs")))

    cached = {name: getter(session(ours(cache(place / name)))) for name, cache in CACHES.items()}
    cached["aiohttp-client-cache SQLite"] = getter(session(sqlite))
    cached["aiohttp-client-cache files"] = getter(session(files))

    kept: dict[str, CachedResponse] = {}

    async def no_op(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        if "finished" not in kept:
            response = await caching(request, handler)
            assert isinstance(response, CachedResponse)
            await response.read()
            # Letting go of it is no part of what is measured, nor is reading it again.
            response._released = True  # noqa: SLF001
            kept["finished"] = response
        kept["finished"]._released = False  # noqa: SLF001
        return kept["finished"]

    caching = CacheMiddleware(stillfresh.MemoryCache())
    floor = session(lambda: aiohttp.ClientSession(middlewares=[no_op]))
    alone = session(aiohttp.ClientSession)
    return Field(
        getter(floor), lambda url, headers: wait(content(alone, url, headers)), cached, 0.3
    )


def _urllib3(place: Path, _: asyncio.AbstractEventLoop, stack: ExitStack) -> Field:
    class NoOpPool(urllib3.HTTPConnectionPool):
        def urlopen(self, *_: Any, **__: Any) -> Any:
            return finished

    finished = urllib3.HTTPResponse(PAGE, status=200)
    floor = stack.enter_context(urllib3.PoolManager())
    floor.pool_classes_by_scheme = {"http": NoOpPool}
    alone = stack.enter_context(urllib3.PoolManager())

    def getter(manager: urllib3.PoolManager) -> Callable[[str], object]:
        return lambda url: manager.request("GET", url).data

    cached = {
        name: getter(stack.enter_context(CachedPoolManager(cache=cache(place / name))))
        for name, cache in CACHES.items()
    }
    return Field(
        getter(floor), lambda url, headers: alone.request("GET", url, headers=headers), cached
    )


FIELDS: Final[dict[str, Callable[..., Field]]] = {
    "httpx": _blocking(httpx, stillfresh.clients.httpx, "httpx"),
    "httpx async": _async(httpx, stillfresh.clients.httpx, "httpx"),
    "httpx2": _blocking(httpx2, stillfresh.clients.httpx2, "httpx2"),
    "httpx2 async": _async(httpx2, stillfresh.clients.httpx2, "httpx2"),
    "aiohttp": _aiohttp,
    "urllib3": _urllib3,
}
