"""When a stored response answers a request, and with what.

RFC 9111 §3.3, §4, §4.3.1, §4.3.2, §5.2, §5.4; RFC 9110 §13 and §14; RFC 8246; RFC 9211 §2.2.
"""

import re

import pytest

from stillfresh.rfc9111.decisions import (
    Complete,
    Forward,
    Forwarded,
    Reason,
    Revalidate,
    Serve,
    Unsatisfiable,
    why,
)
from stillfresh.rfc9111.messages import Request, StoredResponse
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.ranges import Span
from tests.rfc9111.scenes import (
    BOTH,
    NOW,
    PRIVATE,
    SHARED,
    asked,
    date,
    fields,
    forwarded,
    get,
    head,
    held,
    is_served,
    part,
    response,
    sent,
    table,
    undated,
)

# Fresh for a minute.
FRESH = "Cache-Control: max-age=60"
STALE = "Cache-Control: max-age=0"
TAG = 'ETag: "1"'
MODIFIED = f"Last-Modified: {date(-1000)}"
KEPT = held(response(FRESH, TAG))


def said(value: str) -> StoredResponse:
    return held(response(f"Cache-Control: {value}", 'ETag: "1"'))


def control(value: str) -> Request:
    return get(f"Cache-Control: {value}")


# §4: reuse.


@BOTH
def test_a_fresh_response_answers_get(policy: Policy) -> None:
    decision = asked(get(), KEPT, policy=policy, after=20)
    assert isinstance(decision, Serve)
    assert decision.why.reason is Reason.FRESH
    assert (decision.age, decision.ttl) == (20, 40)


def test_it_answers_head_as_well() -> None:
    decision = asked(head(), KEPT, after=20)
    assert isinstance(decision, Serve)
    assert decision.response.fields.get("age") == "20"


@BOTH
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO", "get"])
@pytest.mark.parametrize("value", ["max-age=60", "only-if-cached"])
def test_any_other_method_is_written_through(method: str, value: str, policy: Policy) -> None:
    request = get(f"Cache-Control: {value}", method=method)
    decision = asked(request, KEPT, policy=policy)
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.METHOD


def test_without_a_stored_response_the_request_goes_on() -> None:
    decision = asked(get(), None)
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.URI_MISS


def test_without_one_that_matches_too() -> None:
    decision = PRIVATE.on_request(get(), None, 0, missed=Forwarded.VARY_MISS)
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.VARY_MISS
    assert decision.why.reason is Reason.NOT_SELECTED


