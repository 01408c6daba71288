"""`stillfresh get`: download through the cache, and say what the cache did."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, cast

import click

from stillfresh import ConfigError, Outcome
from stillfresh.cli.asking import (
    Headers,
    auth_of,
    headers_option,
    method_option,
    session_on,
    url_argument,
)
from stillfresh.cli.exits import MEANINGS, Exit
from stillfresh.cli.interruption import put_off
from stillfresh.cli.options import cache_option
from stillfresh.cli.output import OutputError, ReaderGone, opened
from stillfresh.cli.text import say, show_line, size_text
from stillfresh.cli.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from stillfresh import CacheInfo
    from stillfresh.cli.output import Output
    from stillfresh.clients.requests import CachedResponse, CachedSession

_CHUNK: Final = 1 << 16
_DAY: Final = 86_400.0


def _content(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> bytes | IO[bytes] | None:
    if value is None:
        return None
    if value.startswith("@"):
        return cast("IO[bytes]", click.File("rb").convert(value[1:], param, ctx))
    return os.fsencode(value)


def _seconds(_: click.Context, __: click.Parameter, value: float) -> float:
    if not 0 < value <= _DAY:
        raise click.BadParameter(f"{value:g} is not between 0 and {_DAY:.0f}")
    return value


def _epilog() -> str:
    rows = [f"{status.value:>5}  {meaning}" for status, meaning in MEANINGS.items()]
    return "\n".join(["\b", "Exit status:", *rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the command line asks for."""

    url: str
    method: str
    headers: Headers
    data: bytes | IO[bytes] | None
    include: bool
    timeout: float
    location: bool
    progress: bool


@click.command(epilog=_epilog())
@url_argument
@click.option(
    "-o",
    "--output",
    default="-",
    metavar="FILE",
    help="Put the body there when all of it has come; until then, and if it breaks off, FILE stays"
    " what it was.  [default: -, the standard output]",
)
@click.option("-i", "--include", is_flag=True, help="Write the response's head before the body.")
@method_option("The request's method.  [default: GET, or POST with --data]")
@headers_option(
    "A header of the request; may be given more than once. With 'Cache-Control: no-cache' the"
    " origin is asked in any case, with 'Cache-Control: only-if-cached' in none."
)
@click.option(
    "-d",
    "--data",
    callback=_content,
    metavar="TEXT|@FILE",
    help="Send TEXT, or what is in FILE (@- is the standard input), as it is.",
)
@click.option(
    "-L",
    "--location/--no-location",
    default=True,
    help="Follow redirects, or show the redirect itself.  [default: follow]",
)
@cache_option
@click.option(
    "--timeout",
    type=float,
    callback=_seconds,
    default=60.0,
    metavar="SECONDS",
    help="How long to wait for a connection, and then for each next piece of the response."
    "  [default: 60]",
)
@click.option(
    "--progress/--no-progress",
    default=True,
    help="Show a progress bar on stderr; never without a terminal, nor on the one that the body"
    " goes to.  [default: show]",
)
@click.option("-q", "--quiet", is_flag=True, help="Write nothing on stderr but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Log on stderr what the cache does.")
def get(
    *,
    url: str,
    output: str,
    include: bool,
    method: str | None,
    headers: Headers,
    data: bytes | IO[bytes] | None,
    location: bool,
    cache: str | None,
    timeout: float,
    progress: bool,
    quiet: bool,
    verbose: bool,
) -> int:
    """Download URL through the cache.

    The last line on stderr says what the cache did and why, and whether it keeps the response. What
    breaks off, or is interrupted, is kept if the rest of it can be asked for: then it says so, and
    the same command goes on from there.
    """
    _log(verbose=verbose, quiet=quiet)
    wanted = _Wanted(
        url=url,
        method=method or ("GET" if data is None else "POST"),
        headers=headers,
        data=data,
        include=include,
        timeout=timeout,
        location=location,
        progress=progress and not quiet and sys.stderr is not None and sys.stderr.isatty(),
    )
    transfer = Transfer()
    try:
        with session_on(cache) as session:
            return _get(session, wanted, output, transfer, quiet=quiet)
    except ConfigError as error:
        raise click.BadParameter(str(error), param_hint="'--cache'") from error
    except ReaderGone:
        return Exit.READER_GONE
    except OutputError as error:
        say(str(error))
        status = Exit.OUTPUT
    except KeyboardInterrupt:
        say("interrupted")
        status = Exit.INTERRUPTED
    except SystemExit:
        # A signal ends it.
        _say_what_is_kept(transfer, wanted, quiet=quiet)
        raise
    _say_what_is_kept(transfer, wanted, quiet=quiet)
    return status


