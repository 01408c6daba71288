"""What a command answers: lines on stdout, and on a terminal how far it has come until then."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from stillfresh.cli.exits import Exit
from stillfresh.cli.text import drop_output, printable, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@contextmanager
def progress_of(doing: str) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show a bar on a terminal, and nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(doing, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def print_lines(lines: Iterable[str], status: Exit) -> Exit:
    """Write the answer on stdout, and return the exit status."""
    if sys.stdout is None:
        say("there is no standard output to write to")
        return Exit.OUTPUT
    try:
        for line in lines:
            # Keys are anybody's.
            click.echo(printable(line))
    except BrokenPipeError:
        drop_output()
        return Exit.READER_GONE
    except OSError as error:
        drop_output()
        say(f"the output can't be written: {error.strerror}")
        return Exit.OUTPUT
    return status
