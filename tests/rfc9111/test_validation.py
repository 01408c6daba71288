"""Asking whether a stored response is still good, and the answers: RFC 9111 §3.2 and §4.3."""

import pytest

from stillfresh.rfc9111.decisions import Forward, Forwarded, Pass, Reason, Revalidate, Serve, Store
from stillfresh.rfc9111.messages import Response
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    PRIVATE,
    SHARED,
    asked,
    date,
    fields,
    get,
    head,
    held,
    is_served,
    is_stored,
    received,
    refreshed,
    response,
    stored,
    table,
    undated,
)

STALE = "Cache-Control: max-age=0"
FRESH = "Cache-Control: max-age=60"
TAG = 'ETag: "1"'
MODIFIED = f"Last-Modified: {date(-1000)}"


# §4.3.1: sending a validation request.


@pytest.mark.parametrize(
    ("validators", "conditions"),
    table(
        {
            "a strong tag": (['ETag: "1"'], ['If-None-Match: "1"']),
            "a weak tag": (['ETag: W/"1"'], ['If-None-Match: W/"1"']),
            "an empty tag": (['ETag: ""'], ['If-None-Match: ""']),
            "a tag with a comma": (['ETag: "a,b"'], ['If-None-Match: "a,b"']),
            "a modification date": ([MODIFIED], [f"If-Modified-Since: {date(-1000)}"]),
            "both": (
                ['ETag: "1"', MODIFIED],
                ['If-None-Match: "1"', f"If-Modified-Since: {date(-1000)}"],
            ),
        }
    ),
)
def test_a_stale_response_is_asked_about_with_all_its_validators(
    validators: list[str], conditions: list[str]
) -> None:
    decision = asked(get("Accept: a"), held(response(STALE, *validators), get("Accept: a")))
    assert isinstance(decision, Revalidate)
    assert decision.request.fields == fields("Accept: a", *conditions)
    assert decision.request.method == "GET"
    assert decision.forwarded is Forwarded.STALE


def test_a_response_without_a_validator_is_asked_for_anew() -> None:
    decision = asked(get(), held(response(STALE)))
    assert isinstance(decision, Forward)
    assert decision.forwarded is Forwarded.STALE


@pytest.mark.parametrize(
    "tag",
    table(
        {
            "two tags": '"1", "2"',
            "any tag": "*",
            "a tag left open": '"1',
            "a tag with a quote inside": '"1"2"',
            "nothing": "",
            "nothing weak": "W/",
            "a tag with a control character": '"a\x01b"',
            "a tag with a DEL": '"a\x7fb"',
            "a tag with a line end": '"a\nb"',
        }
    ),
)
def test_what_would_mean_something_else_in_a_condition_is_not_sent(tag: str) -> None:
    assert isinstance(asked(get(), held(response(STALE, f"ETag: {tag}"))), Forward)


def test_a_date_with_what_no_field_has_is_not_sent_back() -> None:
    lines = (STALE, "Last-Modified: Mon\x0b, 01 Jan 2024")
    assert isinstance(asked(get(), held(response(*lines))), Forward)


def test_the_rest_of_the_request_goes_as_it_is() -> None:
    lines = ["Accept: a", "Cache-Control: no-cache", "Authorization: Basic YTpi", "X: 1"]
    decision = asked(get(*lines), held(response(FRESH, TAG), get(*lines)))
    assert isinstance(decision, Revalidate)
    assert decision.request.fields == fields(*lines, 'If-None-Match: "1"')


def test_a_head_request_goes_without_conditions() -> None:
    assert isinstance(asked(head(), held(response(STALE, TAG))), Forward)


def test_a_request_that_says_no_store_goes_without_conditions() -> None:
    request = get("Cache-Control: no-store")
    assert isinstance(asked(request, held(response(STALE, TAG))), Forward)


# §4.3.3: the answer.


def test_a_304_makes_the_stored_response_good_again() -> None:
    kept = stored(response(FRESH, TAG))
    decision = received(
        response(FRESH, TAG, f"Date: {date(100)}", status=304), get(), kept, after=100
    )
    again = refreshed(decision)
    assert again.response.status == 200
    assert is_served(asked(get(), again, after=159))
    assert not is_served(asked(get(), again, after=161))


