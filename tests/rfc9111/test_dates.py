"""HTTP-date: RFC 9110 §5.6.7, and what RFC 9111 §4.2 adds for caches."""

from datetime import UTC, datetime

import pytest

from stillfresh.rfc9111.dates import format_date, parse_date, parse_date_once
from tests.rfc9111.scenes import NOW, table

# The RFC's own example.
MOMENT = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    table(
        {
            "IMF-fixdate": "Sun, 06 Nov 1994 08:49:37 GMT",
            "RFC 850": "Sunday, 06-Nov-94 08:49:37 GMT",
            "asctime": "Sun Nov  6 08:49:37 1994",
            "asctime with two digits for the day": "Sun Nov 06 08:49:37 1994",
        }
    ),
)
def test_all_three_forms_name_the_same_moment(text: str) -> None:
    assert parse_date(text, NOW) == MOMENT


@pytest.mark.parametrize(
    "text",
    table(
        {
            "the day": "SUN, 06 Nov 1994 08:49:37 GMT",
            "the month": "Sun, 06 NOV 1994 08:49:37 GMT",
            "the zone": "Sun, 06 Nov 1994 08:49:37 gmt",
            "all": "sun, 06 nov 1994 08:49:37 Gmt",
            "all of RFC 850": "SUNDAY, 06-nov-94 08:49:37 gmt",
            "all of asctime": "SUN NOV  6 08:49:37 1994",
        }
    ),
)
def test_case_does_not_matter(text: str) -> None:
    assert parse_date(text, NOW) == MOMENT


def test_whitespace_around_a_date_is_not_part_of_it() -> None:
    assert parse_date(" \tSun, 06 Nov 1994 08:49:37 GMT ", NOW) == MOMENT


@pytest.mark.parametrize(
    "text",
    table(
        {
            "nothing": "",
            "zero": "0",
            "minus one": "-1",
            "a number of seconds": "784111777",
            "an ISO date": "1994-11-06T08:49:37Z",
            "another zone": "Sun, 06 Nov 1994 08:49:37 UTC",
            "a zone as a number": "Sun, 06 Nov 1994 08:49:37 +0000",
            "a local zone": "Sun, 06 Nov 1994 08:49:37 EST",
            "no zone": "Sun, 06 Nov 1994 08:49:37",
            "two digits for the year": "Sun, 06 Nov 94 08:49:37 GMT",
            "no comma": "Sun 06 Nov 1994 08:49:37 GMT",
            "spaces too many": "Sun, 06  Nov  1994 08:49:37 GMT",
            "dashes and a long year": "Sun, 06-Nov-1994 08:49:37 GMT",
            "periods in the time": "Sun, 06 Nov 1994 08.49.37 GMT",
            "one digit for the hour": "Sun, 06 Nov 1994 8:49:37 GMT",
            "an unknown month": "Sun, 06 Foo 1994 08:49:37 GMT",
            "the 31st of November": "Wed, 31 Nov 1994 08:49:37 GMT",
            "the 29th of February in no leap year": "Wed, 29 Feb 1995 08:49:37 GMT",
            "the zeroth day": "Sun, 00 Nov 1994 08:49:37 GMT",
            "hour 24": "Sun, 06 Nov 1994 24:00:00 GMT",
            "minute 60": "Sun, 06 Nov 1994 08:60:37 GMT",
            "second 61": "Sun, 06 Nov 1994 08:49:61 GMT",
            "year 0": "Sun, 06 Nov 0000 08:49:37 GMT",
            "digits that are not ASCII": "Sun, ٠٦ Nov 1994 08:49:37 GMT",
            "two dates": "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
            "something after it": "Sun, 06 Nov 1994 08:49:37 GMT; x",
            "a line break after it": "Sun, 06 Nov 1994 08:49:37 GMT\n",
        }
    ),
)
def test_what_is_no_date_names_no_moment(text: str) -> None:
    assert parse_date(text, NOW) is None


def test_a_leap_day_is_a_day() -> None:
    assert parse_date("Thu, 29 Feb 2024 00:00:00 GMT", NOW) == 1_709_164_800


def test_a_leap_second_is_the_nearest_moment_before_it() -> None:
    before = datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert parse_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW) == before


@pytest.mark.parametrize(
    ("year", "today", "text", "meant"),
    table(
        {
            "of this century, past": (2023, (11, 14), "Sunday, 06-Nov-22", 2022),
            "of this century, to come": (2023, (11, 14), "Sunday, 06-Nov-50", 2050),
            "of the last century": (2023, (11, 14), "Sunday, 06-Nov-94", 1994),
            "fifty years ahead to the day": (2023, (11, 14), "Tuesday, 14-Nov-73", 2073),
            "a day more than fifty years ahead": (2023, (11, 14), "Thursday, 15-Nov-73", 1973),
            "a year more than fifty years ahead": (2023, (11, 14), "Wednesday, 14-Nov-74", 1974),
            "of the next century, soon": (1999, (12, 31), "Saturday, 01-Jan-00", 2000),
            "of the next century, in fifty years": (1994, (11, 6), "Thursday, 06-Nov-44", 2044),
            "this year, at the turn of the century": (2000, (1, 1), "Friday, 31-Dec-99", 1999),
        }
    ),
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(
    year: int, today: tuple[int, int], text: str, meant: int
) -> None:
    now = datetime(year, *today, tzinfo=UTC).timestamp()
    moment = parse_date(f"{text} 00:00:00 GMT", now)
    assert moment is not None
    assert datetime.fromtimestamp(moment, UTC).year == meant


def test_dates_are_written_as_imf_fixdate() -> None:
    assert format_date(MOMENT) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_fraction_of_a_second_is_left_out_and_never_rounded_up() -> None:
    assert format_date(MOMENT + 0.999) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_remembered_answer_is_that_of_the_preferred_form() -> None:
    assert parse_date_once("Sun, 06 Nov 1994 08:49:37 GMT") == MOMENT
    assert parse_date_once("0") is None
