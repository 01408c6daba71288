"""What storing 4 KiB adds to a request, and what a revalidation (304) adds.

The control is requests alone, to the same origin in another process, with connections kept alive:
for the store a GET of the page, for the revalidation a GET with If-None-Match that is answered by
the same 304. Every store is of a new URL. A contestant's *added* time is the median of what it took
more than the control in the same round. Goal: at most half of what CacheControl's cache of the same
kind adds.

Most of a store in files is making directories, which every cache of this layout pays alike. ext4
passes over the inodes of what was deleted in the last minutes, one by one: where much was, by an
earlier run say, making a file takes ten times as long. Measure after a pause, or in memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from benchmarks.contestants import OURS, THEIRS, session_with, without_environment
from benchmarks.origin import PAGE, Origin
from benchmarks.report import Options, Report
from benchmarks.timing import added, interleaved, median, profiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.timing import Call, Samples

_CONTROL = "requests alone"


def run(options: Options) -> list[Report]:
    rounds = 5 if options.quick else 100
    with tempfile.TemporaryDirectory() as place, Origin() as origin:
        stores = _stores(origin, Path(place, "stores"))
        revalidations = _revalidations(origin, Path(place, "revalidations"))
        if options.profile:
            return [
                profiled(f"{what}: {name}", calls[name], rounds)
                for what, calls in (("stores", stores), ("revalidations", revalidations))
                for name in OURS
            ]
        reports = []
        for what, calls in (
            ("stores: a new response of 4 KiB", stores),
            ("stores: a revalidation of 4 KiB (304)", revalidations),
        ):
            # Negative numbers are URLs that no round has.
            for number in range(-20, 0):
                for call in calls.values():
                    call(number)
            reports.append(_report(what, interleaved(calls, rounds)))
        for name, call in revalidations.items():
            response = call(0)
            assert isinstance(response, requests.Response)
            assert response.content == PAGE or name == _CONTROL
        return reports


def _stores(origin: Origin, place: Path) -> Mapping[str, Call]:
    def getter(session: requests.Session) -> Call:
        return lambda number: session.get(f"{origin.url}/page/{number}")

    calls = {name: getter(session_with(name, place)) for name in (*OURS, *THEIRS)}
    for call in calls.values():
        call(-100)
        response = call(-100)
        assert vars(response)["from_cache"] is True
    return {_CONTROL: getter(without_environment(requests.Session())), **calls}


def _revalidations(origin: Origin, place: Path) -> Mapping[str, Call]:
    url = f"{origin.url}/stale/"

    def getter(session: requests.Session, headers: dict[str, str] | None = None) -> Call:
        return lambda _: session.get(url, headers=headers)

    calls = {name: getter(session_with(name, place)) for name in (*OURS, *THEIRS)}
    for call in calls.values():
        call(0)
        response = call(0)
        assert vars(response)["from_cache"] is True
    return {
        _CONTROL: getter(without_environment(requests.Session()), {"If-None-Match": '"5f2b-1a"'}),
        **calls,
    }


def _report(title: str, samples: Samples) -> Report:
    report = Report(title, ("through", "µs", "added µs", "x same peer"))
    times = {name: added(samples, name, _CONTROL) for name in (*OURS, *THEIRS)}
    report.add(_CONTROL, median(samples[_CONTROL]), 0.0, None)
    for name, time in times.items():
        peer = f"CacheControl {name.split()[-1]}"
        ratio = time / times.get(peer, times[THEIRS[0]])
        report.add(name, median(samples[name]), time, ratio)
        if name in OURS:
            report.expect(f"{name} adds at most half of what its peer adds", met=ratio <= 0.5)
    return report