@pytest.mark.parametrize("status", [200, 404, 410])
def test_a_full_response_takes_the_place_of_the_stored_one(status: int) -> None:
    newer = response(FRESH, 'ETag: "2"', status=status)
    decision = received(newer, get(), stored(response(STALE, TAG)))
    assert isinstance(decision, Store)
    assert decision.stored.response == newer


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_error_of_the_server_leaves_the_stored_response_as_it_is(status: int) -> None:
    decision = received(response(status=status), get(), stored(response(STALE, TAG)))
    assert isinstance(decision, Pass)
    assert not decision.drop


# §4.3.4: which stored response a 304 is about.


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    table(
        {
            "the same strong tag": (['ETag: "1"'], ['ETag: "1"'], True),
            "another strong tag": (['ETag: "1"'], ['ETag: "2"'], False),
            "another strong tag, the same date": (
                ['ETag: "1"', MODIFIED],
                ['ETag: "2"', MODIFIED],
                False,
            ),
            "the same strong tag, another date": (
                ['ETag: "1"', MODIFIED],
                ['ETag: "1"', f"Last-Modified: {date(-5)}"],
                True,
            ),
            "the same weak tag": (['ETag: W/"1"'], ['ETag: W/"1"'], True),
            "another weak tag": (['ETag: W/"1"'], ['ETag: W/"2"'], False),
            "a weak tag for a strong one": (['ETag: "1"'], ['ETag: W/"1"'], True),
            "a tag where we have none": ([MODIFIED], ['ETag: "1"'], False),
            "a weak tag where we have none": ([MODIFIED], ['ETag: W/"1"'], False),
            "a tag where we have none, another date": (
                [MODIFIED],
                ['ETag: "1"', f"Last-Modified: {date(-5)}"],
                False,
            ),
            "the same date": ([MODIFIED], [MODIFIED], True),
            "another date": ([MODIFIED], [f"Last-Modified: {date(-5)}"], False),
            "a date where we have none": (['ETag: "1"'], [MODIFIED], False),
            "only the date of both": (['ETag: "1"', MODIFIED], [MODIFIED], True),
            "no validator, so it is the one we asked about": (['ETag: "1"'], [], True),
        }
    ),
)
def test_a_304_is_about_the_stored_response_whose_validator_it_has(
    ours: list[str], theirs: list[str], same: bool
) -> None:
    kept = stored(response(FRESH, *ours))
    decision = received(response(*theirs, status=304), get(), kept)
    if same:
        refreshed(decision)
    else:
        assert isinstance(decision, Pass)
        assert decision.why.reason is Reason.OTHER_NOT_MODIFIED
        assert decision.drop


@pytest.mark.parametrize(
    ("ours", "theirs"),
    table(
        {
            "a weak one doesn't become strong": (['ETag: W/"1"'], ['ETag: "1"']),
            "one comes only with a body": ([MODIFIED], ['ETag: "1"', MODIFIED]),
        }
    ),
)
def test_a_304_gives_the_stored_body_no_better_tag(ours: list[str], theirs: list[str]) -> None:
    kept = stored(response(FRESH, *ours))
    decision = received(response(*theirs, status=304), get(), kept)
    if not isinstance(decision, Pass):
        again = refreshed(decision)
        assert again.response.fields.get("etag") == kept.response.fields.get("etag")


# §3.2: updating.

BODY = [
    "Content-Length: 5",
    "Content-Encoding: gzip",
    "Content-Type: text/plain",
    TAG,
    FRESH,
    f"Date: {date()}",
]


