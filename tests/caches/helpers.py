"""What tests look at directories and databases with, and start processes with."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

from stillfresh.caches.directory import TAG


def files_below(root: Path) -> list[str]:
    """Name all files of a cache, relative to its root, but for the tag of the root."""
    found = [
        os.path.relpath(Path(directory, name), root)
        for directory, _, names in os.walk(root)
        for name in names
    ]
    return sorted(name for name in found if name != TAG)


def start(code: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """Start a Python of its own on `code`; it can be spoken to by its pipes."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=pass_fds,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process that must go well, and return what it has printed."""
    with process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def run(code: str, *arguments: object) -> str:
    """Run `code` in a Python of its own and return what it has printed."""
    return finish(start(code, *arguments))


def database_of(root: Path) -> Path:
    """Return the file of the present database in `root`, the only one there."""
    (found,) = root.glob("cache-*.sqlite")
    return found


@contextlib.contextmanager
def stranger(root: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has the database open."""
    connection = sqlite3.connect(database_of(root), isolation_level=None, check_same_thread=False)
    try:
        yield connection
    finally:
        connection.close()