@pytest.mark.parametrize(
    ("request_", "reason"),
    table(
        {
            "If-Match": (get('If-Match: "1"'), Reason.PRECONDITION),
            "If-Unmodified-Since": (
                get("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
                Reason.PRECONDITION,
            ),
            "If-Match beside If-None-Match": (
                get('If-Match: "1"', 'If-None-Match: "1"'),
                Reason.PRECONDITION,
            ),
            "If-Match, of HEAD": (head('If-Match: "1"'), Reason.PRECONDITION),
            "content": (get("Content-Length: 5"), Reason.REQUEST_CONTENT),
            "content in chunks": (get("Transfer-Encoding: chunked"), Reason.REQUEST_CONTENT),
        }
    ),
)
@pytest.mark.parametrize("kept", [KEPT, None], ids=["something stored", "nothing stored"])
def test_what_only_the_origin_can_answer_goes_on_as_it_is(
    request_: Request, reason: Reason, kept: StoredResponse | None
) -> None:
    decision = asked(request_, kept)
    assert isinstance(decision, Forward)
    assert decision.why.reason is reason
    assert decision.forwarded is Forwarded.REQUEST


@pytest.mark.parametrize("line", ['If-Match: "1"', "Content-Length: 5"])
def test_not_even_that_goes_on_where_the_request_wants_only_what_is_stored(line: str) -> None:
    assert isinstance(asked(get(line, "Cache-Control: only-if-cached"), KEPT), Unsatisfiable)


def test_a_length_of_zero_is_no_content() -> None:
    assert is_served(asked(get("Content-Length: 0"), KEPT))


# §5.2.1: what requests ask for. Each row: the directive, the age of what is fresh for a minute.


@pytest.mark.parametrize(
    ("value", "age", "served"),
    table(
        {
            "max-age, older": ("max-age=20", 21, False),
            "max-age, as old": ("max-age=20", 20, True),
            "max-age, younger": ("max-age=20", 19, True),
            "max-age, of any age": ("max-age=0", 1, False),
            "max-age, new": ("max-age=0", 0, True),
            "max-age, older than fresh": ("max-age=90", 70, False),
            "max-age, quoted": ('max-age="20"', 21, False),
            "max-age that is no number": ("max-age=abc", 1, False),
            "max-age with max-stale": ("max-age=90, max-stale=20", 70, True),
            "max-age with max-stale, too stale": ("max-age=90, max-stale=20", 85, False),
            "max-age with max-stale, too old": ("max-age=65, max-stale=20", 70, False),
            "max-stale, fresh": ("max-stale=20", 59, True),
            "max-stale, stale for less": ("max-stale=20", 79, True),
            "max-stale, stale for as long": ("max-stale=20", 80, True),
            "max-stale, stale for longer": ("max-stale=20", 81, False),
            "max-stale of any time": ("max-stale", 2**31, True),
            "max-stale of no time, at the end": ("max-stale=0", 60, True),
            "max-stale of no time": ("max-stale=0", 61, False),
            "max-stale that is no number": ("max-stale=abc", 61, False),
            "min-fresh, fresh for longer": ("min-fresh=20", 39, True),
            "min-fresh, fresh for as long": ("min-fresh=20", 40, True),
            "min-fresh, fresh for less": ("min-fresh=20", 41, False),
            "min-fresh of no time, fresh": ("min-fresh=0", 59, True),
            "min-fresh, though stale is fine": ("min-fresh=20, max-stale=90", 70, False),
            "min-fresh that is no number": ("min-fresh=abc", 0, False),
            "no-cache": ("no-cache", 0, False),
            "no-cache, though stale is fine": ("no-cache, max-stale", 0, False),
            "no-store": ("no-store", 20, True),
            "no-store, stale": ("no-store", 70, False),
            "no-transform": ("no-transform", 20, True),
            "only-if-cached": ("only-if-cached", 20, True),
            "only-if-cached, stale is fine": ("only-if-cached, max-stale=20", 70, True),
            "an extension": ("foo, bar=1", 20, True),
        }
    ),
)
def test_a_request_is_served_what_it_accepts(value: str, age: float, served: bool) -> None:
    assert is_served(asked(control(value), KEPT, after=age)) is served
    assert is_served(asked(control(value), KEPT, after=age, policy=SHARED)) is served


@pytest.mark.parametrize(
    ("value", "age", "kept"),
    table(
        {
            "nothing stored": ("only-if-cached", 0, None),
            "stale": ("only-if-cached", 70, KEPT),
            "too old": ("only-if-cached, max-age=20", 30, KEPT),
            "too stale": ("only-if-cached, max-stale=5", 70, KEPT),
            "not fresh for long enough": ("only-if-cached, min-fresh=50", 30, KEPT),
            "to be validated, by the request": ("only-if-cached, no-cache", 0, KEPT),
            "to be validated, by the response": ("only-if-cached", 0, said("no-cache, max-age=60")),
        }
    ),
)
def test_only_if_cached_never_goes_to_the_origin(
    value: str, age: float, kept: StoredResponse | None
) -> None:
    decision = asked(control(value), kept, after=age)
    assert isinstance(decision, Unsatisfiable)
    assert decision.why.section == "RFC 9111 §5.2.1.7"


def test_not_even_for_a_range() -> None:
    request = get("Cache-Control: only-if-cached", "Range: bytes=0-1")
    assert isinstance(asked(request, None), Unsatisfiable)


@pytest.mark.parametrize(
    ("lines", "served"),
    table(
        {
            "no-cache": (["Pragma: no-cache"], False),
            "no-cache beside Cache-Control": (["Pragma: no-cache", "Cache-Control: foo"], True),
            "anything else": (["Pragma: foo"], True),
        }
    ),
)
def test_pragma(lines: list[str], served: bool) -> None:
    assert is_served(asked(get(*lines), KEPT)) is served


# §5.2.2: what stored responses allow. Each row: what the response said, the request, its age.


@pytest.mark.parametrize(
    ("value", "request_", "age", "private", "shared"),
    table(
        {
            "max-age, fresh": ("max-age=60", get(), 59, True, True),
            "max-age, stale": ("max-age=60", get(), 60, False, False),
            "max-age, stale is fine": ("max-age=60", control("max-stale"), 70, True, True),
            "must-revalidate, fresh": ("max-age=60, must-revalidate", get(), 59, True, True),
            "must-revalidate, stale": (
                "max-age=60, must-revalidate",
                control("max-stale"),
                60,
                False,
                False,
            ),
            "must-revalidate in capitals": (
                "max-age=60, MUST-Revalidate",
                control("max-stale"),
                60,
                False,
                False,
            ),
            "must-revalidate of no age": (
                "max-age=0, must-revalidate",
                control("max-stale"),
                0,
                False,
                False,
            ),
            "proxy-revalidate, fresh": ("max-age=60, proxy-revalidate", get(), 59, True, True),
            "proxy-revalidate, stale": (
                "max-age=60, proxy-revalidate",
                control("max-stale"),
                70,
                True,
                False,
            ),
            "s-maxage, fresh": ("s-maxage=60", get(), 59, False, True),
            "s-maxage, stale": (
                "max-age=30, s-maxage=60",
                control("max-stale"),
                70,
                True,
                False,
            ),
            "s-maxage longer than max-age": ("max-age=30, s-maxage=60", get(), 50, False, True),
            "s-maxage shorter than max-age": ("max-age=60, s-maxage=30", get(), 50, True, False),
            "no-cache, fresh": ("max-age=60, no-cache", get(), 0, False, False),
            "no-cache, anything goes": (
                "max-age=60, no-cache",
                control("max-stale"),
                0,
                False,
                False,
            ),
            "no-cache about fields": ('max-age=60, no-cache="X"', get(), 0, True, True),
            "no-cache about nothing": ('max-age=60, no-cache=""', get(), 0, False, False),
            "no-cache left open": ('max-age=60, no-cache="X', get(), 0, False, False),
            "no-cache beside public": ("public, max-age=60, no-cache", get(), 0, False, False),
            "no-transform": ("max-age=60, no-transform", get(), 0, True, True),
            "immutable": ("max-age=60, immutable", get(), 59, True, True),
            "immutable, stale": ("max-age=60, immutable", get(), 60, False, False),
            # RFC 8246 §2.
            "immutable, reloaded": ("max-age=60, immutable", control("max-age=0"), 59, True, True),
            "immutable in capitals, reloaded": (
                "max-age=60, IMMUTABLE",
                control("max-age=0"),
                59,
                True,
                True,
            ),
            "not immutable, reloaded": ("max-age=60", control("max-age=0"), 59, False, False),
            "immutable, reloaded when stale": (
                "max-age=60, immutable",
                control("max-age=0"),
                60,
                False,
                False,
            ),
            "immutable, reloaded when stale, which is fine": (
                "max-age=60, immutable",
                control("max-age=0, max-stale"),
                60,
                False,
                False,
            ),
            "immutable, reloaded by force": (
                "max-age=60, immutable",
                control("no-cache"),
                0,
                False,
                False,
            ),
            "immutable, reloaded by force of old": (
                "max-age=60, immutable",
                get("Pragma: no-cache"),
                0,
                False,
                False,
            ),
            "immutable, not fresh for long enough": (
                "max-age=60, immutable",
                control("min-fresh=20"),
                50,
                False,
                False,
            ),
            "immutable, but no-cache": (
                "max-age=60, immutable, no-cache",
                control("max-age=0"),
                0,
                False,
                False,
            ),
            "an extension": ("max-age=60, foo", get(), 0, True, True),
        }
    ),
)
def test_a_response_is_served_as_far_as_it_allows(
    value: str, request_: Request, age: float, private: bool, shared: bool
) -> None:
    kept = said(value)
    assert is_served(asked(request_, kept, after=age, policy=PRIVATE)) is private
    assert is_served(asked(request_, kept, after=age, policy=SHARED)) is shared


@pytest.mark.parametrize("age", [60, 70])
def test_what_is_served_stale_says_so(age: float) -> None:
    decision = asked(control("max-stale=20"), KEPT, after=age)
    assert isinstance(decision, Serve)
    assert decision.ttl == 60 - age
    assert str(decision.why) == f"stale: max-age=60, age {age}, max-stale=20 (RFC 9111 §5.2.1.2)"


def test_no_head_request_is_served_what_get_would_not_be() -> None:
    assert not is_served(asked(head(), said("max-age=60, no-cache")))
    assert not is_served(asked(head(), KEPT, after=60))


# RFC 9211 §2.2: why a request goes to the origin.


@pytest.mark.parametrize(
    ("request_", "age", "reason"),
    table(
        {
            "stale": (get(), 70, Forwarded.STALE),
            "fresh, no-cache": (control("no-cache"), 20, Forwarded.REQUEST),
            "fresh for a second, no-cache": (control("no-cache"), 59, Forwarded.REQUEST),
            "just stale, no-cache": (control("no-cache"), 60, Forwarded.STALE),
            "fresh, max-age": (control("max-age=5"), 20, Forwarded.REQUEST),
            "fresh, min-fresh": (control("min-fresh=50"), 20, Forwarded.REQUEST),
            "stale, no-cache": (control("no-cache"), 70, Forwarded.STALE),
            "stale, max-age": (control("max-age=5"), 70, Forwarded.STALE),
            "stale, min-fresh": (control("min-fresh=50"), 70, Forwarded.STALE),
        }
    ),
)
def test_a_forwarded_request_says_whether_the_response_was_fresh(
    request_: Request, age: float, reason: Forwarded
) -> None:
    assert forwarded(asked(request_, KEPT, after=age)) is reason


def test_what_has_to_be_validated_is_as_good_as_stale() -> None:
    assert forwarded(asked(get(), said("max-age=60, no-cache"))) is Forwarded.STALE


# Decisions say why.


@pytest.mark.parametrize(
    ("request_", "age", "why"),
    table(
        {
            "fresh": (get(), 20, "fresh: max-age=60, age 20 (RFC 9111 §4.2)"),
            "stale": (get(), 70, "stale: max-age=60, age 70 (RFC 9111 §4.2)"),
            "no-cache": (
                control("no-cache"),
                20,
                "the request says no-cache (RFC 9111 §5.2.1.4)",
            ),
            "max-age": (
                control("max-age=5"),
                20,
                "older than the request's max-age: max-age=5, age 20 (RFC 9111 §5.2.1.1)",
            ),
        }
    ),
)
def test_a_decision_says_why_and_where_that_is_written(
    request_: Request, age: float, why: str
) -> None:
    assert str(asked(request_, KEPT, after=age).why) == why


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_section_of_an_rfc(reason: Reason) -> None:
    assert reason.meaning
    assert re.match(r"(against )?RFC (9111|9110|5861|9875) §[0-9]", reason.section)


def test_a_stale_response_is_validated_rather_than_asked_for_anew() -> None:
    assert isinstance(asked(get(), KEPT, after=70), Revalidate)


# §4.3.2, RFC 9110 §13.1.2, §13.1.3, §13.2.2: the caller asks whether it has what is present.
# Each row: what is stored beside FRESH, what the caller asks, whether it has it.


@pytest.mark.parametrize(
    ("ours", "theirs", "has_it"),
    table(
        {
            "the tag": ([TAG], ['If-None-Match: "1"'], True),
            "another tag": ([TAG], ['If-None-Match: "2"'], False),
            "one of several tags": ([TAG], ['If-None-Match: "0", "1"'], True),
            "one of several lines": ([TAG], ['If-None-Match: "0"', 'If-None-Match: "1"'], True),
            "none of several tags": ([TAG], ['If-None-Match: "0", "2"'], False),
            "a tag with a comma": (['ETag: "1,2"'], ['If-None-Match: "0", "1,2"'], True),
            "a part of a tag with a comma": (['ETag: "2"'], ['If-None-Match: "1,2"'], False),
            "the weak tag": (['ETag: W/"1"'], ['If-None-Match: W/"1"'], True),
            "the tag, weak": ([TAG], ['If-None-Match: W/"1"'], True),
            "the weak tag, strong": (['ETag: W/"1"'], ['If-None-Match: "1"'], True),
            "the tag in another case": (['ETag: "a"'], ['If-None-Match: "A"'], False),
            "a tag where there is none": ([MODIFIED], ['If-None-Match: "1"'], False),
            "anything": ([TAG], ["If-None-Match: *"], True),
            "anything, with space around": ([TAG], ["If-None-Match: \t* "], True),
            "anything, where there is no tag": ([], ["If-None-Match: *"], True),
            "nothing": ([TAG], ["If-None-Match:"], False),
            "the date": ([MODIFIED], [f"If-Modified-Since: {date(-1000)}"], True),
            "a later date": ([MODIFIED], [f"If-Modified-Since: {date(-999)}"], True),
            "an earlier date": ([MODIFIED], [f"If-Modified-Since: {date(-1001)}"], False),
            "a date of old": (
                ["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
                ["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"],
                True,
            ),
            "Date, where there is no Last-Modified": (
                [TAG],
                [f"If-Modified-Since: {date()}"],
                True,
            ),
            "less than Date": ([TAG], [f"If-Modified-Since: {date(-1)}"], False),
            "Date, where Last-Modified is none": (
                ["Last-Modified: yesterday"],
                [f"If-Modified-Since: {date()}"],
                True,
            ),
            "no date": ([MODIFIED], ["If-Modified-Since: tomorrow"], False),
            "two dates": (
                [MODIFIED],
                [f"If-Modified-Since: {date()}", f"If-Modified-Since: {date()}"],
                False,
            ),
            "the tag, and an earlier date": (
                [TAG, MODIFIED],
                ['If-None-Match: "1"', f"If-Modified-Since: {date(-2000)}"],
                True,
            ),
            "another tag, and the date": (
                [TAG, MODIFIED],
                ['If-None-Match: "2"', f"If-Modified-Since: {date(-1000)}"],
                False,
            ),
        }
    ),
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_caller_that_has_the_response_is_told_so(
    ours: list[str], theirs: list[str], has_it: bool, method: str
) -> None:
    decision = asked(get(*theirs, method=method), held(response(FRESH, *ours)), size=5)
    assert isinstance(decision, Serve)
    assert decision.response.status == (304 if has_it else 200)
    assert decision.pieces == (() if has_it or method == "HEAD" else None)


def test_without_any_date_a_response_is_as_new_as_it_came() -> None:
    kept = held(undated(FRESH))
    assert kept.response_time == NOW
    for since, status in ((0, 304), (-1, 200)):
        decision = asked(get(f"If-Modified-Since: {date(since)}"), kept)
        assert isinstance(decision, Serve)
        assert decision.response.status == status


def test_only_of_a_200_a_caller_can_have_a_copy() -> None:
    kept = held(response(FRESH, TAG, status=404))
    decision = asked(get('If-None-Match: "1"'), kept)
    assert isinstance(decision, Serve)
    assert decision.response.status == 404
    assert decision.pieces is None


def test_a_304_says_what_the_200_would_but_not_of_its_content() -> None:
    always = [
        f"Date: {date()}",
        "Cache-Control: max-age=60",
        f"Expires: {date(60)}",
        TAG,
        "Vary: Accept",
        "Content-Location: /a.en",
        "Set-Cookie: a=1",
    ]
    content = [
        "Content-Type: text/plain",
        "Content-Length: 5",
        "Content-Encoding: gzip",
        "Content-Language: en",
        "Content-Digest: sha-256=:MA==:",
        "Content-MD5: MA==",
    ]
    decision = asked(get('If-None-Match: "1"'), held(response(*always, *content)), after=30)
    assert isinstance(decision, Serve)
    answer = decision.response
    assert (answer.status, answer.reason) == (304, "Not Modified")
    assert sorted(answer.fields) == sorted(fields(*always, "Age: 30"))


@pytest.mark.parametrize(
    ("value", "age"),
    table({"fresh": ("foo", 59), "stale, which is fine": ("max-stale=20", 70)}),
)
def test_it_is_told_so_wherever_it_would_be_given_the_response(value: str, age: float) -> None:
    request = get(f"Cache-Control: {value}", 'If-None-Match: "1"')
    decision = asked(request, KEPT, after=age)
    assert isinstance(decision, Serve)
    assert decision.response.status == 304


@pytest.mark.parametrize(
    ("ours", "theirs", "sent_on"),
    table(
        {
            "a tag of its own": (
                [TAG],
                ['If-None-Match: "2"'],
                ['If-None-Match: "2", "1"'],
            ),
            "several": ([TAG], ['If-None-Match: "2", "3"'], ['If-None-Match: "2", "3", "1"']),
            "on several lines": (
                [TAG],
                ['If-None-Match: "2"', 'If-None-Match: "3"'],
                ['If-None-Match: "2", "3", "1"'],
            ),
            "beside a date": (
                [TAG],
                ['If-None-Match: "2"', f"If-Modified-Since: {date(-5)}"],
                [f"If-Modified-Since: {date(-5)}", 'If-None-Match: "2", "1"'],
            ),
            "the stored tag": ([TAG], ['If-None-Match: "1"'], ['If-None-Match: "1"']),
            "the stored tag, weak": ([TAG], ['If-None-Match: W/"1"'], ['If-None-Match: W/"1"']),
            "the stored tag among others": (
                [TAG],
                ['If-None-Match: "0", "1"'],
                ['If-None-Match: "0", "1"'],
            ),
            "any tag": ([TAG], ["If-None-Match: *"], ["If-None-Match: *"]),
            "a tag where only a date is stored": (
                [MODIFIED],
                ['If-None-Match: "2"'],
                ['If-None-Match: "2"'],
            ),
            "a date": (
                [TAG, MODIFIED],
                [f"If-Modified-Since: {date(-5)}"],
                [f"If-Modified-Since: {date(-5)}"],
            ),
        }
    ),
)
def test_of_a_stale_response_a_caller_that_has_another_asks_with_ours(
    ours: list[str], theirs: list[str], sent_on: list[str]
) -> None:
    decision = asked(get("X: 1", *theirs), held(response(STALE, *ours)))
    assert isinstance(decision, Revalidate)
    assert decision.request.fields == fields("X: 1", *sent_on)


def test_what_has_no_validator_is_asked_for_with_the_callers_alone() -> None:
    assert isinstance(asked(get('If-None-Match: "2"'), held(response(STALE))), Forward)


# RFC 9110 §14.2: parts of what is stored whole.

BODY = b"0123456789"
WHOLE = held(response(FRESH, TAG, MODIFIED, "Content-Type: text/plain", "Content-Length: 10"))


@pytest.mark.parametrize(
    ("lines", "content", "place"),
    table(
        {
            "the first bytes": (["Range: bytes=0-3"], b"0123", "bytes 0-3/10"),
            "bytes from the middle": (["Range: bytes=4-5"], b"45", "bytes 4-5/10"),
            "the last bytes": (["Range: bytes=-3"], b"789", "bytes 7-9/10"),
            "from a byte on": (["Range: bytes=8-"], b"89", "bytes 8-9/10"),
            "more than there is": (["Range: bytes=8-99"], b"89", "bytes 8-9/10"),
            "all of it": (["Range: bytes=0-"], BODY, "bytes 0-9/10"),
            "ranges that touch": (["Range: bytes=0-1,2-3"], b"0123", "bytes 0-3/10"),
            "if it is still this one": (
                ["Range: bytes=0-3", 'If-Range: "1"'],
                b"0123",
                "bytes 0-3/10",
            ),
            "if it is still of this date": (
                ["Range: bytes=0-3", f"If-Range: {date(-1000)}"],
                b"0123",
                "bytes 0-3/10",
            ),
            "of another than the caller has": (
                ["Range: bytes=0-3", 'If-None-Match: "2"'],
                b"0123",
                "bytes 0-3/10",
            ),
        }
    ),
)
def test_a_part_of_what_is_stored_is_served(lines: list[str], content: bytes, place: str) -> None:
    decision = asked(get(*lines), WHOLE, size=10, after=20)
    assert isinstance(decision, Serve)
    assert decision.why.reason is Reason.FRESH
    answer = decision.response
    assert sent(decision, BODY) == content
    assert (answer.status, answer.reason) == (206, "Partial Content")
    assert answer.fields.get("content-range") == place
    assert answer.fields.get("content-length") == str(len(content))
    assert answer.fields.get("content-type") == "text/plain"
    assert answer.fields.get("etag") == '"1"'
    assert answer.fields.get("age") == "20"


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "another unit": ["Range: items=0-1"],
            "no range": ["Range: bytes"],
            "an end before the beginning": ["Range: bytes=3-1"],
            "two lines": ["Range: bytes=0-1", "Range: bytes=4-5"],
            "too many": ["Range: bytes=0-,0-,0-"],
            "of another representation": ["Range: bytes=0-3", 'If-Range: "2"'],
            "of another date": ["Range: bytes=0-3", f"If-Range: {date(-999)}"],
            "by a weak tag": ["Range: bytes=0-3", 'If-Range: W/"1"'],
            "by what is neither tag nor date": ["Range: bytes=0-3", "If-Range: 1"],
            "no part of this one can be had": ["Range: bytes=99-", 'If-Range: "2"'],
        }
    ),
)
def test_a_range_that_does_not_apply_is_ignored(lines: list[str]) -> None:
    decision = asked(get(*lines), WHOLE, size=10)
    assert isinstance(decision, Serve)
    assert decision.response.status == 200
    assert decision.pieces is None


