"""What becomes of a response of the origin's: RFC 9111 §3.3, §3.4, §4.3.3; RFC 9110 §9.3.3."""

import pytest

from stillfresh.rfc9111.decisions import Pass, Reason, Store
from stillfresh.rfc9111.messages import Response, StoredResponse
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.ranges import Part
from stillfresh.rfc9111.reception import cut_off, is_the_same
from tests.rfc9111.scenes import (
    BOTH,
    NOW,
    PRIVATE,
    SHARED,
    URL,
    asked,
    completed,
    date,
    fields,
    get,
    held,
    is_served,
    is_stored,
    part,
    received,
    refreshed,
    response,
    sent,
    stored,
    table,
    undated,
)

FRESH = "Cache-Control: max-age=60"
STALE = "Cache-Control: max-age=0"
TAG = 'ETag: "1"'
OTHER_TAG = 'ETag: "2"'
WEAK = 'ETag: W/"1"'
MODIFIED = f"Last-Modified: {date(-1000)}"
BODY = b"0123456789"
# What it says doesn't matter here: the response says which bytes came.
RANGE = get("Range: bytes=0-4")


def partial(place: str, *lines: str) -> Response:
    """Make the 206 that brings some bytes."""
    return response(*lines, f"Content-Range: bytes {place}", status=206)


# §3.3: keeping what is incomplete.


@pytest.mark.parametrize(
    ("place", "came", "total"),
    table(
        {
            "a beginning": ("0-4/10", Part(0, 4, 10), "10"),
            "a middle": ("3-4/10", Part(3, 4, 10), "10"),
            "an end": ("5-9/10", Part(5, 9, 10), "10"),
            "of nobody knows how much": ("0-4/*", Part(0, 4, None), None),
            "all of it": ("0-9/10", None, "10"),
        }
    ),
)
@BOTH
def test_a_part_is_stored_as_what_it_is_of_a_200(
    place: str, came: Part | None, total: str | None, policy: Policy
) -> None:
    decision = received(partial(place, FRESH, TAG, "X: 1"), RANGE, policy=policy)
    assert isinstance(decision, Store)
    assert decision.why.reason is Reason.PART_STORABLE
    assert decision.stored.part == came
    length = [] if total is None else [f"Content-Length: {total}"]
    assert decision.stored.response.status == 200
    assert decision.stored.response.reason == "OK"
    assert decision.stored.response.fields == response(FRESH, TAG, "X: 1", *length).fields
    assert (decision.before, decision.after) == (0, None)


@pytest.mark.parametrize(
    "length", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]], ids=str
)
def test_of_a_part_so_many_bytes_are_expected_as_it_says_to_have(length: list[str]) -> None:
    decision = received(partial("3-7/10", FRESH, TAG, *length), RANGE)
    assert isinstance(decision, Store)
    assert decision.length == 5


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "nothing": [],
            "no range": ["Content-Range: bytes */10"],
            "an end before the beginning": ["Content-Range: bytes 4-0/10"],
            "more than there is": ["Content-Range: bytes 0-10/10"],
            "another unit": ["Content-Range: items 0-4/10"],
            "two places": ["Content-Range: bytes 0-4/10", "Content-Range: bytes 5-9/10"],
            "another length": ["Content-Range: bytes 0-4/10", "Content-Length: 6"],
            "the length of the whole": ["Content-Range: bytes 0-4/10", "Content-Length: 10"],
            "two lengths": ["Content-Range: bytes 0-4/10", "Content-Length: 5, 6"],
            "several parts": ["Content-Type: multipart/byteranges; boundary=x"],
            "several parts, and a place": [
                "Content-Type: multipart/byteranges; boundary=x",
                "Content-Range: bytes 0-4/10",
            ],
        }
    ),
)
def test_a_part_that_does_not_say_for_certain_where_it_belongs_is_not_stored(
    lines: list[str],
) -> None:
    decision = received(response(FRESH, TAG, *lines, status=206), RANGE)
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.PARTIAL
    assert not decision.drop


