"""How long a response is fresh and how old it is: RFC 9111 §4.2, §5.1, §5.3."""

import pytest

from stillfresh.rfc9111.decisions import Serve
from stillfresh.rfc9111.freshness import age_value, current_age, date_of
from stillfresh.rfc9111.messages import Response
from stillfresh.rfc9111.policy import Policy
from tests.rfc9111.scenes import (
    NOW,
    PRIVATE,
    SHARED,
    asked,
    date,
    fields,
    get,
    held,
    is_served,
    response,
    table,
    undated,
)

DAY = 86_400
MODIFIED = f"Last-Modified: {date(-1000)}"


@pytest.mark.parametrize(
    ("said", "private", "shared"),
    table(
        {
            "max-age": (response("Cache-Control: max-age=60"), 60, 60),
            "s-maxage is for shared caches": (response("Cache-Control: s-maxage=60"), 0, 60),
            "s-maxage before max-age": (response("Cache-Control: max-age=9, s-maxage=60"), 9, 60),
            "s-maxage of zero": (response("Cache-Control: max-age=9, s-maxage=0"), 9, 0),
            "s-maxage before Expires": (
                response("Cache-Control: s-maxage=60", f"Expires: {date(9)}"),
                9,
                60,
            ),
            "max-age before an earlier Expires": (
                response("Cache-Control: max-age=60", f"Expires: {date(-60)}"),
                60,
                60,
            ),
            "max-age before a later Expires": (
                response("Cache-Control: max-age=60", f"Expires: {date(9000)}"),
                60,
                60,
            ),
            "max-age before a heuristic": (response("Cache-Control: max-age=0", MODIFIED), 0, 0),
            "a max-age that can't be right": (
                response("Cache-Control: max-age=x", f"Expires: {date(60)}", MODIFIED),
                0,
                0,
            ),
            "an s-maxage that can't be right": (
                response("Cache-Control: max-age=60, s-maxage=x"),
                60,
                0,
            ),
            "a max-age beyond counting": (
                response(f"Cache-Control: max-age={'9' * 100}"),
                2**31,
                2**31,
            ),
            "Expires": (response(f"Expires: {date(60)}"), 60, 60),
            "Expires, from a clock that is behind": (
                response(f"Date: {date(-9000)}", f"Expires: {date(-8940)}"),
                60,
                60,
            ),
            "Expires, from a clock that is ahead": (
                response(f"Date: {date(9000)}", f"Expires: {date(9060)}"),
                60,
                60,
            ),
            "Expires without Date, from the time it came": (
                undated(f"Expires: {date(60)}"),
                60,
                60,
            ),
            "Expires with a Date that is none": (
                undated("Date: today", f"Expires: {date(60)}"),
                60,
                60,
            ),
            "Expires at Date": (response(f"Expires: {date()}"), 0, 0),
            "Expires before Date": (response(f"Expires: {date(-60)}", MODIFIED), 0, 0),
            "Expires in an obsolete form": (
                response("Expires: Wednesday, 15-Nov-23 22:13:20 GMT"),
                DAY,
                DAY,
            ),
            "Expires in any case": (response("Expires: wed, 15 nov 2023 22:13:20 gmt"), DAY, DAY),
            "Expires twice the same": (
                response(f"Expires: {date(60)}", f"Expires: {date(60)}"),
                60,
                60,
            ),
            "Expires twice": (response(f"Expires: {date(60)}", f"Expires: {date(90)}"), 0, 0),
            "an Expires of 0": (response("Expires: 0", MODIFIED), 0, 0),
            "an Expires of -1": (response("Expires: -1", MODIFIED), 0, 0),
            "an empty Expires": (response("Expires:", MODIFIED), 0, 0),
            "an Expires in another zone": (
                response("Expires: Wed, 15 Nov 2023 22:13:20 EST", MODIFIED),
                0,
                0,
            ),
            "nothing": (response(), 0, 0),
        }
    ),
)
def test_the_freshness_lifetime(said: Response, private: float, shared: float) -> None:
    assert PRIVATE.lifetime(get(), held(said)).seconds == private
    assert SHARED.lifetime(get(), held(said)).seconds == shared


