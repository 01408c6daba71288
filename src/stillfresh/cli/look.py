"""`stillfresh show` and `explain`: what is stored for a URL, and what would be done with a request.

Neither asks the origin, and neither counts as a use of what it finds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from stillfresh import (
    BodyLost,
    CorruptEntry,
    Reason,
    StoreError,
    Verdict,
    open_variant,
)
from stillfresh.cli.answer import print_lines
from stillfresh.cli.asking import (
    Headers,
    auth_of,
    headers_option,
    method_option,
    refused,
    session_on,
    url_argument,
)
from stillfresh.cli.documents import (
    explanation_document,
    is_secret,
    line_of,
    variant_document,
)
from stillfresh.cli.exits import Exit
from stillfresh.cli.opening import open_cache
from stillfresh.cli.options import cache_option
from stillfresh.cli.output import OutputError, ReaderGone, opened
from stillfresh.cli.text import count_text, duration_text, moment_text, say, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stillfresh import BaseCache, Explanation, Inspection, Variant

_CHUNK: Final = 1 << 16
_INVALIDATED: Final = frozenset({Reason.INVALIDATED, Reason.GROUP_INVALIDATED})
# Where these decide, nothing is looked at.
_UNSEEN: Final = frozenset({Reason.METHOD, Reason.RULE_NEVER_STORE})


@click.command(
    epilog="Exit status: 0; 1 if what is stored is damaged; 2 for wrong usage; 18 if only a part is"
    " stored of the body, which is written all the same; 23 if the output cannot be written; 74 if"
    " the cache cannot be read; 78 if nothing is stored, or nothing of it is selected."
)
@url_argument
@headers_option(
    "Show only what a request with this header selects; may be given more than once. Without it,"
    " all is shown."
)
@cache_option
@click.option(
    "--body",
    is_flag=True,
    help="Write the stored body instead, as it came: still encoded. All of it is checked before.",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Put the stored body there.  [default: -, the standard output, with --body]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Write one JSON document a line, for programs, for each response.",
)
def show(
    *,
    url: str,
    headers: Headers,
    cache: str | None,
    body: bool,
    output: str | None,
    as_json: bool,
) -> int:
    """Show what is stored for URL.

    That is every variant of the response: what it was selected by, how long it is fresh and what
    says so, how it can be validated, and its header. Of credentials it is only told that there were
    some. The body is that of the one which `get` with the same headers would select.
    """
    body = body or output is not None
    if body and as_json:
        raise click.UsageError("--json is about what the body is of: it has none in it")
    with open_cache(cache) as found, session_on(found) as session:
        with refused():
            seen = session.inspect(url, headers=headers, auth=auth_of(headers))
        status = _say_failures(seen.failures)
        if body and seen.selected is not None:
            return _write_body(found, seen.selected, output or "-")
        shown = _shown(seen, selected_only=body or bool(headers))
        if not shown:
            _say_nothing(seen)
            return status or Exit.NOT_STORED
        if as_json:
            documents = [variant_document(one, selected=one == seen.selected) for one in shown]
            return print_lines(map(line_of, documents), status)
        return print_lines(_lines(shown, seen.selected), status)


@click.command(
    epilog="Exit status: 0; 1 if what is stored is damaged; 2 for wrong usage; 23 if the output"
    " cannot be written; 74 if the cache cannot be read."
)
@url_argument
@method_option("The request's method.  [default: GET]")
@headers_option("A header of the request; may be given more than once.")
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document, for programs.")
def explain(
    *, url: str, method: str | None, headers: Headers, cache: str | None, as_json: bool
) -> int:
    """Say what the cache would do with a request for URL now, and why.

    The request is the one that `get` would make. It is not made: the origin is not asked, and
    nothing changes. A redirect is not followed.
    """
    with open_cache(cache) as found, session_on(found) as session:
        with refused():
            told = session.explain(method or "GET", url, headers=headers, auth=auth_of(headers))
        status = _say_failures(told.failures)
        lines = [line_of(explanation_document(told))] if as_json else _explained(told)
        return print_lines(lines, status)


def _say_failures(failures: Iterable[StoreError]) -> Exit:
    status, told = Exit.OK, set[object]()
    for error in failures:
        if isinstance(error, BodyLost | CorruptEntry):
            say(f"what is stored is damaged: {error}")
            status = status or Exit.DAMAGED
            continue
        status = Exit.CACHE
        # Of an outage the first one says most.
        outage = getattr(error, "outage", None) or error
        if outage not in told:
            told.add(outage)
            say(str(error))
    return status


def _say_nothing(seen: Inspection) -> None:
    if seen.invalidated is not None:
        say(f"what is stored counts as gone: {seen.invalidated}")
    elif not seen.variants:
        if not seen.failures:
            say(f"nothing is stored for {seen.key}")
    else:
        stored = count_text(len(seen.variants), "response is stored", "responses are stored")
        say(f"{stored} for {seen.key}, and this request selects none (RFC 9111 §4.1)")


def _shown(seen: Inspection, *, selected_only: bool) -> tuple[Variant, ...]:
    if not selected_only:
        return seen.variants
    return () if seen.selected is None else (seen.selected,)


def _write_body(cache: BaseCache, variant: Variant, output: str) -> Exit:
    """Write all that is stored of a body, which has been found to be right."""
    try:
        entry = open_variant(cache, variant)
        if entry is None:
            say(f"another response has just taken its place: {variant.key}")
            return Exit.CACHE
        with entry:
            entry.verify()
            with opened(output) as sink:
                while chunk := entry.read(_CHUNK):
                    sink.write(chunk)
                sink.commit()
    except (BodyLost, CorruptEntry) as error:
        say(f"the stored body is damaged: {error}")
        return Exit.DAMAGED
    except ReaderGone:
        return Exit.READER_GONE
    except OutputError as error:
        say(str(error))
        return Exit.OUTPUT
    coding = variant.get("Content-Encoding")
    if coding is not None:
        say(f"the body is as it came: Content-Encoding: {coding}")
    if variant.part is not None:
        say(f"that is only a part: {_part_text(variant)}")
        return Exit.BROKEN_OFF
    return Exit.OK


# What `show` says.


def _lines(shown: Iterable[Variant], selected: Variant | None) -> Iterator[str]:
    for number, variant in enumerate(shown):
        if number:
            yield ""
        yield variant.url + (" (selected)" if variant == selected else "")
        for label, text in _rows(variant):
            yield f"  {label:<13}{text}"
        yield ""
        for name, value in variant.fields:
            yield f"  {name}: {'(concealed)' if is_secret(name) else value}"


def _rows(variant: Variant) -> Iterator[tuple[str, str]]:
    yield "status", _status_text(variant)
    yield "selected by", _selection_text(variant)
    yield "freshness", _freshness_text(variant)
    yield "plain GET", str(variant.why)
    yield "validators", _validators_text(variant)
    yield "body", _body_text(variant)
    yield "received", f"{moment_text(variant.received_at)}, or last validated then"
    if variant.key != variant.url:
        yield "key", variant.key
    if variant.foreign:
        yield "stored by", "another program: who had asked is not known"


def _status_text(variant: Variant) -> str:
    return f"{variant.status} {variant.reason}".rstrip()


def _selection_text(variant: Variant) -> str:
    return _fields_text(variant, [name for name, _ in variant.selection]) or "any request"


def _fields_text(variant: Variant, names: Iterable[str]) -> str:
    """Say what it was selected by in the request fields of these names."""
    known = dict(variant.selection)
    texts = []
    for name in names:
        value = "(concealed)" if name in variant.concealed else known[name]
        texts.append(f"{name}: {'absent' if value is None else value}")
    return "; ".join(texts)


def _freshness_text(variant: Variant) -> str:
    ttl, until = variant.ttl, moment_text(variant.seen_at + variant.ttl)
    why = f"{variant.source}, age {int(variant.age)}"
    if ttl > 0:
        return f"fresh for {duration_text(ttl)} more, until {until}: {why}"
    return f"stale for {duration_text(-ttl)}, since {until}: {why}"


def _validators_text(variant: Variant) -> str:
    names = ("ETag", "Last-Modified")
    said = [f"{name}: {value}" for name in names if (value := variant.get(name)) is not None]
    if not said:
        return "none"
    return f"{'; '.join(said)} ({'strong' if variant.has_strong_validator else 'weak'})"


def _body_text(variant: Variant) -> str:
    text = size_text(variant.size)
    coding = variant.get("Content-Encoding")
    if coding is not None:
        text += f", {coding}"
    return text if variant.part is None else f"{text}, only a part: {_part_text(variant)}"


def _part_text(variant: Variant) -> str:
    if variant.part is None:
        return "all of it"
    first, last, size = variant.part
    return f"bytes {first} to {last} of {'an unknown number' if size is None else size}"


# What `explain` says.


def _explained(told: Explanation) -> Iterator[str]:
    yield f"{told.method} {told.url}"
    for label, text in (
        ("stored", _stored_text(told)),
        ("selected", _selected_text(told)),
        ("freshness", "-" if told.selected is None else _freshness_text(told.selected)),
        ("origin", _origin_text(told)),
    ):
        yield f"  {label:<11}{text}"
    yield f"{_verdict_text(told)}: {told.why}"


def _stored_text(told: Explanation) -> str:
    if told.why.reason in _UNSEEN:
        return "not looked at"
    if told.why.reason in _INVALIDATED:
        return "yes, but it counts as gone"
    if told.stored is None:
        return "no" if not told.failures else "not known"
    where = "" if told.key == told.url else f", under {told.key}"
    return f"yes: {_status_text(told.stored)}, {_body_text(told.stored)}{where}"


def _selected_text(told: Explanation) -> str:
    if told.selected is not None:
        return f"yes, by {_selection_text(told.selected)}"
    if told.stored is not None and told.differing:
        return f"no: it was selected by {_fields_text(told.stored, told.differing)}"
    return "-" if told.stored is None else "no"


def _origin_text(told: Explanation) -> str:
    if told.refreshes:
        return "is asked behind, for the next time"
    if told.asked is None:
        return "is not asked"
    if not told.asked:
        return "is asked, with the request as it is"
    return "is asked, with " + "; ".join(f"{name}: {value}" for name, value in told.asked)


def _verdict_text(told: Explanation) -> str:
    if told.verdict is Verdict.SERVE:
        return f"serve, as {told.status}"
    if told.verdict is Verdict.UNSATISFIABLE:
        return f"unsatisfiable, {told.status}"
    return str(told.verdict.value)
