"""When a stored response answers a request: RFC 9111 §4, §5.2.1, §5.2.2, §5.4; RFC 9211 §2.2."""

import pytest

from stillfresh.errors import ConfigError
from stillfresh.rfc9111.decisions import (
    Forward,
    Forwarded,
    Reason,
    Revalidate,
    Serve,
    Unsatisfiable,
)
from stillfresh.rfc9111.messages import Request, StoredResponse
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    asked,
    forwarded,
    get,
    head,
    held,
    is_served,
    response,
    table,
)

# Fresh for a minute.
KEPT = held(response("Cache-Control: max-age=60", 'ETag: "1"'))
BOTH = pytest.mark.parametrize(
    "policy", [pytest.param(PRIVATE, id="private"), pytest.param(SHARED, id="shared")]
)


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
    "request_",
    table(
        {
            "a range": get("Range: bytes=0-1"),
            "If-None-Match": get('If-None-Match: "1"'),
            "If-Modified-Since": get("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
            "If-Match": get('If-Match: "1"'),
            "If-Unmodified-Since": get("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"),
            "content": get("Content-Length: 5"),
        }
    ),
)
def test_what_the_caller_asks_on_its_own_goes_on_as_it_is(request_: Request) -> None:
    assert isinstance(asked(request_, KEPT), Forward)


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
            "immutable, asked to validate": (
                "max-age=60, immutable",
                control("no-cache"),
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


def test_what_is_served_stale_says_so() -> None:
    decision = asked(control("max-stale=20"), KEPT, after=70)
    assert isinstance(decision, Serve)
    assert decision.why.reason is Reason.STALE_ALLOWED
    assert decision.ttl == -10


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
    assert reason.section.startswith(("RFC 9111 §", "RFC 9110 §"))


# What the user may decide.


@pytest.mark.parametrize(
    "settings",
    [
        {"heuristic_fraction": -0.1},
        {"heuristic_fraction": 1.1},
        {"heuristic_fraction": float("nan")},
        {"heuristic_cap": -1},
        {"heuristic_cap": float("nan")},
        {"max_body": -1},
        {"secret": b"short"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Policy(**settings)  # type: ignore[arg-type]


def test_a_policy_shows_what_differs_but_never_its_secret() -> None:
    shown = repr(Policy(shared=True, secret=b"0123456789abcdef"))
    assert "shared=True" in shown
    assert "max_body" not in shown
    assert "0123456789abcdef" not in shown
    assert repr(Policy()) == "Policy()"


def test_a_private_cache_is_the_default() -> None:
    assert not Policy().shared


@pytest.mark.parametrize(
    ("value", "vary", "private", "shared"),
    table(
        {
            "nothing": ("max-age=60", "", {"authorization"}, {"authorization"}),
            "Vary": (
                "max-age=60",
                "Accept",
                {"accept", "authorization"},
                {"accept", "authorization"},
            ),
            "public": ("public, max-age=60", "", {"authorization"}, set()),
            "s-maxage": ("s-maxage=60", "", {"authorization"}, set()),
            "must-revalidate": (
                "must-revalidate, max-age=60",
                "",
                {"authorization"},
                {"authorization"},
            ),
            "private": (
                "private, max-age=60",
                "",
                {"authorization", "cookie"},
                {"authorization", "cookie"},
            ),
        }
    ),
)
def test_what_keeps_users_apart(value: str, vary: str, private: set[str], shared: set[str]) -> None:
    kept = response(f"Cache-Control: {value}", f"Vary: {vary}")
    assert PRIVATE.selecting_names(kept) == private
    assert SHARED.selecting_names(kept) == shared


def test_the_user_may_name_more_of_it() -> None:
    policy = Policy(shared=True, isolate=frozenset({"X-User"}))
    assert "x-user" in policy.selecting_names(response("Cache-Control: public"))
    assert policy.concealed == {"authorization", "proxy-authorization", "cookie", "x-user"}


def test_a_stale_response_is_validated_rather_than_asked_for_anew() -> None:
    assert isinstance(asked(get(), KEPT, after=70), Revalidate)