def test_a_part_that_nobody_asked_for_belongs_nowhere() -> None:
    decision = received(partial("0-4/10", FRESH, TAG), get())
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.PARTIAL


@pytest.mark.parametrize(
    ("lines", "allowed"),
    table(
        {
            "max-age": ([FRESH], True),
            "a date to guess by": ([MODIFIED], True),
            "a validator": ([TAG], True),
            "must-understand": (["Cache-Control: must-understand, no-store, max-age=60"], True),
            "nothing": ([], False),
            "no-store": (["Cache-Control: no-store, max-age=60"], False),
            "Vary: *": ([FRESH, "Vary: *"], False),
        }
    ),
)
def test_a_part_is_stored_like_any_response(lines: list[str], allowed: bool) -> None:
    assert is_stored(received(partial("0-4/10", *lines), RANGE)) is allowed


def test_a_part_is_as_fresh_as_it_says() -> None:
    decision = received(partial("0-4/10", FRESH, TAG, "Age: 20"), RANGE)
    assert isinstance(decision, Store)
    assert decision.ttl == 40
    request = get("Range: bytes=1-3")
    assert is_served(asked(request, decision.stored, after=39, size=5))
    assert not is_served(asked(request, decision.stored, after=40, size=5))


def test_a_digest_of_its_bytes_is_not_one_of_the_whole() -> None:
    decision = received(partial("0-4/10", FRESH, TAG, "Content-Digest: sha-256=:MA==:"), RANGE)
    assert isinstance(decision, Store)
    assert "content-digest" not in decision.stored.response.fields


# RFC 9110 §15.3.7: who sends If-Range has the other fields, so the 206 may lack them.


def test_a_part_that_may_lack_fields_is_not_kept_by_itself() -> None:
    request = get("Range: bytes=5-", 'If-Range: "1"')
    assert not is_stored(received(partial("5-9/10", FRESH, TAG), request))


def test_it_has_them_where_it_joins_what_is_stored() -> None:
    request = get("Range: bytes=5-", 'If-Range: "1"')
    described = ["Content-Type: text/plain", "Content-Encoding: gzip", "X: 1"]
    before = part(0, 4, 10, STALE, TAG, *described)
    decision = received(partial("5-9/10", FRESH, TAG), request, before)
    assert isinstance(decision, Store)
    assert sorted(decision.stored.response.fields) == sorted(
        response(FRESH, TAG, *described, "Content-Length: 10").fields
    )


# §3.4: putting parts together.


def together(decision: Store, old: bytes, new: bytes) -> bytes:
    """Return the body that a decision makes of what is stored and what came."""
    assert decision.length == len(new)
    return old[: decision.before] + new + (b"" if decision.after is None else old[decision.after :])


@pytest.mark.parametrize(
    ("first", "last", "place", "joined"),
    table(
        {
            "what follows": (0, 4, "5-6/10", (0, 6)),
            "what goes before": (5, 6, "2-4/10", (2, 6)),
            "what overlaps the end": (0, 4, "3-6/10", (0, 6)),
            "what overlaps the beginning": (3, 6, "0-4/10", (0, 6)),
            "what goes around": (3, 4, "2-6/10", (2, 6)),
            "what completes it": (0, 4, "5-9/10", None),
            "what completes it at the beginning": (5, 9, "0-4/10", None),
            "all of it": (3, 4, "0-9/10", None),
        }
    ),
)
def test_a_part_joins_the_one_that_it_meets(
    first: int, last: int, place: str, joined: tuple[int, int] | None
) -> None:
    kept = part(first, last, 10, FRESH, TAG)
    decision = received(partial(place, FRESH, TAG), RANGE, kept)
    assert isinstance(decision, Store)
    assert decision.why.reason is Reason.JOINED
    start, _, end = place.partition("/")[0].partition("-")
    came = BODY[int(start) : int(end) + 1]
    run = slice(None) if joined is None else slice(joined[0], joined[1] + 1)
    assert together(decision, BODY[first : last + 1], came) == BODY[run]
    assert decision.stored.part == (None if joined is None else Part(*joined, 10))
    assert decision.stored.response.fields.get("content-length") == "10"


