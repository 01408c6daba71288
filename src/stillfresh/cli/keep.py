"""`stillfresh ls`, `stats`, `prune`, `verify`: looking after a cache."""

from __future__ import annotations

import time
from operator import attrgetter
from typing import TYPE_CHECKING

import click

from stillfresh import DryRun, Order, Repair, SQLiteCache, describe, is_of_host
from stillfresh.cli.answer import print_lines, progress_of
from stillfresh.cli.asking import requested_host
from stillfresh.cli.documents import entry_document, line_of, stats_document
from stillfresh.cli.exits import Exit
from stillfresh.cli.opening import open_cache
from stillfresh.cli.options import Days, Size, cache_option
from stillfresh.cli.text import (
    count_text,
    duration_text,
    entries_text,
    moment_text,
    size_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stillfresh import BaseCache, Content, EntryInfo, Stats

_DAY = 86_400.0
_HOSTS_SHOWN = 10
_REST = (
    "2 for wrong usage; 23 if the output cannot be written; 74 if the cache cannot be read or"
    " changed."
)
_STATUSES = f"Exit status: 0; {_REST}"
_VERIFIED = f"Exit status: 0; 1 if what is damaged is still there; {_REST}"


@click.command(epilog=_STATUSES)
@cache_option
@click.option(
    "--json", "as_json", is_flag=True, help="Write one JSON document, for programs, with all hosts."
)
def stats(cache: str | None, as_json: bool) -> int:
    """Say how much is stored, since when, and of which hosts."""
    with open_cache(cache) as opened, progress_of("counting") as progress:
        counted = opened.stats(progress=progress)
    lines = [line_of(stats_document(counted))] if as_json else _lines(counted)
    return print_lines(lines, Exit.OK)


@click.command(epilog=_STATUSES)
@cache_option
@click.option(
    "--max-bytes",
    type=Size(),
    envvar="STILLFRESH_MAX_BYTES",
    show_envvar=True,
    help="Remove the least recently used until this much is left: 2G, 500M.",
)
@click.option(
    "--max-age",
    type=Days(),
    metavar="DAYS",
    help="Remove what was not used for this many days.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
def prune(cache: str | None, max_bytes: int | None, max_age: float | None, dry_run: bool) -> int:
    """Remove what has expired, what is over the bounds, and what killed programs have left."""
    with open_cache(cache) as opened, progress_of("pruning") as progress:
        report = opened.prune(
            max_bytes=max_bytes,
            max_age=None if max_age is None else max_age * _DAY,
            dry_run=DryRun.YES if dry_run else DryRun.NO,
            progress=progress,
        )
    lines = [f"{entries_text(count)}: {cause.value}" for cause, count in report.removed.items()]
    verb = "would remove" if dry_run else "removed"
    lines.append(
        f"{verb} {entries_text(report.removed.total())} ({size_text(report.removed_bytes)}) and "
        f"{count_text(report.swept, 'leftover', 'leftovers')} ({size_text(report.swept_bytes)}); "
        f"{entries_text(report.kept)} ({size_text(report.kept_bytes)}) "
        f"{'stays' if report.kept == 1 else 'stay'}"
    )
    return print_lines(lines, Exit.OK)


@click.command(epilog=_VERIFIED)
@cache_option
@click.option("--repair", is_flag=True, help="Remove what is damaged.")
def verify(cache: str | None, repair: bool) -> int:
    """Check the length and digest of every entry."""
    wanted = Repair.REMOVE if repair else Repair.REPORT
    with open_cache(cache) as opened, progress_of("verifying") as progress:
        report = opened.verify(repair=wanted, progress=progress)
    lines = [f"{name}: {problem}" for name, problem in report.damaged.items()]
    lines.append(
        f"{count_text(report.checked, 'entry is', 'entries are')} right, "
        f"{count_text(report.unchecked, 'of another program bears', 'of other programs bear')} "
        f"no digest, {count_text(len(report.damaged), 'is', 'are')} damaged"
        + (f", {report.repaired} of those removed" if repair else "")
    )
    return print_lines(lines, Exit.OK if len(report.damaged) == report.repaired else Exit.DAMAGED)


@click.command(epilog=_STATUSES)
@cache_option
@click.option("-l", "--long", is_flag=True, help="Show status and media type too.")
@click.option(
    "-s",
    "--sort",
    type=click.Choice([order.name.lower() for order in Order]),
    help="By URL, last use, size, or age, the largest number last; without it, as they come.",
)
@click.option("--host", help="Only what is stored of this host, or of one of its ports.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write one JSON document a line, for programs, with all that is known of an entry.",
)
def ls(cache: str | None, long: bool, sort: str | None, host: str | None, as_json: bool) -> int:
    """List what is stored: size, age, and the URL or what else can be told.

    Of what is only a part of a response, kept to be completed, it says so.
    """
    with open_cache(cache) as opened:
        order = None if sort is None else Order[sort.upper()]
        host = None if host is None else requested_host(host)
        found = ((entry, describe(opened, entry)) for entry in _listed(opened, order, host))
        documents = (line_of(entry_document(*each)) for each in found)
        return print_lines(documents if as_json else _listing(found, long=long), Exit.OK)


def _listing(found: Iterable[tuple[EntryInfo, Content]], *, long: bool) -> Iterator[str]:
    now = time.time()
    for listed, content in found:
        what = content.url or content.about or listed.key or listed.name
        notes = [content.about] if content.url and content.about else []
        if content.part is not None:
            whole = content.part.size
            of = "an unknown length" if whole is None else size_text(whole)
            notes.append(f"part: {size_text(content.part.length)} of {of}")
        if notes:
            what += f" ({'; '.join(notes)})"
        more = f"  {content.status or '':>3}  {content.content_type or '-':<24}" if long else ""
        age = duration_text(now - listed.stored_at)
        yield f"{size_text(listed.size):>10}  {age:>6}{more}  {what}"


def _listed(cache: BaseCache, order: Order | None, host: str | None) -> Iterable[EntryInfo]:
    """List entries in an order; a database has them in it, of others all have to be read first."""
    listed = cache.entries(order) if isinstance(cache, SQLiteCache) else cache.entries()
    found = (entry for entry in listed if host is None or is_of_host(entry, host))
    if isinstance(cache, SQLiteCache):
        return found
    if order is None:
        return found
    if order is Order.KEY:
        return sorted(found, key=lambda entry: entry.key or "")
    return sorted(found, key=attrgetter(order.value))


def _lines(stats: Stats) -> Iterator[str]:
    yield f"{entries_text(stats.entries)}, {size_text(stats.bytes)}"
    if stats.oldest is not None and stats.newest is not None:
        yield f"stored from {moment_text(stats.oldest)} to {moment_text(stats.newest)}"
    if stats.hits is not None and stats.misses is not None and stats.served is not None:
        looked = stats.hits + stats.misses
        found = f"{stats.hits / looked:.0%} of {looked} look-ups" if looked else "no look-ups yet"
        yield f"found: {found}, {size_text(stats.served)} served"
    largest = sorted(stats.hosts.items(), key=lambda item: item[1][1], reverse=True)
    for host, (count, size) in largest[:_HOSTS_SHOWN]:
        yield f"{size_text(size):>12}  {count:>8}  {host or 'no URL, or another program'}"
    if len(largest) > _HOSTS_SHOWN:
        yield f"and {len(largest) - _HOSTS_SHOWN} more hosts"