@pytest.mark.parametrize(
    ("said", "seconds"),
    table(
        {
            "a tenth of the time since it was modified": (response(MODIFIED), 100),
            "since its own Date": (response(f"Date: {date(-500)}", MODIFIED), 50),
            "since it came, if it has no Date": (undated(MODIFIED), 100),
            "not longer than a day": (response(f"Last-Modified: {date(-100 * DAY)}"), DAY),
            "none if modified later than Date": (response(f"Last-Modified: {date(60)}"), 0),
            "none if modified at no date": (response("Last-Modified: yesterday"), 0),
            "none if never modified": (response('ETag: "1"'), 0),
            "of a status that is cacheable": (response(MODIFIED, status=404), 100),
            "not of another": (response(MODIFIED, status=302), 0),
            "of another that is public": (
                response(MODIFIED, "Cache-Control: public", status=302),
                100,
            ),
            "not beside max-age": (response(MODIFIED, "Cache-Control: max-age=0"), 0),
            "not beside Expires": (response(MODIFIED, f"Expires: {date()}"), 0),
        }
    ),
)
def test_the_heuristic_lifetime(said: Response, seconds: float) -> None:
    assert PRIVATE.lifetime(get(), held(said)).seconds == pytest.approx(seconds)


def test_a_query_does_not_forbid_heuristics() -> None:
    request = get(url="https://example.org/?q")
    kept = held(response(MODIFIED), request)
    assert PRIVATE.lifetime(request, kept).seconds == pytest.approx(100)


def test_the_user_bounds_the_heuristic() -> None:
    kept = held(response(f"Last-Modified: {date(-1000)}"))
    assert Policy(heuristic_fraction=0.5).lifetime(get(), kept).seconds == pytest.approx(500)
    assert Policy(heuristic_fraction=0).lifetime(get(), kept).seconds == 0
    assert Policy(heuristic_cap=5).lifetime(get(), kept).seconds == 5


@pytest.mark.parametrize(
    ("lines", "took", "after", "age"),
    table(
        {
            "new": ([f"Date: {date()}"], 0, 0, 0),
            "resident": ([f"Date: {date()}"], 0, 30, 30),
            "underway, by its Date": ([f"Date: {date(-10)}"], 0, 30, 40),
            "underway, by our clock": ([f"Date: {date()}"], 5, 30, 35),
            "in a cache before us": ([f"Date: {date()}", "Age: 20"], 0, 30, 50),
            "in a cache before us, then underway": ([f"Date: {date()}", "Age: 20"], 5, 30, 55),
            "Age more than Date says": ([f"Date: {date(-10)}", "Age: 20"], 0, 0, 20),
            "Age less than Date says": ([f"Date: {date(-30)}", "Age: 20"], 0, 0, 30),
            "Age and delay less than Date says": ([f"Date: {date(-30)}", "Age: 20"], 5, 0, 30),
            "Age and delay more than Date says": ([f"Date: {date(-30)}", "Age: 28"], 5, 0, 33),
            "from a clock that is ahead": ([f"Date: {date(60)}"], 0, 30, 30),
            "without a Date": ([], 0, 30, 30),
            "without a Date, with an Age": (["Age: 20"], 5, 30, 55),
            "with a Date that is none": (["Date: today"], 0, 30, 30),
            "by a clock that went back": ([f"Date: {date()}", "Age: 20"], 0, -30, 20),
        }
    ),
)
def test_the_current_age(lines: list[str], took: float, after: float, age: float) -> None:
    assert current_age(held(undated(*lines), took=took), NOW + after) == age


@pytest.mark.parametrize(
    ("lines", "value"),
    table(
        {
            "absent": ([], 0),
            "a number": (["Age: 20"], 20),
            "zero": (["Age: 0"], 0),
            "the first of a list": (["Age: 20, 0"], 20),
            "the first of a list, empty members aside": (["Age: , 20,, 30"], 20),
            "beyond counting": ([f"Age: {'9' * 100}"], 2**31),
        }
    ),
)
def test_the_value_of_age(lines: list[str], value: int) -> None:
    assert age_value(fields(*lines)) == value


