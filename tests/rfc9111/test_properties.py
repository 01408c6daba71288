"""What holds whatever anybody sends: fields are made of fragments that mean something and of noise.

Noise is any text, lone surrogates included: some clients decode the bytes of a header that way.
"""

from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.rfc9111.cache_status import appended, hit
from stillfresh.rfc9111.dates import format_date, parse_date
from stillfresh.rfc9111.decisions import Complete, Reason, Refresh, Revalidate, Serve, Store, why
from stillfresh.rfc9111.directives import request_directives, response_directives
from stillfresh.rfc9111.fields import Fields, field_names, split_list
from stillfresh.rfc9111.freshness import current_age
from stillfresh.rfc9111.groups import cache_groups, invalidated_groups
from stillfresh.rfc9111.invalidation import invalidated_keys, is_of_target
from stillfresh.rfc9111.keys import (
    is_selected,
    primary_key,
    primary_of,
    selection_of,
    variant_key,
)
from stillfresh.rfc9111.messages import Request, Response, StoredResponse
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.ranges import Part, content_range
from stillfresh.rfc9111.reception import cut_off
from stillfresh.rfc9111.rules import Rule
from stillfresh.rfc9111.search import reduced, search_variance
from tests.rfc9111.scenes import (
    NOW,
    PRIVATE,
    SHARED,
    URL,
    asked,
    completed,
    conceal,
    date,
    get,
    held,
    is_served,
    part,
    received,
    response,
    selection,
    sent,
)

NOISE = st.text(st.characters(), max_size=30)
FRAGMENTS = st.sampled_from(
    [
        *("no-store", "no-cache", "private", "public", "max-age", "s-maxage", "must-revalidate"),
        *("must-understand", "max-stale", "min-fresh", "only-if-cached", "proxy-revalidate"),
        *("=", ",", ", ", ";", " ", "\t", '"', '"', "\\", "'", "*", "W/", "/", ":", "\r\n", "\x00"),
        *(
            "0",
            "60",
            "-1",
            "1.5",
            "9" * 30,
            "9" * 5000,
            "٣",
            "bytes",
            "-",
            "0-4/10",
            "?1",
            "(",
            ")",
        ),
        *("stale-while-revalidate", "stale-if-error", "params", "except", "key-order", "&", "de"),
        *(date(), date(60), date(-60), "Sunday, 06-Nov-94 08:49:37 GMT", "0000", "Feb"),
        *("Vary", "Cache-Control", "Set-Cookie", "accept", "http://", "[", "]", "@", "#", "%", "?"),
        *("\udc80", "\ud800", "é", "İ", "\U0001f4a9"),
    ]
)
VALUES = NOISE | st.lists(FRAGMENTS | NOISE, max_size=8).map("".join)
DIRECTIVES = st.lists(
    st.sampled_from(
        [
            *("max-age=60", "MAX-AGE=0", "max-age=9999999999", "s-maxage=60", "max-age=x"),
            *("public", "private", "no-cache", "must-revalidate", "proxy-revalidate", "Public"),
            *("must-understand", 'no-cache="Set-Cookie"', 'private="foo, age"', "immutable"),
            *("max-stale", "max-stale=60", "min-fresh=5", "only-if-cached", "no-store", "foo=1"),
            *("stale-while-revalidate=60", "stale-if-error=60", "stale-if-error"),
        ]
    ),
    max_size=4,
).map(", ".join)
DATES = st.integers(-100_000, 100_000).map(date)
TAGS = st.sampled_from(['"1"', 'W/"1"', '"2"', "1", '""'])
PLACES = st.sampled_from(
    ["bytes 0-4/10", "bytes 5-9/10", "bytes 5-9/*", "bytes */10", "bytes 4-0/9"]
)
NUMBERS = st.integers(0, 12)
RANGES = st.lists(
    st.one_of(
        st.builds("{}-{}".format, NUMBERS, NUMBERS),
        st.builds("{}-".format, NUMBERS),
        st.builds("-{}".format, NUMBERS),
    ),
    min_size=1,
    max_size=4,
).map(lambda members: f"bytes={','.join(members)}")
NAMES = st.sampled_from(["Accept", "foo", "*", "Accept, Foo", "Cookie", "Cache-Control, Vary, X"])


