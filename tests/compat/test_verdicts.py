import pytest

from tests.compat.verdicts import judge, report

RESULTS = {"tests/a.py::one": "", "tests/a.py::two": "assert 1 == 2", "tests/a.py::three": "no"}


def test_what_fails_without_a_reason_fails_the_run() -> None:
    verdict = judge(RESULTS, {"a.py::two": "because"})
    assert verdict.passed == 1
    assert verdict.failed == {"a.py::three": "no"}
    assert verdict.argued == {"a.py::two": "because"}
    assert not verdict.is_good


def test_what_fails_for_a_reason_does_not() -> None:
    assert judge(RESULTS, {"a.py::two": "because", "a.py::three": "as well"}).is_good


@pytest.mark.parametrize("test", ["a.py::one", "a.py::no_such_test"])
def test_a_reason_that_nothing_needs_fails_the_run(test: str) -> None:
    reasons = {"a.py::two": "because", "a.py::three": "as well", test: "once"}
    verdict = judge(RESULTS, reasons)
    assert verdict.outlived == {test}
    assert not verdict.is_good


def test_a_report_counts_and_gives_each_reason_once() -> None:
    reasons = {"a.py::two": "because", "a.py::three": "because", "a.py::four": "once"}
    text = report({"caches": judge(RESULTS, reasons)})
    assert "caches             1       0       2" in text
    assert text.count("because") == 1
    assert "argued: a.py::two" in text
    assert "reason no longer needed: a.py::four" in text
    assert "failed: a.py::two\n    assert 1 == 2" in report({"caches": judge(RESULTS, {})})
