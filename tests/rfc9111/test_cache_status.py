"""Cache-Status: RFC 9211, in the syntax of RFC 8941."""

import re

import pytest

from stillfresh.rfc9111.cache_status import appended, forwarded, hit, unsatisfiable
from stillfresh.rfc9111.decisions import Forwarded, Reason, Why, why
from stillfresh.rfc9111.messages import Response
from tests.rfc9111.scenes import fields, table

# RFC 8941 §3.1.2: a token, and parameters that are integers, tokens, strings or true.
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
_INTEGER = r"-?[0-9]{1,15}"
_STRING = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
_PARAMETER = rf"[a-z*][a-z0-9_.*-]*(?:=(?:{_INTEGER}|{_TOKEN}|{_STRING}))?"
_MEMBER = re.compile(rf"{_TOKEN}(?:; *{_PARAMETER})*")


@pytest.mark.parametrize(
    ("ttl", "member"),
    table(
        {
            "fresh": (376.0, "stillfresh; hit; ttl=376"),
            "fresh for a fraction more": (376.9, "stillfresh; hit; ttl=376"),
            "stale": (-412.0, "stillfresh; hit; ttl=-412"),
            "stale for a fraction": (-0.1, "stillfresh; hit; ttl=-1"),
            "about to be stale": (0.0, "stillfresh; hit; ttl=0"),
        }
    ),
)
def test_a_hit_says_how_long_it_stays_fresh(ttl: float, member: str) -> None:
    assert hit(ttl) == member


@pytest.mark.parametrize(
    ("key", "detail", "member"),
    table(
        {
            "neither": (None, None, "stillfresh; hit; ttl=5"),
            "a key": ("https://a/#b", None, 'stillfresh; hit; ttl=5; key="https://a/#b"'),
            "a detail": (None, "why", 'stillfresh; hit; ttl=5; detail="why"'),
            "both": ("a", "b", 'stillfresh; hit; ttl=5; key="a"; detail="b"'),
        }
    ),
)
def test_a_hit_may_say_under_which_key_and_why(
    key: str | None, detail: str | None, member: str
) -> None:
    assert hit(5, key=key, detail=detail) == member


@pytest.mark.parametrize(
    "reason",
    ["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"],
)
def test_a_forwarded_request_says_why_in_the_words_of_the_rfc(reason: str) -> None:
    assert forwarded(Forwarded(reason)) == f"stillfresh; fwd={reason}"


def test_there_are_no_other_words() -> None:
    assert len(Forwarded) == 8


@pytest.mark.parametrize(
    ("member", "parameters"),
    table(
        {
            "validated": (
                forwarded(Forwarded.STALE, status=304, ttl=60.5, stored=True),
                {"fwd=stale", "fwd-status=304", "ttl=60", "stored"},
            ),
            "stored": (
                forwarded(Forwarded.URI_MISS, status=200, stored=True),
                {"fwd=uri-miss", "fwd-status=200", "stored"},
            ),
            "not stored": (
                forwarded(Forwarded.METHOD, status=201, stored=False),
                {"fwd=method", "fwd-status=201"},
            ),
            "under which key, and why": (
                forwarded(Forwarded.PARTIAL, key="a", detail="b"),
                {"fwd=partial", 'key="a"', 'detail="b"'},
            ),
        }
    ),
)
def test_and_what_came_of_it(member: str, parameters: set[str]) -> None:
    name, *said = member.split("; ")
    assert name == "stillfresh"
    assert len(said) == len(parameters)
    assert set(said) == parameters


def test_what_cannot_be_had_is_neither_a_hit_nor_forwarded() -> None:
    member = unsatisfiable("nothing stored")
    assert member == 'stillfresh; detail="nothing stored"'


@pytest.mark.parametrize(
    "detail",
    table(
        {
            "nothing": "",
            "a quote": 'a "quoted" word',
            "a backslash": "a\\b",
            "both at the end": '\\"',
            "a letter that is not ASCII": "né",
            "a section sign": "RFC 9111 §4",
            "a line break": "a\r\nSet-Cookie: b=1",
            "a control character": "a\x00\x7fb",
            "a surrogate": "a\udc80b",
        }
    ),
)
def test_a_detail_is_a_string_of_structured_fields(detail: str) -> None:
    assert _MEMBER.fullmatch(unsatisfiable(detail))


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_can_be_a_detail(reason: Reason) -> None:
    given: Why = why(reason, 'as in "a\\b"')
    assert _MEMBER.fullmatch(unsatisfiable(str(given)))


@pytest.mark.parametrize(
    "member",
    [
        hit(1.5),
        hit(-(2.0**31)),
        forwarded(Forwarded.VARY_MISS, status=599, ttl=2.0**31, stored=True),
    ],
)
def test_every_member_is_one_of_structured_fields(member: str) -> None:
    assert _MEMBER.fullmatch(member)


@pytest.mark.parametrize(
    ("before", "value"),
    table(
        {
            "nobody": ([], "stillfresh; hit"),
            "a cache nearer to the origin": (
                ["Cache-Status: Origin; hit; ttl=1100"],
                "Origin; hit; ttl=1100, stillfresh; hit",
            ),
            "several": (
                ["Cache-Status: A; hit", 'cache-status: "B C"; fwd=miss'],
                'A; hit, "B C"; fwd=miss, stillfresh; hit',
            ),
        }
    ),
)
def test_ours_comes_after_what_others_said(before: list[str], value: str) -> None:
    response = Response(203, fields("X: 1", *before), "So so", 10)
    after = appended(response, "stillfresh; hit")
    assert after.fields.get("cache-status") == value
    assert after.fields.get("x") == "1"
    assert (after.status, after.reason, after.version) == (203, "So so", 10)
