"""`expires`, in every form that callers use."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

Expires: TypeAlias = float | datetime | timedelta | None
"""Seconds from now, a moment (aware, or naive in UTC), a span from now, or never."""


# Longer than the universe is old: an int beyond the range of a float is as good as never.
_FOREVER: Final = 1e18


def moment(expires: Expires, now: float) -> float | None:
    """Turn `expires` into seconds since the epoch; None is never.

    Raises:
        TypeError: it is none of the forms.
        ValueError: it is not a number.
    """
    given: object = expires
    match given:
        case None:
            return None
        case datetime():
            aware = given if given.tzinfo is not None else given.replace(tzinfo=UTC)
            return aware.timestamp()
        case timedelta():
            return now + given.total_seconds()
        case int() | float():
            if isinstance(given, float) and math.isnan(given):
                msg = "expires is not a number"
                raise ValueError(msg)
            if given >= _FOREVER:
                return None
            return now + max(given, -_FOREVER)
        case _:
            msg = f"expires is seconds, a datetime, a timedelta or None, not {given!r}"
            raise TypeError(msg)


def is_past(expires_at: float | None, now: float) -> bool:
    """Tell whether that moment has come: what was to exist until then doesn't any more."""
    return expires_at is not None and expires_at <= now
