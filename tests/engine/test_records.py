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

# Lone surrogates too: clients decode bytes of headers with surrogateescape.
TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
TIMES = st.floats(-1e12, 1e12)
LINES = st.lists(st.tuples(TEXT, TEXT), max_size=8)

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
)
SAMPLE = StoredResponse(
    url="http://a/",
    response=Response(200, Fields([("ETag", '"1"'), ("Link", "<a>"), ("Link", "<b>")]), "OK", 11),
    request_time=1.5,
    response_time=2.5,
    selection=(("accept", "x"), ("cookie", None)),
    generation="g",
    others=(("a", "b"), ("c",)),
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


@given(st.lists(ANYTHING, min_size=8, max_size=12) | ANYTHING)
def test_any_values_are_a_record_or_damage(values: Any) -> None:
    try:
        stored = records.decode(records.PREFIX + msgpack.packb(values))
    except CorruptEntry:
        return
    assert is_well_formed(stored)


@given(st.integers(0, 9), ANYTHING)
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
