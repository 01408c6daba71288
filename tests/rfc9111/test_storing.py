"""What may be stored, and what of it: RFC 9111 §3, §3.1, §3.3, §3.5, §5.2, §7.3."""

import pytest

from stillfresh.rfc9111.decisions import Pass, Reason, Store
from stillfresh.rfc9111.messages import Request, Response
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    BOTH,
    PRIVATE,
    SHARED,
    date,
    get,
    is_stored,
    received,
    response,
    stored,
    table,
    undated,
)

FRESH = "Cache-Control: max-age=60"


@BOTH
def test_a_fresh_response_to_get_is_stored(policy: Policy) -> None:
    assert is_stored(received(response(FRESH), policy=policy))


@BOTH
@pytest.mark.parametrize(
    "method",
    ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "HEAD", "get", "FOO"],
)
def test_a_response_to_another_method_is_not(method: str, policy: Policy) -> None:
    assert not is_stored(received(response(FRESH, "ETag: x"), get(method=method), policy=policy))


@pytest.mark.parametrize(
    "lines", [["Content-Length: 5"], ["Transfer-Encoding: chunked"]], ids=["counted", "chunked"]
)
def test_a_response_to_get_with_content_is_not(lines: list[str]) -> None:
    assert not is_stored(received(response(FRESH), get(*lines)))


def test_a_length_of_zero_is_no_content() -> None:
    assert is_stored(received(response(FRESH), get("Content-Length: 0")))


@pytest.mark.parametrize("status", [100, 101, 102, 103, 199])
def test_a_response_that_is_not_final_is_not_stored(status: int) -> None:
    assert not is_stored(received(response(FRESH, status=status)))


@pytest.mark.parametrize("status", [600, 700, 999, 0])
def test_nor_is_what_is_no_status(status: int) -> None:
    said = response("Cache-Control: public, max-age=60", 'ETag: "1"', status=status)
    decision = received(said)
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.STATUS_NOT_STORED


# RFC 6585 §3 to §6.
@pytest.mark.parametrize("status", [428, 429, 431, 511])
@pytest.mark.parametrize("value", ["public, max-age=60", "must-understand, max-age=60"])
def test_nor_is_what_its_status_says_must_not_be(status: int, value: str) -> None:
    said = response(f"Cache-Control: {value}", 'ETag: "1"', status=status)
    assert not is_stored(received(said))
    assert not is_stored(received(said, get(), stored(response(FRESH, 'ETag: "1"'))))


def test_a_412_is_about_a_condition_and_not_stored() -> None:
    assert not is_stored(received(response(FRESH, status=412), get('If-Match: "2"')))


def test_a_part_that_nobody_asked_for_is_not_stored() -> None:
    said = response(FRESH, 'ETag: "1"', "Content-Range: bytes 0-1/5", status=206)
    assert not is_stored(received(said))


def test_a_304_that_nobody_asked_for_is_not_stored() -> None:
    assert not is_stored(received(response(FRESH, 'ETag: "1"', status=304)))


def test_a_416_is_about_a_range_and_not_stored() -> None:
    said = response(FRESH, 'ETag: "1"', "Content-Range: bytes */5", status=416)
    assert not is_stored(received(said, get("Range: bytes=5-")))


EXPLICIT = {
    "max-age": "Cache-Control: max-age=60",
    "Expires": f"Expires: {date(60)}",
    "public": "Cache-Control: public",
}
NOT_HEURISTIC = [201, 202, 205, 302, 303, 307, 400, 401, 403, 408, 418, 500, 502, 503, 504]
# RFC 9110 §15.1, RFC 7725 §3.
HEURISTIC = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501]
UNKNOWN = [299, 399, 499, 599]


@pytest.mark.parametrize("line", table(EXPLICIT))
@pytest.mark.parametrize("status", [*HEURISTIC, *NOT_HEURISTIC, *UNKNOWN])
def test_any_final_status_is_stored_that_says_so(status: int, line: str) -> None:
    modified = f"Last-Modified: {date(-1000)}"
    assert is_stored(received(response(line, modified, status=status)))


@pytest.mark.parametrize("status", HEURISTIC)
def test_some_are_stored_without_being_told(status: int) -> None:
    assert is_stored(received(response(f"Last-Modified: {date(-1000)}", status=status)))


@pytest.mark.parametrize("status", [*NOT_HEURISTIC, *UNKNOWN])
def test_others_are_not(status: int) -> None:
    assert not is_stored(received(response(f"Last-Modified: {date(-1000)}", status=status)))


