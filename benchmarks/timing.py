"""Measuring beside one another what is to be compared.

The machine is never quiet, and what disturbs it comes and goes over seconds. So the contestants
take turns, and are compared by the median of what a call took more than the control's in the same
round. A turn is a burst of calls: with single ones, what is measured most is how long it takes to
bring a contestant's code back into the CPU's caches. The order is shuffled for each round: what
one leaves behind (a journal to be written, say) must not fall on the same other every time.
"""

from __future__ import annotations

import cProfile
import gc
import io
import pstats
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from benchmarks.report import Report

Call: TypeAlias = Callable[[int], object]
Samples: TypeAlias = dict[str, list[float]]

_SHOWN = 30
_BURST = 20


def interleaved(calls: Mapping[str, Call], rounds: int, burst: int = _BURST) -> Samples:
    """Return the seconds that a call took on average in each round.

    Each call is given a number of its own, the same for all contestants.
    """
    return interleaved_twice(calls, rounds, burst)[0]


def interleaved_twice(
    calls: Mapping[str, Call], rounds: int, burst: int = _BURST
) -> tuple[Samples, Samples]:
    """Do the same, and return what it took of the CPU too, in all threads."""
    names = list(calls)
    elapsed: Samples = {name: [] for name in names}
    used: Samples = {name: [] for name in names}
    order = random.Random(rounds)
    gc.collect()
    for start in range(0, rounds * burst, burst):
        order.shuffle(names)
        for name in names:
            call = calls[name]
            before, cpu = time.perf_counter(), time.process_time()
            for number in range(start, start + burst):
                call(number)
            used[name].append((time.process_time() - cpu) / burst)
            elapsed[name].append((time.perf_counter() - before) / burst)
    return elapsed, used


def median(seconds: Iterable[float]) -> float:
    """Return the median in microseconds."""
    return statistics.median(seconds) * 1e6


def added(samples: Samples, name: str, control: str) -> float:
    """Return the median of what `name` took more than `control`, in microseconds."""
    pairs = zip(samples[name], samples[control], strict=True)
    return median(mine - floor for mine, floor in pairs)


def spread(samples: Samples, name: str) -> float:
    """Return the distance between the quartiles, as a part of the median."""
    lower, middle, upper = statistics.quantiles(samples[name], n=4)
    return (upper - lower) / middle


def profiled(title: str, call: Call, rounds: int) -> Report:
    """Run `call` under cProfile and report the functions that take most time of their own."""
    for number in range(20):
        call(-1 - number)
    profile = cProfile.Profile()
    profile.enable()
    for number in range(rounds):
        call(number)
    profile.disable()
    report = Report(title, ("function", "calls each", "own µs", "with callees µs"))
    # The type stubs don't know these attributes, and printing would be parsed again.
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, object]]
    stats = vars(pstats.Stats(profile, stream=io.StringIO()))["stats"]
    ordered = sorted(stats.items(), key=lambda item: -item[1][2])
    for (file, line, name), (_, count, own, whole, _) in ordered[:_SHOWN]:
        place = name if file == "~" else f"{Path(file).parent.name}/{Path(file).name}:{line} {name}"
        report.add(place, count / rounds, own / rounds * 1e6, whole / rounds * 1e6)
    report.notes.append("cProfile makes small functions look dear: read the order, not the figures")
    return report