def named(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    """Make lines of one name, in any case."""
    return st.tuples(st.sampled_from([name, name.lower(), name.upper()]), values)


ANY_LINE = st.tuples(NOISE, VALUES)
REQUEST_LINES = st.lists(
    st.one_of(
        named("Cache-Control", DIRECTIVES | VALUES),
        named("Pragma", st.just("no-cache") | VALUES),
        *(named(name, VALUES) for name in ("Authorization", "Cookie", "Accept", "Foo")),
        named("Accept-Language", st.sampled_from(["de", "de, en;q=0.5", "*"]) | VALUES),
        named("Range", RANGES | VALUES),
        named("If-None-Match", TAGS | VALUES),
        named("If-Modified-Since", DATES | VALUES),
        named("If-Range", TAGS | DATES | VALUES),
        *(named(name, VALUES) for name in ("If-Match", "Content-Length", "Transfer-Encoding")),
        ANY_LINE,
    ),
    max_size=3,
)
SOUND = st.sampled_from(
    [
        [],
        [("Cache-Control", "max-age=60")],
        [("Cache-Control", "public, max-age=60"), ("ETag", '"1"')],
        [("Cache-Control", "private, max-age=60"), ("Date", date()), ("Vary", "Accept")],
        [("Last-Modified", date(-10_000)), ("Date", date())],
    ]
)
UNSOUND = st.lists(
    st.one_of(
        named("Cache-Control", DIRECTIVES),
        named("Cache-Control", DIRECTIVES | VALUES),
        *(named(name, DATES | VALUES) for name in ("Date", "Expires", "Last-Modified")),
        named("ETag", TAGS | VALUES),
        named("Age", st.integers(0, 100).map(str) | VALUES),
        *(named(name, NAMES | VALUES) for name in ("Vary", "Connection")),
        *(named(name, VALUES) for name in ("Set-Cookie", "Content-Length", "Cache-Status", "Foo")),
        *(named(name, VALUES) for name in ("Location", "Content-Location", "Content-Type")),
        *(named(name, VALUES) for name in ("Cache-Groups", "Cache-Group-Invalidation")),
        *(named(name, VALUES) for name in ("Content-Language", "No-Vary-Search")),
        named("CDN-Cache-Control", DIRECTIVES | VALUES),
        named("Content-Range", PLACES | VALUES),
        ANY_LINE,
    ),
    max_size=4,
)
RESPONSE_LINES = st.builds(lambda sound, more: [*sound, *more], SOUND, UNSOUND)
UNSAFE = st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "Foo"])
METHODS = st.one_of(*[st.just("GET")] * 6, st.just("HEAD"), UNSAFE)
STATUSES = st.one_of(
    *[st.just(200)] * 6, st.sampled_from([206, 304, 404, 416, 503]), st.integers(0, 1000)
)
REQUESTS = st.builds(Request, METHODS, st.just(URL), REQUEST_LINES.map(Fields))
ANSWERS = st.builds(Response, STATUSES, RESPONSE_LINES.map(Fields))
# Those that keep to the letter, and others.
POLICIES = st.sampled_from([PRIVATE, SHARED, Policy(isolate=frozenset({"foo"}))])
LOOSE = st.sampled_from(
    [
        Policy(match_language=True, stale_while_revalidate=60, stale_if_error=60),
        Policy(shared=True, targets=("Foo", "CDN-Cache-Control"), max_body=5),
        Policy(rules=(Rule(fresh_for=60), Rule(key_without=frozenset({"a*"})))),
        Policy(rules=(Rule(content_types=frozenset({"text/*"}), always_revalidate=True),)),
        Policy(shared=True, rules=(Rule(ignore=frozenset({"no-store", "private"})),)),
    ]
)
MOMENTS = st.floats(NOW, NOW + 100) | st.floats(NOW - 10**9, NOW + 10**9)


