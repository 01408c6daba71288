"""Parts of representations: asking for them, sending them, and putting them together.

Bytes are the only unit. A section without its RFC is RFC 9110's; storing what is incomplete and
combining it are RFC 9111 §3.3 and §3.4. What can't be right is never an exception: a Range that
says nothing valid is ignored, and a part that doesn't say for certain where it belongs is not used.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import TYPE_CHECKING, Final, NamedTuple

from stillfresh.rfc9111.dates import parse_date
from stillfresh.rfc9111.freshness import date_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.messages import Response

# Players and readers of archives ask for a few; 64 parts cost about as much as a small body.
_MOST_RANGES: Final = 64
# §14.2: more than two ranges that overlap are a broken client's or an attacker's. Three that all
# overlap are three pairs.
_MOST_OVERLAPS: Final = 2
# §15.3.7.2: what a part costs beside its bytes is about this, so smaller ones cost more than they
# bring. Many of them in no order are suspicious as well (§14.2); a reader of an archive's directory
# may well want some ten.
_SMALL: Final = 80
_MOST_SMALL: Final = 10

# Nobody has a body whose length takes more digits; int() refuses thousands of them (§14.1.2).
_MOST_DIGITS: Final = 19
_BEYOND: Final = 10**_MOST_DIGITS

# §8.8.2.2 wants a second, and a reason to believe that the clock that Last-Modified is from, often
# a file server's, agrees with the one that Date is from. Nothing says so, and up to RFC 7232
# §2.2.2 a minute was taken to be far enough apart.
_CLOCKS_DIFFER: Final = 60.0

_WHITESPACE: Final = " \t"
_RANGE: Final = re.compile(r"([0-9]*)-([0-9]*)")
# §14.1: units are matched without regard to case.
_FLAGS: Final = re.ASCII | re.IGNORECASE
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+|\*)", _FLAGS)
_UNSATISFIED: Final = re.compile(r"bytes \*/([0-9]+)", _FLAGS)
# §8.8.3. Bytes above 127 come as whatever characters the client makes of them.
_STRONG_TAG: Final = re.compile(r'"[!#-~\x80-\U0010ffff]*"')
_LINE_BREAK: Final = re.compile(r"[\r\n\x00]")

# Digests of what one message carries (RFC 9530 §2, RFC 2616 §14.15): another part has another.
# Repr-Digest is the representation's, and stays.
_OF_THE_CONTENT: Final = frozenset({"content-digest", "content-md5"})

# What a 416 of ours can say. Its Content-Range tells the length of a representation (§14.4), and
# the validators tell of which.
_OF_A_REFUSAL: Final = frozenset(
    {
        "accept-ranges",
        "age",
        "cache-control",
        "cache-status",
        "date",
        "etag",
        "expires",
        "last-modified",
        "vary",
    }
)


class Span(NamedTuple):
    """A run of bytes, both ends included."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.last - self.first + 1


class ContentRange(NamedTuple):
    """What a part is of the whole (§14.4); `size` is None where the sender doesn't know it."""

    first: int
    last: int
    size: int | None

    def __str__(self) -> str:
        """Write the field's value."""
        return f"bytes {self.first}-{self.last}/{'*' if self.size is None else self.size}"


class Part(NamedTuple):
    """The run of bytes that a stored incomplete response holds of a representation.

    `size` is that of the whole, None if unknown. Where nothing came yet, `last` is before `first`.
    """

    first: int
    last: int
    size: int | None

    @property
    def length(self) -> int:
        """How many bytes these are."""
        return self.last - self.first + 1

    @property
    def is_prefix(self) -> bool:
        """Whether it is what an incomplete 200 holds."""
        return self.first == 0


# What is asked for, and for what.


def requested_spans(value: str, size: int) -> tuple[Span, ...] | None:
    """Return what a Range field asks of a representation of `size` bytes (§14.1.2, §14.2).

    None is a field to be ignored; an empty tuple is one that can't be satisfied. Ranges that
    overlap or touch are made one, in the place of the first of them (§15.3.7.2).
    """
    asked = _ranges(value)
    return None if asked is None else _spans(asked, size)


def requested_span(value: str) -> tuple[int, int | None] | None:
    """Return what a Range field says if that is one range, from a byte on; `last` may be open.

    A number too large for any body comes as one that is beyond the end of every one.
    """
    asked = _ranges(value)
    if asked is None or len(asked) > 1:
        return None
    first, last = asked[0]
    return None if first is None else (first, last)


def satisfies(part: Part, value: str) -> tuple[Span, ...] | None:
    """Return the spans, of the whole, that a Range field asks for, if `part` has all of them.

    RFC 9111 §3.3: only a range that lies within an incomplete response may be answered from it.
    So what can't be satisfied at all is the origin's to refuse, and without a size nobody knows
    where a range ends that doesn't say it.
    """
    asked = _ranges(value)
    if asked is None:
        return None
    size = part.size
    if size is None:
        if any(first is None or last is None or last > part.last for first, last in asked):
            return None
        size = part.last + 1
    spans = _spans(asked, size)
    if not spans or any(one.first < part.first or one.last > part.last for one in spans):
        return None
    return spans


