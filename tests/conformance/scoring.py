"""From what the suite's client says to a report: pure functions, by the suite's own rules.

Those are the package's `determineTestResult` in lib/display.mjs, with what its README says the
symbols mean:

- A test is *required* (also if it doesn't say), *optimal*, or a *check*. A required test that
  fails is a breach of the RFC; an optimal one a chance missed; a check only asks how a cache
  behaves, and "passed" and "failed" are its yes and no.
- A test that depends on one which didn't pass is a dependency failure, whatever came out of it:
  passing would mean nothing. It counts as not passed.
- A *setup* failure is a test that didn't get as far as its question; a *retry* one in which the
  origin saw a request twice.
- A *harness* failure is an error that is neither of the suite's own two kinds. The package's
  condition for it is never true, and its display shows a failed test in its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

# What the proxy answers where there is no response.
_NO_RESPONSE: Final = "502"


class Mode(Enum):
    """What kind of cache a run is about."""

    SHARED = "shared"
    PRIVATE = "private"


class Kind(Enum):
    """How much a test matters."""

    REQUIRED = "required"
    OPTIMAL = "optimal"
    CHECK = "check"


class Outcome(Enum):
    """What became of a test; the value heads its column."""

    PASSED = "passed"
    FAILED = "failed"
    SETUP = "setup"
    RETRY = "retry"
    DEPENDENCY = "dependency"
    HARNESS = "harness"


@dataclass(frozen=True, slots=True)
class Case:
    """A test of the suite."""

    id: str
    name: str
    suite: str
    kind: Kind
    depends_on: tuple[str, ...]
    browser_only: bool
    browser_skip: bool

    def concerns(self, mode: Mode) -> bool:
        """Tell whether the suite runs it for such a cache."""
        return not (self.browser_only if mode is Mode.SHARED else self.browser_skip)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one test, and the suite's words for it."""

    case: Case
    outcome: Outcome
    message: str = ""

    def as_json(self, reasons: Mapping[str, str]) -> dict[str, str | None]:
        return {
            "id": self.case.id,
            "suite": self.case.suite,
            "name": self.case.name,
            "kind": self.case.kind.value,
            "outcome": self.outcome.value,
            "message": self.message,
            "reason": reasons.get(self.case.id),
        }


@dataclass(frozen=True, slots=True)
class Score:
    """One run: the verdicts on the tests that were selected for it, and the ids of all there are.

    `complete` is False if only some of the selected tests were asked for.
    """

    mode: Mode
    verdicts: tuple[Verdict, ...]
    known: frozenset[str]
    complete: bool

    def count(self, kind: Kind) -> Counter[Outcome]:
        return Counter(verdict.outcome for verdict in self.verdicts if verdict.case.kind is kind)

    def as_json(self, reasons: Mapping[str, str]) -> dict[str, Any]:
        return {
            "counts": {
                kind.value: {outcome.value: self.count(kind)[outcome] for outcome in Outcome}
                for kind in Kind
            },
            "tests": [verdict.as_json(reasons) for verdict in self.verdicts],
        }


def score(data: Mapping[str, Any], mode: Mode, only: Sequence[str] = ()) -> Score:
    """Judge a run by what `client.mjs` printed.

    Where tests were picked by hand what they depend on didn't run, and doesn't count; the suite's
    own command line does the same.
    """
    cases = {case.id: case for case in map(_case, data["tests"])}
    selected = [
        case for case in cases.values() if case.concerns(mode) and (not only or case.id in only)
    ]
    results = data["results"]
    verdicts = tuple(_judge(case, cases, results, dependencies=not only) for case in selected)
    return Score(mode, verdicts, frozenset(cases), complete=not only)


def broken_off(data: Mapping[str, Any], reasons: Mapping[str, str]) -> list[str]:
    """Return the ids of tests, but for those with a reason, that the proxy had no response for.

    The origin ends connections, in some tests on purpose and otherwise when they have been idle for
    as long as some responses take to become stale. A client that uses one just then loses it.
    """
    return sorted(
        name
        for name, result in data["results"].items()
        if result is not True and name not in reasons and _NO_RESPONSE in str(result)
    )


def unexcused(scores: Iterable[Score], reasons: Mapping[str, str]) -> list[str]:
    """Return the required tests that didn't pass and have no reason."""
    return sorted(
        {
            verdict.case.id
            for each in scores
            for verdict in each.verdicts
            if verdict.case.kind is Kind.REQUIRED
            and verdict.outcome is not Outcome.PASSED
            and verdict.case.id not in reasons
        }
    )