PARTS = st.sampled_from([None, None, Part(0, 4, 10), Part(0, 4, None), Part(3, 6, 10)])


@given(REQUESTS, ANSWERS, ANSWERS, POLICIES | LOOSE, PARTS, MOMENTS, MOMENTS)
def test_no_field_makes_a_decision_raise(
    request: Request,
    before: Response,
    response: Response,
    policy: Policy,
    part: Part | None,
    then: float,
    now: float,
) -> None:
    selected = selection(request, before, policy)
    kept = StoredResponse(URL, before, then, then, selected, part=part)
    for stored in (None, kept):
        str(policy.on_request(request, stored, now, size=10).why)
        str(policy.on_response(request, response, stored, then, now).why)
    policy.on_completion(request, response, kept, then, now)
    policy.on_failure(request, kept, now, "", size=10)
    policy.answer(request, kept, now, 10, why(Reason.STALE))
    policy.lifetime(request, kept)
    policy.primary_key(request)
    is_selected(kept, request.fields, conceal, by_language=True)
    cut_off(kept, 5)
    variant_key(primary_key(URL), kept.generation, kept.selection)
    invalidated_keys(request, response)
    cache_groups(response.fields)
    invalidated_groups(request, response)
    variance = search_variance(response.fields.get("no-vary-search"))
    if variance is not None:
        reduced(URL, variance)
    appended(response, hit(0))


@given(ANSWERS, st.floats(0, 10**6), MOMENTS, MOMENTS)
def test_age_never_decreases(response: Response, took: float, one: float, other: float) -> None:
    kept = held(response, took=took)
    sooner, later = sorted((one, other))
    assert 0 <= current_age(kept, sooner) <= current_age(kept, later)


@given(ANSWERS, POLICIES, MOMENTS, MOMENTS)
def test_what_is_not_served_is_not_served_later(
    response: Response, policy: Policy, one: float, other: float
) -> None:
    kept, request = held(response), Request("GET", URL, Fields())
    sooner, later = sorted((one, other))
    if not is_served(policy.on_request(request, kept, sooner)):
        assert not is_served(policy.on_request(request, kept, later))


@given(REQUESTS, ANSWERS, POLICIES, MOMENTS)
def test_what_is_served_is_fresh_unless_the_request_says_otherwise(
    request: Request, response: Response, policy: Policy, now: float
) -> None:
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    decision = policy.on_request(request, kept, now, size=10)
    if isinstance(decision, Serve):
        said, asked = policy.said(request, response), request_directives(request.fields)
        assert not said.no_cache
        assert not asked.no_cache
        late = said.stale_while_revalidate is not None
        assert decision.ttl > 0 or asked.max_stale is not None or late
        assert decision.refresh is (decision.why.reason is Reason.STALE_WHILE_REVALIDATE)
        assert decision.ttl == policy.lifetime(request, kept).seconds - decision.age
        assert decision.response.fields.get("age") == str(int(decision.age))


@given(REQUESTS, ANSWERS, POLICIES, MOMENTS)
def test_what_stands_in_is_fresh_unless_somebody_says_otherwise(
    request: Request, response: Response, policy: Policy, now: float
) -> None:
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    decision = policy.on_failure(request, kept, now, "", size=10)
    if decision is not None and decision.ttl <= 0:
        said, asked = policy.said(request, response), request_directives(request.fields)
        assert not said.must_revalidate
        granted = {said.stale_if_error, asked.stale_if_error, asked.max_stale}
        assert granted != {None}


