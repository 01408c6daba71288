"""HTTP-date (RFC 9110 §5.6.7) in its three forms. An invalid one is None, not an exception."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime
from typing import Final

from stillfresh.memo import remembered

_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NAMES: Final = tuple(_MONTHS)

_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
# RFC 9111 §4.2: a cache matches dates without regard to case.
_FLAGS: Final = re.ASCII | re.IGNORECASE
_IMF: Final = re.compile(
    rf"(?:{'|'.join(_DAYS)}), (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT", _FLAGS
)
_RFC850: Final = re.compile(
    r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), "
    rf"(?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT",
    _FLAGS,
)
_ASCTIME: Final = re.compile(
    rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})", _FLAGS
)
_FIFTY_YEARS: Final = 50


def parse_date(text: str, now: float) -> float | None:
    """Return the moment `text` names, in seconds since the epoch, or None if it names none.

    `now` places the two-digit year of the obsolete RFC 850 form.
    """
    text = text.strip(" \t")
    match = _IMF.fullmatch(text) or _ASCTIME.fullmatch(text)
    if match is not None:
        return _seconds(match, int(match["year"]))
    match = _RFC850.fullmatch(text)
    return None if match is None else _seconds(match, _year_of_century(match, now))


@remembered()
def parse_date_once(text: str) -> float | None:
    """Parse the preferred form only, remembering the answer: most dates are seen again."""
    match = _IMF.fullmatch(text)
    return None if match is None else _seconds(match, int(match["year"]))


def format_date(seconds: float) -> str:
    """Write a moment in the preferred form (IMF-fixdate)."""
    at = datetime.fromtimestamp(seconds, UTC)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTH_NAMES[at.month - 1]} {at.year:04} "
        f"{at:%H:%M:%S} GMT"
    )


def _year_of_century(match: re.Match[str], now: float) -> int:
    """Return the year that two digits stand for: the last that isn't over 50 years ahead."""
    today = datetime.fromtimestamp(now, UTC)
    limit = today.year + _FIFTY_YEARS
    year = limit - (limit - int(match["year"])) % 100
    return year - 100 if year == limit and _within_year(match) > today.timetuple()[1:6] else year


def _within_year(match: re.Match[str]) -> tuple[int, int, int, int, int]:
    """Return month, day, hour, minute and second."""
    month = _MONTHS[match["month"].title()]
    return month, int(match["day"]), int(match["hour"]), int(match["minute"]), int(match["second"])


def _seconds(match: re.Match[str], year: int) -> float | None:
    month, day, hour, minute, second = _within_year(match)
    # 60 is a leap second, which POSIX time doesn't count.
    if hour > 23 or minute > 59 or second > 60 or year < 1:
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return float(calendar.timegm((year, month, day, hour, minute, min(second, 59))))