def test_a_range_is_for_get() -> None:
    decision = asked(head("Range: bytes=0-3"), WHOLE, size=10)
    assert isinstance(decision, Serve)
    assert decision.response.status == 200
    assert decision.response.fields.get("content-length") == "10"


def test_a_range_is_for_a_200() -> None:
    decision = asked(get("Range: bytes=0-3"), held(response(FRESH, status=404)), size=10)
    assert isinstance(decision, Serve)
    assert decision.response.status == 404
    assert decision.pieces is None


def test_a_range_is_for_what_has_a_known_size() -> None:
    decision = asked(get("Range: bytes=0-3"), WHOLE, size=None)
    assert isinstance(decision, Serve)
    assert decision.response.status == 200


def test_who_has_the_response_is_told_so_whatever_part_it_asks_for() -> None:
    decision = asked(get("Range: bytes=0-3", 'If-None-Match: "1"'), WHOLE, size=10)
    assert isinstance(decision, Serve)
    assert decision.response.status == 304


def test_several_parts_are_served_in_one_body() -> None:
    decision = asked(get("Range: bytes=0-1,8-9"), WHOLE, size=10)
    assert isinstance(decision, Serve)
    kind = decision.response.fields.get("content-type") or ""
    boundary = kind.removeprefix("multipart/byteranges; boundary=")
    assert decision.response.status == 206
    assert "content-range" not in decision.response.fields
    assert re.fullmatch(r"[0-9a-f]{30}", boundary)
    described = b"\r\nContent-Type: text/plain\r\nContent-Range: bytes "
    delimiter = f"--{boundary}".encode()
    assert sent(decision, BODY) == (
        delimiter
        + described
        + b"0-1/10\r\n\r\n01\r\n"
        + delimiter
        + described
        + b"8-9/10\r\n\r\n89\r\n"
        + delimiter
        + b"--\r\n"
    )


