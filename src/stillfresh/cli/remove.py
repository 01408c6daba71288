"""`stillfresh rm` and `clear`: throwing out what is stored."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stillfresh import CorruptEntry, Removed, StoreError, remove_host, remove_url
from stillfresh.cli.answer import print_lines, progress_of
from stillfresh.cli.asking import requested_host, requested_url
from stillfresh.cli.exits import Exit
from stillfresh.cli.opening import open_cache
from stillfresh.cli.options import cache_option
from stillfresh.cli.text import entries_text, printable, say, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stillfresh import BaseCache

_CHANGED: Final = (
    "2 for wrong usage; 23 if the output cannot be written; 74 if the cache cannot be read or"
    " changed"
)


def _urls(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each URL as requests would have it, and as it was given."""
    return [(requested_url(value), value) for value in values]


@click.command(epilog=f"Exit status: 0; {_CHANGED}; 78 if nothing is stored for one of them.")
@click.argument("urls", metavar="[URL]...", nargs=-1, callback=_urls)
@cache_option
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Remove all of this host, or of one of its ports; may be given more than once.",
)
def rm(urls: list[tuple[str, str]], cache: str | None, hosts: tuple[str, ...]) -> int:
    """Remove what is stored for each URL: all variants, and parts.

    What is asked for just now may be stored a moment later.
    """
    if not urls and not hosts:
        raise click.UsageError("name a URL, or a host with --host")
    with open_cache(cache) as opened:
        work = [(url, partial(_remove, opened, url, given)) for url, given in urls]
        work += [(host, partial(remove_host, opened, host)) for host in map(requested_host, hosts)]
        lines, status = _removed(work)
    return print_lines(lines, status)


def _remove(cache: BaseCache, url: str, given: str) -> Removed:
    removed = remove_url(cache, url)
    # Another client may have asked for it as it is spelt, and it is there under that.
    return removed if given == url else removed + remove_url(cache, given)


def _removed(work: Iterable[tuple[str, Callable[[], Removed]]]) -> tuple[list[str], Exit]:
    """Do all of it before anything is written, which may fail."""
    lines: list[str] = []
    status = Exit.OK
    for what, remove in work:
        try:
            removed = remove()
        except StoreError as error:
            say(f"{what}: {error}")
            return lines, Exit.CACHE
        if removed.entries:
            size = size_text(removed.size)
            lines.append(f"removed {entries_text(removed.entries)} ({size}): {what}")
        else:
            say(f"nothing is stored for {what}")
            status = Exit.NOT_STORED
    return lines, status


@click.command(epilog=f"Exit status: 0; 1 if the answer was no; {_CHANGED}.")
@cache_option
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--whole-database",
    is_flag=True,
    help="Of a Redis whose prefix is empty, remove every key that is in the database, whoever's it"
    " is. Without this, such a cache is not cleared.",
)
def clear(cache: str | None, yes: bool, whole_database: bool) -> int:
    """Remove all that is in the cache.

    It says what that is, and where, and asks.
    """
    with open_cache(cache) as opened:
        # What has no prefix is told from others' by nothing.
        whole = getattr(opened, "prefix", None) == ""
        if whole and not whole_database:
            raise click.UsageError(
                f"{opened.place}: its prefix is empty, so all keys of that database would go,"
                " whoever's they are; say --whole-database if they shall"
            )
        folder = getattr(opened, "directory", None)
        if folder is not None and not Path(folder).is_dir():
            return Exit.OK  # which has been said
        what = f"{_counted(opened)} in {opened.place or 'memory'}"
        if whole:
            what += ", and every other key there"
        if not yes and not _agreed(f"Remove {what}?"):
            say("nothing was removed")
            return Exit.DECLINED
        opened.clear()
    return print_lines([f"removed {what}"], Exit.OK)


def _counted(cache: BaseCache) -> str:
    """Say what there is; whether it can be listed or not."""
    count = size = foreign = 0
    try:
        with progress_of("counting") as progress:
            for entry in cache.entries():
                count += 1
                size += entry.size
                foreign += entry.foreign
                if progress is not None:
                    progress(count, None)
    except CorruptEntry as error:
        # That is one more reason to clear it.
        say(str(error))
        return "all that is"
    text = f"{entries_text(count)} ({size_text(size)})"
    return f"{text}, {foreign} of other programs," if foreign else text


def _agreed(question: str) -> bool:
    """Ask on the terminal.

    Raises:
        UsageError: there is none.
        Abort: there was no answer.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask on: say --yes")
    return click.confirm(printable(question), err=True)
