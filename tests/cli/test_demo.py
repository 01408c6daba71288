"""The demo, run as `make run` runs it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillfresh.cli.demo import main
from tests.origin import Origin, Reply


def demo(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "temporary").mkdir()
    foreign = ("_proxy", "stillfresh")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not any(part in name.lower() for part in foreign)
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stillfresh.cli.demo", *arguments],
        env={**kept, "TMPDIR": str(tmp_path / "temporary")},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["temporary"]
    assert not list((tmp_path / "temporary").iterdir())
    return done


def told(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the command said each time it ran."""
    lines = done.stdout.splitlines()
    return [
        after for line, after in itertools.pairwise(lines) if line.startswith("$ stillfresh get ")
    ]


def test_without_a_url_it_needs_no_network(tmp_path: Path) -> None:
    done = demo(tmp_path)
    first, second = told(done)
    assert first.startswith("miss, stored: ")
    assert second.startswith("hit: fresh: max-age=60")
    assert "The second answer came from the cache." in done.stdout
    assert "The server was asked 1 time(s)." in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_it_shows_the_kind_of_cache_that_is_the_default(tmp_path: Path) -> None:
    assert "is removed afterwards: sqlite:///" in demo(tmp_path).stdout


def test_a_url(tmp_path: Path, origin: Origin) -> None:
    done = demo(tmp_path, origin.on("/", Reply(headers={"Cache-Control": "max-age=9"})))
    assert [line.split(":")[0] for line in told(done)] == ["miss, stored", "hit"]
    assert done.returncode == 0
    assert len(origin.received) == 1


def test_a_url_that_is_not_stored(tmp_path: Path, origin: Origin) -> None:
    done = demo(tmp_path, origin.on("/", Reply(headers={"Cache-Control": "no-store"})))
    assert "The second answer did not come from the cache" in done.stdout
    assert done.returncode == 0
    assert len(origin.received) == 2


def test_a_url_that_fails(tmp_path: Path, origin: Origin) -> None:
    assert demo(tmp_path, origin.url("/no")).returncode == 22


@pytest.mark.parametrize("arguments", [["--help"], ["http://a/", "http://b/"]])
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["demo", *arguments])
    assert main() == 2
    assert capsys.readouterr().err.startswith("usage: ")