@given(REQUESTS, ANSWERS, POLICIES | LOOSE, MOMENTS)
def test_only_who_asks_for_news_is_told_that_there_is_none(
    request: Request, response: Response, policy: Policy, now: float
) -> None:
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    decision = policy.on_request(request, kept, now, size=10)
    if isinstance(decision, Serve) and decision.response.status == 304 != response.status:
        tags, ours = request.fields.get("if-none-match"), response.fields.get("etag")
        if tags is None:
            assert "if-modified-since" in request.fields
        else:
            assert tags.strip() == "*" or (ours or "?").removeprefix("W/") in tags
        assert decision.pieces == ()


@given(UNSAFE, REQUEST_LINES, ANSWERS, POLICIES | LOOSE)
def test_a_request_of_an_unsafe_method_is_never_served_what_is_stored(
    method: str, lines: list[tuple[str, str]], response: Response, policy: Policy
) -> None:
    request = Request(method, URL, Fields(lines))
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    assert not policy.looks_up(request)
    assert not isinstance(policy.on_request(request, kept, NOW, size=10), Serve)


@given(REQUESTS, ANSWERS, POLICIES, PARTS)
def test_a_request_that_is_sent_on_says_what_the_caller_said(
    request: Request, response: Response, policy: Policy, part: Part | None
) -> None:
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy), part=part)
    decision = policy.on_request(request, kept, NOW, size=10)
    if isinstance(decision, Revalidate | Complete):
        added = {"if-none-match", "if-modified-since"}
        if isinstance(decision, Complete):
            added = {"range", "if-range"}
            assert "range" not in request.fields
        assert decision.request.fields.without(added) == request.fields.without(added)
        assert decision.request._replace(fields=request.fields) == request
        tags = request.fields.get("if-none-match")
        assert (decision.request.fields.get("if-none-match") or "").startswith(tags or "")


@given(UNSAFE, REQUEST_LINES, ANSWERS, POLICIES)
def test_a_response_to_an_unsafe_method_is_never_stored(
    method: str, asked: list[tuple[str, str]], response: Response, policy: Policy
) -> None:
    request = Request(method, URL, Fields(asked))
    if isinstance(policy.on_response(request, response, None, NOW, NOW), Store):
        # RFC 9110 §9.3.3.
        assert method == "POST"
        assert response.status == 200
        assert is_of_target(request, response.fields.get("content-location"))


NO_STORE = st.tuples(
    st.sampled_from(["Cache-Control", "CACHE-CONTROL"]),
    st.builds(
        str.format,
        st.sampled_from(["{}", " {} ", "{},max-age=60", "public, {}", "max-age=60,{},", '{}="x"']),
        st.sampled_from(["no-store", "No-Store"]),
    ),
)


@given(REQUESTS, RESPONSE_LINES, RESPONSE_LINES, NO_STORE, ANSWERS, POLICIES)
def test_a_response_that_says_no_store_is_never_stored(
    request: Request,
    first: list[tuple[str, str]],
    last: list[tuple[str, str]],
    no_store: tuple[str, str],
    before: Response,
    policy: Policy,
) -> None:
    fields = Fields([*first, no_store, *last])
    if response_directives(fields).must_understand:
        return
    kept = StoredResponse(URL, before, NOW, NOW, selection(request, before, policy))
    if policy.said(request, Response(200, fields)).targeted:
        return
    # A targeted field of the stored response goes on counting for it (RFC 9213 §2.2).
    targeted = policy.said(request, before).targeted
    for status in (200, 206, 304, 404):
        for stored in (None,) if targeted else (None, kept):
            decision = policy.on_response(request, Response(status, fields), stored, NOW, NOW)
            assert not isinstance(decision, Store | Refresh)


