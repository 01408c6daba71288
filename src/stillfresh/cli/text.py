"""Lines for people, on stderr, and how numbers are written in them."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import click

_DAY: Final = 86_400.0
# All that stands before an "@", but for the scheme.
_USER: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)?[^\s'\"(]+@")


def size_text(size: int) -> str:
    """Write a number of bytes with the unit that fits."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if round(amount, 1) < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def count_text(number: int, one: str, several: str) -> str:
    """Write how many there are of something."""
    return f"{number} {one if number == 1 else several}"


def entries_text(number: int) -> str:
    """Write how many entries there are."""
    return count_text(number, "entry", "entries")


def duration_text(seconds: float) -> str:
    """Write a time in the unit that fits; none is shorter than nothing."""
    for unit, length in (("d", _DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment_text(moment: float) -> str:
    """Write a moment, to the minute."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OSError, OverflowError, ValueError):
        return "a time that no calendar has"


def say(message: str) -> None:
    """Say something in the name of the command."""
    show_line(f"stillfresh: {message}")


def show_line(text: str) -> None:
    """Write one line on stderr; what others have sent can't move the cursor about."""
    with suppress(OSError):  # it is no reason to fail that nobody listens
        # Looked up each time: a progress bar puts itself before it.
        click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """Write what others have sent so that it can't move the cursor about."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def without_users(text: str) -> str:
    """Write a text that may have URLs in it without their users and passwords."""
    return _USER.sub(r"\1", text)


def drop_output() -> None:
    """Let what is left in the buffer go nowhere, or the interpreter fails at it once more."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