@pytest.mark.parametrize(
    ("value", "size", "length"),
    table(
        {
            "beyond the end": ("bytes=10-", 10, "bytes */10"),
            "none of the end": ("bytes=-0", 10, "bytes */10"),
            "of nothing": ("bytes=0-", 0, "bytes */0"),
        }
    ),
)
def test_a_range_that_is_not_there_is_refused(value: str, size: int, length: str) -> None:
    decision = asked(get(f"Range: {value}"), WHOLE, size=size)
    assert isinstance(decision, Serve)
    assert decision.response.status == 416
    assert decision.response.fields.get("content-range") == length
    assert decision.pieces == ()


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "a range": ["Range: bytes=0-3"],
            "a range of one representation": ["Range: bytes=0-3", 'If-Range: "1"'],
        }
    ),
)
def test_a_part_of_what_is_stale_is_asked_about(lines: list[str]) -> None:
    decision = asked(get(*lines), WHOLE, size=10, after=70)
    assert isinstance(decision, Revalidate)
    conditions = ('If-None-Match: "1"', f"If-Modified-Since: {date(-1000)}")
    assert decision.request.fields == fields(*lines, *conditions)


def test_a_part_is_served_stale_where_all_of_it_would_be() -> None:
    request = get("Range: bytes=0-3", "Cache-Control: max-stale")
    decision = asked(request, WHOLE, size=10, after=70)
    assert isinstance(decision, Serve)
    assert decision.response.status == 206


