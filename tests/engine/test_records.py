"""Records: what goes in comes out, and anything else is damage."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh import CorruptEntry
from stillfresh.engine import records
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response, StoredResponse
from stillfresh.rfc9111.ranges import Part

# Lone surrogates too: clients decode bytes of headers with surrogateescape.
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
TIMES = st.floats(-1e12, 1e12)
LINES = st.lists(st.tuples(TEXT, TEXT), max_size=8)
SIZES = st.integers(0, 2**63 - 1)


def part_of(numbers: tuple[int, int, int, bool]) -> Part:
    first, last, size, known = numbers
    first, last = sorted((first, last))
    return Part(first, last, max(size, last + 1) if known else None)


PARTS = st.tuples(SIZES, SIZES, SIZES, st.booleans()).map(part_of)

STORED = st.builds(
    StoredResponse,
    url=TEXT,
    response=st.builds(
        Response,
        status=st.integers(100, 999),
        fields=LINES.map(Fields),
        reason=TEXT,
        version=st.sampled_from([9, 10, 11, 20, 30]),
    ),
    request_time=TIMES,
    response_time=TIMES,
    selection=st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=4).map(tuple),
    generation=TEXT,
    others=st.lists(st.lists(TEXT, max_size=3).map(tuple), max_size=4).map(tuple),
    legacy=st.just(value=False),
    part=st.none() | PARTS,
    variants=st.lists(st.tuples(TEXT, TEXT), max_size=4).map(tuple),
)
SAMPLE = StoredResponse(
    url="http://a/",
    response=Response(200, Fields([("ETag", '"1"'), ("Link", "<a>"), ("Link", "<b>")]), "OK", 11),
    request_time=1.5,
    response_time=2.5,
    selection=(("accept", "x"), ("cookie", None)),
    generation="g",
    others=(("a", "b"), ("c",)),
    part=Part(2, 5, 10),
    variants=(("http://a/#variant=1", '"1"'), ("http://a/#variant=2", 'W/"2"')),
)


def is_well_formed(stored: Any) -> bool:
    """Tell whether every value is of exactly the type that is declared."""
    response = stored.response
    return (
        all(type(text) is str for text in (stored.url, response.reason, stored.generation))
        and type(response.status) is int
        and type(response.version) is int
        and all(
            type(moment) is float and math.isfinite(moment)
            for moment in (stored.request_time, stored.response_time)
        )
        and all(
            type(line) is tuple and [*map(type, line)] == [str, str] for line in response.fields
        )
        and type(stored.selection) is tuple
        and all(
            type(pair) is tuple
            and len(pair) == 2
            and type(pair[0]) is str
            and (pair[1] is None or type(pair[1]) is str)
            for pair in stored.selection
        )
        and type(stored.others) is tuple
        and all(
            type(names) is tuple and all(type(name) is str for name in names)
            for names in stored.others
        )
        and stored.legacy is False
        and (stored.part is None or is_a_part(stored.part))
        and type(stored.variants) is tuple
        and all(
            type(pair) is tuple and [*map(type, pair)] == [str, str] for pair in stored.variants
        )
    )


def is_a_part(part: Any) -> bool:
    first, last, size = part
    return (
        type(part) is Part
        and type(first) is type(last) is int
        and 0 <= first <= last
        and (size is None or (type(size) is int and last < size))
    )


@given(STORED)
@example(SAMPLE)
def test_what_goes_in_comes_out(stored: StoredResponse) -> None:
    assert records.decode(records.encode(stored)) == stored


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_record_or_damage(data: bytes, prefixed: bool) -> None:
    try:
        stored = records.decode(records.PREFIX + data if prefixed else data)
    except CorruptEntry:
        return
    assert is_well_formed(stored)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(ANYTHING, min_size=8, max_size=13) | ANYTHING)
def test_any_values_are_a_record_or_damage(values: Any) -> None:
    try:
        stored = records.decode(records.PREFIX + msgpack.packb(values))
    except CorruptEntry:
        return
    assert is_well_formed(stored)


@given(st.integers(0, 11), ANYTHING)
@example(4, "ab")
@example(4, {})
@example(4, {"a": 1, "b": 2})
@example(4, ["name"])
@example(4, ["name", None])
@example(7, "")
@example(7, {})
@example(7, ["ab"])
@example(7, [{"a": "b", "c": "d"}])
@example(7, [["a", 0]])
@example(7, [["a", False]])
@example(7, [["a", []]])
@example(7, [["a", "b", "c"]])
@example(9, ["ab"])
@example(9, [{"a": "b"}])
@example(9, {"a": "b"})
@example(10, [])
@example(10, [0])
@example(10, [0, 1])
@example(10, [0, 1, 2, 3])
@example(10, [0, 9, 10])
@example(10, [0, 9, None])
@example(10, [0, 10, 10])
@example(10, [3, 2, 10])
@example(10, [-1, 2, 10])
@example(10, [-2, -1, None])
@example(10, [0, None, 10])
@example(10, [None, 1, 10])
@example(10, [False, True, 10])
@example(10, [0, 1, True])
@example(10, [0.0, 1.0, 10.0])
@example(10, ["0", "1", "10"])
@example(10, "abc")
@example(10, {"a": 1, "b": 2, "c": 3})
@example(10, None)
@example(11, "")
@example(11, ["ab"])
@example(11, [[]])
@example(11, [["a"]])
@example(11, [["a", "b", "c"]])
@example(11, [["a", None]])
@example(11, [["a", 1]])
@example(11, [{"a": "b", "c": "d"}])
@example(5, math.nan)
@example(6, math.inf)
@example(6, -math.inf)
@example(1, True)
@example(1, 2**63)
def test_one_value_that_is_another(place: int, value: Any) -> None:
    values = list(msgpack.unpackb(records.encode(SAMPLE)[len(records.PREFIX) :]))
    values[place] = value
    try:
        stored = records.decode(records.PREFIX + msgpack.packb(values))
    except CorruptEntry:
        return
    assert is_well_formed(stored)
    assert records.decode(records.encode(stored)) == stored


@pytest.mark.parametrize("part", [None, Part(0, 0, 1), Part(0, 9, None), Part(5, 5, 2**63)])
def test_parts_come_back(part: Part | None) -> None:
    decoded = records.decode(records.encode(SAMPLE._replace(part=part)))
    assert decoded.part == part
    assert decoded.part is None or is_a_part(decoded.part)


@pytest.mark.parametrize(
    "part",
    [
        (5, 4, 10),
        (0, 10, 10),
        (-1, 4, 10),
        (0, 4),
        (0, 4, 10, 12),
        ("0", 4, 10),
        (0, 4.0, 10),
        (0,),
    ],
    ids=str,
)
def test_what_is_no_part_is_damage(part: Any) -> None:
    with pytest.raises(CorruptEntry):
        records.decode(records.encode(SAMPLE._replace(part=part)))


@pytest.mark.parametrize(
    "variants", [("ab",), (("a",),), (("a", "b", "c"),), (("a", 1),), (("a", None),)], ids=str
)
def test_what_is_no_variant_is_damage(variants: Any) -> None:
    with pytest.raises(CorruptEntry):
        records.decode(records.encode(SAMPLE._replace(variants=variants)))


def test_every_truncation_is_damage() -> None:
    whole = records.encode(SAMPLE)
    for size in range(len(whole)):
        with pytest.raises(CorruptEntry):
            records.decode(whole[:size])
    with pytest.raises(CorruptEntry):
        records.decode(whole + b"\x00")


@pytest.mark.parametrize(
    "data", [b"", b"stillfresh/2\n", b"stillfresh/1", b"cc=4,\x80", b"\x80\x04pickled"]
)
def test_other_formats_are_no_records(data: bytes) -> None:
    with pytest.raises(CorruptEntry):
        records.decode(data + records.encode(SAMPLE)[len(records.PREFIX) :])


def test_deep_nesting_is_damage() -> None:
    with pytest.raises(CorruptEntry):
        records.decode(records.PREFIX + b"\x91" * 100_000 + b"\xc0")


def test_a_length_beyond_all_bounds_is_damage() -> None:
    for head in (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"):
        with pytest.raises(CorruptEntry):
            records.decode(records.PREFIX + head)


def test_extension_types_are_damage() -> None:
    timestamp = msgpack.packb(msgpack.Timestamp(1, 2))
    with pytest.raises(CorruptEntry):
        records.decode(records.PREFIX + b"\x9a" + timestamp * 10)


def test_a_clock_may_count_whole_seconds() -> None:
    stored = StoredResponse(
        "http://a.example/", Response(200, Fields()), 1_700_000_000, 1_700_000_001
    )
    assert records.decode(records.encode(stored)) == stored
