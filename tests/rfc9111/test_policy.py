"""What the user may decide, and what the engine asks before a decision: RFC 9111 §2, §3, §4."""

import pytest

from stillfresh.errors import ConfigError
from stillfresh.rfc9111.decisions import Forward, Forwarded, Pass, Reason, Unsatisfiable
from stillfresh.rfc9111.messages import Request
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.rules import Rule
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    URL,
    asked,
    get,
    head,
    held,
    is_served,
    is_stored,
    received,
    response,
    table,
)

FRESH = "Cache-Control: max-age=60"
SECRET = b"0123456789abcdef"


@pytest.mark.parametrize(
    "settings",
    [
        {"heuristic_fraction": -0.1},
        {"heuristic_fraction": 1.1},
        {"heuristic_fraction": float("nan")},
        {"heuristic_cap": -1},
        {"heuristic_cap": float("nan")},
        {"max_body": -1},
        {"stale_while_revalidate": -1},
        {"stale_while_revalidate": float("nan")},
        {"stale_if_error": -1},
        {"stale_if_error": float("nan")},
        {"secret": b"short"},
        {"methods": {"POST"}},
        {"methods": ["GET", "QUERY"]},
        {"methods": {"get"}},
        # Each of these would be taken for its letters.
        {"methods": "GET"},
        {"isolate": "X-User"},
        {"targets": "CDN-Cache-Control"},
        {"statuses": "200"},
        {"rules": "never"},
        {"isolate": b"X-User"},
        # One where there may be several.
        {"statuses": 200},
        {"targets": 5},
        {"rules": Rule(fresh_for=5)},
        {"methods": None},
        {"isolate": None},
        {"rules": None},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Policy(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"heuristic_fraction": 0},
        {"heuristic_fraction": 1},
        {"heuristic_cap": 0},
        {"max_body": 0},
        {"stale_while_revalidate": 0},
        {"stale_if_error": 0},
        {"secret": SECRET},
        {"methods": ()},
        {"methods": ["GET"]},
        {"statuses": [200, 404]},
        {"isolate": ["X-User"]},
        {"targets": []},
        {"rules": [Rule(fresh_for=5)]},
    ],
    ids=str,
)
def test_what_makes_some_is_taken_and_can_be_compared(settings: dict[str, object]) -> None:
    policies = {Policy(**settings), Policy(**settings)}  # type: ignore[arg-type]
    assert len(policies) == 1


def test_several_are_kept_as_what_nobody_can_change() -> None:
    rule = Rule(fresh_for=5)
    policy = Policy(
        methods={"GET"}, statuses={200}, isolate={"X-User"}, targets=["A-Control"], rules=[rule]
    )
    several = (policy.methods, policy.statuses, policy.isolate, policy.targets, policy.rules)
    kept: tuple[object, ...] = (
        frozenset({"GET"}),
        frozenset({200}),
        frozenset({"x-user"}),
        ("a-control",),
        (rule,),
    )
    assert several == kept
    assert list(map(type, several)) == list(map(type, kept))


def test_a_private_cache_that_keeps_to_the_letter_is_the_default() -> None:
    assert not Policy().shared
    assert Policy() == Policy(
        heuristic_fraction=0.1,
        heuristic_cap=86_400,
        methods=frozenset({"GET", "HEAD"}),
        statuses=None,
        max_body=None,
        stale_while_revalidate=None,
        stale_if_error=None,
        targets=(),
        match_language=False,
        rules=(),
    )


@pytest.mark.parametrize(
    ("policy", "shown"),
    table(
        {
            "nothing": (Policy(), "Policy()"),
            "a shared cache": (Policy(shared=True), "Policy(shared=True)"),
            "a value": (Policy(heuristic_cap=5), "Policy(heuristic_cap=5)"),
            "several": (
                Policy(shared=True, max_body=5, match_language=True),
                "Policy(shared=True, max_body=5, match_language=True)",
            ),
            "what is as by default": (
                Policy(shared=True, targets=("CDN-Cache-Control",)),
                "Policy(shared=True)",
            ),
            "what is not": (Policy(shared=True, targets=()), "Policy(shared=True, targets=())"),
            "never the secret": (Policy(secret=SECRET), "Policy(secret=...)"),
        }
    ),
)
def test_a_policy_shows_what_differs_from_the_defaults(policy: Policy, shown: str) -> None:
    assert repr(policy) == shown


# Methods and statuses (§3, §4).


