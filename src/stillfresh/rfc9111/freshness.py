"""How long a response is fresh, how old it is, how stale (RFC 9111 §4.2). Times in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stillfresh.rfc9111.dates import parse_date, parse_date_once
from stillfresh.rfc9111.directives import MAX_DELTA, delta_seconds
from stillfresh.rfc9111.fields import split_list
from stillfresh.rfc9111.storing import HEURISTICALLY_CACHEABLE

if TYPE_CHECKING:
    from stillfresh.rfc9111.directives import ResponseDirectives
    from stillfresh.rfc9111.fields import Fields
    from stillfresh.rfc9111.messages import Response, StoredResponse


class Lifetime(NamedTuple):
    """A freshness lifetime and what says so, as in `max-age=60`.

    `against` the RFC is one that a rule of the user's makes longer than the response says.
    """

    seconds: float
    source: str
    against: bool = False


def lifetime(
    response: Response,
    said: ResponseDirectives,
    received: float,
    *,
    shared: bool,
    heuristic_fraction: float,
    heuristic_cap: float,
    by_default: float | None = None,
) -> Lifetime:
    """Return the freshness lifetime (§4.2.1), from the first of its sources that is there.

    `received` is when the response came; it stands in for a Date that is missing or invalid.
    Information that can't be right counts as stale, and doesn't let the next source speak. Where
    there is none, `by_default` seconds stand in for a heuristic (§4.2.2).
    """
    if shared and said.s_maxage is not None:
        return Lifetime(said.s_maxage, f"s-maxage={said.s_maxage}")
    if said.max_age is not None:
        return Lifetime(said.max_age, f"max-age={said.max_age}")
    fields = response.fields
    # RFC 9213 §2.2: a targeted field speaks in the place of Expires too.
    expires = () if said.targeted else fields.get_all("expires")
    if expires:
        until = _date(expires[0], received) if len(set(expires)) == 1 else None
        if until is None:
            return Lifetime(0, "an invalid Expires")
        seconds = max(0.0, until - date_of(fields, received))
        return Lifetime(seconds, f"Expires after {seconds:.0f}")
    may_be_guessed = response.status in HEURISTICALLY_CACHEABLE or said.public
    if by_default is not None:
        return Lifetime(by_default, f"{by_default:.0f} by a rule", against=not may_be_guessed)
    if heuristic_fraction > 0 and may_be_guessed:
        modified = _date(fields.get("last-modified") or "", received)
        if modified is not None:
            since = max(0.0, date_of(fields, received) - modified)
            seconds = min(since * heuristic_fraction, heuristic_cap)
            return Lifetime(seconds, f"a heuristic of {seconds:.0f}")
    return Lifetime(0, "no freshness information")


def date_of(fields: Fields, received: float) -> float:
    """Return the value of Date, or when the message came if it says nothing valid.

    Of several the earliest counts, by which the response is the oldest (§4.2.3).
    """
    values = fields.get_all("date")
    if len(values) == 1:
        date = _date(values[0], received)
        return received if date is None else date
    dates = [date for value in values if (date := _date(value, received)) is not None]
    return min(dates, default=received)


def current_age(stored: StoredResponse, now: float) -> float:
    """Return the age of a stored response at `now` (§4.2.3), never negative.

    A clock that went back since the response came leaves the time resident at zero.
    """
    return stored.known(initial_age) + max(0.0, now - stored.response_time)


def initial_age(stored: StoredResponse) -> float:
    """Return the age that a response had when it came: its corrected initial age (§4.2.3)."""
    fields = stored.response.fields
    apparent_age = max(0.0, stored.response_time - date_of(fields, stored.response_time))
    response_delay = max(0.0, stored.response_time - stored.request_time)
    corrected_age_value = age_value(fields) + response_delay
    return max(apparent_age, corrected_age_value)


def age_value(fields: Fields) -> int:
    """Return what Age says (§5.1), 0 where it is absent: of a list, its first member.

    What can't be right counts as the greatest age there is, as invalid freshness information
    counts as stale (§4.2.1): no number, several lines, or a list that says the same twice, which
    is what becomes of an Age that caches pass on without adding to it. §5.1 would have it ignored;
    but a response about whose age somebody is wrong is better asked about than believed.
    """
    values = fields.get_all("age")
    if not values:
        return 0
    members = split_list(values[0])
    if len(values) > 1 or len(set(members)) < max(1, len(members)):
        return MAX_DELTA
    seconds = delta_seconds(members[0])
    return MAX_DELTA if seconds is None else seconds


def _date(text: str, now: float) -> float | None:
    if not text:
        return None
    quick = parse_date_once(text)
    return parse_date(text, now) if quick is None else quick
