"""Serving stale, at once or in the place of an origin that failed: RFC 5861, RFC 9111 §4.2.4."""

import pytest

from stillfresh.rfc9111.decisions import Forward, Reason, Revalidate, Serve
from stillfresh.rfc9111.messages import Request, StoredResponse
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    asked,
    failed,
    get,
    head,
    held,
    is_served,
    is_stored,
    part,
    received,
    response,
    sent,
    table,
)

TAG = 'ETag: "1"'
BODY = b"0123456789"


def said(value: str) -> StoredResponse:
    return held(response(f"Cache-Control: {value}", TAG))


def control(value: str) -> Request:
    return get(f"Cache-Control: {value}")


def serving_late(seconds: float | None) -> Policy:
    return Policy(stale_while_revalidate=seconds)


def standing_in(seconds: float | None) -> Policy:
    return Policy(stale_if_error=seconds)


LATE = said("max-age=60, stale-while-revalidate=30")
INSTEAD = said("max-age=60, stale-if-error=30")


# RFC 5861 §3: stale-while-revalidate.


@pytest.mark.parametrize(
    ("age", "served", "refresh"),
    table(
        {
            "fresh": (59, True, False),
            "just stale": (60, True, True),
            "stale for less": (89, True, True),
            "stale for longer": (91, False, False),
        }
    ),
)
def test_a_stale_response_may_be_served_while_it_is_validated(
    age: float, served: bool, refresh: bool
) -> None:
    decision = asked(get(), LATE, after=age)
    assert is_served(decision) is served
    if isinstance(decision, Serve):
        assert decision.refresh is refresh
        assert decision.ttl == 60 - age
    else:
        assert isinstance(decision, Revalidate)


def test_it_says_so() -> None:
    decision = asked(get(), LATE, after=70)
    assert str(decision.why) == ("stale, and refreshed behind: max-age=60, age 70 (RFC 5861 §3)")


@pytest.mark.parametrize(
    ("value", "private", "shared"),
    table(
        {
            "nothing else": ("max-age=60", True, True),
            "Cache-Control in capitals": ("MAX-AGE=60", True, True),
            "must-revalidate": ("max-age=60, must-revalidate", False, False),
            "proxy-revalidate": ("max-age=60, proxy-revalidate", True, False),
            "s-maxage": ("max-age=60, s-maxage=60", True, False),
            "no-cache": ("max-age=60, no-cache", False, False),
            "no-cache about fields": ('max-age=60, no-cache="X"', True, True),
            "public": ("max-age=60, public", True, True),
            "immutable": ("max-age=60, immutable", True, True),
        }
    ),
)
def test_what_must_not_be_served_stale_is_not_meanwhile_nor_instead(
    value: str, private: bool, shared: bool
) -> None:
    kept = said(f"{value}, stale-while-revalidate=30, stale-if-error=30")
    for policy, allowed in ((PRIVATE, private), (SHARED, shared)):
        assert is_served(asked(get(), kept, policy=policy, after=70)) is allowed
        assert (failed(get(), kept, policy=policy, after=70) is not None) is allowed


@pytest.mark.parametrize(
    "value",
    table(
        {
            "no argument": "{}",
            "text": "{}=abc",
            "a negative number": "{}=-30",
            "two different numbers": "{0}=30, {0}=40",
            "zero": "{}=0",
        }
    ),
)
def test_what_can_not_be_right_allows_nothing(value: str) -> None:
    late = said("max-age=60, " + value.format("stale-while-revalidate"))
    assert not is_served(asked(get(), late, after=61))
    instead = said("max-age=60, " + value.format("stale-if-error"))
    assert failed(get(), instead, after=61) is None


@pytest.mark.parametrize(
    "request_",
    table(
        {
            "no-cache": control("no-cache"),
            "Pragma": get("Pragma: no-cache"),
            "max-age": control("max-age=20"),
            "max-age of more": control("max-age=1000"),
            "min-fresh": control("min-fresh=5"),
            "no-store": control("no-store"),
        }
    ),
)
def test_a_request_that_wants_better_does_not_get_what_is_stale(request_: Request) -> None:
    assert not is_served(asked(request_, LATE, after=70))


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
def test_what_is_served_stale_is_what_the_caller_wants(
    lines: list[str], status: int, content: bytes
) -> None:
    meanwhile = asked(get(*lines), LATE, after=70, size=10)
    instead = failed(get(*lines), INSTEAD, after=70, size=10)
    for decision in (meanwhile, instead):
        assert isinstance(decision, Serve)
        assert decision.response.status == status
        assert decision.response.fields.get("age") == "70"
        assert sent(decision, BODY) == content


def test_head_is_answered_meanwhile_and_instead_too() -> None:
    assert is_served(asked(head(), LATE, after=70))
    assert failed(head(), INSTEAD, after=70) is not None


def test_what_is_not_all_there_is_not_served_meanwhile() -> None:
    kept = part(0, 4, 10, "Cache-Control: max-age=60, stale-while-revalidate=30", TAG)
    assert not is_served(asked(get(), kept, after=70, size=5))
    assert not is_served(asked(get("Range: bytes=5-9"), kept, after=70, size=5))
    # Nor what is there of it: to ask for news of that behind its caller is to ask for all of it.
    within = asked(get("Range: bytes=0-3"), kept, after=70, size=5)
    assert isinstance(within, Revalidate)
    assert within.request.fields.get("range") == "bytes=0-3"