@pytest.mark.parametrize(
    ("before", "new", "after"),
    table(
        {
            "a field is replaced": (["X: 1"], ["X: 2"], ["X: 2"]),
            "in any case": (["X: 1"], ["x: 2"], ["x: 2"]),
            "all its lines are": (["X: 1", "X: 2"], ["X: 3"], ["X: 3"]),
            "by all the new ones": (["X: 1"], ["X: 2", "X: 3"], ["X: 2", "X: 3"]),
            "a field is added": ([], ["X: 1"], ["X: 1"]),
            "others stay": (["X: 1", "Y: 2"], ["Z: 3"], ["X: 1", "Y: 2", "Z: 3"]),
            "also those of content": (["Content-Foo: 1"], ["Content-Foo: 2"], ["Content-Foo: 2"]),
            "and cookies": (["Set-Cookie: a=1"], ["Set-Cookie: a=2"], ["Set-Cookie: a=2"]),
            "Content-Location": (
                ["Content-Location: /a"],
                ["Content-Location: /b"],
                ["Content-Location: /b"],
            ),
            "Expires": ([f"Expires: {date(1)}"], [f"Expires: {date(2)}"], [f"Expires: {date(2)}"]),
            "Content-Length is not": ([], ["Content-Length: 0"], []),
            "nor what the body is coded in": ([], ["Content-Encoding: br"], []),
            "nor what digests another": (
                [],
                ["Content-Digest: sha-256=:MA==:", "Content-MD5: MA=="],
                [],
            ),
            "nor is it part of another": ([], ["Content-Range: bytes 0-1/5"], []),
            "nor fields of the connection": (
                ["X: 1"],
                ["Connection: X, close", "X: 2", "Transfer-Encoding: chunked", "Keep-Alive: 5"],
                ["X: 1"],
            ),
            "nor fields of the proxy": ([], ["Proxy-Authenticate: Basic"], []),
            "an Age that was true before is gone": (["Age: 20"], [], []),
            "an Age that is true now is there": (["Age: 20"], ["Age: 5"], ["Age: 5"]),
        }
    ),
)
def test_a_304_updates_the_stored_fields(
    before: list[str], new: list[str], after: list[str]
) -> None:
    kept = stored(response(*BODY, *before))
    again = refreshed(received(response(TAG, *new, status=304), get(), kept))
    assert sorted(again.response.fields) == sorted(fields(*BODY, *after))


def test_so_it_does_cache_control() -> None:
    kept = stored(response("Cache-Control: max-age=60, must-revalidate", TAG))
    again = refreshed(received(response(TAG, "Cache-Control: max-age=90", status=304), get(), kept))
    assert again.response.fields.get("cache-control") == "max-age=90"
    assert is_served(asked(get(), again, after=80))


@pytest.mark.parametrize(
    ("said", "age"),
    table(
        {
            "of its own date": (response(TAG, f"Date: {date(990)}", status=304), 10),
            "of the age it states": (
                response(TAG, "Age: 20", f"Date: {date(1000)}", status=304),
                22,
            ),
            "new, if it has no date": (undated(TAG, status=304), 2),
        }
    ),
)
def test_a_response_that_was_validated_is_as_old_as_the_304(said: Response, age: float) -> None:
    kept = stored(response("Cache-Control: max-age=60", TAG, "Age: 50"))
    again = refreshed(received(said, get(), kept, after=1000, took=2))
    decision = asked(get(), again, after=1000)
    assert isinstance(decision, Serve)
    assert decision.age == age


@pytest.mark.parametrize(
    ("before", "new", "there"),
    table(
        {
            "listed by the stored response": ('max-age=60, no-cache="X"', None, False),
            "listed by the 304": ("max-age=60", 'max-age=60, no-cache="X"', False),
            "no longer listed": ('max-age=60, no-cache="X"', "max-age=60", True),
        }
    ),
)
def test_fields_that_need_validation_are_not_stored_by_a_304_either(
    before: str, new: str | None, there: bool
) -> None:
    kept = stored(response(f"Cache-Control: {before}", TAG, "X: 1"))
    said = [TAG, "X: 2", *([f"Cache-Control: {new}"] if new else [])]
    again = refreshed(received(response(*said, status=304), get(), kept))
    assert ("x" in again.response.fields) is there


def test_a_field_that_a_304_makes_private_leaves_a_shared_cache() -> None:
    kept = stored(response("Cache-Control: max-age=60", TAG, "X: 1"), policy=SHARED)
    said = response('Cache-Control: max-age=60, private="X"', TAG, status=304)
    again = refreshed(received(said, get(), kept, policy=SHARED))
    assert "x" not in again.response.fields