@given(REQUEST_LINES, REQUEST_LINES, NO_STORE, ANSWERS, ANSWERS, POLICIES)
def test_a_response_to_a_request_that_says_no_store_is_never_stored(
    first: list[tuple[str, str]],
    last: list[tuple[str, str]],
    no_store: tuple[str, str],
    response: Response,
    before: Response,
    policy: Policy,
) -> None:
    request = Request("GET", URL, Fields([*first, no_store, *last]))
    kept = StoredResponse(URL, before, NOW, NOW, selection(request, before, policy))
    for stored in (None, kept):
        decision = policy.on_response(request, response, stored, NOW, NOW)
        assert not isinstance(decision, Store | Refresh)


@given(ANSWERS)
def test_a_private_response_is_never_stored_by_a_shared_cache(response: Response) -> None:
    fields = Fields([*response.fields, ("Cache-Control", "private")])
    request = Request("GET", URL, Fields())
    policy = Policy(shared=True, targets=())
    decision = policy.on_response(request, Response(response.status, fields), None, NOW, NOW)
    assert not isinstance(decision, Store)


@given(ANSWERS)
def test_an_answer_to_credentials_is_never_shared_unasked(response: Response) -> None:
    request = Request("GET", URL, Fields([("Authorization", "Basic YTpi")]))
    said = SHARED.said(request, response)
    if said.public or said.must_revalidate or said.s_maxage is not None:
        return
    assert not isinstance(SHARED.on_response(request, response, None, NOW, NOW), Store)


# Names that are no list, so that only equal values match; and others.
OPAQUE = st.sampled_from(["user-agent", "cookie", "authorization"])
LISTS = st.sampled_from(["foo", "accept", "accept-encoding", "accept-language"])


@given(st.sampled_from(["Vary", "VARY"]), OPAQUE, VALUES, VALUES, RESPONSE_LINES, POLICIES)
def test_a_response_is_never_selected_by_another_value_of_a_field_it_varies_by(
    vary: str,
    name: str,
    original: str,
    presented: str,
    others: list[tuple[str, str]],
    policy: Policy,
) -> None:
    kept = varying(vary, name, original, others, policy)
    same = original.strip(" \t") == presented.strip(" \t")
    anything = "*" in field_names(kept.response.fields.get("vary"))
    assert is_selected(kept, Fields([(name, presented)]), conceal) is (same and not anything)
    assert not is_selected(kept, Fields(), conceal)


@given(st.sampled_from(["Vary", "VARY"]), LISTS, VALUES, VALUES, RESPONSE_LINES, POLICIES)
@example("Vary", "accept", "a;b=c", "a;b=C", [], PRIVATE)
def test_nor_by_other_members_of_a_list(
    vary: str,
    name: str,
    original: str,
    presented: str,
    others: list[tuple[str, str]],
    policy: Policy,
) -> None:
    kept = varying(vary, name, original, others, policy)
    fold = name in {"accept-encoding", "accept-language"}
    if _said(original, fold=fold) != _said(presented, fold=fold):
        assert not is_selected(kept, Fields([(name, presented)]), conceal)
    assert not is_selected(kept, Fields(), conceal)


def varying(
    vary: str, name: str, value: str, others: list[tuple[str, str]], policy: Policy
) -> StoredResponse:
    response = Response(200, Fields([*others, (vary, name)]))
    request = Request("GET", URL, Fields([(name, value)]))
    return StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))


def _said(value: str, *, fold: bool) -> list[str]:
    """Return what is left of a list whatever order, case and empty members mean."""
    return sorted((value.lower().casefold() if fold else value).translate(_NOTHING))


_NOTHING = str.maketrans("", "", " \t\r\n,")


@given(VALUES, VALUES, ANSWERS)
def test_a_private_cache_never_gives_one_user_what_another_was_given(
    one: str, other: str, response: Response
) -> None:
    request = Request("GET", URL, Fields([("Authorization", one)]))
    decision = PRIVATE.on_response(request, response, None, NOW, NOW)
    if not isinstance(decision, Store):
        return
    kept = StoredResponse(
        URL, response, NOW, NOW, selection(request, decision.stored.response, PRIVATE)
    )
    assert not is_selected(kept, Fields(), conceal)
    if one.strip(" \t") != other.strip(" \t"):
        assert not is_selected(kept, Fields([("Authorization", other)]), conceal)