# §3.3: what is incomplete.

BEGINNING = part(0, 4, 10, FRESH, TAG, "Content-Type: text/plain")
MIDDLE = part(4, 6, 10, FRESH, TAG, "Content-Type: text/plain")
UNSIZED = part(0, 4, None, FRESH, TAG, "Content-Type: text/plain")


@pytest.mark.parametrize(
    ("kept", "value", "content", "place"),
    table(
        {
            "within a beginning": (BEGINNING, "bytes=1-3", b"123", "bytes 1-3/10"),
            "all of a beginning": (BEGINNING, "bytes=0-4", b"01234", "bytes 0-4/10"),
            "within a middle": (MIDDLE, "bytes=5-6", b"56", "bytes 5-6/10"),
            "within what has no size": (UNSIZED, "bytes=1-3", b"123", "bytes 1-3/*"),
        }
    ),
)
def test_a_range_within_a_stored_part_is_served(
    kept: StoredResponse, value: str, content: bytes, place: str
) -> None:
    assert kept.part is not None
    body = BODY[kept.part.first : kept.part.last + 1]
    decision = asked(get(f"Range: {value}"), kept, size=len(body))
    assert isinstance(decision, Serve)
    assert decision.response.status == 206
    assert sent(decision, body) == content
    assert decision.response.fields.get("content-range") == place


