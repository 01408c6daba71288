"""A pytest plugin: CacheControl's caches are ours, before any test imports them.

It runs in a process of its own, beside a package `tests` that isn't ours, so it imports nothing
from there. COMPAT_SWAP says what is swapped: "caches" are those of `cachecontrol.caches`, the
other is "DictCache". What became of each test goes into the file that COMPAT_RESULTS names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import cachecontrol
import cachecontrol.cache
import cachecontrol.caches
import pytest

from stillfresh.integrations import cachecontrol as ours

_results: Final[dict[str, str]] = {}


def pytest_configure() -> None:
    """Put ours wherever a module of CacheControl's has one of its caches."""
    swapped = {
        getattr(module, name): getattr(ours, name)
        for module, name in _classes(os.environ["COMPAT_SWAP"])
        if hasattr(ours, name)
    }
    modules = [module for name, module in sys.modules.items() if name.startswith("cachecontrol")]
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value in swapped:
                setattr(module, name, swapped[value])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember what a test that failed said first; nothing of one that passed."""
    if report.failed:
        said = [line[1:].strip() for line in report.longreprtext.splitlines() if line[:1] == "E"]
        _results[report.nodeid] = next(iter(said), "it failed")
    elif report.skipped:
        _results[report.nodeid] = "it was skipped"
    elif report.when == "call":
        _results[report.nodeid] = ""


def pytest_sessionfinish() -> None:
    """Write down what became of them."""
    Path(os.environ["COMPAT_RESULTS"]).write_text(json.dumps(_results), encoding="utf-8")


def _classes(swap: str) -> list[tuple[object, str]]:
    if swap == "DictCache":
        return [(cachecontrol.cache, swap)]
    return [(cachecontrol.caches, name) for name in cachecontrol.caches.__all__]
