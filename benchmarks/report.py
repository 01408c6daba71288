"""What a benchmark found: rows, and the goals that they meet or miss.

Printed as an aligned table for people, and written as JSON for programs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Cell: TypeAlias = str | int | float | None

SEED: Final = 9111


@dataclass(frozen=True, slots=True)
class Options:
    """How benchmarks are run.

    Attributes:
        quick: few rounds, to see that it works; the figures say little.
        profile: show where our time goes instead of measuring it.
        peer: run CacheControl through the same trial of correctness.
        seconds: how long a trial of contention takes; None is the benchmark's own.
        seed: of all that is random and can be repeated.
    """

    quick: bool = False
    profile: bool = False
    peer: bool = False
    seconds: float | None = None
    seed: int = SEED


@dataclass(frozen=True, slots=True)
class Goal:
    """Something that should hold, and whether it did."""

    text: str
    met: bool


@dataclass(slots=True)
class Report:
    """One table, its goals, and remarks."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        assert len(cells) == len(self.columns)
        self.rows.append(cells)

    def expect(self, text: str, *, met: bool) -> None:
        self.goals.append(Goal(text, met))

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "rows": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "goals": [{"goal": goal.text, "met": goal.met} for goal in self.goals],
            "notes": self.notes,
        }

    def __str__(self) -> str:
        table = [self.columns, *(tuple(map(_shown, row)) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [self.title]
        for row in table:
            first, *others = (
                cell.rjust(width) if at else cell.ljust(width)
                for at, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  ".join((f"  {first}", *others)).rstrip())
        lines += [f"  {'met   ' if goal.met else 'MISSED'}  {goal.text}" for goal in self.goals]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.2f}" if abs(cell) < 10 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