def _say_what_is_kept(transfer: Transfer, wanted: _Wanted, *, quiet: bool) -> None:
    if not quiet and transfer.goes_on(wanted.headers):
        say("what has come is kept in the cache: the same command goes on from there")


def _get(
    session: CachedSession, wanted: _Wanted, output: str, transfer: Transfer, *, quiet: bool
) -> int:
    from stillfresh.cli.failures import FAILURES, failure_of

    started = time.perf_counter()
    try:
        with opened(output) as sink:
            response = _download(session, wanted, sink, transfer)
            sink.commit()
    except ConfigError:
        raise
    except FAILURES as error:
        failure = failure_of(
            error,
            wanted.url,
            wanted.timeout,
            redirected=transfer.answered,
            receiving=transfer.info is not None,
        )
        say(failure.message)
        if not failure.lies_in_body:
            _say_what_is_kept(transfer, wanted, quiet=quiet)
        return failure.exit
    seconds = time.perf_counter() - started
    failed = response.status_code >= 400
    if failed:
        say(f"HTTP {response.status_code} {response.reason}".rstrip())
    if not quiet:
        size = size_text(transfer.received)
        show_line(f"{_told(response.cache)} · {size} in {seconds:.3f} s")
    return Exit.HTTP_ERROR if failed else Exit.OK


def _download(
    session: CachedSession, wanted: _Wanted, sink: Output, transfer: Transfer
) -> CachedResponse:
    response = session.request(
        wanted.method,
        wanted.url,
        headers=wanted.headers,
        data=wanted.data,
        auth=auth_of(wanted.headers),
        allow_redirects=wanted.location,
        timeout=wanted.timeout,
        hooks={"response": transfer.note},
        stream=True,
    )
    with response:
        transfer.begin(response.cache, session.cache)
        if wanted.include:
            sink.write(_head(response))
        shown = wanted.progress and not sink.is_terminal
        with put_off() as interrupt_if_due, _bar(response, shown=shown) as advance:
            for piece in _pieces(response):
                sink.write(piece)
                transfer.received += len(piece)
                advance(len(piece))
                interrupt_if_due()
    return response


def _pieces(response: CachedResponse) -> Iterator[bytes]:
    """Yield the body as it comes, decoded.

    requests would wait until a piece is full, and what has come of it would be lost to who is
    interrupted meanwhile.
    """
    raw = response.raw
    if response.from_cache or raw.chunked or raw.closed:
        # It doesn't wait for chunks, nor for what it has read to see where a redirect leads.
        yield from response.iter_content(_CHUNK)
        return
    while piece := raw.read1(_CHUNK, decode_content=True):
        yield piece


def _bar(response: CachedResponse, *, shown: bool) -> AbstractContextManager[Callable[[int], None]]:
    return _progress_bar(_total(response)) if shown else nullcontext(lambda _: None)


@contextmanager
def _progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        ProgressColumn,
        Task,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class SpeedColumn(ProgressColumn):
        """The speed in the units of the size; rich's own has others."""

        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("?" if speed is None else f"{size_text(int(speed))}/s")

    columns = (
        BarColumn(),
        DownloadColumn(binary_units=True),
        SpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda size: progress.advance(task, size)


def _total(response: CachedResponse) -> int | None:
    """Return how many bytes are to come, where the length says it: not of an encoded body."""
    length = response.headers.get("Content-Length", "")
    if "Content-Encoding" in response.headers or not (length.isascii() and length.isdigit()):
        return None
    return int(length)


def _head(response: CachedResponse) -> bytes:
    raw = response.raw
    lines = [f"{raw.version_string} {response.status_code} {response.reason}"]
    # From there, since `response.headers` has joined what came more than once.
    lines += [f"{name}: {value}" for name, value in raw.headers.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1", "replace")


def _told(info: CacheInfo) -> str:
    """Say what the cache did, and why."""
    what, why = info.outcome.value, str(info.why)
    new = info.outcome in {Outcome.MISS, Outcome.COMPLETED}
    if new and info.stored:
        what += ", stored"
    elif (new or info.outcome is Outcome.REVALIDATED) and not info.stored:
        what += ", not stored"
        if new and info.storing is not None:
            why += f"; {info.storing}"
    if info.collapsed:
        what += ", waited for while another fetched it"
    return f"{what}: {why}"


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())  # and no traceback, which urllib3's warnings have


def _log(*, verbose: bool, quiet: bool) -> None:
    """Show what is logged: failures of the cache, or with `verbose` all it does."""
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(handlers=[_Log()], level=max(level, logging.WARNING))
    logging.getLogger("stillfresh").setLevel(level)
