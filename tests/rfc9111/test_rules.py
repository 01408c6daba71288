"""Rules of the user's for some exchanges: what matches, what they settle, who settles it."""

import pickle
import re

import pytest

from stillfresh.errors import ConfigError
from stillfresh.rfc9111.cache_status import hit
from stillfresh.rfc9111.decisions import (
    Forward,
    Forwarded,
    Pass,
    Reason,
    Revalidate,
    Serve,
    Store,
    Unsatisfiable,
)
from stillfresh.rfc9111.keys import primary_of
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.rules import ExpiresAfter, LastModified, OneDayCache, Rule
from stillfresh.rfc9111.structured import parse_list
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    URL,
    asked,
    date,
    failed,
    fields,
    get,
    head,
    held,
    is_served,
    is_stored,
    part,
    received,
    response,
    table,
)

FRESH = "Cache-Control: max-age=60"
TAG = 'ETag: "1"'


def ruled(*rules: Rule) -> Policy:
    return Policy(rules=rules)


def lifetime(policy: Policy, said: Response | None = None, request: Request | None = None) -> float:
    """Tell how long a response is fresh, which says a minute itself unless it says otherwise."""
    request = request or get()
    return policy.lifetime(request, held(said or response(FRESH), request)).seconds


# What makes no sense.


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": "POST"},
        {"methods": b"POST"},
        {"statuses": 200},
        {"content_types": "image/*"},
        {"ignore": "no-store"},
        {"key_without": "utm_source"},
        {"fresh_for": -1},
        {"fresh_for": float("nan")},
        {"ignore": {"no-stores"}},
        {"ignore": {"no-cache-fields"}},
        {"ignore": {"targeted"}},
        {"ignore": {"no_store"}},
        {"ignore": {"max-stale"}},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Rule(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("matches", [{"statuses": {200}}, {"content_types": {"image/*"}}], ids=str)
@pytest.mark.parametrize(
    "settles",
    [{"key_without": {"a"}}, {"key_with_content": True}, {"never_store": True}],
    ids=str,
)
def test_what_is_done_before_there_is_a_response_can_not_depend_on_it(
    matches: dict[str, object], settles: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="depend on the response"):
        Rule(**matches, **settles)  # type: ignore[arg-type]
    Rule(**matches)  # type: ignore[arg-type]
    Rule(**settles)  # type: ignore[arg-type]


def test_a_rule_is_a_value() -> None:
    one = Rule(url="https://*", methods=["GET"], ignore=["no-store"], fresh_for=5)  # type: ignore[arg-type]
    other = Rule(
        url="https://*", methods=frozenset({"GET"}), ignore=frozenset({"no-store"}), fresh_for=5
    )
    assert one == other
    assert hash(one) == hash(other)


# What matches. Each row: the rule, the request, the response, whether it goes.


@pytest.mark.parametrize(
    ("rule", "request_", "said", "matches"),
    table(
        {
            "anything": (Rule(fresh_for=5), get(), response(FRESH), True),
            "the URL": (Rule(url=URL, fresh_for=5), get(), response(FRESH), True),
            "the URL, written otherwise": (
                Rule(url=URL, fresh_for=5),
                get(url="HTTPS://me@Example.org:443/b/../a#c"),
                response(FRESH),
                True,
            ),
            "a pattern": (
                Rule(url="https://*.example.org/*", fresh_for=5),
                get(url="https://api.example.org/a/b?c"),
                response(FRESH),
                True,
            ),
            "another pattern": (
                Rule(url="https://api.example.org/*", fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "a pattern of the beginning only": (
                Rule(url="https://example.org/", fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "a pattern in another case": (
                Rule(url="https://example.org/A", fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "an expression": (
                Rule(url=re.compile(r"https://[^/]*/[ab]"), fresh_for=5),
                get(),
                response(FRESH),
                True,
            ),
            "an expression of the beginning only": (
                Rule(url=re.compile(r"https://"), fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "the method": (
                Rule(methods=frozenset({"GET"}), fresh_for=5),
                get(),
                response(FRESH),
                True,
            ),
            "another method": (
                Rule(methods=frozenset({"HEAD"}), fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "no method": (Rule(methods=frozenset(), fresh_for=5), get(), response(FRESH), False),
            "the status": (
                Rule(statuses=frozenset({404}), fresh_for=5),
                get(),
                response(FRESH, status=404),
                True,
            ),
            "another status": (
                Rule(statuses=frozenset({404}), fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "the type": (
                Rule(content_types=frozenset({"text/html"}), fresh_for=5),
                get(),
                response(FRESH, "Content-Type: text/html"),
                True,
            ),
            "the type, with parameters and in another case": (
                Rule(content_types=frozenset({"TEXT/html"}), fresh_for=5),
                get(),
                response(FRESH, "Content-Type: Text/HTML ; charset=utf-8"),
                True,
            ),
            "a pattern of types": (
                Rule(content_types=frozenset({"audio/*", "image/*"}), fresh_for=5),
                get(),
                response(FRESH, "Content-Type: image/png"),
                True,
            ),
            "another type": (
                Rule(content_types=frozenset({"image/*"}), fresh_for=5),
                get(),
                response(FRESH, "Content-Type: text/html; a=image/png"),
                False,
            ),
            "no type": (
                Rule(content_types=frozenset({"image/*"}), fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "the URL of another method": (
                Rule(url=URL, methods=frozenset({"HEAD"}), fresh_for=5),
                get(),
                response(FRESH),
                False,
            ),
            "the status of another type": (
                Rule(statuses=frozenset({200}), content_types=frozenset({"image/*"}), fresh_for=5),
                get(),
                response(FRESH, "Content-Type: text/html"),
                False,
            ),
        }
    ),
)
def test_a_rule_goes_where_all_that_it_says_matches(
    rule: Rule, request_: Request, said: Response, matches: bool
) -> None:
    assert lifetime(ruled(rule), said, request_) == (5 if matches else 60)


# Which rule settles it.

A = "https://example.org/a"


@pytest.mark.parametrize(
    ("rules", "seconds"),
    table(
        {
            "the first": ([Rule(fresh_for=5), Rule(fresh_for=6)], 5),
            "the first that matches": (
                [Rule(url="https://other.example/*", fresh_for=5), Rule(fresh_for=6)],
                6,
            ),
            "the first that speaks of it": ([Rule(always_revalidate=True), Rule(fresh_for=6)], 6),
            "the first, though it says nothing is fresh": (
                [Rule(fresh_for=0), Rule(fresh_for=6)],
                0,
            ),
            "none": ([Rule(url="https://other.example/*", fresh_for=5)], 60),
        }
    ),
)
def test_the_first_that_speaks_of_a_matter_settles_it(rules: list[Rule], seconds: float) -> None:
    assert lifetime(ruled(*rules)) == seconds


def test_several_may_settle_different_matters() -> None:
    policy = ruled(
        Rule(fresh_for=5),
        Rule(ignore=frozenset({"no-store"})),
        Rule(ignore=frozenset({"private"})),
        Rule(key_without=frozenset({"a"})),
        Rule(key_without=frozenset({"b"})),
    )
    decision = received(response("Cache-Control: no-store"), policy=policy)
    assert isinstance(decision, Store)
    assert decision.ttl == 5
    assert policy.primary_key(get(url=f"{URL}?a=1&b=2")) == f"{URL}?b=2"


# fresh_for.


@pytest.mark.parametrize(
    "said",
    table(
        {
            "less": response("Cache-Control: max-age=60"),
            "more": response("Cache-Control: max-age=3600"),
            "Expires": response(f"Expires: {date(60)}"),
            "a heuristic": response(f"Last-Modified: {date(-1000)}"),
            "nothing": response(),
            "nothing, of a status that has to be allowed": response(status=302),
        }
    ),
)
def test_a_response_is_fresh_for_as_long_as_a_rule_says_whatever_it_says(said: Response) -> None:
    policy = ruled(Rule(fresh_for=600))
    decision = received(said, policy=policy)
    assert isinstance(decision, Store)
    assert decision.ttl == 600
    assert is_served(asked(get(), decision.stored, policy=policy, after=599))
    assert not is_served(asked(get(), decision.stored, policy=policy, after=600))


def test_another_rule_does_not_allow_what_has_to_be_allowed() -> None:
    said = response(TAG, status=302)
    assert is_stored(received(said, policy=ruled(Rule(fresh_for=600))))
    assert not is_stored(received(said, policy=ruled(Rule(always_revalidate=True))))


def test_what_is_never_fresh_and_can_not_be_validated_is_not_stored() -> None:
    assert not is_stored(received(response(FRESH), policy=ruled(Rule(fresh_for=0))))
    assert is_stored(received(response(FRESH, TAG), policy=ruled(Rule(fresh_for=0))))


@pytest.mark.parametrize(
    ("seconds", "why"),
    table(
        {
            "longer": (
                600,
                "fresh by a rule of the policy: 600 by a rule, age 20 (against RFC 9111 §4.2)",
            ),
            "as long": (60, "fresh: 60 by a rule, age 20 (RFC 9111 §4.2)"),
            "shorter": (30, "fresh: 30 by a rule, age 20 (RFC 9111 §4.2)"),
        }
    ),
)
def test_what_is_against_the_rfc_says_so(seconds: float, why: str) -> None:
    decision = asked(get(), held(response(FRESH)), policy=ruled(Rule(fresh_for=seconds)), after=20)
    assert isinstance(decision, Serve)
    assert str(decision.why) == why


@pytest.mark.parametrize("value", ["no-store", "no-store, max-age=60", "private"], ids=str)
def test_what_may_not_be_stored_is_not_for_all_that(value: str) -> None:
    policy = Policy(shared=True, rules=(Rule(fresh_for=600),))
    assert not is_stored(received(response(f"Cache-Control: {value}"), policy=policy))


@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Pragma: no-cache"])
def test_nor_is_a_request_overruled(line: str) -> None:
    kept = held(response(FRESH, TAG))
    assert not is_served(asked(get(line), kept, policy=ruled(Rule(fresh_for=600))))


def test_what_is_to_be_validated_each_time_is_so_for_all_that() -> None:
    kept = held(response("Cache-Control: no-cache", TAG))
    assert not is_served(asked(get(), kept, policy=ruled(Rule(fresh_for=600))))


@pytest.mark.parametrize("seconds", [1e20, float("inf")])
def test_what_is_fresh_for_ever_can_be_said_in_cache_status(seconds: float) -> None:
    policy = ruled(Rule(fresh_for=seconds))
    decision = asked(get(), held(response()), policy=policy, after=20)
    assert isinstance(decision, Serve)
    assert parse_list(hit(decision.ttl)) is not None


# never_store.


def test_what_is_never_to_be_stored_is_not() -> None:
    decision = received(response(FRESH, TAG), policy=ruled(Rule(never_store=True)))
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.RULE_NEVER_STORE


def test_nor_is_used_what_was_stored_before() -> None:
    policy, kept = ruled(Rule(url=URL, never_store=True)), held(response(FRESH, TAG))
    assert not policy.looks_up(get())
    decision = asked(get(), kept, policy=policy)
    assert isinstance(decision, Forward)
    assert decision.why.reason is Reason.RULE_NEVER_STORE
    assert decision.forwarded is Forwarded.BYPASS
    assert policy.looks_up(get(url="https://example.org/b"))


def test_so_nothing_is_there_for_who_wants_only_what_is_stored() -> None:
    request = get("Cache-Control: only-if-cached")
    assert isinstance(asked(request, None, policy=ruled(Rule(never_store=True))), Unsatisfiable)


# always_revalidate.


def test_what_is_always_to_be_validated_is_never_served_unasked() -> None:
    policy, kept = ruled(Rule(always_revalidate=True)), held(response(FRESH, TAG))
    decision = asked(get(), kept, policy=policy)
    assert isinstance(decision, Revalidate)
    assert str(decision.why) == ("a rule of the policy has it validated each time (RFC 9111 §4.3)")
    assert not is_served(asked(head(), kept, policy=policy))
    assert not is_served(asked(get("Cache-Control: max-stale"), kept, policy=policy))


def test_nor_does_it_stand_in_where_the_origin_fails() -> None:
    kept = held(response("Cache-Control: max-age=60, stale-if-error=60", TAG))
    assert failed(get(), kept, policy=ruled(Rule(always_revalidate=True))) is None


def test_it_may_depend_on_the_response() -> None:
    policy = ruled(Rule(content_types=frozenset({"text/html"}), always_revalidate=True))
    html, png = "Content-Type: text/html", "Content-Type: image/png"
    assert not is_served(asked(get(), held(response(FRESH, html)), policy=policy))
    assert is_served(asked(get(), held(response(FRESH, png)), policy=policy))


# ignore.


@pytest.mark.parametrize(
    ("ignored", "value"),
    table(
        {
            "no-store": ({"no-store"}, "no-store, max-age=60"),
            "private": ({"private"}, "private, max-age=60"),
            "both": ({"private", "no-store"}, "private, no-store, max-age=60"),
        }
    ),
)
def test_what_is_ignored_forbids_nothing_to_store(ignored: set[str], value: str) -> None:
    said = response(f"Cache-Control: {value}")
    assert not is_stored(received(said, policy=SHARED))
    policy = Policy(shared=True, rules=(Rule(ignore=frozenset(ignored)),))
    assert is_stored(received(said, policy=policy))


@pytest.mark.parametrize(
    ("ignored", "value", "served"),
    table(
        {
            "no-cache": ({"no-cache"}, "no-cache, max-age=90", True),
            "must-revalidate": ({"must-revalidate"}, "max-age=60, must-revalidate", True),
            "max-age, so that Expires counts": ({"max-age"}, "max-age=1", True),
            "another": ({"no-store"}, "no-cache, max-age=90", False),
        }
    ),
)
def test_what_is_ignored_forbids_nothing_to_serve(
    ignored: set[str], value: str, served: bool
) -> None:
    kept = held(response(f"Cache-Control: {value}", f"Expires: {date(90)}"))
    request = get("Cache-Control: max-stale=20")
    assert not is_served(asked(request, kept, after=70))
    policy = ruled(Rule(ignore=frozenset(ignored)))
    assert is_served(asked(request, kept, policy=policy, after=70)) is served


@pytest.mark.parametrize("name", ["no-cache", "private"])
def test_what_is_ignored_hides_no_field(name: str) -> None:
    policy = Policy(shared=True, rules=(Rule(ignore=frozenset({name})),))
    decision = received(response(f'Cache-Control: max-age=60, {name}="X"', "X: 1"), policy=policy)
    assert isinstance(decision, Store)
    assert decision.stored.response.fields.get("x") == "1"


def test_what_is_ignored_is_stored_all_the_same() -> None:
    policy = ruled(Rule(ignore=frozenset({"no-store"})))
    decision = received(response("Cache-Control: no-store, max-age=60"), policy=policy)
    assert isinstance(decision, Store)
    assert decision.stored.response.fields.get("cache-control") == "no-store, max-age=60"


# key_without.


@pytest.mark.parametrize(
    ("names", "query", "left"),
    table(
        {
            "one": ({"a"}, "?a=1&b=2", "?b=2"),
            "one in the middle": ({"b"}, "?a=1&b=2&c=3", "?a=1&c=3"),
            "one that comes twice": ({"a"}, "?a=1&b=2&a=3", "?b=2"),
            "one without a value": ({"a"}, "?a&b", "?b"),
            "several": ({"a", "b"}, "?a=1&b=2&c=3", "?c=3"),
            "the only one": ({"a"}, "?a=1", ""),
            "an encoded one": ({"ä b"}, "?%C3%A4+b=1&c", "?c"),
            "by a pattern": ({"utm_*"}, "?utm_source=1&utm_medium=2&a=3", "?a=3"),
            "all": ({"*"}, "?a=1&b", ""),
            "one in another case": ({"a"}, "?A=1", "?A=1"),
            "one that isn't there": ({"a"}, "?b=1", "?b=1"),
            "one of no query": ({"a"}, "", ""),
            "one of an empty query": ({"a"}, "?", "?"),
            "none of a path": ({"a"}, "/a=1", "/a=1"),
        }
    ),
)
def test_what_does_not_matter_is_left_out_of_the_key(
    names: set[str], query: str, left: str
) -> None:
    policy = ruled(Rule(key_without=frozenset(names)))
    assert policy.primary_key(get(url=URL + query)) == URL + left


def test_only_where_the_rule_is_for() -> None:
    policy = ruled(Rule(url="https://example.org/*", key_without=frozenset({"a"})))
    url = "https://example.com/?a=1"
    assert policy.primary_key(get(url=url)) == url


# key_with_content. What is answered by content is stored where the user says so.

QUERY = ruled(Rule(url=URL, methods=frozenset({"POST", "QUERY"}), key_with_content=True))


def post(content: bytes | None, *lines: str, method: str = "POST", url: str = URL) -> Request:
    return Request(method, url, fields(f"Content-Length: {len(content or b'a')}", *lines), content)


def test_the_client_is_told_where_content_is_wanted() -> None:
    assert QUERY.wants_content("POST", URL)
    assert not QUERY.wants_content("PUT", URL)
    assert not QUERY.wants_content("POST", "https://example.org/b")
    assert not QUERY.wants_content("POST", "/a")


@pytest.mark.parametrize("method", ["POST", "QUERY"])
def test_what_a_request_with_content_is_answered_by_is_stored_and_served(method: str) -> None:
    request = post(b"a", method=method)
    assert QUERY.looks_up(request)
    assert QUERY.stores(request)
    decision = received(response(FRESH), request, policy=QUERY)
    assert isinstance(decision, Store)
    assert is_served(asked(request, decision.stored, policy=QUERY, after=59))


def test_its_key_is_made_of_its_method_and_content() -> None:
    keys = [
        QUERY.primary_key(request)
        for request in (
            post(b"a"),
            post(b"b"),
            post(b""),
            post(b"a", method="QUERY"),
            get(),
            post(b"a", url=f"{URL}#b"),
        )
    ]
    assert len(set(keys)) == 5
    assert keys[0] == keys[5]
    assert keys[4] == URL
    assert {primary_of(key) for key in keys} == {URL}


def test_so_it_is_with_what_the_key_leaves_out() -> None:
    policy = ruled(
        Rule(key_without=frozenset({"b"})),
        Rule(methods=frozenset({"POST"}), key_with_content=True),
    )
    one, other = (policy.primary_key(post(b"a", url=URL + query)) for query in ("?b=1", "?b=2"))
    assert one == other


@pytest.mark.parametrize(
    "request_",
    table(
        {
            "another URL": post(b"a", url="https://example.org/b"),
            "another method": post(b"a", method="PUT"),
            "content that is not at hand": post(None),
        }
    ),
)
def test_any_other_is_written_through(request_: Request) -> None:
    assert not QUERY.looks_up(request_)
    assert not QUERY.stores(request_)
    assert not is_stored(received(response(FRESH, TAG), request_, policy=QUERY))
    decision = asked(request_, held(response(FRESH)), policy=QUERY)
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.METHOD


# RFC 9110 §13.1.2 and §13.1.3: by these, other methods than GET and HEAD do not ask for news.


def test_a_stale_answer_to_post_is_asked_for_anew() -> None:
    decision = asked(post(b"a"), held(response(FRESH, TAG)), policy=QUERY, after=70)
    assert isinstance(decision, Forward)


def test_whether_a_post_is_to_be_done_is_for_the_origin_to_say() -> None:
    request = post(b"a", 'If-None-Match: "1"')
    assert isinstance(asked(request, held(response(FRESH, TAG)), policy=QUERY), Forward)


def test_of_a_post_a_date_decides_nothing() -> None:
    request = post(b"a", f"If-Modified-Since: {date()}")
    decision = asked(request, held(response(FRESH, TAG)), policy=QUERY)
    assert not (isinstance(decision, Serve) and decision.response.status == 304)


def test_nor_is_there_a_rest_to_be_asked_for() -> None:
    for age in (0, 70):
        decision = asked(post(b"a"), part(0, 4, 10, FRESH, TAG), policy=QUERY, size=5, after=age)
        assert isinstance(decision, Forward)


def test_of_a_post_there_is_no_part() -> None:
    decision = asked(post(b"a", "Range: bytes=0-1"), held(response(FRESH)), policy=QUERY, size=5)
    assert isinstance(decision, Serve)
    assert decision.response.status == 200


# Content with GET, too.


def test_get_with_content_has_a_key_of_its_own_where_a_rule_says_so() -> None:
    policy = ruled(Rule(methods=frozenset({"GET"}), key_with_content=True))
    request = post(b"a", method="GET")
    assert policy.primary_key(request) != URL
    assert is_stored(received(response(FRESH), request, policy=policy))
    assert is_served(asked(request, held(response(FRESH)), policy=policy))


def test_without_a_rule_content_that_is_at_hand_is_none_of_the_caches() -> None:
    request = post(b"a", method="GET")
    for policy in (PRIVATE, QUERY):
        assert not is_served(asked(request, held(response(FRESH)), policy=policy))
        assert not is_stored(received(response(FRESH), request, policy=policy))


# fresh_by_default, and heuristics for some.

MODIFIED = f"Last-Modified: {date(-1000)}"


@pytest.mark.parametrize(
    ("said", "seconds"),
    table(
        {
            "nothing": (response(), 600),
            "instead of a heuristic": (response(MODIFIED), 600),
            "max-age": (response("Cache-Control: max-age=60"), 60),
            "Expires": (response(f"Expires: {date(60)}"), 60),
            "an Expires that can't be right": (response("Expires: 0"), 0),
            "public, which says nothing of time": (response("Cache-Control: public"), 600),
        }
    ),
)
def test_a_default_is_for_what_gives_no_lifetime(said: Response, seconds: float) -> None:
    assert lifetime(ruled(Rule(fresh_by_default=600)), said) == seconds


def test_a_default_is_the_users_word_that_it_may_be_stored() -> None:
    decision = received(response(status=302), policy=ruled(Rule(fresh_by_default=600)))
    assert isinstance(decision, Store)
    assert decision.ttl == 600


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (200, "fresh: 600 by a rule, age 20 (RFC 9111 §4.2)"),
        (302, "fresh by a rule of the policy: 600 by a rule, age 20 (against RFC 9111 §4.2)"),
    ],
)
def test_a_default_is_against_the_rfc_where_nothing_may_be_guessed(status: int, why: str) -> None:
    kept = held(response(status=status))
    decision = asked(get(), kept, policy=ruled(Rule(fresh_by_default=600)), after=20)
    assert isinstance(decision, Serve)
    assert str(decision.why) == why


def test_what_is_said_for_all_goes_before_a_default() -> None:
    assert lifetime(ruled(Rule(fresh_by_default=600, fresh_for=5)), response()) == 5


def test_a_rule_may_have_heuristics_of_its_own() -> None:
    said = response(MODIFIED)
    rules = (Rule(url="*/a", heuristic_fraction=0.5), Rule(heuristic_fraction=1, heuristic_cap=300))
    policy = Policy(heuristic_fraction=0, rules=rules)
    assert lifetime(policy, said) == 300
    assert lifetime(policy, said, get(url="https://example.org/b")) == 300
    assert lifetime(Policy(rules=rules[:1]), said) == 500
    assert lifetime(Policy(rules=rules[:1]), said, get(url="https://example.org/b")) == 100


@pytest.mark.parametrize(
    "settings",
    [
        {"fresh_by_default": -1},
        {"fresh_by_default": float("nan")},
        {"heuristic_cap": -1},
        {"heuristic_fraction": 1.5},
        {"heuristic_fraction": float("nan")},
    ],
    ids=str,
)
def test_a_time_or_a_fraction_that_is_none_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Rule(**settings)  # type: ignore[arg-type]


# The names of CacheControl's heuristics.


@pytest.mark.parametrize(
    ("rule", "said", "seconds"),
    table(
        {
            "OneDayCache": (OneDayCache(), response(), 86_400),
            "OneDayCache, and max-age": (OneDayCache(), response(FRESH), 60),
            "OneDayCache, elsewhere": (OneDayCache(url="http://*"), response(), 0),
            "ExpiresAfter": (ExpiresAfter(hours=1), response(), 3600),
            "ExpiresAfter, and max-age": (ExpiresAfter(seconds=5, minutes=1), response(FRESH), 65),
            "ExpiresAfter, elsewhere": (ExpiresAfter(url="http://*", days=1), response(FRESH), 60),
            "LastModified": (LastModified(), response(MODIFIED), 100),
            "LastModified, long ago": (
                LastModified(),
                response(f"Last-Modified: {date(-10_000_000)}"),
                86_400,
            ),
            "LastModified, and max-age": (LastModified(), response(FRESH, MODIFIED), 60),
        }
    ),
)
def test_cachecontrols_heuristics_are_rules(rule: Rule, said: Response, seconds: float) -> None:
    policy = Policy(heuristic_fraction=0, rules=(rule,))
    assert lifetime(policy, said) == seconds


@pytest.mark.parametrize(
    ("rule", "value", "stored"),
    table(
        {
            "ExpiresAfter, and no-store": (ExpiresAfter(hours=1), "no-store", True),
            "ExpiresAfter, and no-cache": (ExpiresAfter(hours=1), "no-cache", True),
            "OneDayCache, and no-store": (OneDayCache(), "no-store", False),
        }
    ),
)
def test_only_expires_after_puts_directives_aside(rule: Rule, value: str, *, stored: bool) -> None:
    policy = ruled(rule)
    decision = received(response(f"Cache-Control: {value}"), policy=policy)
    assert is_stored(decision) is stored
    if isinstance(decision, Store):
        assert is_served(asked(get(), decision.stored, policy=policy, after=3599))


def test_users_are_kept_apart_for_all_that() -> None:
    said = response("Cache-Control: private, no-store")
    assert "cookie" in ruled(ExpiresAfter(hours=1)).selecting_names(get(), said)


@pytest.mark.parametrize(
    "rule", [OneDayCache(), ExpiresAfter(days=1)], ids=["OneDayCache", "ExpiresAfter"]
)
@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_error_is_not_kept_for_a_day(rule: Rule, status: int) -> None:
    assert lifetime(ruled(rule), response(status=status)) == 0


def test_a_named_rule_is_a_value() -> None:
    assert ExpiresAfter(hours=1) == ExpiresAfter(minutes=60)
    assert ExpiresAfter(hours=1) != ExpiresAfter(hours=2)
    assert hash(OneDayCache()) == hash(OneDayCache())
    assert pickle.loads(pickle.dumps(LastModified())) == LastModified()  # noqa: S301 - our own
    with pytest.raises(ConfigError):
        ExpiresAfter(days=-1)


def test_case_of_scheme_and_host_does_not_matter_to_a_pattern() -> None:
    rule = Rule(url="HTTPS://Example.ORG/Path*", fresh_for=5)
    assert rule.is_for("https://example.org/Path/a", "GET")
    assert not rule.is_for("https://example.org/path/a", "GET")


@pytest.mark.parametrize("url", ["example.org/*", "/path", "localhost:80/*", ""])
def test_a_pattern_that_no_url_can_match_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        Rule(url=url, fresh_for=5)


@pytest.mark.parametrize("url", ["*", "*/graphql", "*.example.org/*", "http*://a.example/*"])
def test_a_pattern_may_leave_the_beginning_open(url: str) -> None:
    assert Rule(url=url, fresh_for=5).url == url
