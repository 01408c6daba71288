"""Run benchmarks by name: `python -m benchmarks hits stores`, or all of them without a name.

Each explains itself at its top. The exit status is 1 if a goal was missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from benchmarks.report import SEED, Options, Report

NAMES = (
    "hits",
    "stores",
    "clients",
    "caches",
    "sqlite",
    "decisions",
    "memory",
    "contention",
    "mutations",
    "scale",
    "redis",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument(
        "--profile", action="store_true", help="hits, stores: show where our time goes instead"
    )
    parser.add_argument(
        "--peer", action="store_true", help="contention, memory, mutations: CacheControl as well"
    )
    parser.add_argument("--seconds", type=float, help="contention: how long a run takes")
    parser.add_argument("--seed", type=int, default=SEED, help="mutations: repeat these")
    given = parser.parse_args()
    unknown = set(given.names) - set(NAMES)
    if unknown:
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    options = Options(given.quick, given.profile, given.peer, given.seconds, given.seed)
    reports: list[Report] = []
    for name in given.names or NAMES:
        module = importlib.import_module(f"benchmarks.{name}")
        for report in module.run(options):
            print(report, end="\n\n", flush=True)
            reports.append(report)
    if given.json is not None:
        _write(given.json, reports, options)
    return int(any(not goal.met for report in reports for goal in report.goals))


def _write(file: Path, reports: list[Report], options: Options) -> None:
    results = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "quick": options.quick,
        "seed": options.seed,
        "reports": [report.as_json() for report in reports],
    }
    file.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