def test_one_of_them_may_not_know_the_size() -> None:
    for old, new in ((None, "10"), (10, "*")):
        kept = part(0, 4, old, FRESH, TAG)
        decision = received(partial(f"5-9/{new}", FRESH, TAG), RANGE, kept)
        assert isinstance(decision, Store)
        assert decision.stored.part is None


def test_if_none_knows_it_nobody_knows_whether_that_is_all() -> None:
    kept = part(0, 4, None, FRESH, TAG)
    decision = received(partial("5-9/*", FRESH, TAG), RANGE, kept)
    assert isinstance(decision, Store)
    assert decision.stored.part == Part(0, 9, None)


@pytest.mark.parametrize(
    ("before", "new", "after"),
    table(
        {
            "a field is replaced": (["X: 1"], ["X: 2"], ["X: 2"]),
            "a field is added": ([], ["X: 1"], ["X: 1"]),
            "others stay": (["X: 1"], ["Y: 2"], ["X: 1", "Y: 2"]),
            "but not an Age of before": (["Age: 50"], [], []),
        }
    ),
)
def test_the_stored_fields_are_updated_by_those_of_a_part_that_joins(
    before: list[str], new: list[str], after: list[str]
) -> None:
    kept = part(0, 4, 10, STALE, TAG, *before)
    decision = received(partial("5-9/10", FRESH, TAG, *new), RANGE, kept, after=100)
    assert isinstance(decision, Store)
    expected = fields(f"Date: {date()}", FRESH, TAG, *after, "Content-Length: 10")
    assert sorted(decision.stored.response.fields) == sorted(expected)
    assert decision.stored.response_time == NOW + 100


@pytest.mark.parametrize(
    ("ours", "theirs"),
    table(
        {
            "another tag": ([TAG], [OTHER_TAG]),
            "a weak tag": ([WEAK], [WEAK]),
            "a tag that is weak now": ([TAG], [WEAK]),
            "no tag now": ([TAG], []),
            "another date": ([MODIFIED], [f"Last-Modified: {date(-2000)}"]),
            "no validator": ([], []),
            "another coding": (
                [TAG, "Content-Encoding: gzip"],
                [TAG, "Content-Encoding: br"],
            ),
        }
    ),
)
def test_what_is_not_certain_to_be_of_the_same_is_not_joined(
    ours: list[str], theirs: list[str]
) -> None:
    kept = part(0, 4, 10, FRESH, *ours)
    decision = received(partial("5-9/10", FRESH, *theirs), RANGE, kept)
    assert isinstance(decision, Store)
    assert decision.why.reason is Reason.PART_STORABLE
    assert decision.stored.part == Part(5, 9, 10)
    assert together(decision, b"", b"56789") == b"56789"


@pytest.mark.parametrize(
    ("place", "kept"),
    table(
        {
            "a longer one takes its place": ("4-9/10", Part(4, 9, 10)),
            "a shorter one does not": ("9-9/10", None),
            "nor one as long": ("8-9/10", None),
        }
    ),
)
def test_of_parts_that_do_not_meet_the_longer_one_is_kept(place: str, kept: Part | None) -> None:
    decision = received(partial(place, FRESH, TAG), RANGE, part(0, 1, 10, FRESH, TAG))
    if kept is None:
        assert isinstance(decision, Pass)
        assert decision.why.reason is Reason.STORED_IS_BETTER
        assert not decision.drop
    else:
        assert isinstance(decision, Store)
        assert decision.stored.part == kept


