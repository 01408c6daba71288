"""Where the RFCs leave a choice, the more careful one is taken."""

import pytest

from stillfresh.errors import ConfigError
from stillfresh.rfc9111.decisions import Pass, Reason, Revalidate, Serve
from stillfresh.rfc9111.policy import Policy
from stillfresh.rfc9111.rules import Rule
from tests.rfc9111.scenes import asked, get, received, response, stored

LATE = response("Cache-Control: max-age=60, stale-while-revalidate=30", 'ETag: "1"')


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_content_makes_no_key_for_what_must_be_done_each_time(method: str) -> None:
    policy = Policy(rules=(Rule(key_with_content=True),))
    request = get("Content-Length: 1", method=method)._replace(content=b"x")
    assert not policy.looks_up(request)
    assert not policy.stores(request)
    named = Policy(rules=(Rule(key_with_content=True, methods=frozenset({method})),))
    assert named.looks_up(request)


def test_a_single_rule_is_not_taken_for_several() -> None:
    with pytest.raises(ConfigError, match="rules takes several"):
        Policy(rules=Rule(never_store=True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (("Cache-Control: max-age=60", "Vary: *"), Reason.VARY_ANYTHING),
        (("Cache-Control: max-age=60", "Content-Length: 99"), Reason.TOO_LARGE),
    ],
)
def test_a_newer_answer_that_is_not_kept_ends_the_older_one(
    lines: tuple[str, ...], reason: Reason
) -> None:
    older = stored(response("Cache-Control: max-age=60", "Content-Length: 5"))
    decision = received(response(*lines), stored=older, policy=Policy(max_body=10))
    assert isinstance(decision, Pass)
    assert decision.why.reason is reason
    assert decision.drop


@pytest.mark.parametrize(("after", "served"), [(90, True), (91, False)])
def test_the_window_of_a_late_validation_has_its_last_second(after: float, served: bool) -> None:
    decision = asked(get(), stored(LATE), after=after)
    assert isinstance(decision, Serve if served else Revalidate)


def test_who_says_how_stale_it_takes_gets_nothing_staler() -> None:
    assert isinstance(asked(get("Cache-Control: max-stale=5"), stored(LATE), after=70), Revalidate)
