"""What a hit of 4 KiB costs, through requests.

The floor is a session whose adapter returns one finished response from memory: what requests
itself takes for a `get`. A contestant's *added* time is the median of what it took more than the
floor in the same round. Goal: less than either of CacheControl's file caches adds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from benchmarks.contestants import OURS, THEIRS, session_with, without_environment
from benchmarks.origin import PAGE, Origin
from benchmarks.report import Options, Report
from benchmarks.timing import added, interleaved, median, profiled

if TYPE_CHECKING:
    from benchmarks.timing import Call

_FLOOR = "requests over a no-op adapter"


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
        for name in (*OURS, *THEIRS):
            session = session_with(name, Path(place))
            session.get(url)
            _check_hit(session.get(url))
            calls[name] = _getter(session, url)
        if options.profile:
            return [profiled(f"hits: {name}", calls[name], rounds) for name in OURS]
        interleaved(calls, max(1, rounds // 10))
        samples = interleaved(calls, rounds)
        for name in (*OURS, *THEIRS):
            _check_hit(calls[name](0))
    report = Report("hits: a hit of 4 KiB", ("through", "µs", "added µs", "x best peer"))
    times = {name: added(samples, name, _FLOOR) for name in (*OURS, *THEIRS)}
    best = min(times[name] for name in THEIRS)
    report.add(_FLOOR, median(samples[_FLOOR]), 0.0, None)
    for name, time in times.items():
        report.add(name, median(samples[name]), time, time / best)
    for name in OURS:
        report.expect(f"{name} adds less than either of CacheControl's", met=times[name] < best)
    return [report]


def _getter(session: requests.Session, url: str) -> Call:
    return lambda _: session.get(url)


def _check_hit(response: object) -> None:
    assert isinstance(response, requests.Response)
    assert response.content == PAGE
    assert vars(response)["from_cache"] is True