@pytest.mark.parametrize(
    ("before", "said"),
    table(
        {
            "is all of it": (held(response(FRESH, TAG)), [TAG]),
            "has these bytes": (part(0, 8, 10, FRESH, TAG), [TAG]),
            "is whole, and the part may be of it": (held(response(FRESH, MODIFIED)), []),
            "is whole, and the part weak": (held(response(FRESH, WEAK)), [WEAK]),
        }
    ),
)
def test_a_part_leaves_what_is_better(before: StoredResponse, said: list[str]) -> None:
    decision = received(partial("3-4/10", FRESH, *said), RANGE, before)
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.STORED_IS_BETTER
    assert not decision.drop


@pytest.mark.parametrize(
    "before",
    table(
        {
            "of another representation": held(response(FRESH, OTHER_TAG)),
            "of another status": held(response(FRESH, TAG, status=404)),
        }
    ),
)
def test_a_part_takes_the_place_of_what_is_outdated(before: StoredResponse) -> None:
    decision = received(partial("3-4/10", FRESH, TAG), RANGE, before)
    assert isinstance(decision, Store)
    assert decision.stored.part == Part(3, 4, 10)
    assert decision.before == 0


HALF = 1 << 22


@pytest.mark.parametrize(
    ("kept", "little", "much"),
    table(
        {
            "before": (Part(0, HALF, 2 * HALF), (HALF, HALF + 9), (HALF + 1, HALF + 9)),
            "behind": (
                Part(HALF - 1, 2 * HALF - 1, 2 * HALF),
                (HALF - 9, HALF - 1),
                (HALF - 9, HALF - 2),
            ),
        }
    ),
)
def test_parts_are_not_joined_where_much_would_have_to_be_copied(
    kept: Part, little: tuple[int, int], much: tuple[int, int]
) -> None:
    before = part(kept.first, kept.last, kept.size, FRESH, TAG)
    for (first, last), kind in ((little, Reason.JOINED), (much, Reason.STORED_IS_BETTER)):
        said = partial(f"{first}-{last}/{kept.size}", FRESH, TAG)
        assert received(said, RANGE, before).why.reason is kind


def test_parts_are_not_joined_to_more_than_the_policy_stores() -> None:
    kept, policy = part(0, 4, 20, FRESH, TAG), Policy(max_body=8)
    assert is_stored(received(partial("5-7/20", FRESH, TAG), RANGE, kept, policy=policy))
    assert not is_stored(received(partial("5-8/20", FRESH, TAG), RANGE, kept, policy=policy))
    kept = part(5, 9, 20, FRESH, TAG)
    assert is_stored(received(partial("2-6/20", FRESH, TAG), RANGE, kept, policy=policy))
    assert not is_stored(received(partial("1-6/20", FRESH, TAG), RANGE, kept, policy=policy))


# §3.4: the rest of a stored part, which was asked for.


def test_the_rest_makes_a_stored_beginning_whole() -> None:
    kept = part(0, 4, 10, STALE, TAG, "Content-Type: text/plain", "X: 1")
    now = f"Date: {date(100)}"
    decision = completed(partial("5-9/10", now, FRESH, TAG, "X: 2"), kept, after=100)
    assert isinstance(decision, Store)
    assert str(decision.why) == (
        "the rest of the stored part came: 5 of 10 bytes were stored (RFC 9111 §3.4)"
    )
    whole = decision.stored
    assert whole.part is None
    assert (whole.response.status, whole.response_time) == (200, NOW + 100)
    assert sorted(whole.response.fields) == sorted(
        fields(now, FRESH, TAG, "Content-Type: text/plain", "X: 2", "Content-Length: 10")
    )
    assert (decision.length, decision.ttl) == (10, 60)
    assert is_served(asked(get(), whole, after=159, size=10))


