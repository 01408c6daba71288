import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillfresh.caches.expiry import Expires, moment

NOW = 1_700_000_000.0
EASTWARD = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        (60, NOW + 60),
        (0.5, NOW + 0.5),
        (0, NOW),
        (-60, NOW - 60),
        (True, NOW + 1),
        (timedelta(minutes=1), NOW + 60),
        (timedelta(microseconds=-500_000), NOW - 0.5),
        (datetime(2023, 11, 14, 22, 14, 20, tzinfo=UTC), NOW + 60),
        (datetime(2023, 11, 15, 3, 44, 20, tzinfo=EASTWARD), NOW + 60),
    ],
)
def test_every_form_names_a_moment(expires: Expires, expected: float) -> None:
    assert moment(expires, NOW) == expected


def test_a_naive_datetime_is_in_utc() -> None:
    assert moment(datetime(2023, 11, 14, 22, 14, 20), NOW) == NOW + 60  # noqa: DTZ001


@pytest.mark.parametrize("expires", [None, math.inf, 10**18, 10**400])
def test_what_never_ends_has_no_moment(expires: Expires) -> None:
    assert moment(expires, NOW) is None


@pytest.mark.parametrize(
    "expires",
    [
        -math.inf,
        -(10**400),
        timedelta.min,
        datetime.min,  # noqa: DTZ901
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=EASTWARD),
    ],
)
def test_the_far_past_is_past(expires: Expires) -> None:
    found = moment(expires, NOW)
    assert found is not None
    assert found < 0


@pytest.mark.parametrize(
    "expires",
    [
        timedelta.max,
        datetime.max,  # noqa: DTZ901
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=EASTWARD),
    ],
)
def test_the_far_future_is_to_come(expires: Expires) -> None:
    found = moment(expires, NOW)
    assert found is not None
    assert found > NOW


@pytest.mark.parametrize("expires", ["60", b"60", [60], object(), 1j])
def test_other_types_are_refused(expires: Any) -> None:
    with pytest.raises(TypeError, match="expires is seconds"):
        moment(expires, NOW)


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        moment(math.nan, NOW)


@given(st.integers() | st.floats(allow_nan=False) | st.timedeltas() | st.datetimes())
def test_a_moment_is_a_number_or_never(expires: Expires) -> None:
    found = moment(expires, NOW)
    assert found is None or math.isfinite(found)


@given(st.integers() | st.floats(allow_nan=False))
def test_the_sign_says_whether_it_is_past(seconds: float) -> None:
    found = moment(seconds, NOW)
    if seconds <= 0:
        assert found is not None
        assert found <= NOW
    else:
        assert found is None or found >= NOW
