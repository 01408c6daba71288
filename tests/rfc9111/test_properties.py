"""What holds whatever anybody sends: fields are made of fragments that mean something and of noise.

Noise is any text, lone surrogates included: some clients decode the bytes of a header that way.
"""

from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stillfresh.rfc9111.cache_status import appended, hit
from stillfresh.rfc9111.dates import format_date, parse_date
from stillfresh.rfc9111.decisions import Refresh, Revalidate, Serve, Store
from stillfresh.rfc9111.directives import request_directives, response_directives
from stillfresh.rfc9111.fields import Fields, field_names, split_list
from stillfresh.rfc9111.freshness import current_age
from stillfresh.rfc9111.invalidation import invalidated_keys
from stillfresh.rfc9111.keys import (
    is_selected,
    primary_key,
    primary_of,
    selection_of,
    variant_key,
)
from stillfresh.rfc9111.messages import Request, Response, StoredResponse
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    NOW,
    PRIVATE,
    SHARED,
    URL,
    conceal,
    date,
    held,
    is_served,
    selection,
)

NOISE = st.text(st.characters(), max_size=30)
FRAGMENTS = st.sampled_from(
    [
        *("no-store", "no-cache", "private", "public", "max-age", "s-maxage", "must-revalidate"),
        *("must-understand", "max-stale", "min-fresh", "only-if-cached", "proxy-revalidate"),
        *("=", ",", ", ", ";", " ", "\t", '"', '"', "\\", "'", "*", "W/", "/", ":", "\r\n", "\x00"),
        *("0", "60", "-1", "1.5", "9" * 30, "9" * 5000, "٣"),
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
        ]
    ),
    max_size=4,
).map(", ".join)
DATES = st.integers(-100_000, 100_000).map(date)
TAGS = st.sampled_from(['"1"', 'W/"1"', '"2"', "1", '""'])
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
        *(named(name, VALUES) for name in ("Location", "Content-Location")),
        ANY_LINE,
    ),
    max_size=4,
)
RESPONSE_LINES = st.builds(lambda sound, more: [*sound, *more], SOUND, UNSOUND)
UNSAFE = st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "CONNECT", "get", "Foo"])
METHODS = st.one_of(*[st.just("GET")] * 6, st.just("HEAD"), UNSAFE)
STATUSES = st.one_of(*[st.just(200)] * 6, st.sampled_from([304, 404]), st.integers(0, 1000))
REQUESTS = st.builds(Request, METHODS, st.just(URL), REQUEST_LINES.map(Fields))
ANSWERS = st.builds(Response, STATUSES, RESPONSE_LINES.map(Fields))
POLICIES = st.sampled_from([PRIVATE, SHARED, Policy(isolate=frozenset({"foo"}))])
MOMENTS = st.floats(NOW, NOW + 100) | st.floats(NOW - 10**9, NOW + 10**9)


@given(REQUESTS, ANSWERS, ANSWERS, POLICIES, MOMENTS, MOMENTS)
def test_no_field_makes_a_decision_raise(
    request: Request,
    before: Response,
    response: Response,
    policy: Policy,
    then: float,
    now: float,
) -> None:
    kept = StoredResponse(URL, before, then, then, selection(request, before, policy))
    for stored in (None, kept):
        str(policy.on_request(request, stored, now).why)
        str(policy.on_response(request, response, stored, then, now).why)
    policy.lifetime(kept)
    is_selected(kept, request.fields, conceal)
    variant_key(primary_key(URL), kept.generation, kept.selection)
    invalidated_keys(request, response)
    appended(response.fields, hit(0))


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
    decision = policy.on_request(request, kept, now)
    if isinstance(decision, Serve):
        assert not response_directives(response.fields).no_cache
        asked = request_directives(request.fields)
        assert decision.ttl > 0 or asked.max_stale is not None
        assert not asked.no_cache
        assert decision.response.fields.get("age") == str(int(decision.age))


@given(REQUESTS, ANSWERS, POLICIES)
def test_a_request_that_is_sent_on_says_what_the_caller_said(
    request: Request, response: Response, policy: Policy
) -> None:
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    decision = policy.on_request(request, kept, NOW)
    if isinstance(decision, Revalidate):
        conditions = {"if-none-match", "if-modified-since"}
        assert decision.request.fields.without(conditions) == request.fields
        assert decision.request.method == request.method


@given(UNSAFE, REQUEST_LINES, ANSWERS, POLICIES)
def test_a_response_to_an_unsafe_method_is_never_stored(
    method: str, asked: list[tuple[str, str]], response: Response, policy: Policy
) -> None:
    request = Request(method, URL, Fields(asked))
    assert not isinstance(policy.on_response(request, response, None, NOW, NOW), Store)


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
    for status in (200, 304, 404):
        for stored in (None, kept):
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
    decision = SHARED.on_response(request, Response(response.status, fields), None, NOW, NOW)
    assert not isinstance(decision, Store)


@given(ANSWERS)
def test_an_answer_to_credentials_is_never_shared_unasked(response: Response) -> None:
    said = response_directives(response.fields)
    if said.public or said.must_revalidate or said.s_maxage is not None:
        return
    request = Request("GET", URL, Fields([("Authorization", "Basic YTpi")]))
    assert not isinstance(SHARED.on_response(request, response, None, NOW, NOW), Store)


# Names that are no list of RFC 9110's, so that only equal values match.
OPAQUE = st.sampled_from(["foo", "user-agent", "cookie", "authorization"])


@given(st.sampled_from(["Vary", "VARY"]), OPAQUE, VALUES, VALUES, RESPONSE_LINES, POLICIES)
def test_a_response_is_never_selected_by_another_value_of_a_field_it_varies_by(
    vary: str,
    name: str,
    original: str,
    presented: str,
    others: list[tuple[str, str]],
    policy: Policy,
) -> None:
    response = Response(200, Fields([*others, (vary, name)]))
    request = Request("GET", URL, Fields([(name, original)]))
    kept = StoredResponse(URL, response, NOW, NOW, selection(request, response, policy))
    same = original.strip(" \t") == presented.strip(" \t")
    anything = "*" in field_names(response.fields.get("vary"))
    assert is_selected(kept, Fields([(name, presented)]), conceal) is (same and not anything)
    assert not is_selected(kept, Fields(), conceal)


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


@given(ANSWERS, REQUESTS, POLICIES)
def test_what_selects_a_response_is_not_lost_when_it_is_stored(
    response: Response, request: Request, policy: Policy
) -> None:
    decision = policy.on_response(request, response, None, NOW, NOW)
    if isinstance(decision, Store):
        names = policy.selecting_names(decision.stored.response)
        assert names == policy.selecting_names(response)


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