@given(VALUES, VALUES, ANSWERS)
def test_a_shared_cache_gives_it_to_others_only_where_it_says_so(
    one: str, other: str, response: Response
) -> None:
    request = Request("GET", URL, Fields([("Authorization", one)]))
    decision = SHARED.on_response(request, response, None, NOW, NOW)
    if isinstance(decision, Store):
        kept = decision.stored._replace(selection=selection(request, response, SHARED))
        for presented in (Fields(), Fields([("Authorization", other)])):
            if is_selected(kept, presented, conceal) and presented != request.fields:
                said = SHARED.said(request, response)
                named = said.public or said.must_revalidate or said.s_maxage is not None
                assert named or one.strip(" \t") == other.strip(" \t")


@given(ANSWERS, REQUESTS, POLICIES)
def test_what_selects_a_response_is_not_lost_when_it_is_stored(
    response: Response, request: Request, policy: Policy
) -> None:
    decision = policy.on_response(request, response, None, NOW, NOW)
    if isinstance(decision, Store):
        names = policy.selecting_names(request, decision.stored.response)
        assert names == policy.selecting_names(request, response)


@given(
    st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), VALUES, max_size=3),
    st.dictionaries(st.from_regex(r"[a-z-]+", fullmatch=True), VALUES, max_size=3),
)
def test_different_selections_have_different_keys(
    one: dict[str, str], other: dict[str, str]
) -> None:
    keys = [
        variant_key(URL, "1", selection_of(Fields(chosen.items()), chosen, conceal))
        for chosen in (one, other)
    ]
    same = {k: v.strip(" \t") for k, v in one.items()} == {
        k: v.strip(" \t") for k, v in other.items()
    }
    assert (keys[0] == keys[1]) is same


# Parts: whatever comes in whatever order, no byte is in the wrong place.

BODY = b"abcdefghij"
TAGGED = ("Cache-Control: max-age=60", 'ETag: "1"', "Content-Type: text/plain")
RUNS = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)
SIZES = st.sampled_from([None, 10])


def parts_of(head: Response, body: bytes) -> list[tuple[str | None, bytes]]:
    """Read a 206: the place and the bytes of each of its parts."""
    kind = head.fields.get("content-type") or ""
    if "multipart" not in kind:
        return [(head.fields.get("content-range"), body)]
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    payload: Any = message.get_payload()
    assert all(isinstance(one, Message) for one in payload)
    return [(one["Content-Range"], one.get_payload(decode=True)) for one in payload]


@given(RANGES)
def test_a_206_has_the_bytes_that_it_says_to_have(value: str) -> None:
    decision = asked(get(f"Range: {value}"), held(response(*TAGGED)), size=len(BODY))
    assert isinstance(decision, Serve)
    body = sent(decision, BODY)
    if decision.response.status == 206:
        assert decision.response.fields.get("content-length") == str(len(body))
        for place, content in parts_of(decision.response, body):
            came = content_range(place)
            assert came is not None
            assert content == BODY[came.first : came.last + 1]
            assert came.size == len(BODY)
    else:
        assert body == (b"" if decision.response.status == 416 else BODY)


@given(RANGES, RUNS, SIZES)
def test_a_stored_part_gives_what_the_whole_would_or_nothing(
    value: str, run: list[int], size: int | None
) -> None:
    first, last = run
    kept, request = part(first, last, size, *TAGGED), get(f"Range: {value}")
    decision = asked(request, kept, size=last - first + 1)
    if isinstance(decision, Serve):
        of_all = asked(request, held(response(*TAGGED)), size=len(BODY))
        assert isinstance(of_all, Serve)
        assert decision.response.status == of_all.response.status == 206
        here = parts_of(decision.response, sent(decision, BODY[first : last + 1]))
        there = parts_of(of_all.response, sent(of_all, BODY))
        assert [content for _, content in here] == [content for _, content in there]
        assert all(
            0 <= piece.first <= piece.last <= last - first
            for piece in decision.pieces or ()
            if not isinstance(piece, bytes)
        )