def range_applies(request: Fields, response: Fields, received: float) -> bool:
    """Tell whether a Range is to be honoured, given the If-Range beside it (§13.1.5).

    `response` came at `received`. Dates are compared as they are written, not by what they mean.
    """
    condition = request.get("if-range")
    if condition is None:
        return True
    if is_strong(condition):
        return condition == response.get("etag")
    return condition == _strong_modified(response, received)


# Where a part belongs, and to what.


def content_range(value: str | None) -> ContentRange | None:
    """Read Content-Range (§14.4); None if it doesn't say validly which bytes these are."""
    match = None if value is None else _CONTENT_RANGE.fullmatch(value.strip(_WHITESPACE))
    if match is None:
        return None
    first, last = _number(match[1]), _number(match[2])
    size = None if match[3] == "*" else _number(match[3])
    end = _BEYOND if size is None else size
    if not first <= last < end or size == _BEYOND:
        return None
    return ContentRange(first, last, size)


def unsatisfied_size(value: str | None) -> int | None:
    """Return the size that the Content-Range of a 416 tells (§14.4), or None."""
    match = None if value is None else _UNSATISFIED.fullmatch(value.strip(_WHITESPACE))
    size = _BEYOND if match is None else _number(match[1])
    return None if size == _BEYOND else size


def is_strong(etag: str | None) -> bool:
    """Tell whether this is one strong entity-tag (§8.8.3), in quotes as it has to be."""
    return etag is not None and _STRONG_TAG.fullmatch(etag) is not None


def strong_validator(fields: Fields, received: float) -> str | None:
    """Return what an If-Range about this response says (§13.1.5); None if nothing would do.

    A date is for responses without a tag; one with a weak tag has nothing better to offer.
    """
    etag = fields.get("etag")
    if etag is None:
        return _strong_modified(fields, received)
    return etag if is_strong(etag) else None


def same_representation(
    one: Fields, other: Fields, received_one: float, received_other: float
) -> bool:
    """Tell whether two responses are certain to be of the same bytes (RFC 9111 §3.4, §15.3.7.3).

    They share a strong validator: the tag, or the date where neither has a tag; a 206 has the tag
    that the 200 would have. A tag that goes with two codings is weak, whatever it says (§8.8.1).
    A 206 may leave the coding out, so only what both state can contradict.
    """
    validator = strong_validator(one, received_one)
    if validator is None or validator != strong_validator(other, received_other):
        return False
    codings = {one.get("content-encoding"), other.get("content-encoding")}
    return len(codings - {None}) < 2


def joined(stored: Part, new: Part) -> Part | None:
    """Return the run that two parts of one representation make together (§15.3.7.3).

    None if there is a gap between them, or if they can't both be of the same whole.
    """
    sizes = {stored.size, new.size} - {None}
    if len(sizes) > 1 or max(stored.first, new.first) > min(stored.last, new.last) + 1:
        return None
    size = sizes.pop() if sizes else None
    last = max(stored.last, new.last)
    if size is not None and last >= size:
        return None
    return Part(min(stored.first, new.first), last, size)


# The heads to send, and to store.


def partial_head(response: Response, span: Span, size: int | None) -> Response:
    """Return the head of the 206 for one span of the body that `response` describes (§15.3.7.1)."""
    return _partial(
        response,
        _OF_THE_CONTENT,
        ("Content-Range", str(ContentRange(*span, size))),
        ("Content-Length", str(span.size)),
    )


def multipart(
    response: Response, spans: Sequence[Span], size: int | None, boundary: str
) -> tuple[Response, tuple[bytes | Span, ...]]:
    """Return the head of the 206 for several spans, and what to send in order (§15.3.7.2, §14.6).

    That is bytes as they are, and spans of the body. `boundary` is a token that doesn't occur in
    those (RFC 2046 §5.1.1). Content-Encoding goes to where the Content-Type is that it is about
    (§8.4): the parts are coded, the message isn't.
    """
    described = "".join(
        f"{name}: {_LINE_BREAK.sub(' ', value)}\r\n"
        for name in ("Content-Type", "Content-Encoding")
        if (value := response.fields.get(name.lower())) is not None
    )
    pieces: list[bytes | Span] = []
    delimiter = f"--{boundary}"
    for span in spans:
        place = f"Content-Range: {ContentRange(*span, size)}"
        pieces += [_octets(f"{delimiter}\r\n{described}{place}\r\n\r\n"), span]
        delimiter = f"\r\n--{boundary}"
    pieces.append(_octets(f"{delimiter}--\r\n"))
    length = sum(piece.size if isinstance(piece, Span) else len(piece) for piece in pieces)
    head = _partial(
        response,
        _OF_THE_CONTENT | {"content-encoding", "content-range"},
        ("Content-Type", f"multipart/byteranges; boundary={boundary}"),
        ("Content-Length", str(length)),
    )
    return head, tuple(pieces)


