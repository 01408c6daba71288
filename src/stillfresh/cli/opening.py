"""The cache that a command is about: opened, and what it fails at said in the command's way."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stillfresh import CacheUnavailable, ConfigError, SQLiteCache, StoreError
from stillfresh.caches.urls import cache_of
from stillfresh.cli.exits import Exit
from stillfresh.cli.text import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stillfresh import BaseCache

# How long a command waits for others who are changing a database, in seconds. No request waits for
# it, and who asks for something to be removed wants it gone.
_PATIENCE: Final = 5.0


@contextmanager
def open_cache(cache: str | None) -> Iterator[BaseCache]:
    """Open the cache that the user named; None is the default one.

    Raises:
        BadParameter, UsageError: that can't be done, as it is named.
        Exit: it failed, which has been said.
    """
    try:
        made = cache_of(cache)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="'--cache'") from error
    if isinstance(made, SQLiteCache):
        made.timeout = _PATIENCE
    try:
        with made as found:
            folder = getattr(found, "directory", None)
            if folder is not None:
                _look_at(Path(folder))
            yield found
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    except StoreError as error:
        say(str(error))
        raise click.exceptions.Exit(Exit.CACHE) from error


def _look_at(folder: Path) -> None:
    """Say so where there is no cache yet.

    Raises:
        CacheUnavailable: nobody may look.
    """
    try:
        if not folder.is_dir():
            say(f"there is no cache in {folder} yet")
    except OSError as error:
        msg = f"the cache in {folder} can't be read: {error.strerror}"
        raise CacheUnavailable(msg) from error