def test_what_is_completed_is_as_old_as_the_rest() -> None:
    kept = part(0, 4, 10, FRESH, TAG, "Age: 50")
    rest = undated(FRESH, TAG, "Content-Range: bytes 5-9/10", "Age: 20", status=206)
    decision = completed(rest, kept, after=100)
    assert isinstance(decision, Store)
    assert decision.ttl == 40


@pytest.mark.parametrize(
    ("size", "place"),
    table(
        {
            "both know the size": (10, "5-9/10"),
            "the rest knows it": (None, "5-9/10"),
            "the part knows it": (10, "5-9/*"),
        }
    ),
)
def test_the_whole_is_as_long_as_either_says(size: int | None, place: str) -> None:
    decision = completed(partial(place, FRESH, TAG), part(0, 4, size, FRESH, TAG))
    assert isinstance(decision, Store)
    assert decision.length == 10
    assert decision.stored.response.fields.get("content-length") == "10"


@pytest.mark.parametrize(
    ("kept", "said"),
    table(
        {
            "all of it": (part(0, 4, 10, TAG), response(FRESH, TAG)),
            "all of it, with a place": (
                part(0, 4, 10, TAG),
                response(FRESH, TAG, "Content-Range: bytes 5-9/10"),
            ),
            "that it isn't there": (
                part(0, 4, 10, TAG),
                response(TAG, "Content-Range: bytes */5", status=416),
            ),
            "no place": (part(0, 4, 10, TAG), response(FRESH, TAG, status=206)),
            "what overlaps": (part(0, 4, 10, TAG), partial("4-9/10", FRESH, TAG)),
            "what leaves a gap": (part(0, 4, 10, TAG), partial("6-9/10", FRESH, TAG)),
            "not all of the rest": (part(0, 4, 10, TAG), partial("5-8/10", FRESH, TAG)),
            "another size": (part(0, 4, 10, TAG), partial("5-10/11", FRESH, TAG)),
            "less than the size": (part(0, 4, 10, TAG), partial("5-8/*", FRESH, TAG)),
            "what nobody knows to be the rest": (
                part(0, 4, None, TAG),
                partial("5-9/*", FRESH, TAG),
            ),
            "another length": (
                part(0, 4, 10, TAG),
                partial("5-9/10", FRESH, TAG, "Content-Length: 6"),
            ),
            "another tag": (part(0, 4, 10, TAG), partial("5-9/10", FRESH, OTHER_TAG)),
            "no tag": (part(0, 4, 10, TAG), partial("5-9/10", FRESH)),
            "a weak tag": (part(0, 4, 10, WEAK), partial("5-9/10", FRESH, WEAK)),
            "another coding": (
                part(0, 4, 10, TAG, "Content-Encoding: gzip"),
                partial("5-9/10", FRESH, TAG, "Content-Encoding: br"),
            ),
            "what follows no beginning": (part(5, 9, 15, TAG), partial("5-14/15", FRESH, TAG)),
            "to nothing incomplete": (held(response(TAG)), partial("5-9/10", FRESH, TAG)),
            "that it is not to be stored": (
                part(0, 4, 10, TAG),
                partial("5-9/10", "Cache-Control: no-store", TAG),
            ),
        }
    ),
)
def test_anything_else_completes_nothing(kept: StoredResponse, said: Response) -> None:
    assert completed(said, kept) is None


def test_a_request_that_says_no_store_completes_nothing() -> None:
    request = get("Cache-Control: no-store")
    assert completed(partial("5-9/10", TAG), part(0, 4, 10, FRESH, TAG), request) is None


def test_what_becomes_private_is_not_completed_in_a_shared_cache() -> None:
    said = partial("5-9/10", "Cache-Control: private, max-age=60", TAG)
    assert completed(said, part(0, 4, 10, TAG), policy=SHARED) is None
    assert completed(said, part(0, 4, 10, TAG), policy=PRIVATE) is not None


# §3.3: a body that broke off.


