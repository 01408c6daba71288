"""Parts of representations: RFC 9110 §13.1.5, §14, §15.3.7 and §15.5.17, RFC 9111 §3.3 and §3.4."""

from email import message_from_bytes
from email.message import Message
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response
from stillfresh.rfc9111.ranges import (
    ContentRange,
    Part,
    Span,
    complete_head,
    content_range,
    is_strong,
    joined,
    multipart,
    partial_head,
    range_applies,
    requested_span,
    requested_spans,
    same_representation,
    satisfies,
    strong_validator,
    unsatisfiable_head,
    unsatisfied_size,
)
from tests.rfc9111.scenes import NOW, date, fields, response, table, undated

HUGE = "9" * 5000
TAG = 'ETag: "1"'
# Strong beside the Date that `response` gives, and too near to it.
MODIFIED = f"Last-Modified: {date(-1000)}"
RECENT = f"Last-Modified: {date(-59)}"


# RFC 9110 §14.1.2 and §14.2: what a Range asks for.


@pytest.mark.parametrize(
    ("value", "spans"),
    table(
        {
            "the first 500 bytes": ("bytes=0-499", [(0, 499)]),
            "the second 500 bytes": ("bytes=500-999", [(500, 999)]),
            "the last 500 bytes": ("bytes=-500", [(9500, 9999)]),
            "from a byte on": ("bytes=9500-", [(9500, 9999)]),
            "the first and the last byte": ("bytes=0-0,-1", [(0, 0), (9999, 9999)]),
            "the first, the middle and the last 1000, with spaces": (
                "bytes= 0-999, 4500-5499, -1000",
                [(0, 999), (4500, 5499), (9000, 9999)],
            ),
            "two that touch are one": ("bytes=500-600,601-999", [(500, 999)]),
            "two that overlap are one": ("bytes=500-700,601-999", [(500, 999)]),
            "one within another": ("bytes=500-999,600-700", [(500, 999)]),
            "not two with a byte between them": (
                "bytes=500-600,602-999",
                [(500, 600), (602, 999)],
            ),
            "in the order asked for": ("bytes=-1,5-6,0-1", [(9999, 9999), (5, 6), (0, 1)]),
            "in the place of the first of those that are one": (
                "bytes=50-59,0-9,30-39,40-49",
                [(30, 59), (0, 9)],
            ),
            "more than there is": ("bytes=9999-20000", [(9999, 9999)]),
            "more of the last than there is": ("bytes=-20000", [(0, 9999)]),
            "a number of thousands of digits": (f"bytes=1-{HUGE}", [(1, 9999)]),
            "that many of the last": (f"bytes=-{HUGE}", [(0, 9999)]),
            "zeros in front": (f"bytes={'0' * 5000}1-002", [(1, 2)]),
            "only those that are there": ("bytes=10000-,5-6,-0", [(5, 6)]),
            "the unit in any case": ("ByTeS=0-1", [(0, 1)]),
            "empty members": ("bytes=,0-1 ,\t,", [(0, 1)]),
            "whitespace around": (" bytes=0-1\t", [(0, 1)]),
            "nothing that is there": ("bytes=10000-10001", []),
            "nothing of the end": ("bytes=-0", []),
            "from beyond all ends": (f"bytes={HUGE}-", []),
        }
    ),
)
def test_a_range_asks_for_spans(value: str, spans: list[tuple[int, int]]) -> None:
    assert requested_spans(value, 10_000) == tuple(spans)


@pytest.mark.parametrize(
    "value",
    table(
        {
            "nothing": "",
            "no unit": "0-1",
            "no ranges": "bytes=",
            "only empty members": "bytes=, ,",
            "another unit": "items=0-1",
            "a letter that is no s": "byte\u017f=0-1",
            "a space after the unit": "bytes =0-1",
            "a colon": "bytes: 0-1",
            "two lines": "bytes=0-1, bytes=4-5",
            "no dash": "bytes=5",
            "only a dash": "bytes=-",
            "two dashes": "bytes=1--2",
            "a space inside": "bytes=1 -2",
            "a sign": "bytes=+1-2",
            "letters": "bytes=a-b",
            "digits that aren't ASCII": "bytes=\u0661-\u0662",
            "an end before the beginning": "bytes=2-1",
            "such an end of thousands of digits": f"bytes={HUGE}-{HUGE[1:]}",
            "one invalid range among others": "bytes=0-1,2-1,4-5",
        }
    ),
)
def test_a_range_that_is_not_valid_is_ignored(value: str) -> None:
    assert requested_spans(value, 10_000) is None
    assert requested_span(value) is None
    assert satisfies(Part(0, 9_999, 10_000), value) is None


