from typing import Any

import pytest

from tests.conformance.scoring import (
    Kind,
    Mode,
    Outcome,
    Score,
    broken_off,
    outlived,
    report,
    score,
    unexcused,
)


def described(name: str, **flags: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": f"HTTP cache must {name}",
        "suite": "Suite",
        "kind": "required",
        "depends_on": [],
        "browser_only": False,
        "browser_skip": False,
    } | flags


def judged(
    results: dict[str, Any],
    *tests: dict[str, Any],
    mode: Mode = Mode.SHARED,
    only: tuple[str, ...] = (),
) -> Score:
    return score({"tests": list(tests), "results": results}, mode, only)


def outcomes(result: Score) -> dict[str, Outcome]:
    return {verdict.case.id: verdict.outcome for verdict in result.verdicts}


@pytest.mark.parametrize(
    ("result", "outcome", "message"),
    [
        (True, Outcome.PASSED, ""),
        (["Assertion", "it is cached"], Outcome.FAILED, "it is cached"),
        (["Setup", "status is 502"], Outcome.SETUP, "status is 502"),
        (["Setup", "retry"], Outcome.RETRY, "retry"),
        (["FetchError", "no answer"], Outcome.HARNESS, "FetchError: no answer"),
    ],
)
def test_a_result_is_judged_by_its_error(result: Any, outcome: Outcome, message: str) -> None:
    (verdict,) = judged({"a": result}, described("a")).verdicts
    assert (verdict.outcome, verdict.message) == (outcome, message)


def test_a_test_without_a_result_is_the_harness_s_failure() -> None:
    assert outcomes(judged({}, described("a"))) == {"a": Outcome.HARNESS}


def test_what_depends_on_a_shortfall_does_not_pass_however_far_away_it_is() -> None:
    result = judged(
        {"a": ["Assertion", "no"], "b": True, "c": True},
        described("a", kind="check"),
        described("b", depends_on=["a"]),
        described("c", depends_on=["b"]),
    )
    assert outcomes(result) == {
        "a": Outcome.FAILED,
        "b": Outcome.DEPENDENCY,
        "c": Outcome.DEPENDENCY,
    }
    assert result.verdicts[1].message == "depends on a; by itself: passed"


def test_dependencies_do_not_count_among_tests_picked_by_hand() -> None:
    tests = (described("a"), described("b", depends_on=["a"]))
    assert outcomes(judged({"b": True}, *tests, only=("b",))) == {"b": Outcome.PASSED}


def test_the_mode_selects_tests() -> None:
    tests = (described("a"), described("b", browser_only=True), described("c", browser_skip=True))
    results = {"a": True, "b": True, "c": True}
    assert set(outcomes(judged(results, *tests))) == {"a", "c"}
    assert set(outcomes(judged(results, *tests, mode=Mode.PRIVATE))) == {"a", "b"}


def test_counts_are_by_kind() -> None:
    result = judged(
        {"a": True, "b": ["Assertion", ""], "c": True},
        described("a"),
        described("b"),
        described("c", kind="optimal"),
    )
    assert result.count(Kind.REQUIRED) == {Outcome.PASSED: 1, Outcome.FAILED: 1}
    assert result.count(Kind.OPTIMAL) == {Outcome.PASSED: 1}
    assert result.count(Kind.CHECK) == {}


def test_only_required_tests_need_an_excuse() -> None:
    short = ["Assertion", "no"]
    tests = (described("a"), described("b"), described("c", kind="optimal"))
    result = judged({"a": short, "b": short, "c": short}, *tests)
    assert unexcused([result], {}) == ["a", "b"]
    assert unexcused([result], {"a": "it can't"}) == ["b"]


def test_a_reason_is_needed_as_long_as_one_mode_needs_it() -> None:
    tests = (described("a"), described("b"))
    shared = judged({"a": True, "b": ["Assertion", "no"]}, *tests)
    private = judged({"a": True, "b": True}, *tests, mode=Mode.PRIVATE)
    reasons = {"a": "once", "b": "still", "z": "never"}
    assert outlived([shared, private], reasons) == ["a", "z"]


def test_half_a_run_says_nothing_about_reasons() -> None:
    shared = judged({"a": True}, described("a"))
    picked = judged({"a": True}, described("a"), mode=Mode.PRIVATE, only=("a",))
    assert outlived([shared], {"a": "once"}) == []
    assert outlived([shared, picked], {"a": "once"}) == []


def test_the_report_names_what_falls_short_and_why() -> None:
    short = ["Assertion", "Response 2 comes from cache"]
    tests = (described("a"), described("b"), described("c", kind="check"))
    result = judged({"a": True, "b": short, "c": short}, *tests)
    text = report(result, {"b": "it can't"})
    assert text.startswith("shared cache, 3 tests\n")
    assert "  failed      b: Response 2 comes from cache\n              reason: it can't" in text
    assert " a" not in text.partition("required:")[2]
    assert "check:" not in text
    everything = report(result, {}, verbose=True)
    assert "  passed      a\n" in everything
    assert "  failed      c: " in everything


def test_what_had_no_response_is_tried_again_unless_there_is_a_reason() -> None:
    results = {
        "a": True,
        "b": ["Setup", "Response 1 status is 502, not 200"],
        "c": ["Assertion", "it is cached"],
        "d": ["Setup", "PUT config resulted in 502 Bad Gateway - "],
        "e": ["Setup", "Response 1 status is 502, not 200"],
    }
    assert broken_off({"results": results}, {"e": "it is never to be had"}) == ["b", "d"]