@given(RUNS, RUNS, SIZES, st.sampled_from(["*", "10"]))
def test_parts_that_are_joined_have_each_byte_in_its_place(
    run: list[int], other: list[int], size: int | None, stated: str
) -> None:
    kept = part(run[0], run[1], size, *TAGGED)
    place = f"Content-Range: bytes {other[0]}-{other[1]}/{stated}"
    decision = received(response(*TAGGED, place, status=206), get("Range: bytes=0-"), kept)
    if isinstance(decision, Store):
        old = BODY[run[0] : run[1] + 1]
        behind = b"" if decision.after is None else old[decision.after :]
        made = old[: decision.before] + BODY[other[0] : other[1] + 1] + behind
        run_made = decision.stored.part or Part(0, 9, 10)
        assert made == BODY[run_made.first : run_made.last + 1]
        assert len(made) >= len(old)


@given(RUNS, RUNS, SIZES, st.sampled_from(["*", "10", "12"]))
@example([0, 4], [5, 9], None, "*")
@example([5, 9], [5, 9], 10, "10")
def test_what_is_completed_is_all_of_it(
    run: list[int], other: list[int], size: int | None, stated: str
) -> None:
    kept = part(run[0], run[1], size, *TAGGED)
    place = f"Content-Range: bytes {other[0]}-{other[1]}/{stated}"
    decision = completed(response(*TAGGED, place, status=206), kept)
    if decision is not None:
        assert BODY[run[0] : run[1] + 1] + BODY[other[0] : other[1] + 1] == BODY
        assert decision.length == len(BODY)
        assert "10" in {stated, str(size)}


HOSTS = st.sampled_from(["example.org", "EXAMPLE.org:443", "me:x@a.example:8443", "[2001:DB8::1]"])
PATHS = st.lists(
    st.sampled_from(["/", ".", "..", "%2e", "%2F", "%7e", "%zz", "%", "a", "A", "~", ";", "+"])
    | st.characters(exclude_characters="#?/\\", categories=["L", "N", "P", "S"]),
    max_size=10,
).map("".join)
QUERIES = st.just("") | PATHS.map("?{}".format)
URLS = st.builds(
    "{}://{}/{}{}{}".format,
    st.sampled_from(["https", "HTTP"]),
    HOSTS,
    PATHS,
    QUERIES,
    st.sampled_from(["", "#", "#a?b"]),
)


@given(URLS)
def test_normalising_twice_is_normalising_once(url: str) -> None:
    key = primary_key(url)
    assert primary_key(key) == key
    assert primary_of(key) == key
    assert "#" not in key


@given(NOISE | VALUES)
def test_whatever_has_a_key_has_one_that_is_normal(url: str) -> None:
    try:
        key = primary_key(url)
    except ValueError:
        return
    assert primary_key(key) == key


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20))
def test_how_a_segment_is_encoded_does_not_matter(segment: str) -> None:
    plain = quote(segment, safe="")
    everything = "".join(f"%{ord(character):02x}" for character in segment)
    key = primary_key(f"https://example.org/{everything}/b")
    assert key == primary_key(f"https://example.org/{plain}/b")


FIRST = int(datetime(1, 1, 1, tzinfo=UTC).timestamp())
LAST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())
FORTY_NINE_YEARS = 49 * 365 * 86_400


@given(st.integers(FIRST, LAST))
def test_dates_come_back_as_they_were_written(moment: int) -> None:
    assert parse_date(format_date(moment), NOW) == moment