def ranges(*members: str) -> str:
    return f"bytes={','.join(members)}"


SCATTERED = [f"{first}-{first + 9}" for first in range(0, 6400, 100)]


@pytest.mark.parametrize(
    ("value", "count"),
    table(
        {
            "64, in order": (ranges(*SCATTERED), 64),
            "65": (ranges(*SCATTERED, "7000-7009"), None),
            "65 of which most can't be satisfied": (ranges("0-1", *["20000-"] * 64), None),
            "ten small ones in no order": (ranges(*SCATTERED[9::-1]), 10),
            "eleven": (ranges(*SCATTERED[10::-1]), None),
            "eleven of a fair size": (
                ranges(*[f"{first}-{first + 79}" for first in range(1000, -100, -100)]),
                11,
            ),
            "two that overlap": (ranges("0-", "0-"), 1),
            "a chain of three": (ranges("0-9", "5-19", "15-29"), 1),
            "three that all overlap": (ranges("0-", "0-", "0-"), None),
            "three, by what is there": (ranges("9000-", "9500-20000", "-600"), None),
            "a million of them": (ranges(*["0-"] * 1_000_000), None),
            "a million commas": ("bytes=0-1" + "," * 1_000_000, 1),
        }
    ),
)
def test_a_range_that_asks_for_too_much_is_ignored(value: str, count: int | None) -> None:
    spans = requested_spans(value, 10_000)
    assert (None if spans is None else len(spans)) == count


@pytest.mark.parametrize(
    ("value", "spans"),
    table(
        {
            "the first byte is not there": ("bytes=0-", ()),
            "nor is the last of none": ("bytes=-0", ()),
            "the last five are all, which no 206 can say": ("bytes=-5", None),
            "also among others": ("bytes=0-,-5", None),
        }
    ),
)
def test_of_an_empty_body_there_is_no_part(value: str, spans: tuple[Span, ...] | None) -> None:
    assert requested_spans(value, 0) == spans


@pytest.mark.parametrize(
    ("value", "said"),
    table(
        {
            "closed": ("bytes=5-9", (5, 9)),
            "open": ("Bytes=5-", (5, None)),
            "with an empty member": ("bytes=5-9,", (5, 9)),
            "beyond all ends": (f"bytes=5-{HUGE}", (5, 10**19)),
            "of the end": ("bytes=-5", None),
            "two": ("bytes=0-1,2-3", None),
        }
    ),
)
def test_a_single_range_is_read_without_a_size(
    value: str, said: tuple[int, int | None] | None
) -> None:
    assert requested_span(value) == said


# RFC 9110 §14.4: Content-Range.


@pytest.mark.parametrize(
    ("value", "said"),
    table(
        {
            "the whole is known": ("bytes 42-1233/1234", (42, 1233, 1234)),
            "the whole is unknown": ("bytes 42-1233/*", (42, 1233, None)),
            "the first 500 bytes": ("bytes 0-499/1234", (0, 499, 1234)),
            "all but the first 500": ("bytes 500-1233/1234", (500, 1233, 1234)),
            "the last 500 bytes": ("bytes 734-1233/1234", (734, 1233, 1234)),
            "one byte": ("bytes 0-0/1", (0, 0, 1)),
            "another case, and whitespace around": (" BYTES 0-1/2\t", (0, 1, 2)),
            "zeros in front": (f"bytes {'0' * 5000}-01/02", (0, 1, 2)),
            "absent": (None, None),
            "nothing": ("", None),
            "unsatisfied": ("bytes */1234", None),
            "another unit": ("items 0-1/2", None),
            "a letter that is no s": ("byte\u017f 0-1/2", None),
            "an end before the beginning": ("bytes 2-1/5", None),
            "an end that isn't there": ("bytes 0-5/5", None),
            "no size": ("bytes 0-1", None),
            "no end": ("bytes 0-/5", None),
            "an equals sign": ("bytes=0-1/5", None),
            "two lines": ("bytes 0-1/5, bytes 0-1/5", None),
            "a size that can't be": (f"bytes 0-1/{HUGE}", None),
            "an end that can't be": (f"bytes 0-{HUGE}/*", None),
            "a beginning that can't be": (f"bytes {HUGE}-{HUGE}/*", None),
        }
    ),
)
def test_content_range_says_where_a_part_belongs(
    value: str | None, said: tuple[int, int, int | None] | None
) -> None:
    assert content_range(value) == said


