"""What a hit of 4 KiB costs, through requests, and how fast one of 8 MiB is streamed.

The floor is a session whose adapter returns one finished response from memory: what requests
itself takes for a `get`. A contestant's *added* time is the median of what it took more than the
floor in the same round. Goals: less than either of CacheControl's file caches adds, and from
SQLiteCache at most 0.6 of what its FileCache adds; 8 MiB are streamed faster than from its
SeparateBodyFileCache.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from benchmarks.contestants import DATABASE, OURS, THEIRS, session_with, without_environment
from benchmarks.origin import PAGE, Origin
from benchmarks.report import Options, Report
from benchmarks.timing import added, interleaved, median, profiled

if TYPE_CHECKING:
    from benchmarks.timing import Call, Samples

_FLOOR = "requests over a no-op adapter"
_LARGE = 8 << 20
_STEP = 1 << 16
_EVERY = (*OURS, DATABASE, *THEIRS)


class NoOpAdapter(HTTPAdapter):
    def __init__(self, finished: requests.Response) -> None:
        super().__init__()
        self._finished = finished

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        return self._finished


def run(options: Options) -> list[Report]:
    rounds = 10 if options.quick else 200
    with tempfile.TemporaryDirectory() as place, Origin() as origin:
        url = f"{origin.url}/page/"
        finished = requests.get(url, timeout=10)
        floor = without_environment(requests.Session())
        floor.mount("http://", NoOpAdapter(finished))
        calls: dict[str, Call] = {_FLOOR: _getter(floor, url)}
        large: dict[str, Call] = {}
        for name in _EVERY:
            session = session_with(name, Path(place))
            session.get(url)
            _check_hit(session.get(url))
            calls[name] = _getter(session, url)
            large[name] = _streamer(session, f"{origin.url}/stream/{_LARGE}")
            assert large[name](0) == large[name](0) == _LARGE
        if options.profile:
            return [profiled(f"hits: {name}", calls[name], rounds) for name in OURS]
        interleaved(calls, max(1, rounds // 10))
        samples = interleaved(calls, rounds)
        for name in _EVERY:
            _check_hit(calls[name](0))
        streamed = interleaved(large, max(5, rounds // 8), burst=2)
    report = Report("hits: a hit of 4 KiB", ("through", "µs", "added µs", "x best peer"))
    times = {name: added(samples, name, _FLOOR) for name in _EVERY}
    best = min(times[name] for name in THEIRS)
    report.add(_FLOOR, median(samples[_FLOOR]), 0.0, None)
    for name, time in times.items():
        report.add(name, median(samples[name]), time, time / best)
    for name in OURS:
        report.expect(f"{name} adds less than either of CacheControl's", met=times[name] < best)
    met = times[DATABASE] <= 0.6 * times[THEIRS[0]]
    report.expect(f"{DATABASE} adds at most 0.6 of what {THEIRS[0]} adds", met=met)
    return [report, _rates(streamed)]


def _rates(samples: Samples) -> Report:
    report = Report("hits: a body of 8 MiB, streamed", ("through", "GB/s"))
    rates = {name: _LARGE / (median(samples[name]) * 1e3) for name in samples}
    for name, rate in rates.items():
        report.add(name, rate)
    for name in (*OURS, DATABASE):
        report.expect(f"{name} is faster than {THEIRS[1]}", met=rates[name] > rates[THEIRS[1]])
    return report


def _getter(session: requests.Session, url: str) -> Call:
    return lambda _: session.get(url)


def _streamer(session: requests.Session, url: str) -> Call:
    def stream(_: int) -> int:
        with session.get(url, stream=True) as response:
            return sum(map(len, response.iter_content(_STEP)))

    return stream


def _check_hit(response: object) -> None:
    assert isinstance(response, requests.Response)
    assert response.content == PAGE
    assert vars(response)["from_cache"] is True