def unsatisfiable_head(response: Response, size: int) -> Response:
    """Return the head of a 416 about the stored `response`, whose body has `size` bytes (§15.5.17).

    What describes that body doesn't describe the empty one of the 416.
    """
    fields = response.fields.without(response.fields.names - _OF_A_REFUSAL)
    return response._replace(
        status=416,
        reason="Range Not Satisfiable",
        fields=fields.replacing(("Content-Range", f"bytes */{size}"), ("Content-Length", "0")),
    )


def complete_head(response: Response, size: int | None) -> Response:
    """Return the head of the complete 200 that a 206, or an incomplete 200, is part of (§15.3.7.3).

    `size` is that of the whole, None if unknown.
    """
    parts = _OF_THE_CONTENT if response.status == 206 else frozenset[str]()
    fields = response.fields.without(parts | {"content-length", "content-range"})
    if size is not None:
        fields = fields.adding("Content-Length", str(size))
    return response._replace(status=200, reason="OK", fields=fields)


class _Range(NamedTuple):
    """One range as asked for; without `first` it is the last so many bytes."""

    first: int | None
    last: int | None


def _ranges(value: str) -> list[_Range] | None:
    """Read a Range field (§14.1.1); None if any of it is invalid, or if it is too much."""
    unit, equals, listed = value.strip(_WHITESPACE).partition("=")
    if not equals or unit.lower() != "bytes":
        return None
    members = [stripped for member in listed.split(",") if (stripped := member.strip(_WHITESPACE))]
    if not 1 <= len(members) <= _MOST_RANGES:
        return None
    ranges = [found for member in members if (found := _range(member)) is not None]
    return ranges if len(ranges) == len(members) else None


def _range(text: str) -> _Range | None:
    match = _RANGE.fullmatch(text)
    if match is None or text == "-":
        return None
    first, last = match[1], match[2]
    if first and last and _ordinal(last) < _ordinal(first):
        return None
    return _Range(_number(first) if first else None, _number(last) if last else None)


def _ordinal(digits: str) -> tuple[int, str]:
    """Return what orders numbers, however long, as their values would."""
    significant = digits.lstrip("0")
    return len(significant), significant


def _number(digits: str) -> int:
    """Read a number; one that is too large for any body is `_BEYOND`."""
    significant = digits.lstrip("0")
    return _BEYOND if len(significant) > _MOST_DIGITS else int(significant or "0")


def _spans(asked: Sequence[_Range], size: int) -> tuple[Span, ...] | None:
    """Return the spans of a body of `size` bytes, as `requested_spans` does."""
    if size == 0 and any(first is None and last for first, last in asked):
        # The last bytes of nothing can be had, by the letter (§14.1.2), but no Content-Range says
        # so. The whole of it is as good, and always allowed (§14.2).
        return None
    spans = [span for one in asked if (span := _clipped(one, size)) is not None]
    return None if _is_excessive(spans) else _coalesced(spans)


def _clipped(asked: _Range, size: int) -> Span | None:
    first, last = asked
    if first is None:
        first, last = max(0, size - (last or 0)), None
    if first >= size:
        return None
    return Span(first, size - 1 if last is None else min(last, size - 1))


def _is_excessive(spans: list[Span]) -> bool:
    """Tell whether this looks like an attack, or a broken client (§14.2, §17.15)."""
    overlaps = sum(
        one.first <= other.last and other.first <= one.last for one, other in combinations(spans, 2)
    )
    small = sum(span.size < _SMALL for span in spans)
    return overlaps > _MOST_OVERLAPS or (small > _MOST_SMALL and spans != sorted(spans))


def _coalesced(spans: list[Span]) -> tuple[Span, ...]:
    runs: list[tuple[int, Span]] = []
    for span, place in sorted((span, place) for place, span in enumerate(spans)):
        earliest, run = runs[-1] if runs else (place, span)
        if runs and span.first <= run.last + 1:
            runs[-1] = min(earliest, place), Span(run.first, max(run.last, span.last))
        else:
            runs.append((place, span))
    return tuple(run for _, run in sorted(runs))


def _strong_modified(fields: Fields, received: float) -> str | None:
    """Return Last-Modified if it is a strong validator (§8.8.2.2), else None.

    A response without a Date was generated when it came, as far as anybody knows (§6.6.1).
    """
    text = fields.get("last-modified")
    modified = None if text is None else parse_date(text, received)
    if modified is None or date_of(fields, received) - modified < _CLOCKS_DIFFER:
        return None
    return text


def _partial(response: Response, left_out: Collection[str], *lines: tuple[str, str]) -> Response:
    return response._replace(
        status=206,
        reason="Partial Content",
        fields=response.fields.without(left_out).replacing(*lines),
    )


def _octets(text: str) -> bytes:
    """Encode as fields are; what has no octet can't have come in one, so it may be lost."""
    return text.encode("latin-1", "replace")