@pytest.mark.parametrize(
    "lines",
    table(
        {
            "negative": ["Age: -20"],
            "a fraction": ["Age: 20.0"],
            "text": ["Age: old"],
            "empty": ["Age:"],
            "a list of nothing": ["Age: , ,"],
            "invalid, then valid": ["Age: old, 20"],
            "a list that says the same twice": ["Age: 20, 20"],
            "a list that says something twice": ["Age: 20, 30, 20"],
            "two lines": ["Age: 0", "Age: 20"],
            "two lines that say the same": ["Age: 20", "Age: 20"],
        }
    ),
)
def test_an_age_that_can_not_be_right_is_the_greatest(lines: list[str]) -> None:
    assert age_value(fields(*lines)) == 2**31


def test_the_value_of_date() -> None:
    assert date_of(fields(f"Date: {date(-5)}"), NOW) == NOW - 5
    assert date_of(fields("Date: today"), NOW) == NOW
    assert date_of(fields(), NOW) == NOW
    for several in ([-5, -5], [-5, -2], [-2, -5]):
        assert date_of(fields(*(f"Date: {date(at)}" for at in several)), NOW) == NOW - 5
    assert date_of(fields("Date: today", f"Date: {date(-5)}"), NOW) == NOW - 5


@pytest.mark.parametrize(
    ("lines", "after", "fresh"),
    table(
        {
            "before its lifetime is over": (["Cache-Control: max-age=60"], 59, True),
            "at its end": (["Cache-Control: max-age=60"], 60, False),
            "afterwards": (["Cache-Control: max-age=60"], 61, False),
            "with a lifetime of nothing": (["Cache-Control: max-age=0", "ETag: x"], 0, False),
            "aged on its way": (["Cache-Control: max-age=60", "Age: 50"], 9, True),
            "too old on its way": (["Cache-Control: max-age=60", "Age: 50"], 10, False),
            "too old when it came": (["Cache-Control: max-age=60", "Age: 7200"], 0, False),
            "generated long ago": (["Cache-Control: max-age=60", f"Date: {date(-7200)}"], 0, False),
            "before it expires": ([f"Expires: {date(60)}"], 59, True),
            "when it expires": ([f"Expires: {date(60)}"], 60, False),
            "by a heuristic": ([MODIFIED], 99, True),
            "no longer by a heuristic": ([MODIFIED], 101, False),
            "with an Age that is none": (["Cache-Control: max-age=60", "Age: old"], 0, False),
        }
    ),
)
def test_a_response_is_fresh_while_its_lifetime_exceeds_its_age(
    lines: list[str], after: float, fresh: bool
) -> None:
    assert is_served(asked(get(), held(response(*lines)), after=after)) is fresh


@pytest.mark.parametrize(
    ("lines", "after", "age"),
    table(
        {
            "new": ([], 0, "0"),
            "resident": ([], 30, "30"),
            "resident for a fraction": ([], 30.9, "30"),
            "with an Age before": (["Age: 20"], 30, "50"),
            "with several in a list": (["Age: 20, 5"], 30, "50"),
        }
    ),
)
def test_what_is_served_says_its_age(lines: list[str], after: float, age: str) -> None:
    decision = asked(get(), held(response("Cache-Control: max-age=90", *lines)), after=after)
    assert isinstance(decision, Serve)
    assert decision.response.fields.get_all("age") == (age,)
    assert decision.age + decision.ttl == pytest.approx(90)


def test_what_is_served_is_otherwise_as_it_was_stored() -> None:
    kept = held(response("Cache-Control: max-age=60", "X: 1", "Set-Cookie: a=1", status=404))
    decision = asked(get(), kept, after=30)
    assert isinstance(decision, Serve)
    served = decision.response
    assert served.fields.without({"age"}) == kept.response.fields
    assert served.status == 404
    assert "warning" not in served.fields