@pytest.mark.parametrize(
    ("line", "private", "shared"),
    table(
        {
            "private": ("Cache-Control: private", True, False),
            "s-maxage": ("Cache-Control: s-maxage=60", False, True),
            "must-revalidate": ("Cache-Control: must-revalidate", False, False),
            "proxy-revalidate": ("Cache-Control: proxy-revalidate", False, False),
            "no-cache": ("Cache-Control: no-cache", False, False),
            "an extension": ("Cache-Control: community=UCI", False, False),
            "an Expires that is no date": ("Expires: 0", True, True),
            "Pragma": ("Pragma: public", False, False),
        }
    ),
)
def test_what_allows_to_store_a_redirection(line: str, private: bool, shared: bool) -> None:
    redirection = response(line, 'ETag: "1"', "Location: /b", status=302)
    assert is_stored(received(redirection, policy=PRIVATE)) is private
    assert is_stored(received(redirection, policy=SHARED)) is shared


@BOTH
@pytest.mark.parametrize(
    "value",
    table(
        {
            "alone": ["no-store"],
            "in capitals": ["NO-STORE"],
            "before what allows it": ["no-store, max-age=60, public"],
            "after what allows it": ["public, max-age=60, no-store"],
            "on another line": ["max-age=60", "no-store"],
            "with an argument": ["max-age=60, no-store=1"],
            "after a quote left open": ['max-age=60, foo="bar, no-store'],
        }
    ),
)
def test_a_response_that_says_no_store_is_not_stored(value: list[str], policy: Policy) -> None:
    lines = [f"Cache-Control: {line}" for line in value]
    assert not is_stored(received(response(*lines, 'ETag: "1"'), policy=policy))


@BOTH
@pytest.mark.parametrize("value", ["no-store", "max-age=0, NO-Store", "no-store, max-stale"])
def test_a_response_to_a_request_that_says_no_store_is_not_stored(
    value: str, policy: Policy
) -> None:
    request = get(f"Cache-Control: {value}")
    for said in (FRESH, "Cache-Control: public, max-age=60", "Cache-Control: must-understand"):
        assert not is_stored(received(response(said, 'ETag: "1"'), request, policy=policy))


@pytest.mark.parametrize(
    "line",
    ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Cache-Control: only-if-cached"],
)
def test_other_directives_of_a_request_do_not_forbid_it(line: str) -> None:
    assert is_stored(received(response(FRESH), get(line)))


@pytest.mark.parametrize(
    ("value", "status", "allowed"),
    table(
        {
            "a status that is understood": ("must-understand, max-age=60", 200, True),
            "understood, so no-store is ignored": (
                "must-understand, no-store, max-age=60",
                200,
                True,
            ),
            "an error that is understood": ("must-understand, no-store, max-age=60", 404, True),
            "a status that is not": ("must-understand, max-age=60", 299, False),
            "not understood, no-store": ("must-understand, no-store, max-age=60", 599, False),
            "not understood, public": ("must-understand, public, max-age=60", 499, False),
        }
    ),
)
def test_must_understand(value: str, status: int, allowed: bool) -> None:
    assert is_stored(received(response(f"Cache-Control: {value}", status=status))) is allowed


# Those of RFC 9110 and RFC 7725 that may be stored at all, 206 aside.
DEFINED = [
    *(200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308),
    *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 413, 414, 415, 417),
    *(421, 422, 426, 451, 500, 501, 502, 503, 504, 505),
]


def test_what_is_defined_is_understood_and_nothing_else() -> None:
    line = "Cache-Control: must-understand, no-store, max-age=60"
    understood = [
        status for status in range(200, 600) if is_stored(received(response(line, status=status)))
    ]
    assert understood == DEFINED


@pytest.mark.parametrize(
    ("value", "shared"),
    table(
        {
            "private": ("private, max-age=60", False),
            "private beside public": ("private, public, max-age=60", False),
            "private beside s-maxage": ("private, s-maxage=60, max-age=60", False),
            "private about a field only": ('private="Set-Cookie", max-age=60', True),
            "private about nothing": ('private="", max-age=60', False),
            "private left open": ('private="Set-Cookie, max-age=60', False),
            "private with an extension": ('private, community="UCI", max-age=60', False),
        }
    ),
)
def test_a_private_response_is_stored_by_private_caches_only(value: str, shared: bool) -> None:
    said = response(f"Cache-Control: {value}", 'ETag: "1"')
    assert is_stored(received(said, policy=PRIVATE))
    assert is_stored(received(said, policy=SHARED)) is shared


