"""Two saved runs as a document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.compare import ComparedCell, Comparison, Direction
from hatex.evaluation.document import Cell, Document, Gaps, Table, Tone

_MARKS: Final[dict[Direction, str]] = {"better": "+", "worse": "-", "open": ""}
_TONES: Final[dict[Direction, Tone]] = {"better": "good", "worse": "bad", "open": "plain"}


def describe_comparison(comparison: Comparison, metrics: Sequence[str]) -> Document:
    """One table per metric: rows strategies, columns data sets, cells second minus first."""
    tables = tuple(_table(comparison, metric) for metric in metrics)
    first, second = comparison.first, comparison.second
    facts = [
        f"first: {first.name}, model {first.model}, seed {first.seed}",
        f"second: {second.name}, model {second.model}, seed {second.seed}",
    ]
    if comparison.other_posts:
        facts.append(
            f"other posts in the second run: {', '.join(comparison.other_posts)}; changes mix model and data"
        )
    for name, parts in (("first", comparison.only_first), ("second", comparison.only_second)):
        if parts:
            facts.append(f"only in the {name} run: {', '.join(parts)}")
    if comparison.without_mean:
        facts.append("the mean is left out: it is over other data sets in the second run")
    return Document("hatex eval: second run minus first", tuple(facts), tables)


def _table(comparison: Comparison, metric: str) -> Table:
    cells = [cell for cell in comparison.cells if cell.metric == metric]
    columns = list(dict.fromkeys(cell.data for cell in cells))
    by_place = {(cell.strategy, cell.data): cell for cell in cells}
    gaps = Gaps()
    rows = tuple(
        (Cell(strategy), *(_cell(by_place.get((strategy, column)), gaps) for column in columns))
        for strategy in dict.fromkeys(cell.strategy for cell in cells)
    )
    about = METRICS[metric]
    legend = "+ better, - worse: the interval of the change, runs taken as independent, leaves out 0"
    title = f"{metric}: {about.meaning} ({about.better} is better)"
    return Table(title, tuple(map(Cell, columns)), rows, (legend, *gaps.notes()), "strategy")


def _cell(cell: ComparedCell | None, gaps: Gaps) -> Cell:
    if cell is None:
        return Cell("", tone="faint")
    shown = gaps.cell(cell.change, f"{cell.strategy} on {cell.data}")
    if cell.change.value is None:
        return shown
    text = f"{cell.change.value:+.3f}{_MARKS[cell.direction]}"
    return Cell(text, shown.detail, _TONES[cell.direction])
