"""Run CacheControl's own tests with its caches swapped for ours.

    python -m tests.compat [PYTEST_ARGUMENT ...]

They come in its source distribution, which pip fetches into the build folder once, and are run
with the code of that release, which is the last that has tests in it. Two runs: one swaps what is
in `cachecontrol.caches`, the other `DictCache`, which CacheControl uses where it is given no cache.

The exit code is 0 if every test passes or has a reason in `reasons.py`, and no reason has outlived
its need; 1 if not; 2 if the tests can't be run. With arguments for pytest, such as `-k redirect`,
not all tests run, and a reason may seem not to be needed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.compat.reasons import REASONS
from tests.compat.verdicts import judge, report

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parents[1] / "build" / "compat"
RELEASE: Final = "0.14.3"
# How many tests it has.
TESTS: Final = 101
# What they need beside pytest: a server.
NEEDS: Final = "CherryPy==18.10.0"
# Seconds.
_FETCHING: Final = 600.0
_RUNNING: Final = 300.0


class SuiteError(Exception):
    """The tests can't be run; the message is for whoever asked for it."""


def main(arguments: Sequence[str]) -> int:
    try:
        sources = fetch()
        results = {swap: run(sources, swap, arguments) for swap in REASONS}
    except SuiteError as error:
        sys.stderr.write(f"compat: {error}\n")
        return 2
    verdicts = {swap: judge(results[swap], REASONS[swap]) for swap in REASONS}
    sys.stdout.write(f"CacheControl {RELEASE}, its own tests\n\n{report(verdicts)}\n")
    if not arguments and any(len(told) != TESTS for told in results.values()):
        sys.stderr.write(f"compat: there should be {TESTS} tests\n")
        return 2
    return int(not all(verdict.is_good for verdict in verdicts.values()))


def fetch() -> Path:
    """Put the sources and what they need into the build folder, unless they are there.

    Raises:
        SuiteError: pip fails.
    """
    sources, needs = BUILD / f"cachecontrol-{RELEASE}", BUILD / "needs"
    if not needs.is_dir():
        coming = BUILD / "needs.coming"
        _pip("install", "--quiet", "--upgrade", f"--target={coming}", NEEDS)
        coming.rename(needs)
    if not (sources / "tests").is_dir():
        options = ("--quiet", "--no-deps", "--no-binary=CacheControl", f"--dest={BUILD}")
        _pip("download", *options, f"CacheControl=={RELEASE}")
        with tarfile.open(BUILD / f"{sources.name}.tar.gz") as archive:
            archive.extractall(BUILD, filter="data")
    return sources


def run(sources: Path, swap: str, arguments: Sequence[str]) -> Mapping[str, str]:
    """Run the tests in a process of their own; say of each what it said when it failed.

    Raises:
        SuiteError: it doesn't come to an end.
    """
    results = BUILD / f"{swap}.json"
    results.unlink(missing_ok=True)
    path = os.pathsep.join([str(BUILD / "needs"), str(HERE)])
    log = BUILD / f"{swap}.log"
    with log.open("w", encoding="utf-8") as output:
        try:
            subprocess.run(
                [sys.executable, "-m", "pytest", "-p", "swapped", *arguments, "tests"],
                cwd=sources,
                env=os.environ
                | {"PYTHONPATH": path, "COMPAT_SWAP": swap, "COMPAT_RESULTS": str(results)},
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_RUNNING,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SuiteError(f"the tests took more than {_RUNNING:.0f} s; see {log}") from error
    try:
        told: dict[str, str] = json.loads(results.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SuiteError(f"pytest has not come to an end; see {log}") from error
    return told


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_FETCHING, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"pip took more than {_FETCHING:.0f} s") from error
    if done.returncode != 0:
        raise SuiteError(f"pip failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