def outlived(scores: Sequence[Score], reasons: Mapping[str, str]) -> list[str]:
    """Return the ids with a reason that nothing needs: the test always passes, or there is none.

    That takes a complete run of each mode, since a reason may be needed in only one of them.
    """
    if {each.mode for each in scores if each.complete} != set(Mode):
        return []
    needed = {
        verdict.case.id
        for each in scores
        for verdict in each.verdicts
        if verdict.outcome is not Outcome.PASSED
    }
    return sorted(set(reasons) - needed)


def report(result: Score, reasons: Mapping[str, str], *, verbose: bool = False) -> str:
    """Write the table, and under it the tests that fall short; all of them if `verbose`."""
    parts = [f"{result.mode.value} cache, {len(result.verdicts)} tests", _table(result)]
    for kind in Kind:
        shown = [
            verdict
            for verdict in result.verdicts
            if verdict.case.kind is kind
            and (verbose or (verdict.outcome is not Outcome.PASSED and kind is not Kind.CHECK))
        ]
        if shown:
            lines = [_line(verdict, reasons) for verdict in _by_outcome(shown)]
            parts.append("\n".join([f"{kind.value}:", *lines]))
    return "\n\n".join(parts)


def comparison(scores: Mapping[str, Sequence[Score]]) -> list[str]:
    """Write one table of all clients, in Markdown: how many tests of each kind passed."""
    modes = [each.mode for each in next(iter(scores.values()))]
    heads = [f"{mode.value}: {kind.value}" for mode in modes for kind in Kind]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for client, found in scores.items():
        counts = [each.count(kind) for each in found for kind in Kind]
        cells = [f"{count[Outcome.PASSED]} of {count.total()}" for count in counts]
        lines.append(f"| {client} | {' | '.join(cells)} |")
    return lines


def _case(described: Mapping[str, Any]) -> Case:
    return Case(
        id=described["id"],
        name=described["name"],
        suite=described["suite"],
        kind=Kind(described["kind"]),
        depends_on=tuple(described["depends_on"]),
        browser_only=described["browser_only"],
        browser_skip=described["browser_skip"],
    )


def _judge(
    case: Case, cases: Mapping[str, Case], results: Mapping[str, Any], *, dependencies: bool
) -> Verdict:
    if case.id not in results:
        return Verdict(case, Outcome.HARNESS, "there is no result")
    result = results[case.id]
    alone = Verdict(case, Outcome.PASSED) if result is True else _shortfall(case, *result)
    for name in case.depends_on if dependencies else ():
        needed = _judge(cases[name], cases, results, dependencies=True)
        if needed.outcome is not Outcome.PASSED:
            words = f"depends on {name}; by itself: {alone.outcome.value}"
            message = f"{words}: {alone.message}" if alone.message else words
            return Verdict(case, Outcome.DEPENDENCY, message)
    return alone


def _shortfall(case: Case, error: str, message: str) -> Verdict:
    if error == "Setup":
        return Verdict(case, Outcome.RETRY if message == "retry" else Outcome.SETUP, message)
    if error == "Assertion":
        return Verdict(case, Outcome.FAILED, message)
    return Verdict(case, Outcome.HARNESS, f"{error}: {message}")


def _table(result: Score) -> str:
    rows = [["", *(outcome.value for outcome in Outcome), "of"]]
    for kind in Kind:
        counts = result.count(kind)
        rows.append([kind.value, *(str(counts[o]) for o in Outcome), str(counts.total())])
    return "\n".join(
        f"{row[0]:<10}" + "".join(f"{cell:>12}" for cell in row[1:]).rstrip() for row in rows
    )


def _by_outcome(verdicts: Sequence[Verdict]) -> list[Verdict]:
    order = list(Outcome)
    return sorted(verdicts, key=lambda verdict: (order.index(verdict.outcome), verdict.case.id))


def _line(verdict: Verdict, reasons: Mapping[str, str]) -> str:
    line = f"  {verdict.outcome.value:<11} {verdict.case.id}"
    if verdict.message:
        line += f": {verdict.message}"
    if verdict.case.id in reasons and verdict.outcome is not Outcome.PASSED:
        line += f"\n{'':14}reason: {reasons[verdict.case.id]}"
    return line
