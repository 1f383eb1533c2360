"""A report as plain data: facts and tables. Terminal, Markdown and HTML draw the same document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from hatex.evaluation.estimate import Estimate

Tone = Literal["plain", "best", "good", "bad", "missing", "faint"]


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell; `detail` (an interval) goes below or behind it. The marks are in the text, so
    that colour is never needed.
    """

    text: str
    detail: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the rows. `notes` explain its marks and gaps."""

    title: str
    columns: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    first: str = ""
    """Heading of the first column."""


@dataclass(frozen=True)
class Document:
    title: str
    facts: tuple[str, ...]
    tables: tuple[Table, ...]


@dataclass
class Gaps:
    """Collects why cells are `n/a`, so that each reason stands once below its table."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def cell(self, estimate: Estimate, where: str, digits: int = 3) -> Cell:
        """An estimate as a cell; a gap is remembered under `where`."""
        if estimate.value is None:
            places = self.reasons.setdefault(estimate.why_missing or "unknown", [])
            if where not in places:
                places.append(where)
            return Cell("n/a", tone="missing")
        return Cell(f"{estimate.value:.{digits}f}", interval_text(estimate))

    def notes(self) -> tuple[str, ...]:
        """`n/a (reason): places`."""
        return tuple(f"n/a ({reason}): {_few(places)}" for reason, places in self.reasons.items())


def interval_text(estimate: Estimate) -> str:
    """`.68 to .74`, or that there is none."""
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"{_short(estimate.low)}–{_short(estimate.high)}"


def _short(value: float) -> str:
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def _few(names: Sequence[str], limit: int = 6) -> str:
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")