@pytest.mark.parametrize(
    ("lines", "came"),
    table(
        {
            "of a known length": ([TAG, "Content-Length: 10"], Part(0, 4, 10)),
            "of an unknown length": ([TAG], Part(0, 4, None)),
            "with a strong date": ([MODIFIED], Part(0, 4, None)),
        }
    ),
)
def test_what_came_before_a_body_broke_off_is_a_part(lines: list[str], came: Part) -> None:
    cut = cut_off(stored(response(FRESH, *lines)), 5)
    assert cut is not None
    assert cut.part == came
    # Nobody gets less for all, and whoever asks for what is there gets it.
    assert not is_served(asked(get(), cut, size=5))
    assert sent(asked(get("Range: bytes=1-3"), cut, size=5), b"01234") == b"123"


def test_of_a_part_that_broke_off_a_shorter_one_is_left() -> None:
    for size, came in ((4, Part(3, 6, 20)), (1, Part(3, 3, 20))):
        cut = cut_off(part(3, 9, 20, FRESH, TAG), size)
        assert cut is not None
        assert cut.part == came


@pytest.mark.parametrize(
    ("kept", "size"),
    table(
        {
            "nothing came": (held(response(FRESH, TAG)), 0),
            "it has no validator": (held(response(FRESH)), 5),
            "it has a weak tag": (held(response(FRESH, WEAK)), 5),
            "it has a weak date": (held(response(FRESH, f"Last-Modified: {date(-5)}")), 5),
            "it is no 200": (held(response(FRESH, TAG, status=404)), 5),
            "more came than there is": (held(response(FRESH, TAG, "Content-Length: 4")), 5),
            "more came than there is of a part": (part(3, 9, 10, FRESH, TAG), 8),
        }
    ),
)
def test_nothing_can_be_made_of_it_if(kept: StoredResponse, size: int) -> None:
    assert cut_off(kept, size) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    table(
        {
            "a strong tag": ([TAG], [TAG], True),
            "another tag": ([TAG], [OTHER_TAG], False),
            "a weak tag": ([WEAK], [WEAK], False),
            "a strong date": ([MODIFIED], [MODIFIED], True),
            "nothing": ([], [], False),
        }
    ),
)
def test_responses_are_of_one_representation_by_what_is_strong(
    one: list[str], other: list[str], same: bool
) -> None:
    assert is_the_same(held(response(*one)), held(response(*other))) is same


# §4.3.3: an origin that fails.


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 599])
@pytest.mark.parametrize(
    "lines",
    table(
        {
            "saying nothing": [],
            "saying that it may be stored": [FRESH, OTHER_TAG],
            "saying that it may not": ["Cache-Control: no-store"],
        }
    ),
)
def test_a_failure_takes_no_place(status: int, lines: list[str]) -> None:
    said = response(*lines, status=status)
    decision = received(said, get(), stored(response(STALE, TAG)))
    assert isinstance(decision, Pass)
    assert decision.why.reason is Reason.SERVER_FAILED
    assert not decision.drop


def test_a_failure_may_be_stored_where_nothing_is() -> None:
    assert is_stored(received(response(FRESH, status=503)))


# RFC 9110 §9.3.3: a response to POST that is what GET would be answered by.

POST = get("Content-Length: 3", method="POST")
OF_TARGET = "Content-Location: /a"


def test_a_response_to_post_answers_get_where_it_says_that_it_is_of_the_target() -> None:
    decision = received(response(FRESH, OF_TARGET), POST)
    assert isinstance(decision, Store)
    assert decision.stored.url == URL
    assert is_served(asked(get(), decision.stored, after=59))
    assert not is_served(asked(get(), decision.stored, after=60))


def test_it_never_answers_post() -> None:
    decision = received(response(FRESH, OF_TARGET), POST)
    assert isinstance(decision, Store)
    assert not is_served(asked(POST, decision.stored))


