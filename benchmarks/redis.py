"""RedisCache against a server on loopback, beside CacheControl's.

hits       what a hit of 4 KiB adds to requests over a no-op adapter, and a store to requests alone,
           as in `hits` and `stores`. Goal: at most 0.6 of what CacheControl's RedisCache adds
streaming  a body of 1 GiB in and out, beside the same pieces with SET and GET over one connection
           of the library's. Goal: 60 % of that; 32 MiB of memory above a small body
clearing   200,000 entries beside 1,000 keys of somebody else's. Goal: none of those lost, and no
           PING meanwhile slower than 20 ms
trouble    how long a miss takes where the server is down (5 ms) or doesn't answer (the limit)
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
import requests

from benchmarks.contestants import without_environment
from benchmarks.hits import NoOpAdapter
from benchmarks.memory import peak
from benchmarks.origin import PAGE, Origin, blocks
from benchmarks.report import Options, Report
from benchmarks.timing import added, interleaved, median, profiled
from stillfresh.caches.redis import RedisCache
from stillfresh.clients.requests import CachedSession
from stillfresh.errors import StoreError
from tests.redis_proxy import Mood, Proxy
from tests.redis_servers import RedisServer, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.timing import Call, Samples

_OURS: Final = "stillfresh RedisCache"
_THEIRS: Final = "CacheControl RedisCache"
_ALONE: Final = "requests alone"
_MIB: Final = 1 << 20
_ROOT: Final = Path(__file__).parents[1]
_PIECE: Final = 1 << 18


def run(options: Options) -> Iterator[Report]:
    with tempfile.TemporaryDirectory() as place, RedisServer(Path(place)) as server:
        yield from _speed(server, options)
        if not options.profile:
            yield _streaming(server, (64 if options.quick else 1024) * _MIB)
            yield _clearing(server, 5_000 if options.quick else 200_000)
            yield _trouble(server)


def _speed(server: RedisServer, options: Options) -> list[Report]:
    rounds = 10 if options.quick else 100
    with Origin() as origin:
        floor = without_environment(requests.Session())
        floor.mount("http://", NoOpAdapter(requests.get(f"{origin.url}/page/", timeout=10)))
        sessions = {_OURS: _ours(server), _THEIRS: _theirs(server)}
        hits: dict[str, Call] = {_ALONE: _getter(floor, f"{origin.url}/page/hit")}
        stores: dict[str, Call] = {
            _ALONE: _getter(
                without_environment(requests.Session()), f"{origin.url}/page/", new=True
            )
        }
        for name, session in sessions.items():
            hits[name] = _getter(session, f"{origin.url}/page/hit")
            stores[name] = _getter(session, f"{origin.url}/page/{name[0]}", new=True)
            hits[name](0)
            response = hits[name](0)
            assert vars(response)["from_cache"] is True
            assert vars(response)["_content"] == PAGE
        if options.profile:
            return [profiled("redis: a hit", hits[_OURS], rounds)]
        reports = []
        for what, calls in (("a hit of 4 KiB", hits), ("a new response of 4 KiB", stores)):
            interleaved(calls, max(1, rounds // 10))
            reports.append(_compared(what, interleaved(calls, rounds)))
        return reports


def _compared(what: str, samples: Samples) -> Report:
    report = Report(f"redis: {what}", ("through", "µs", "added µs", "x peer"))
    times = {name: added(samples, name, _ALONE) for name in (_OURS, _THEIRS)}
    report.add(_ALONE, median(samples[_ALONE]), 0.0, None)
    for name, cost in times.items():
        report.add(name, median(samples[name]), cost, cost / times[_THEIRS])
    met = times[_OURS] <= 0.6 * times[_THEIRS]
    report.expect(f"{what} adds at most 0.6 of what CacheControl's adds", met=met)
    return report


def _ours(server: RedisServer) -> requests.Session:
    return without_environment(CachedSession(RedisCache.from_url(server.url, prefix="ours:")))


def _theirs(server: RedisServer) -> requests.Session:
    from cachecontrol import CacheControlAdapter
    from cachecontrol.caches.redis_cache import RedisCache as TheirCache

    session = requests.Session()
    session.mount("http://", CacheControlAdapter(TheirCache(server.client())))
    return without_environment(session)


def _getter(session: requests.Session, url: str, *, new: bool = False) -> Call:
    numbers = itertools.count()
    return lambda _: session.get(f"{url}{next(numbers)}" if new else url)


# Streaming, each in a process of its own.


def _streaming(server: RedisServer, size: int) -> Report:
    report = Report(
        f"redis: a body of {size // _MIB} MiB",
        ("through", "in MiB/s", "out MiB/s", "peak MiB", "above 64 KiB"),
    )
    found = {name: _measured(name, server.port, size) for name in _STREAMS}
    small = {name: _measured(name, server.port, 1 << 16) for name in _STREAMS}
    for name, one in found.items():
        above = (one["peak"] - small[name]["peak"]) / _MIB
        rates = [size / _MIB / one[way] for way in ("in", "out")]
        report.add(name, *rates, one["peak"] / _MIB, above)
    raw, ours = found["SET and GET"], found[_OURS]
    for way in ("in", "out"):
        report.expect(f"{way}: at least 60 % of SET and GET", met=ours[way] <= raw[way] / 0.6)
    above = (ours["peak"] - small[_OURS]["peak"]) / _MIB
    report.expect("at most 32 MiB above a body of 64 KiB", met=above <= 32)
    return report


def _measured(name: str, port: int, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.redis", name, str(port), str(size)]
    done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _stream_raw(port: int, size: int) -> dict[str, float]:
    client = redis.Redis(port=port)
    connection: Any = client.connection_pool.get_connection()

    def ask(*command: Any) -> Any:
        connection.send_command(*command)
        return connection.read_response()

    before = time.perf_counter()
    count = 0
    for block in blocks(size):
        for at in range(0, len(block), _PIECE):
            ask("SET", f"raw:{count}", block[at : at + _PIECE], "EX", 120)
            count += 1
    between = time.perf_counter()
    assert sum(len(ask("GET", f"raw:{number}")) for number in range(count)) == size
    after = time.perf_counter()
    for number in range(count):
        ask("UNLINK", f"raw:{number}")
    return {"in": between - before, "out": after - between}


def _stream_ours(port: int, size: int) -> dict[str, float]:
    # What is measured is how fast it goes, not whether the machine was somewhere else for a moment.
    cache = RedisCache.from_url(f"redis://127.0.0.1:{port}", prefix="stream:", timeout=30)
    before = time.perf_counter()
    with cache.writer("key") as writer:
        for block in blocks(size):
            writer.write(block)
        writer.commit(b"metadata")
    between = time.perf_counter()
    entry = cache.open("key")
    assert entry is not None
    with entry:
        total = 0
        while chunk := entry.read(_PIECE):
            total += len(chunk)
    assert total == size
    after = time.perf_counter()
    cache.remove("key")
    return {"in": between - before, "out": after - between}


_STREAMS: Final = {"SET and GET": _stream_raw, _OURS: _stream_ours}


# All of it.


def _clearing(server: RedisServer, count: int) -> Report:
    report = Report(
        f"redis: clear() of {count:,} entries beside 1,000 other keys",
        ("through", "s", "others lost", "left", "slowest PING ms"),
    )
    client = server.client()
    cache = RedisCache.from_url(server.url, prefix="many:")
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"many:{number}", b"x" * 100)
            if number % 10_000 == 0:
                pipeline.execute()
        for number in range(1000):
            pipeline.set(f"others:{number}", b"value")
        pipeline.execute()
    # In a process of its own, which waits for no other's turn in the interpreter.
    command = [sys.executable, "-m", "benchmarks.redis", "PING", str(server.port), "0"]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as pinging:
        assert pinging.stdin is not None
        assert pinging.stdout is not None
        pinging.stdout.readline()
        before = time.perf_counter()
        cache.clear()
        took = time.perf_counter() - before
        pinging.stdin.close()
        slowest = json.loads(pinging.stdout.read())["slowest"]
    lost = 1000 - sum(1 for _ in client.scan_iter("others:*", count=1000))
    left = sum(1 for _ in client.scan_iter("many:*", count=1000))
    report.add(_OURS, took, lost, left, slowest * 1000)
    report.expect("no other key is lost, and none of its own is left", met=lost == left == 0)
    report.expect("no PING takes 20 ms", met=slowest < 0.02)
    return report


def _ping(port: int, _: int) -> dict[str, float]:
    slowest = 0.0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            before = time.perf_counter()
            connection.sendall(b"PING\r\n")
            connection.recv(100)
            slowest = max(slowest, time.perf_counter() - before)
    return {"slowest": slowest}


# Where there is no answer.


def _trouble(server: RedisServer) -> Report:
    report = Report("redis: a miss where there is no answer", ("server", "median ms", "slowest ms"))
    down = RedisCache.from_url(f"redis://127.0.0.1:{free_port()}")
    times = _misses(down, 100)
    report.add("down", statistics.median(times) * 1000, max(times[1:]) * 1000)
    report.expect("down: under 5 ms once that is known", met=statistics.median(times[1:]) < 0.005)
    with Proxy(server.port) as proxy:
        proxy.mood = Mood.STALLING
        first = _misses(RedisCache.from_url(f"redis://127.0.0.1:{proxy.port}"), 1)
        stalled = RedisCache.from_url(f"redis://127.0.0.1:{proxy.port}")
        times = _misses(stalled, 100)
        report.add("stalled, at first", first[0] * 1000, first[0] * 1000)
        report.add("stalled", statistics.median(times) * 1000, max(times) * 1000)
        report.expect("stalled: within 0.25 s and a tenth", met=max(*first, *times) < 0.275)
    return report


def _misses(cache: RedisCache, count: int) -> list[float]:
    times = []
    for _ in range(count):
        before = time.perf_counter()
        try:
            cache.open("key")
        except StoreError:
            times.append(time.perf_counter() - before)
    assert len(times) == count
    return times


def _main(name: str, port: str, size: str) -> Mapping[str, float]:
    found = (_STREAMS | {"PING": _ping})[name](int(port), int(size))
    return {**found, "peak": peak()}


if __name__ == "__main__":
    json.dump(_main(*sys.argv[1:]), sys.stdout)
