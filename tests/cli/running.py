"""The command, run to its end: as a process of its own, or within this one, which is quicker."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from stillfresh.cli.main import main

RUN = "import sys; from stillfresh.cli.main import main; sys.argv[0] = 'stillfresh'; main()"


@dataclass(frozen=True)
class Ended:
    """A process that is over."""

    status: int
    out: bytes
    err: str

    @property
    def last(self) -> str:
        return self.err.splitlines()[-1]


InProcess: TypeAlias = Callable[..., Ended]


@dataclass(frozen=True)
class Command:
    """Runs `stillfresh` in a folder and with a cache of its own."""

    folder: Path
    environment: dict[str, str]

    def start(
        self,
        *arguments: str,
        before: str = "",
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start `stillfresh`, running the code `before` first."""
        return process(
            self.environment,
            *arguments,
            before=before,
            folder=self.folder,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def __call__(
        self,
        *arguments: str,
        before: str = "",
        given: bytes = b"",
        stdout: int = subprocess.PIPE,
    ) -> Ended:
        """Run `stillfresh` to its end, which is never a traceback."""
        stdin = subprocess.PIPE if given else subprocess.DEVNULL
        with self.start(*arguments, before=before, stdin=stdin, stdout=stdout) as process:
            return ended(process, given)


def ended(process: subprocess.Popen[bytes], given: bytes = b"") -> Ended:
    out, err = process.communicate(given or None, timeout=30)
    text = (err or b"").decode()
    assert "Traceback" not in text, text
    return Ended(process.returncode, out or b"", text)


def process(
    environment: dict[str, str],
    *arguments: str,
    before: str = "",
    folder: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Start the command as a process of its own, running the code `before` first."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", f"{before}\n{RUN}", *arguments],
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )


@contextmanager
def within_this_process(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[InProcess]:
    """Run it here, for what needs no process of its own; what it changes is changed back."""
    log = logging.getLogger("stillfresh")
    level, handler = log.level, signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["stillfresh", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert isinstance(exit_.value.code, int)
        written = capfdbinary.readouterr()
        return Ended(exit_.value.code, written.out, written.err.decode())

    try:
        yield run
    finally:
        log.setLevel(level)
        signal.signal(signal.SIGTERM, handler)
