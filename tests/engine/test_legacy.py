"""Records of CacheControl's: read as it wrote them, and anything else is damage."""

from __future__ import annotations

import math
from typing import Any

import msgpack
import pytest
import requests
from cachecontrol.serialize import Serializer
from hypothesis import example, given
from hypothesis import strategies as st
from urllib3 import HTTPResponse

from stillfresh import CorruptEntry
from stillfresh.engine import legacy
from stillfresh.rfc9111.dates import format_date
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Response, StoredResponse

URL = "http://origin.example/"
MOMENT = 1_700_000_000.0


def as_it_is(_name: str, value: str) -> str:
    return value


def decode(data: bytes) -> tuple[StoredResponse, bytes]:
    return legacy.decode(data, URL, as_it_is)


def written(
    headers: dict[str, str], body: bytes = b"body", asked: dict[str, str] | None = None
) -> bytes:
    """Write a record with CacheControl itself."""
    request = requests.Request("GET", URL, headers=asked or {}).prepare()
    response = HTTPResponse(
        body=body, headers=headers, status=203, version=10, reason="Fine", preload_content=False
    )
    return Serializer().dumps(request, response, body)


def packed(**changed: Any) -> bytes:
    held: dict[str, Any] = {
        "body": b"body",
        "headers": {"ETag": '"1"'},
        "status": 200,
        "version": 11,
        "reason": "OK",
        "decode_content": False,
    }
    record = {"response": held | changed.pop("response", {}), "vary": {}} | changed
    return legacy.PREFIX + bytes(msgpack.packb(record))


def test_what_cachecontrol_writes_is_read() -> None:
    headers = {"Date": format_date(MOMENT), "Cache-Control": "max-age=60", "X-Odd": "a, b"}
    stored, body = decode(written(headers))
    assert body == b"body"
    assert stored == StoredResponse(
        url=URL,
        response=Response(203, Fields(headers.items()), "Fine", 10),
        request_time=MOMENT,
        response_time=MOMENT,
        selection=(("authorization", None),),
        legacy=True,
    )


def test_its_body_may_be_elsewhere() -> None:
    assert decode(written({"Date": format_date(MOMENT)}, b""))[1] == b""


def test_without_a_date_it_is_as_old_as_can_be() -> None:
    assert decode(written({}))[0].response_time == 0
    assert decode(written({"Date": "yesterday"}))[0].response_time == 0


def test_what_concerned_the_connection_is_left_out() -> None:
    fields = {"Transfer-Encoding": "chunked", "Connection": "close", "Keep-Alive": "5", "X-A": "1"}
    assert decode(written(fields))[0].response.fields == Fields([("X-A", "1")])


def test_it_is_selected_by_what_it_varied_on() -> None:
    asked = {"Accept-Language": "en ,de", "X-A": "1"}
    stored, _ = decode(written({"Vary": "Accept-Language, X-A, X-B"}, asked=asked))
    assert stored.selection == (
        ("accept-language", "en,de"),
        ("authorization", None),
        ("x-a", "1"),
        ("x-b", None),
    )


def test_what_is_a_credential_is_concealed() -> None:
    data = written({"Vary": "Cookie"}, asked={"Cookie": "id=secret"})
    stored, _ = legacy.decode(data, URL, lambda name, value: f"<{name}>")
    assert ("cookie", "<cookie>") in stored.selection


def test_a_private_one_is_for_those_without_a_cookie() -> None:
    assert ("cookie", None) in decode(written({"Cache-Control": "Private"}))[0].selection


@pytest.mark.parametrize(("length", "size"), [("4", 5), ("5", 4), ("0", 1), ("1", 0)])
def test_a_body_of_another_length_is_not_its_own(length: str, size: int) -> None:
    stored, _ = decode(packed(response={"headers": {"Content-Length": length}}))
    with pytest.raises(CorruptEntry):
        legacy.check_body(stored, size)


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "4"}, {"Content-Length": "x"}])
def test_a_body_that_may_be_its_own(headers: dict[str, str]) -> None:
    legacy.check_body(decode(packed(response={"headers": headers}))[0], 4)


def test_it_is_told_by_how_it_begins() -> None:
    assert legacy.is_legacy(written({}))
    for other in (b"", b"cc=3,", b"cc=4", b"stillfresh/1\n"):
        assert not legacy.is_legacy(other)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


def check(data: bytes) -> None:
    """See that bytes are a record that can be used, or damage."""
    try:
        stored, body = decode(data)
        legacy.check_body(stored, len(body))
    except CorruptEntry:
        return
    response = stored.response
    assert isinstance(body, bytes)
    assert type(response.status) is int
    assert 100 <= response.status <= 999
    assert type(response.version) is int
    assert type(response.reason) is str
    assert all(type(name) is type(value) is str for name, value in response.fields)
    assert math.isfinite(stored.response_time)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_damage(data: bytes) -> None:
    check(legacy.PREFIX + data)


@given(ANYTHING, ANYTHING)
@example({"response": {}}, None)
@example([], None)
@example(None, None)
@example({"response": None}, None)
def test_any_values_are_a_record_or_damage(record: Any, vary: Any) -> None:
    check(legacy.PREFIX + bytes(msgpack.packb(record)))
    check(packed(vary=vary))


@given(st.sampled_from(["body", "headers", "status", "version", "reason"]), ANYTHING)
@example("status", math.inf)
@example("status", math.nan)
@example("status", 0)
@example("status", -200)
@example("status", 2**63)
@example("status", True)
@example("status", None)
@example("version", math.inf)
@example("version", "1.1")
@example("body", "\u1234")
@example("body", {"a": 1})
@example("body", 5)
@example("headers", {"Date": None})
@example("headers", [["a", "b"]])
@example("headers", {"Content-Length": "9" * 5000})
def test_one_value_that_is_another(name: str, value: Any) -> None:
    check(packed(response={name: value}))


def test_every_truncation_is_damage() -> None:
    whole = written({"Date": format_date(MOMENT)})
    for size in range(len(legacy.PREFIX), len(whole)):
        with pytest.raises(CorruptEntry):
            decode(whole[:size])


def test_deep_nesting_is_damage() -> None:
    with pytest.raises(CorruptEntry):
        decode(legacy.PREFIX + b"\x91" * 100_000 + b"\xc0")