@pytest.mark.parametrize(
    ("before", "new", "policy", "request_line"),
    table(
        {
            "no-store": ("max-age=60", "no-store", PRIVATE, "X: 1"),
            "private, in a shared cache": ("max-age=60", "private, max-age=60", SHARED, "X: 1"),
            "no longer for everybody": (
                "public, max-age=60",
                "max-age=60",
                SHARED,
                "Authorization: Basic YTpi",
            ),
        }
    ),
)
def test_what_a_304_forbids_to_store_is_dropped(
    before: str, new: str, policy: Policy, request_line: str
) -> None:
    request = get(request_line)
    kept = stored(response(f"Cache-Control: {before}", TAG), request, policy=policy)
    said = response(f"Cache-Control: {new}", TAG, status=304)
    decision = received(said, request, kept, policy=policy)
    assert isinstance(decision, Pass)
    assert decision.drop


def test_of_a_304_to_a_request_that_says_no_store_nothing_is_stored() -> None:
    kept = stored(response(FRESH, TAG))
    said = response(FRESH, TAG, "X: secret", status=304)
    decision = received(said, get("Cache-Control: no-store"), kept)
    assert isinstance(decision, Pass)
    assert not decision.drop


# §4.3.5: HEAD.


@pytest.mark.parametrize(
    ("ours", "theirs", "agrees"),
    table(
        {
            "everything": ([TAG, MODIFIED], [TAG, MODIFIED], True),
            "with the length": ([TAG, "Content-Length: 5"], [TAG, "Content-Length: 5"], True),
            "without validators": (["X: 1"], ["X: 2"], True),
            "not saying all that we have": ([TAG, MODIFIED, "Content-Length: 5"], [MODIFIED], True),
            "not with the tag": ([TAG], ['ETag: "2"'], False),
            "not with the strength of the tag": (['ETag: W/"1"'], ['ETag: "1"'], False),
            "not with the date": ([MODIFIED], [f"Last-Modified: {date(-5)}"], False),
            "not with one of two": ([TAG, MODIFIED], [TAG, f"Last-Modified: {date(-5)}"], False),
            "not with the length": (
                [TAG, "Content-Length: 5"],
                [TAG, "Content-Length: 6"],
                False,
            ),
            "not having a tag": (["X: 1"], [TAG], False),
            "not having a date": ([TAG], [TAG, MODIFIED], False),
            "not having a length": ([TAG], [TAG, "Content-Length: 5"], False),
        }
    ),
)
def test_head_updates_the_stored_response_to_get_that_it_agrees_with(
    ours: list[str], theirs: list[str], agrees: bool
) -> None:
    kept = stored(response(FRESH, *ours))
    said = response("Cache-Control: max-age=90", *theirs, "Y: 1")
    decision = received(said, head(), kept)
    if agrees:
        again = refreshed(decision)
        assert again.response.fields.get("cache-control") == "max-age=90"
        assert again.response.fields.get("y") == "1"
        length = kept.response.fields.get("content-length")
        assert again.response.fields.get("content-length") == length
    else:
        assert isinstance(decision, Pass)
        assert decision.why.reason is Reason.HEAD_DISAGREES
        assert decision.drop


def test_head_of_another_status_is_not_about_the_stored_response() -> None:
    kept = stored(response(FRESH, TAG, status=404))
    decision = received(response(FRESH, TAG), head(), kept)
    assert isinstance(decision, Pass)
    assert decision.drop


@pytest.mark.parametrize("status", [404, 405, 500, 503])
def test_head_that_fails_changes_nothing(status: int) -> None:
    decision = received(response(FRESH, status=status), head(), stored(response(FRESH, TAG)))
    assert isinstance(decision, Pass)
    assert not decision.drop


def test_head_is_not_stored_as_if_it_were_get() -> None:
    assert not is_stored(received(response(FRESH, TAG), head()))


def test_head_to_a_request_that_says_no_store_updates_nothing() -> None:
    kept = stored(response(FRESH, TAG))
    decision = received(response(FRESH, TAG), get("Cache-Control: no-store", method="HEAD"), kept)
    assert isinstance(decision, Pass)