def test_several_ranges_within_a_stored_part_are() -> None:
    decision = asked(get("Range: bytes=4-4,6-6"), MIDDLE, size=3)
    body = sent(decision, b"456")
    assert b"bytes 4-4/10\r\n\r\n4\r\n" in body
    assert b"bytes 6-6/10\r\n\r\n6\r\n" in body


@pytest.mark.parametrize(
    ("kept", "lines"),
    table(
        {
            "beyond it": (BEGINNING, ["Range: bytes=3-5"]),
            "before it": (MIDDLE, ["Range: bytes=0-5"]),
            "to the end": (BEGINNING, ["Range: bytes=3-"]),
            "of the end": (BEGINNING, ["Range: bytes=-3"]),
            "nowhere": (BEGINNING, ["Range: bytes=10-"]),
            "several, not all within": (BEGINNING, ["Range: bytes=0-1,8-9"]),
            "several, of what has no size": (UNSIZED, ["Range: bytes=0-1,3-4"]),
            "that is none": (BEGINNING, ["Range: items=0-1"]),
            "of another representation": (BEGINNING, ["Range: bytes=0-1", 'If-Range: "2"']),
        }
    ),
)
def test_any_other_range_goes_to_the_origin(kept: StoredResponse, lines: list[str]) -> None:
    decision = asked(get(*lines), kept, size=5)
    assert isinstance(decision, Forward)
    assert decision.why.reason is Reason.INCOMPLETE
    assert decision.forwarded is Forwarded.PARTIAL