@pytest.mark.parametrize(
    ("value", "size"),
    table(
        {
            "a size": ("bytes */1234", 1234),
            "of nothing": ("bytes */0", 0),
            "in another case": ("Bytes */5", 5),
            "no size": ("bytes */*", None),
            "a part": ("bytes 0-1/5", None),
            "another unit": ("items */5", None),
            "a size that can't be": (f"bytes */{HUGE}", None),
            "absent": (None, None),
        }
    ),
)
def test_a_416_tells_the_size(value: str | None, size: int | None) -> None:
    assert unsatisfied_size(value) == size


# RFC 9110 §8.8: strong validators.


@pytest.mark.parametrize(
    ("tag", "strong"),
    table(
        {
            "strong": ('"xyzzy"', True),
            "empty": ('""', True),
            "of any visible characters": ('"!#\\,~"', True),
            "of bytes above ASCII": ('"\xe9\udce9"', True),
            "weak": ('W/"xyzzy"', False),
            "weak in the wrong case": ('w/"xyzzy"', False),
            "not in quotes": ("xyzzy", False),
            "left open": ('"xyzzy', False),
            "a quote": ('"', False),
            "a quote inside": ('"1"2"', False),
            "a space inside": ('"1 2"', False),
            "two": ('"1", "2"', False),
            "any": ("*", False),
            "absent": (None, False),
        }
    ),
)
def test_a_strong_tag_is_one_in_quotes(tag: str | None, strong: bool) -> None:
    assert is_strong(tag) is strong


@pytest.mark.parametrize(
    ("head", "validator"),
    table(
        {
            "a strong tag": (response(TAG), '"1"'),
            "a strong tag, not the date": (response(TAG, MODIFIED), '"1"'),
            "not a weak tag": (response('ETag: W/"1"'), None),
            "nor the date where there is a weak tag": (response('ETag: W/"1"', MODIFIED), None),
            "nor where there is what should be a tag": (response("ETag: 1", MODIFIED), None),
            "nor two tags": (response(TAG, 'ETag: "2"'), None),
            "a date long before Date": (response(MODIFIED), date(-1000)),
            "a date a minute before": (response(f"Last-Modified: {date(-60)}"), date(-60)),
            "not one shortly before": (response(RECENT), None),
            "nor one after Date": (response(f"Last-Modified: {date(5)}"), None),
            "nor an invalid one": (response("Last-Modified: yesterday"), None),
            "nor two": (response(MODIFIED, MODIFIED), None),
            "a date long before it came, without a Date": (undated(MODIFIED), date(-1000)),
            "not one shortly before it came": (undated(RECENT), None),
            "a date in a form of old": (
                response("Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT"),
                "Sunday, 06-Nov-94 08:49:37 GMT",
            ),
            "nothing": (response(), None),
        }
    ),
)
def test_if_range_names_what_is_strong(head: Response, validator: str | None) -> None:
    assert strong_validator(head.fields, NOW) == validator


