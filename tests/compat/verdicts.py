"""From what became of the tests to a report: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one run has shown.

    Attributes:
        passed: how many tests passed.
        failed: the tests that failed and have no reason to, with what they said.
        argued: the tests that failed, with the reason they have.
        outlived: the reasons that nothing needs any more.
    """

    passed: int
    failed: Mapping[str, str]
    argued: Mapping[str, str]
    outlived: frozenset[str]

    @property
    def is_good(self) -> bool:
        """Tell whether every test passes or has a reason, and every reason is needed."""
        return not self.failed and not self.outlived


def judge(results: Mapping[str, str], reasons: Mapping[str, str]) -> Verdict:
    """Compare what tests said (nothing, if they passed) with the reasons there are, by id."""
    said = {test.removeprefix("tests/"): words for test, words in results.items()}
    short = {test: words for test, words in said.items() if words}
    return Verdict(
        passed=len(said) - len(short),
        failed={test: words for test, words in short.items() if test not in reasons},
        argued={test: reasons[test] for test in short if test in reasons},
        outlived=frozenset(reasons.keys() - short.keys()),
    )


def report(verdicts: Mapping[str, Verdict]) -> str:
    """Write a table of the runs, then the failures, and each reason once with its tests."""
    lines = [f"{'swapped':<12}{'passed':>8}{'failed':>8}{'argued':>8}"]
    for name, verdict in verdicts.items():
        counts = verdict.passed, len(verdict.failed), len(verdict.argued)
        lines.append(f"{name:<12}" + "".join(f"{count:>8}" for count in counts))
    for verdict in verdicts.values():
        lines += [f"\nfailed: {test}\n    {words}" for test, words in verdict.failed.items()]
        by_reason: dict[str, list[str]] = {}
        for test, reason in verdict.argued.items():
            by_reason.setdefault(reason, []).append(test)
        for reason, tests in by_reason.items():
            lines += ["", *(f"argued: {test}" for test in tests), f"    {reason}"]
        lines += [f"\nreason no longer needed: {test}" for test in sorted(verdict.outlived)]
    return "\n".join(lines)