@pytest.mark.parametrize(
    ("kept", "validator", "detail"),
    table(
        {
            "by its tag": (BEGINNING, '"1"', "5 of 10 bytes"),
            "by its tag, of unknown size": (UNSIZED, '"1"', "5 of ? bytes"),
            "by its date": (part(0, 4, 10, FRESH, MODIFIED), date(-1000), "5 of 10 bytes"),
            "by its tag, though stale": (part(0, 4, 10, STALE, TAG), '"1"', "5 of 10 bytes"),
        }
    ),
)
def test_who_wants_all_has_the_rest_asked_for(
    kept: StoredResponse, validator: str, detail: str
) -> None:
    decision = asked(get("Accept: a"), kept, size=5)
    assert isinstance(decision, Complete)
    assert decision.request.fields == fields(
        "Accept: a", "Range: bytes=5-", f"If-Range: {validator}"
    )
    assert decision.forwarded is Forwarded.PARTIAL
    assert str(decision.why) == f"only a part is stored: {detail} (RFC 9111 §3.3)"


@pytest.mark.parametrize(
    ("kept", "lines"),
    table(
        {
            "what is no beginning": (MIDDLE, []),
            "what has a weak tag": (part(0, 4, 10, FRESH, 'ETag: W/"1"'), []),
            "what has no validator": (part(0, 4, 10, FRESH), []),
            "what has a weak date": (part(0, 4, 10, FRESH, f"Last-Modified: {date(-5)}"), []),
            "for who has something else": (BEGINNING, ['If-None-Match: "2"']),
            "for who wants nothing stored": (BEGINNING, ["Cache-Control: no-store"]),
        }
    ),
)
def test_nothing_is_asked_for_behind(kept: StoredResponse, lines: list[str]) -> None:
    decision = asked(get(*lines), kept, size=5)
    assert isinstance(decision, Forward)
    assert decision.why.reason is Reason.INCOMPLETE