@pytest.mark.parametrize(
    ("condition", "lines", "applies"),
    table(
        {
            "no condition": (None, [], True),
            "the tag": ('"1"', [TAG], True),
            "another tag": ('"2"', [TAG], False),
            "a tag where there is none": ('"1"', [MODIFIED], False),
            "the weak tag": ('W/"1"', ['ETag: W/"1"'], False),
            "a weak tag for the strong one": ('W/"1"', [TAG], False),
            "the strong tag for a weak one": ('"1"', ['ETag: W/"1"'], False),
            "the date": (date(-1000), [MODIFIED], True),
            "the date, beside a tag": (date(-1000), [TAG, MODIFIED], True),
            "a later date": (date(-999), [MODIFIED], False),
            "a date where there is none": (date(-1000), [TAG], False),
            "the date, which isn't strong": (date(-59), [RECENT], False),
            "the moment in other words": (
                "Sun Nov  6 08:49:37 1994",
                ["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
                False,
            ),
            "an invalid date, the same": ("yesterday", ["Last-Modified: yesterday"], False),
            "two tags": ('"1", "2"', [TAG], False),
            "nothing": ("", [], False),
        }
    ),
)
def test_a_range_applies_to_what_if_range_names(
    condition: str | None, lines: list[str], applies: bool
) -> None:
    request = fields("Range: bytes=0-1", *([] if condition is None else [f"If-Range: {condition}"]))
    assert range_applies(request, response(*lines).fields, NOW) is applies


# RFC 9111 §3.4: combining.


@pytest.mark.parametrize(
    ("one", "other", "same"),
    table(
        {
            "the same strong tag": ([TAG], [TAG], True),
            "whatever the dates": ([TAG, MODIFIED], [TAG, RECENT], True),
            "another tag": ([TAG], ['ETag: "2"'], False),
            "another tag, the same date": ([TAG, MODIFIED], ['ETag: "2"', MODIFIED], False),
            "a weak tag": (['ETag: W/"1"'], ['ETag: W/"1"'], False),
            "weak here, strong there": (['ETag: W/"1"'], [TAG], False),
            "a weak tag, the same date": (
                ['ETag: W/"1"', MODIFIED],
                ['ETag: W/"1"', MODIFIED],
                False,
            ),
            "a tag in one only": ([TAG, MODIFIED], [MODIFIED], False),
            "the same strong date": ([MODIFIED], [MODIFIED], True),
            "another date": ([MODIFIED], [f"Last-Modified: {date(-999)}"], False),
            "the same date, which isn't strong": ([RECENT], [RECENT], False),
            "the same, strong in one only": (
                [RECENT],
                [RECENT, f"Date: {date(1000)}"],
                False,
            ),
            "no validator": ([], [], False),
            "the same coding": (
                [TAG, "Content-Encoding: gzip"],
                [TAG, "Content-Encoding: gzip"],
                True,
            ),
            "the coding left out": ([TAG, "Content-Encoding: gzip"], [TAG], True),
            "another coding": (
                [TAG, "Content-Encoding: gzip"],
                [TAG, "Content-Encoding: br"],
                False,
            ),
        }
    ),
)
def test_parts_are_of_the_same_bytes_where_a_strong_validator_says_so(
    one: list[str], other: list[str], same: bool
) -> None:
    heads = response(*one).fields, response(*other).fields
    assert same_representation(*heads, NOW, NOW) is same
    assert same_representation(heads[1], heads[0], NOW, NOW) is same


@pytest.mark.parametrize(
    ("stored", "new", "together"),
    table(
        {
            "they touch": (Part(0, 4, 10), Part(5, 9, 10), Part(0, 9, 10)),
            "they overlap": (Part(0, 6, 10), Part(3, 7, 10), Part(0, 7, 10)),
            "one is within the other": (Part(0, 9, 10), Part(3, 4, 10), Part(0, 9, 10)),
            "there is a gap": (Part(0, 4, 10), Part(6, 9, 10), None),
            "one doesn't know the size": (Part(0, 4, None), Part(5, 7, 10), Part(0, 7, 10)),
            "none knows it": (Part(2, 4, None), Part(5, 7, None), Part(2, 7, None)),
            "they are of different sizes": (Part(0, 4, 10), Part(5, 7, 11), None),
            "one is longer than the other says": (Part(0, 9, None), Part(5, 7, 9), None),
            "nothing came of one": (Part(0, -1, 10), Part(0, 4, 10), Part(0, 4, 10)),
        }
    ),
)
def test_parts_that_meet_are_one(stored: Part, new: Part, together: Part | None) -> None:
    assert joined(stored, new) == together
    assert joined(new, stored) == together


def test_a_part_has_a_length_and_may_be_a_prefix() -> None:
    assert Part(0, 4, None).length == 5
    assert Part(0, 4, None).is_prefix
    assert Part(0, -1, 10).length == 0
    assert not Part(1, 4, None).is_prefix


# RFC 9111 §3.3: answering from what is incomplete.


@pytest.mark.parametrize(
    ("part", "value", "spans"),
    table(
        {
            "within": (Part(10, 19, 100), "bytes=12-15", [(12, 15)]),
            "all of it": (Part(10, 19, 100), "bytes=10-19", [(10, 19)]),
            "several": (Part(10, 19, 100), "bytes=18-19,10-11", [(18, 19), (10, 11)]),
            "before it": (Part(10, 19, 100), "bytes=9-12", None),
            "beyond it": (Part(10, 19, 100), "bytes=12-20", None),
            "one within, one not": (Part(10, 19, 100), "bytes=12-15,30-31", None),
            "one within, one that isn't there": (Part(10, 19, 100), "bytes=12-13,100-", [(12, 13)]),
            "none that is there": (Part(10, 19, 100), "bytes=100-", None),
            "to the end": (Part(10, 99, 100), "bytes=50-", [(50, 99)]),
            "to the end, which is missing": (Part(10, 98, 100), "bytes=50-", None),
            "of the end": (Part(10, 99, 100), "bytes=-5", [(95, 99)]),
            "clipped by the size": (Part(10, 99, 100), "bytes=90-200", [(90, 99)]),
            "of unknown size": (Part(10, 19, None), "bytes=12-19", [(12, 19)]),
            "of unknown size, beyond it": (Part(10, 19, None), "bytes=12-20", None),
            "of unknown size, to the end": (Part(10, 19, None), "bytes=12-", None),
            "of unknown size, of the end": (Part(10, 19, None), "bytes=-5", None),
            "nothing came yet": (Part(0, -1, None), "bytes=0-0", None),
            "too many": (Part(0, 9, None), ranges(*["0-1"] * 3), None),
        }
    ),
)
def test_a_part_satisfies_what_lies_within_it(
    part: Part, value: str, spans: list[tuple[int, int]] | None
) -> None:
    assert satisfies(part, value) == (None if spans is None else tuple(spans))


# RFC 9110 §15.3.7 and §15.5.17: the heads.

HEAD = response(
    "Content-Type: application/pdf",
    "Content-Length: 8000",
    "Content-Encoding: gzip",
    "Content-Digest: sha-256=:MA==:",
    "Repr-Digest: sha-256=:MA==:",
    "Cache-Control: max-age=60",
    "Vary: Accept",
    TAG,
    "X: 1",
)
OF_ALL = [
    f"Date: {date()}",
    "Repr-Digest: sha-256=:MA==:",
    "Cache-Control: max-age=60",
    "Vary: Accept",
    TAG,
    "X: 1",
]
CODED = ["Content-Type: application/pdf", "Content-Encoding: gzip"]


def same_lines(head: Response, *lines: str) -> bool:
    return sorted(head.fields) == sorted(fields(*lines))


@pytest.mark.parametrize(
    ("size", "place"), [(8000, "bytes 500-999/8000"), (None, "bytes 500-999/*")]
)
def test_a_206_of_one_part_has_its_place_and_length(size: int | None, place: str) -> None:
    head = partial_head(HEAD, Span(500, 999), size)
    assert (head.status, head.reason, head.version) == (206, "Partial Content", HEAD.version)
    assert same_lines(head, *OF_ALL, *CODED, f"Content-Range: {place}", "Content-Length: 500")


def test_a_206_of_several_parts_has_their_places_in_them() -> None:
    head, pieces = multipart(HEAD, [Span(500, 999), Span(7000, 7999)], 8000, "SEPARATES")
    described = b"Content-Type: application/pdf\r\nContent-Encoding: gzip\r\nContent-Range: bytes "
    assert pieces == (
        b"--SEPARATES\r\n" + described + b"500-999/8000\r\n\r\n",
        Span(500, 999),
        b"\r\n--SEPARATES\r\n" + described + b"7000-7999/8000\r\n\r\n",
        Span(7000, 7999),
        b"\r\n--SEPARATES--\r\n",
    )
    length = sum(piece.size if isinstance(piece, Span) else len(piece) for piece in pieces)
    assert (head.status, head.reason) == (206, "Partial Content")
    assert same_lines(
        head,
        *OF_ALL,
        "Content-Type: multipart/byteranges; boundary=SEPARATES",
        f"Content-Length: {length}",
    )


def test_parts_of_what_has_no_type_have_none() -> None:
    _, pieces = multipart(response(), [Span(0, 0), Span(2, 2)], None, "x")
    assert pieces[0] == b"--x\r\nContent-Range: bytes 0-0/*\r\n\r\n"


def test_a_416_tells_the_size_and_of_which_representation() -> None:
    head = unsatisfiable_head(HEAD, 8000)
    assert (head.status, head.reason) == (416, "Range Not Satisfiable")
    assert same_lines(
        head,
        f"Date: {date()}",
        "Cache-Control: max-age=60",
        "Vary: Accept",
        TAG,
        "Content-Range: bytes */8000",
        "Content-Length: 0",
    )


@pytest.mark.parametrize(
    ("size", "length"), [(8000, ["Content-Length: 8000"]), (None, [])], ids=["known", "unknown"]
)
def test_what_a_206_is_part_of_has_the_head_of_a_200(size: int | None, length: list[str]) -> None:
    head = complete_head(partial_head(HEAD, Span(500, 999), 8000), size)
    assert (head.status, head.reason) == (200, "OK")
    assert same_lines(head, *OF_ALL, *CODED, *length)


def test_a_digest_of_the_content_is_that_of_its_message() -> None:
    digest = "Content-Digest: sha-256=:MA==:"
    whole, part = response(digest), response(digest, "Content-Range: bytes 0-1/5", status=206)
    assert "content-digest" in complete_head(whole, 5).fields
    assert "content-digest" not in complete_head(part, 5).fields


# What holds whatever anybody sends.

FRAGMENTS = st.sampled_from(
    [
        *("bytes", "Bytes", "items", "=", "-", "-", ",", ", ", "/", "*", " ", "\t", '"', "W/"),
        *("0", "1", "5", "10", "9" * 30, HUGE, "٣", "\r\n", "\x00", "\udc80", "\ud800", "é"),
        *("bytes=", "bytes ", "*/", "0-", "-5", "0-4", "5-9", "2-1", date(), date(-1000), '"1"'),
    ]
)
NOISE = st.text(max_size=20)
VALUES = NOISE | st.lists(FRAGMENTS | NOISE, max_size=8).map("".join)
NUMBERS = st.integers(0, 60)
SIZES = st.integers(0, 50)
MEMBERS = st.one_of(
    st.builds("{}-{}".format, NUMBERS, NUMBERS),
    st.builds("{}-".format, NUMBERS),
    st.builds("-{}".format, NUMBERS),
)
RANGES = st.lists(MEMBERS, min_size=1, max_size=5).map(lambda members: ranges(*members))
SPANS = st.builds(lambda first, more: Span(first, first + more), NUMBERS, NUMBERS)
PARTS = st.builds(
    lambda span, more: Part(span.first, span.last, None if more is None else span.last + 1 + more),
    SPANS,
    st.none() | st.integers(0, 5),
)
NAMES = st.sampled_from(["ETag", "Last-Modified", "Date", "If-Range", "Range", "Content-Type"])
FIELDS = st.lists(st.builds("{}: {}".format, NAMES, VALUES), max_size=4).map(
    lambda lines: fields(*lines)
)


@given(VALUES, SIZES, PARTS)
def test_no_value_raises(value: str, size: int, part: Part) -> None:
    for text in (value, f"bytes={value}", f"bytes {value}"):
        requested_spans(text, size)
        requested_span(text)
        satisfies(part, text)
        content_range(text)
        unsatisfied_size(text)
        is_strong(text)


@given(FIELDS, FIELDS, SPANS, VALUES)
def test_no_field_raises(one: Fields, other: Fields, span: Span, boundary: str) -> None:
    heads = Response(206, one), Response(200, other)
    strong_validator(one, NOW)
    range_applies(one, other, NOW)
    same_representation(one, other, NOW, NOW)
    for head in heads:
        partial_head(head, span, None)
        multipart(head, [span], None, boundary)
        unsatisfiable_head(head, 5)
        complete_head(head, None)


@given(RANGES | VALUES, SIZES)
def test_spans_lie_within_the_body_and_apart_from_each_other(value: str, size: int) -> None:
    spans = requested_spans(value, size) or ()
    assert all(0 <= span.first <= span.last < size for span in spans)
    ordered = sorted(spans)
    assert all(one.last + 1 < other.first for one, other in pairwise(ordered))


@given(st.lists(MEMBERS, min_size=1, max_size=5), SIZES)
def test_spans_are_of_all_the_bytes_that_are_asked_for(members: list[str], size: int) -> None:
    spans = requested_spans(ranges(*members), size)
    assume(spans is not None)
    assert spans is not None
    alone = [requested_spans(ranges(member), size) for member in members]
    assert {byte for span in spans for byte in range(span.first, span.last + 1)} == {
        byte for those in alone for span in those or () for byte in range(span.first, span.last + 1)
    }


@given(RANGES, PARTS)
def test_a_part_satisfies_what_the_whole_would_or_nothing(value: str, part: Part) -> None:
    spans = satisfies(part, value)
    if spans is not None:
        assert spans
        assert all(part.first <= span.first <= span.last <= part.last for span in spans)
        for size in (part.last + 1, part.last + 50) if part.size is None else (part.size,):
            assert requested_spans(value, size) == spans


@given(SPANS, st.none() | NUMBERS)
def test_content_range_comes_back_as_it_was_written(span: Span, more: int | None) -> None:
    place = ContentRange(span.first, span.last, None if more is None else span.last + 1 + more)
    assert content_range(str(place)) == place


@given(NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_a_content_range_that_is_read_is_valid(first: int, last: int, size: int | None) -> None:
    valid = first <= last and (size is None or last < size)
    place = ContentRange(first, last, size)
    assert content_range(str(place)) == (place if valid else None)


@given(SPANS)
def test_a_206_is_as_long_as_its_part(span: Span) -> None:
    head = partial_head(HEAD, span, None)
    assert head.fields.get("content-length") == str(span.size)


@given(st.lists(SPANS, min_size=1, max_size=4), VALUES)
def test_a_multipart_body_is_read_as_its_parts(spans: list[Span], type_: str) -> None:
    body = bytes(0x80 + byte % 0x80 for byte in range(200))
    source = Response(200, fields(f"Content-Type: {type_}", "Content-Encoding: gzip"))
    head, pieces = multipart(source, spans, len(body), "SEPARATES")
    sent = b"".join(
        body[piece.first : piece.last + 1] if isinstance(piece, Span) else piece for piece in pieces
    )
    assert head.fields.get("content-length") == str(len(sent))
    kind = head.fields.get("content-type")
    read = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + sent)
    parts = read.get_payload()
    assert isinstance(parts, list)
    assert len(parts) == len(spans)
    for part, span in zip(parts, spans, strict=True):
        assert isinstance(part, Message)
        assert part.get_all("Content-Encoding") == ["gzip"]
        assert part.get_all("Content-Range") == [str(ContentRange(*span, len(body)))]


@given(PARTS, PARTS)
def test_joining_is_the_same_both_ways(one: Part, other: Part) -> None:
    together = joined(one, other)
    assert together == joined(other, one)
    if together is not None:
        covered = {*range(one.first, one.last + 1), *range(other.first, other.last + 1)}
        assert covered == {*range(together.first, together.last + 1)}
        assert together.size is None or together.last < together.size


DESCRIBED = st.lists(
    st.sampled_from(
        [TAG, 'ETag: "2"', 'ETag: W/"1"', "ETag: 1", MODIFIED, RECENT, "Content-Encoding: gzip"]
    ),
    max_size=2,
)


@given(DESCRIBED, DESCRIBED)
def test_what_is_the_same_is_the_same_both_ways_and_known_by_what_if_range_says(
    first: list[str], second: list[str]
) -> None:
    one, other = response(*first).fields, response(*second).fields
    same = same_representation(one, other, NOW, NOW)
    assert same is same_representation(other, one, NOW, NOW)
    if same:
        asked = Fields([("If-Range", strong_validator(one, NOW) or "")])
        assert range_applies(asked, other, NOW)
        assert 'W/"1"' not in {one.get("etag"), other.get("etag")}