@pytest.mark.parametrize(
    ("value", "shared"),
    table(
        {
            "nothing": ("", False),
            "max-age": ("max-age=60", False),
            "proxy-revalidate": ("max-age=60, proxy-revalidate", False),
            "no-cache": ("max-age=60, no-cache", False),
            "an extension": ("max-age=60, community=UCI", False),
            "must-revalidate": ("max-age=60, must-revalidate", True),
            "public": ("max-age=60, public", True),
            "s-maxage": ("s-maxage=60", True),
            "public, but private": ("max-age=60, public, private", False),
        }
    ),
)
def test_an_answer_to_credentials_is_shared_only_when_it_says_so(value: str, shared: bool) -> None:
    said = response(f"Cache-Control: {value}", f"Last-Modified: {date(-1000)}")
    request = get("Authorization: Basic YTpi")
    assert is_stored(received(said, request, policy=PRIVATE))
    assert is_stored(received(said, request, policy=SHARED)) is shared


@pytest.mark.parametrize("vary", ["*", "Accept, *", "*, Accept"])
def test_what_never_matches_again_is_not_stored(vary: str) -> None:
    assert not is_stored(received(response(FRESH, f"Vary: {vary}")))


@pytest.mark.parametrize(
    "said",
    table(
        {
            "with nothing, but fresh for a second": response("Cache-Control: max-age=1"),
            "with an entity tag": response('ETag: "1"'),
            "with a modification date": response(f"Last-Modified: {date(-1000)}"),
            "stale, with an entity tag": response('ETag: "1"', "Cache-Control: max-age=0"),
            "to be validated": response('ETag: "1"', "Cache-Control: no-cache"),
        }
    ),
)
def test_what_is_fresh_or_can_be_validated_is_worth_storing(said: Response) -> None:
    assert is_stored(received(said))


def test_what_is_neither_fresh_nor_to_be_validated_is_not() -> None:
    decision = received(response("Cache-Control: max-age=0"))
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.NO_USE


@pytest.mark.parametrize("validator", ['ETag: "1"', f"Last-Modified: {date(-1000)}"])
def test_what_is_not_kept_of_a_response_makes_it_no_more_worth_storing(validator: str) -> None:
    name = validator.partition(":")[0]
    decision = received(response(validator, f"Connection: {name}"))
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.NO_USE


def test_set_cookie_does_not_inhibit_storing() -> None:
    kept = stored(response(FRESH, "Set-Cookie: a=1"))
    assert kept.response.fields.get("set-cookie") == "a=1"


@pytest.mark.parametrize(
    "request_",
    table(
        {
            "a query": get(url="https://example.org/?q=1"),
            "a cookie": get("Cookie: a=1"),
            "Pragma": get("Pragma: no-cache"),
        }
    ),
)
def test_nor_does_the_request_have_to_be_plain(request_: Request) -> None:
    assert is_stored(received(response(FRESH), request_))


# §3.1: storing fields.


def test_all_fields_are_stored_known_or_not() -> None:
    lines = [
        FRESH,
        "Content-Type: text/plain",
        "X-Unknown: 1",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Via: 1.1 a",
        "Warning: 110 - old",
        "Cache-Status: a; hit",
    ]
    assert stored(response(*lines)).response == response(*lines)


@pytest.mark.parametrize(
    "line",
    [
        "Connection: close",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "TE: trailers",
        "Transfer-Encoding: chunked",
        "Upgrade: h2c",
        "Proxy-Authenticate: Basic",
        "Proxy-Authentication-Info: a=1",
        "Proxy-Authorization: Basic YTpi",
    ],
)
@BOTH
def test_fields_of_one_connection_are_not_stored(line: str, policy: Policy) -> None:
    kept = stored(response(FRESH, line), policy=policy)
    assert kept.response == response(FRESH)


@pytest.mark.parametrize(
    "connection", [["Connection: A, close, b"], ["connection: a", "connection: B"]]
)
def test_nor_are_those_that_connection_lists(connection: list[str]) -> None:
    kept = stored(response(FRESH, *connection, "A: 1", "B: 2", "C: 3"))
    assert kept.response == response(FRESH, "C: 3")


@pytest.mark.parametrize(
    "line",
    [
        "Cache-Control: max-age=60, must-revalidate",
        "Vary: Accept",
        "Age: 30",
        f"Expires: {date(60)}",
        f"Date: {date(-5)}",
    ],
)
def test_a_field_meant_for_caches_is_never_one_of_them(line: str) -> None:
    name = line.partition(":")[0]
    for hides in (f"Connection: {name}", f'Cache-Control: max-age=60, no-cache="{name}"'):
        kept = stored(response(FRESH, hides, line)).response
        assert line.partition(": ")[2] in kept.fields.get_all(name.lower())


