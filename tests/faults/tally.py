"""What was tried, and what went wrong of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeAlias, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]

# How many things that went wrong are told in full.
_TOLD: Final = 20


# Under which the figures of a test come with its report.
PROPERTY: Final = "faults"


@dataclass
class Tally:
    """Counts of one test.

        tally.expect_no("wrong", "lost")
        tally.tried("kills", 40)
        tally.blame("lost", key)
        assert tally.blamed == []

    Attributes:
        tries: what was done how often.
        faults: what must not happen, and how often it did.
        blamed: the first of these in words.
    """

    tries: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    blamed: list[str] = field(default_factory=list)

    def expect_no(self, *names: str) -> None:
        """Name what must not happen, so that it is told that it didn't."""
        for name in names:
            self.faults[name] += 0

    def tried(self, what: str, times: int = 1) -> None:
        self.tries[what] += times

    def blame(self, name: str, detail: object, times: int = 1) -> None:
        """Count what must not have happened."""
        self.faults[name] += times
        if len(self.blamed) < _TOLD:
            self.blamed.append(f"{name}: {detail}")

    def blame_unless(self, met: object, name: str, detail: object) -> None:
        """Blame, unless all is as it should be."""
        if not met:
            self.blame(name, detail)

    def attempt(self, do: Callable[P, T], *args: P.args, **options: P.kwargs) -> T | None:
        """Do something that may not raise; None where it did."""
        return self.attempt_or((), do, *args, **options)

    def attempt_or(
        self, allowed: Errors, do: Callable[P, T], *args: P.args, **options: P.kwargs
    ) -> T | None:
        """Do something that may raise nothing but what is allowed; None where it did raise."""
        try:
            return do(*args, **options)
        except allowed:
            self.tried("refused")
        except Exception as error:  # noqa: BLE001 - any other is one too many
            self.blame("exceptions", f"{do!r} of {args!r:.200}: {error!r}")
        return None

    def add(self, other: Tally) -> None:
        """Take over what another process has counted."""
        self.tries.update(other.tries)
        self.faults.update(other.faults)
        self.blamed += other.blamed[: _TOLD - len(self.blamed)]

    def as_property(self, title: str) -> str:
        """Say it as one string, which a test's report can carry."""
        return json.dumps([title, dict(self.tries), dict(self.faults)])


def figures_of(properties: Iterable[str]) -> list[str]:
    """Add up what tests of one title have counted, a line for each."""
    tries: dict[str, Counter[str]] = {}
    faults: dict[str, Counter[str]] = {}
    for told in properties:
        title, tried, failed = json.loads(told)
        tries.setdefault(title, Counter()).update(tried)
        faults.setdefault(title, Counter()).update(failed)
    return [
        f"faults: {title}: "
        + ", ".join(
            f"{count:,} {name}" for name, count in [*tries[title].items(), *faults[title].items()]
        )
        for title in tries
    ]
