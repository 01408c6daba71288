"""For how long a response is worth keeping, where what has expired makes room by itself."""

from __future__ import annotations

import pytest

from stillfresh import Policy, Rule
from stillfresh.rfc9111.fields import Fields
from stillfresh.rfc9111.messages import Request, Response, StoredResponse

NOW = 1_700_000_000.0
MINUTE, DAY = 60.0, 86_400.0
YEAR = 366 * DAY
REQUEST = Request("GET", "https://example.org/", Fields([]))


def useful(*fields: tuple[str, str], policy: Policy | None = None) -> float:
    response = Response(200, Fields(fields))
    stored = StoredResponse("https://example.org/", response, NOW, NOW)
    return (policy or Policy()).useful_for(REQUEST, stored)


def cached(value: str) -> tuple[str, str]:
    return "Cache-Control", value


TAG = ("ETag", '"1"')


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        pytest.param([cached("max-age=600")], 600 + MINUTE, id="while it is fresh"),
        pytest.param([cached("max-age=600"), ("Age", "500")], 100 + MINUTE, id="what is left"),
        pytest.param([cached("max-age=600"), ("Age", "900")], MINUTE, id="stale already"),
        pytest.param([cached("no-cache"), TAG], 7 * DAY, id="to be validated"),
        pytest.param([cached("max-age=600"), TAG], 600 + 7 * DAY, id="validated when stale"),
        pytest.param(
            [cached("max-age=600"), ("Last-Modified", "Mon, 02 Jun 2025 08:30:00 GMT")],
            600 + 7 * DAY,
            id="by its date",
        ),
        pytest.param([cached(f"max-age={20 * 86_400}"), TAG], 40 * DAY, id="as long again"),
        pytest.param([cached(f"max-age={90 * 86_400}"), TAG], 120 * DAY, id="at most a month"),
        pytest.param([cached("max-age=60, stale-if-error=7200")], 60 + 7200, id="stale if error"),
        pytest.param(
            [cached("max-age=60, stale-while-revalidate=900")], 960, id="stale while validated"
        ),
        pytest.param(
            [cached("max-age=60, must-revalidate, stale-if-error=7200")], 120, id="never stale"
        ),
        pytest.param([cached(f"max-age={1 << 31}"), TAG], YEAR, id="not for ever"),
    ],
)
def test_a_response_is_of_use(fields: list[tuple[str, str]], seconds: float) -> None:
    assert useful(*fields) == seconds


def test_the_users_settings_count() -> None:
    policy = Policy(stale_if_error=DAY)
    assert useful(cached("max-age=60"), policy=policy) == 60 + DAY
    policy = Policy(stale_if_error=0)
    assert useful(cached("max-age=60, stale-if-error=7200"), policy=policy) == 120
    policy = Policy(rules=(Rule(fresh_for=DAY),))
    assert useful(cached("max-age=60"), policy=policy) == DAY + MINUTE