@pytest.mark.parametrize(
    ("location", "allowed"),
    table(
        {
            "the target": (["Content-Location: https://example.org/a"], True),
            "the target, written otherwise": (
                ["Content-Location: HTTPS://example.org:443/b/../a"],
                True,
            ),
            "the target, relative": (["Content-Location: a"], True),
            "the target, with space around": (["Content-Location:  /a\t"], True),
            "nothing": ([], False),
            "another path": (["Content-Location: /b"], False),
            "another query": (["Content-Location: /a?b"], False),
            "another host": (["Content-Location: https://www.example.org/a"], False),
            "no URI": (["Content-Location: https://["], False),
            "two": (["Content-Location: /a", "Content-Location: /a"], False),
            "Location only": (["Location: /a"], False),
        }
    ),
)
def test_a_response_to_post_is_of_what_content_location_says(
    location: list[str], allowed: bool
) -> None:
    assert is_stored(received(response(FRESH, *location), POST)) is allowed


@pytest.mark.parametrize(
    ("lines", "private", "shared"),
    table(
        {
            "max-age": ([FRESH], True, True),
            "s-maxage": (["Cache-Control: s-maxage=60", TAG], False, True),
            "Expires": ([f"Expires: {date(60)}"], True, True),
            "public": (["Cache-Control: public", MODIFIED], False, False),
            "a date to guess by": ([MODIFIED], False, False),
            "a validator": ([TAG], False, False),
            "no-store": (["Cache-Control: no-store, max-age=60"], False, False),
            "a targeted max-age": (["CDN-Cache-Control: max-age=60"], False, True),
            # RFC 9213 §2.2.
            "an Expires that a targeted field silences": (
                ["CDN-Cache-Control: public", f"Expires: {date(60)}", MODIFIED],
                True,
                False,
            ),
        }
    ),
)
def test_it_has_to_say_how_long_it_is_fresh(lines: list[str], private: bool, shared: bool) -> None:
    said = response(OF_TARGET, *lines)
    assert is_stored(received(said, POST, policy=PRIVATE)) is private
    assert is_stored(received(said, POST, policy=SHARED)) is shared


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "post", "FOO"])
def test_of_no_other_method_that_is_so(method: str) -> None:
    assert not is_stored(received(response(FRESH, OF_TARGET), get(method=method)))


@pytest.mark.parametrize("status", [206, 303, 304, 400, 404, 500])
def test_nor_of_another_status(status: int) -> None:
    assert not is_stored(received(response(FRESH, OF_TARGET, status=status), POST))


def test_nor_where_get_is_not_answered_from_the_cache() -> None:
    policy = Policy(methods=frozenset({"HEAD"}))
    assert not is_stored(received(response(FRESH, OF_TARGET), POST, policy=policy))


def test_a_304_to_head_refreshes_as_one_to_get_does() -> None:
    kept = stored(response(FRESH, TAG))
    said = response("Cache-Control: max-age=90", TAG, status=304)
    again = refreshed(received(said, get(method="HEAD"), kept))
    assert again.response.fields.get("cache-control") == "max-age=90"


# §4.3.4: a 304 to what the caller asked.


@pytest.mark.parametrize(
    ("lines", "about_ours"),
    table(
        {
            "with our tag": ([TAG], True),
            "with the caller's tag": ([OTHER_TAG], False),
            "with our date": ([MODIFIED], True),
            "with another date": ([f"Last-Modified: {date(-5)}"], False),
            "with neither": ([], False),
        }
    ),
)
def test_a_304_may_be_about_what_the_caller_has(lines: list[str], about_ours: bool) -> None:
    kept = stored(response(STALE, TAG, MODIFIED))
    decision = received(response(FRESH, *lines, status=304), get('If-None-Match: "2"'), kept)
    if about_ours:
        assert refreshed(decision).response.fields.get("cache-control") == "max-age=60"
    else:
        assert isinstance(decision, Pass)
        assert decision.why.reason is Reason.OTHER_NOT_MODIFIED
        assert not decision.drop