@pytest.mark.parametrize(
    ("policy", "value", "age", "served"),
    table(
        {
            "longer than the response says": (
                serving_late(90),
                "max-age=60, stale-while-revalidate=30",
                100,
                True,
            ),
            "shorter than it says": (
                serving_late(5),
                "max-age=60, stale-while-revalidate=30",
                70,
                False,
            ),
            "never": (serving_late(0), "max-age=60, stale-while-revalidate=30", 61, False),
            "as it says": (serving_late(None), "max-age=60, stale-while-revalidate=30", 70, True),
            "though it says nothing": (serving_late(30), "max-age=60", 70, True),
            "of any age": (serving_late(float("inf")), "max-age=60", 10**9, True),
            "not where it forbids that": (
                serving_late(30),
                "max-age=60, must-revalidate",
                61,
                False,
            ),
            "not where it is to be asked about": (
                serving_late(30),
                "max-age=60, no-cache",
                61,
                False,
            ),
        }
    ),
)
def test_the_user_may_say_for_how_long_that_goes(
    policy: Policy, value: str, age: float, served: bool
) -> None:
    assert is_served(asked(get(), said(value), policy=policy, after=age)) is served


# RFC 5861 §4: stale-if-error.


@pytest.mark.parametrize(
    ("value", "request_", "age", "served"),
    table(
        {
            "the response, for less": ("max-age=60, stale-if-error=30", get(), 89, True),
            "the response, for longer": ("max-age=60, stale-if-error=30", get(), 91, False),
            "nobody": ("max-age=60", get(), 61, False),
            "the request, for less": ("max-age=60", control("stale-if-error=30"), 89, True),
            "the request, for longer": ("max-age=60", control("stale-if-error=30"), 91, False),
            "the request, for longer than the response": (
                "max-age=60, stale-if-error=5",
                control("stale-if-error=30"),
                80,
                True,
            ),
            "the response, for longer than the request": (
                "max-age=60, stale-if-error=30",
                control("stale-if-error=5"),
                80,
                True,
            ),
            "max-stale": ("max-age=60", control("max-stale=30"), 70, True),
            "the request, which wants another": (
                "max-age=60",
                control("stale-if-error=30, no-cache"),
                70,
                False,
            ),
            "the request, but must-revalidate": (
                "max-age=60, must-revalidate",
                control("stale-if-error=30"),
                70,
                False,
            ),
            "stale-while-revalidate only": (
                "max-age=60, stale-while-revalidate=5",
                get(),
                70,
                False,
            ),
        }
    ),
)
def test_a_stale_response_stands_in_for_as_long_as_is_allowed_by(
    value: str, request_: Request, age: float, served: bool
) -> None:
    decision = failed(request_, said(value), after=age)
    assert (decision is not None) is served


def test_what_stands_in_says_so() -> None:
    decision = failed(get(), INSTEAD, after=70)
    assert decision is not None
    assert decision.why.reason is Reason.STALE_IF_ERROR
    assert decision.ttl == -10
    assert not decision.refresh
    assert str(decision.why) == (
        "stale, and the origin failed: status 503, max-age=60, age 70 (RFC 5861 §4)"
    )


@pytest.mark.parametrize(
    ("policy", "value", "age", "served"),
    table(
        {
            "longer than the response says": (
                standing_in(90),
                "max-age=60, stale-if-error=30",
                100,
                True,
            ),
            "shorter than it says": (standing_in(5), "max-age=60, stale-if-error=30", 70, False),
            "never": (standing_in(0), "max-age=60, stale-if-error=30", 61, False),
            "never, not even as it gets stale": (
                standing_in(0),
                "max-age=60, stale-if-error=30",
                60,
                False,
            ),
            "as it says": (standing_in(None), "max-age=60, stale-if-error=30", 70, True),
            "though it says nothing": (standing_in(30), "max-age=60", 70, True),
            "of any age": (standing_in(float("inf")), "max-age=60", 10**9, True),
            "not where it forbids that": (
                standing_in(30),
                "max-age=60, must-revalidate",
                61,
                False,
            ),
            "not where it is to be asked about": (
                standing_in(30),
                "max-age=60, no-cache",
                1,
                False,
            ),
        }
    ),
)
def test_the_user_may_say_how_long_that_is(
    policy: Policy, value: str, age: float, served: bool
) -> None:
    decision = failed(get(), said(value), policy=policy, after=age)
    assert (decision is not None) is served


@pytest.mark.parametrize("seconds", [0, 5])
def test_what_the_user_says_goes_for_the_request_as_well(seconds: float) -> None:
    request = control("stale-if-error=30")
    assert failed(request, said("max-age=60"), policy=standing_in(seconds), after=70) is None


def test_what_is_not_all_there_stands_in_for_nothing() -> None:
    kept = part(0, 4, 10, "Cache-Control: max-age=60, stale-if-error=30", TAG)
    assert failed(get(), kept, after=70, size=5) is None
    assert failed(get("Range: bytes=5-9"), kept, after=70, size=5) is None
    assert sent(failed(get("Range: bytes=0-3"), kept, after=70, size=5), b"01234") == b"0123"


@pytest.mark.parametrize("line", ['If-Match: "1"', "Content-Length: 5"])
def test_nothing_stands_in_where_only_the_origin_can_answer(line: str) -> None:
    assert isinstance(asked(get(line), INSTEAD, after=70), Forward)
    assert failed(get(line), INSTEAD, after=70) is None


@pytest.mark.parametrize("directive", ["stale-while-revalidate", "stale-if-error"])
def test_what_may_be_served_stale_is_worth_storing_without_a_validator(directive: str) -> None:
    assert is_stored(received(response(f"Cache-Control: max-age=0, {directive}=30")))
    assert not is_stored(received(response(f"Cache-Control: max-age=0, {directive}=0")))
