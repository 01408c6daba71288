"""The command within this process, with a home and a cache of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import InProcess, within_this_process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the cache is that the command is about."""
    return tmp_path / "cache"


@pytest.fixture
def environment(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home of the test's own, and nothing of this user's."""
    for name in os.environ:
        if "stillfresh" in name.lower() or name.startswith("XDG_"):
            monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path / "home"),
        "STILLFRESH_CACHE": folder.as_uri(),
        "TERM": "xterm",
        "COLUMNS": "100",
        "LC_ALL": "C.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def run(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> Iterator[InProcess]:
    """The command, within this process."""
    with within_this_process(monkeypatch, capfdbinary) as run:
        yield run


@pytest.fixture(params=["sqlite", "files", "file"])
def url_of_cache(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A cache of each kind, which the command finds in its environment."""
    url = {
        "sqlite": f"sqlite://{folder}",
        "files": folder.as_uri(),
        "file": f"{folder.as_uri()}?body=inside",
    }[request.param]
    monkeypatch.setenv("STILLFRESH_CACHE", url)
    return url