@pytest.mark.parametrize(
    ("methods", "of_get", "of_head"),
    table(
        {
            "both": ({"GET", "HEAD"}, True, True),
            "GET": ({"GET"}, True, False),
            "HEAD": ({"HEAD"}, False, True),
            "none": (set(), False, False),
        }
    ),
)
def test_the_user_chooses_which_methods_are_answered_from_the_cache(
    methods: set[str], of_get: bool, of_head: bool
) -> None:
    policy, kept = Policy(methods=frozenset(methods)), held(response(FRESH))
    assert is_served(asked(get(), kept, policy=policy)) is of_get
    assert is_served(asked(head(), kept, policy=policy)) is of_head
    assert policy.looks_up(get()) is of_get
    assert policy.looks_up(head()) is of_head


def test_what_is_not_answered_from_the_cache_is_written_through() -> None:
    decision = asked(get(), held(response(FRESH)), policy=Policy(methods=frozenset({"HEAD"})))
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.METHOD


def test_what_is_not_answered_is_not_stored() -> None:
    policy = Policy(methods=frozenset({"HEAD"}))
    assert not policy.stores(get())
    assert not is_stored(received(response(FRESH), policy=policy))
    assert PRIVATE.stores(get())
    assert not PRIVATE.stores(head())
    assert not PRIVATE.stores(get(method="POST"))


@pytest.mark.parametrize(
    ("statuses", "status", "allowed"),
    table(
        {
            "one that is named": ({200, 404}, 404, True),
            "one that is not": ({200, 404}, 410, False),
            "none": (set(), 200, False),
        }
    ),
)
def test_the_user_chooses_which_statuses_are_stored(
    statuses: set[int], status: int, allowed: bool
) -> None:
    policy = Policy(statuses=frozenset(statuses))
    decision = received(response(FRESH, status=status), policy=policy)
    assert is_stored(decision) is allowed
    if not allowed:
        assert isinstance(decision, Pass)
        assert decision.why.reason is Reason.STATUS_NOT_STORED


def test_naming_a_status_is_no_leave_to_store_it() -> None:
    policy = Policy(statuses=frozenset({200, 304, 500, 599}))
    assert not is_stored(received(response(status=500), policy=policy))
    assert not is_stored(received(response(FRESH, 'ETag: "1"', status=304), policy=policy))
    assert not is_stored(received(response("Cache-Control: no-store"), policy=policy))


# What selects a response (§4.1), beside what Vary says.


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
            "must-revalidate": ("must-revalidate, max-age=60", "", {"authorization"}, set()),
            "public, but Vary": (
                "public, max-age=60",
                "Authorization",
                {"authorization"},
                {"authorization"},
            ),
            "private": (
                "private, max-age=60",
                "",
                {"authorization", "cookie"},
                {"authorization", "cookie"},
            ),
            "private about fields": (
                'private="X", max-age=60',
                "",
                {"authorization"},
                {"authorization"},
            ),
        }
    ),
)
def test_what_keeps_users_apart(value: str, vary: str, private: set[str], shared: set[str]) -> None:
    kept = response(f"Cache-Control: {value}", f"Vary: {vary}")
    assert PRIVATE.selecting_names(get(), kept) == private
    assert SHARED.selecting_names(get(), kept) == shared


def test_the_user_may_name_more_of_it() -> None:
    policy = Policy(shared=True, isolate=frozenset({"X-User"}))
    assert "x-user" in policy.selecting_names(get(), response("Cache-Control: public"))
    assert policy.concealed == {"authorization", "proxy-authorization", "cookie", "x-user"}
    assert PRIVATE.concealed == {"authorization", "proxy-authorization", "cookie"}


# What the engine asks first.


def test_the_key_of_a_request_is_its_normalised_uri() -> None:
    assert PRIVATE.primary_key(get(url="HTTPS://me@Example.org:443/x/../a#b")) == URL


def test_what_is_no_absolute_uri_has_none() -> None:
    for policy in (PRIVATE, Policy(rules=(Rule(fresh_for=5),))):
        with pytest.raises(ValueError, match="not an absolute URL"):
            policy.primary_key(get(url="/a"))
        assert not policy.wants_content("POST", "/a")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "QUERY"])
def test_without_a_rule_content_is_no_part_of_a_key(method: str) -> None:
    assert not PRIVATE.wants_content(method, URL)
    assert PRIVATE.primary_key(Request(method, URL, get().fields, b"a")) == URL


def test_only_if_cached_wants_nothing_of_another_method() -> None:
    request = get("Cache-Control: only-if-cached", method="POST")
    assert not isinstance(asked(request, None), Unsatisfiable)