@given(st.integers(FIRST, LAST))
def test_so_do_those_of_asctime(moment: int) -> None:
    day_name, day, month, year, time, _ = format_date(moment).replace(",", "").split()
    assert parse_date(f"{day_name} {month} {int(day):2} {time} {year}", NOW) == moment


@given(st.integers(int(NOW) - FORTY_NINE_YEARS, int(NOW) + FORTY_NINE_YEARS))
def test_so_do_those_of_rfc_850_within_fifty_years(moment: int) -> None:
    at = datetime.fromtimestamp(moment, UTC)
    assert parse_date(f"{at:%A, %d-%b-%y %H:%M:%S} GMT", NOW) == moment


@given(VALUES, MOMENTS)
def test_a_date_is_a_moment_or_nothing(text: str, now: float) -> None:
    moment = parse_date(text, now)
    assert moment is None or FIRST <= moment <= LAST


LINES = st.lists(st.tuples(st.sampled_from(["A", "a", "B", "c", "C", "É"]), st.text(max_size=2)))
NAMED = st.sets(st.sampled_from(["a", "b", "c", "é", "d"]))


@given(LINES, NAMED, NAMED, LINES)
def test_fields_that_were_changed_are_like_those_that_came_so(
    lines: list[tuple[str, str]], first: set[str], second: set[str], new: list[tuple[str, str]]
) -> None:
    left = [line for line in lines if line[0].lower() not in first | second]
    replaced = {name.lower() for name, _ in new}
    kept = [line for line in left if line[0].lower() not in replaced]
    changed = Fields(lines).without(first).without(second)
    for fields, made in (
        (changed, left),
        (changed.replacing(*new), [*kept, *new]),
        (changed.adding("a", "1"), [*left, ("a", "1")]),
    ):
        assert list(fields) == made
        assert fields.names == {name.lower() for name, _ in made}
        for name in ("a", "b", "c", "é", "d"):
            values = [value for key, value in made if key.lower() == name]
            assert list(fields.get_all(name)) == values
            assert fields.get(name) == (", ".join(values) if values else None)
            assert (name in fields) is bool(values)


@given(st.lists(VALUES, max_size=3), st.lists(VALUES, max_size=3), NO_STORE)
@example(['a="x'], ['b="'], ("Cache-Control", "no-store"))
def test_no_line_hides_what_another_says(
    first: list[str], last: list[str], no_store: tuple[str, str]
) -> None:
    values = [*first, no_store[1], *last]
    fields = Fields(("Cache-Control", value) for value in values)
    assert response_directives(fields).no_store
    assert request_directives(fields).no_store


@given(st.text('"\\, =a', max_size=12), st.text('"\\, =a', max_size=12))
@example('a="x', "")
@example('a="x', ' b="y"')
def test_an_unclosed_quote_hides_no_member(before: str, after: str) -> None:
    value = f"{before},no-store,{after}"
    if not _quotes_are_closed(value):
        assert "no-store" in split_list(value)


def _quotes_are_closed(value: str) -> bool:
    """Read `value` from left to right, as RFC 9110 §5.6.4 says."""
    inside = escaped = False
    for character in value:
        if escaped:
            escaped = False
        elif inside and character == "\\":
            escaped = True
        elif character == '"':
            inside = not inside
    return not inside


@given(st.lists(st.from_regex(r'[a-z]+(=("([^"\\\n]|\\.)*"|[a-z0-9]+))?', fullmatch=True)))
def test_a_list_that_is_well_formed_is_split_into_what_it_was_made_of(members: list[str]) -> None:
    assert split_list(", ".join(members)) == members
    assert split_list(" ,,".join(members)) == members


@pytest.mark.parametrize("value", ["no-store", '"', "\\", "=", ",", '="', '\\"'])
def test_long_values_are_read_in_one_go(value: str) -> None:
    long = Fields([("Cache-Control", value * 200_000)])
    response_directives(long)
    request_directives(long)