@pytest.mark.parametrize(
    ("directive", "in_private", "in_shared"),
    table(
        {
            "no-cache": ('no-cache="Set-Cookie, x-user"', False, False),
            "private": ('private="Set-Cookie, x-user"', True, False),
        }
    ),
)
def test_fields_that_are_not_to_be_reused_are_not_stored(
    directive: str, in_private: bool, in_shared: bool
) -> None:
    lines = (f"Cache-Control: max-age=60, {directive}", "A: 1", "Set-Cookie: a=1", "X-User: me")
    for policy, there in ((PRIVATE, in_private), (SHARED, in_shared)):
        kept = stored(response(*lines), policy=policy).response.fields
        assert ("set-cookie" in kept) is there
        assert ("x-user" in kept) is there
        assert kept.get("a") == "1"


def test_a_response_without_a_date_is_stored_with_the_moment_it_came() -> None:
    kept = stored(undated(FRESH)).response
    assert kept.fields.get("date") == date()


def test_a_date_that_came_is_not_changed() -> None:
    kept = stored(undated(FRESH, f"Date: {date(-5)}")).response
    assert kept.fields.get("date") == date(-5)


def test_what_is_stored_knows_its_uri_its_status_and_its_times() -> None:
    said = Response(404, response(FRESH).fields, "Not Found", 10)
    kept = stored(said, get(url="HTTPS://example.org:443/a#b"), took=2)
    assert kept.url == "https://example.org/a"
    assert kept.response == said
    assert kept.response_time - kept.request_time == 2


# Beyond the RFC: what the user sets.


@pytest.mark.parametrize(
    ("length", "allowed"),
    table(
        {
            "shorter": ("Content-Length: 9", True),
            "as long": ("Content-Length: 10", True),
            "longer": ("Content-Length: 11", False),
            "of unknown length": ("Transfer-Encoding: chunked", True),
        }
    ),
)
def test_a_body_longer_than_the_policy_allows_is_not_stored(length: str, allowed: bool) -> None:
    assert is_stored(received(response(FRESH, length), policy=Policy(max_body=10))) is allowed


@pytest.mark.parametrize(
    ("status", "lines", "length"),
    table(
        {
            "what is stated": (200, ["Content-Length: 5"], 5),
            "nobody knows": (200, [], None),
            "nobody knows, in chunks": (200, ["Transfer-Encoding: chunked"], None),
            "nobody knows, in chunks, whatever is stated": (
                200,
                ["Transfer-Encoding: chunked", "Content-Length: 5"],
                None,
            ),
            "none, of no content": (204, [], 0),
            "what there is, of content to be reset": (205, [], None),
            "that of another response": (404, ["Content-Length: 5"], 5),
        }
    ),
)
def test_a_body_of_a_certain_length_is_expected(
    status: int, lines: list[str], length: int | None
) -> None:
    decision = received(response(FRESH, *lines, status=status))
    assert isinstance(decision, Store)
    assert decision.length == length


def test_a_refusal_says_why_and_where_that_is_written() -> None:
    decision = received(response("Cache-Control: no-store"))
    assert isinstance(decision, Pass)
    assert not decision.drop
    assert str(decision.why) == "the response says no-store (RFC 9111 §5.2.2.5)"


def test_so_does_the_contrary() -> None:
    decision = received(response(FRESH))
    assert isinstance(decision, Store)
    assert str(decision.why) == "the response may be stored: max-age=60 (RFC 9111 §3)"


@pytest.mark.parametrize(
    ("said", "dropped"),
    table(
        {
            "a newer answer that may not be stored": (response("Cache-Control: no-store"), True),
            "a newer answer of no use": (response("Cache-Control: max-age=0"), True),
            "an error": (response(status=500), False),
        }
    ),
)
def test_what_is_stored_goes_when_a_newer_answer_takes_its_place(
    said: Response, dropped: bool
) -> None:
    decision = received(said, get(), stored(response(FRESH, 'ETag: "1"')))
    assert isinstance(decision, Pass)
    assert decision.drop is dropped


def test_a_request_that_says_no_store_leaves_what_is_stored() -> None:
    before = stored(response(FRESH, 'ETag: "1"'))
    decision = received(response(FRESH), get("Cache-Control: no-store"), before)
    assert isinstance(decision, Pass)
    assert not decision.drop


@BOTH
@pytest.mark.parametrize(
    "line",
    [
        "Content-Encoding: gzip",
        "Content-Type: text/plain",
        "Content-Language: de",
        'Cache-Groups: "g"',
        "No-Vary-Search: params",
    ],
)
def test_what_everybody_has_to_know_is_kept_though_connection_lists_it(
    line: str, policy: Policy
) -> None:
    name = line.partition(":")[0]
    kept = stored(response(FRESH, f"Connection: close, {name}", line), policy=policy)
    assert kept.response.fields.get(name.lower()) == line.partition(": ")[2]
