"""The suite's own programs: installing them from npm, its origin server, its client.

They run under node, in a build folder that holds a copy of `package.json` and `client.mjs`. What
is started here is stopped here, and every wait has an end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from tests.conformance.scoring import Mode

HERE: Final = Path(__file__).parent
BUILD: Final = HERE.parents[1] / "build" / "conformance"

# Seconds. A run takes about half a minute, most of it pauses for responses to become stale.
_INSTALLING: Final = 600.0
_STARTING: Final = 20.0
_RUNNING: Final = 240.0
_STOPPING: Final = 5.0

_LISTENING: Final = re.compile(r"^Listening on http://.*:(\d+)/$", re.MULTILINE)


class SuiteError(Exception):
    """The suite can't be run; the message is for whoever asked for it."""


def install() -> None:
    """Put the pinned versions into the build folder, unless they are there.

    Raises:
        SuiteError: node or npm is missing, or npm fails.
    """
    _program("node")
    BUILD.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "client.mjs"):
        shutil.copyfile(HERE / name, BUILD / name)
    if not _missing():
        return
    options = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")
    command = [_program("npm"), "install", *options]
    try:
        done = subprocess.run(
            command, cwd=BUILD, capture_output=True, text=True, timeout=_INSTALLING, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"npm install took more than {_INSTALLING:.0f} s") from error
    if done.returncode != 0:
        raise SuiteError(f"npm install failed:\n{done.stderr.strip()}")
    if missing := _missing():
        raise SuiteError(f"npm install left out: {', '.join(missing)}")


@contextmanager
def origin_server() -> Iterator[str]:
    """Run the suite's origin on a free port, and give its URL.

    Raises:
        SuiteError: it doesn't start.
    """
    package = BUILD / "node_modules" / "http-cache-tests"
    environment = os.environ | {
        "npm_config_protocol": "http",
        "npm_config_port": "0",  # any free one; it says which
        "npm_config_pidfile": str(BUILD / "origin.pid"),
    }
    with origin_log().open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [_program("node"), str(package / "server" / "server.mjs")],
            cwd=BUILD,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield f"http://127.0.0.1:{_announced_port(process)}"
        finally:
            _stop(process)


def origin_log() -> Path:
    """Return the file that holds what the origin of this run, or of the last, had to say."""
    return BUILD / "origin.log"


def run_client(base: str, mode: Mode, only: Sequence[str], *, dump: bool) -> dict[str, Any]:
    """Run the suite's client against the cache at `base`, and return what it prints.

    Raises:
        SuiteError: it fails or doesn't come to an end.
    """
    verbosity = "dump" if dump else "quiet"
    process = subprocess.Popen(
        [_program("node"), "--no-warnings", "client.mjs", base, mode.value, verbosity, *only],
        cwd=BUILD,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=_RUNNING)
    except subprocess.TimeoutExpired as error:
        raise SuiteError(f"the suite's client took more than {_RUNNING:.0f} s") from error
    finally:
        _stop(process)
    if process.returncode != 0:
        raise SuiteError(f"the suite's client ended with exit code {process.returncode}")
    printed: dict[str, Any] = json.loads(output)
    return printed


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SuiteError(f"{name} is not installed; the suite needs Node.js 14.8 or newer, and npm")
    return path


def _missing() -> list[str]:
    """Return the pinned packages that aren't there in their versions."""
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    pins: dict[str, str] = wanted["dependencies"] | wanted["overrides"]
    return [f"{name} {version}" for name, version in pins.items() if _installed(name) != version]


def _installed(name: str) -> str | None:
    try:
        with (BUILD / "node_modules" / name / "package.json").open(encoding="utf-8") as file:
            return _version(file)
    except (OSError, ValueError):
        return None


def _version(file: IO[str]) -> str | None:
    version = json.load(file).get("version")
    return version if isinstance(version, str) else None


def _announced_port(process: subprocess.Popen[bytes]) -> int:
    deadline = time.monotonic() + _STARTING
    while time.monotonic() < deadline:
        if listening := _LISTENING.search(origin_log().read_text(encoding="utf-8")):
            return int(listening[1])
        if process.poll() is not None:
            break
        time.sleep(0.02)
    said = origin_log().read_text(encoding="utf-8").strip()
    raise SuiteError(f"the suite's origin did not start:\n{said}")


def _stop(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOPPING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOPPING)
    if process.stdout is not None:
        process.stdout.close()