def test_nothing_is_asked_for_at_all_where_only_what_is_stored_will_do() -> None:
    assert isinstance(asked(control("only-if-cached"), BEGINNING, size=5), Unsatisfiable)
    request = get("Cache-Control: only-if-cached", "Range: bytes=5-9")
    assert isinstance(asked(request, BEGINNING, size=5), Unsatisfiable)


def test_a_part_has_the_head_of_the_whole() -> None:
    decision = asked(head(), BEGINNING, size=5)
    assert isinstance(decision, Serve)
    assert decision.response.status == 200
    assert decision.response.fields.get("content-length") == "10"
    assert decision.pieces == ()


def test_who_has_what_a_part_is_of_is_told_so() -> None:
    decision = asked(get('If-None-Match: "1"'), BEGINNING, size=5)
    assert isinstance(decision, Serve)
    assert decision.response.status == 304


def test_a_stale_part_is_asked_about_for_a_range_within_it() -> None:
    decision = asked(get("Range: bytes=0-3"), part(0, 4, 10, STALE, TAG), size=5)
    assert isinstance(decision, Revalidate)
    assert decision.request.fields == fields("Range: bytes=0-3", 'If-None-Match: "1"')


def test_for_one_beyond_it_the_question_would_be_of_no_use() -> None:
    decision = asked(get("Range: bytes=3-7"), part(0, 4, 10, STALE, TAG), size=5)
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.STALE


# §4.3.3: what was validated is served whatever its age, and as the caller wants it.

STILL_GOOD = why(Reason.STALE)


@pytest.mark.parametrize(
    ("lines", "status", "content"),
    table(
        {
            "all of it": ([], 200, BODY),
            "a part": (["Range: bytes=0-3"], 206, b"0123"),
            "what the caller has": (['If-None-Match: "1"'], 304, b""),
        }
    ),
)
def test_what_was_validated_is_served_as_the_caller_wants_it(
    lines: list[str], status: int, content: bytes
) -> None:
    kept = held(response("Cache-Control: no-cache", TAG, "Content-Length: 10"))
    decision = PRIVATE.answer(get(*lines), kept, NOW + 70, 10, STILL_GOOD)
    assert isinstance(decision, Serve)
    assert (decision.response.status, decision.age, decision.ttl) == (status, 70, -70)
    assert decision.why is STILL_GOOD
    assert sent(decision, BODY) == content


def test_what_is_not_all_there_is_not_served_though_it_was_validated() -> None:
    assert PRIVATE.answer(get(), BEGINNING, NOW, 5, STILL_GOOD) is None
    assert PRIVATE.answer(get("Range: bytes=5-9"), BEGINNING, NOW, 5, STILL_GOOD) is None
    within = PRIVATE.answer(get("Range: bytes=2-3"), BEGINNING, NOW, 5, STILL_GOOD)
    assert isinstance(within, Serve)
    assert within.pieces == (Span(2, 3),)
