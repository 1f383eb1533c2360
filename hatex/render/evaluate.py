"""Evaluation documents as Rich tables: wide tables are cut into parts that fit the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from hatex.evaluation.document import Cell, Document, Table, Tone

_STYLES: Final[dict[Tone, str]] = {
    "plain": "",
    "best": "bold",
    "good": "green",
    "bad": "bold red",
    "missing": "dim",
    "faint": "dim",
}
_PADDING: Final = 3
"""Blanks that Rich puts between two columns."""


def render_document(document: Document, width: int) -> RenderableType:
    """Facts, then the tables, each at most `width` columns of characters wide where its cells allow."""
    parts: list[RenderableType] = [Text(document.title, style="bold")]
    parts += [Text(fact, style="dim") for fact in document.facts]
    for table in document.tables:
        parts.append(Text())
        parts += render_table(table, width)
    return Group(*parts)


def render_table(table: Table, width: int) -> Iterator[RenderableType]:
    """The title, one Rich table per part, and the notes."""
    yield Text(table.title, style="bold")
    for number, columns in enumerate(split_columns(table, width)):
        if number:
            yield Text()
        yield _render_part(table, columns)
    for note in table.notes:
        yield Text(note, style="dim")


def split_columns(table: Table, width: int) -> list[list[int]]:
    """Indices of the columns of each part; every part repeats the first column and holds at least one
    more.
    """
    first = max([len(table.first), *(_width(row[0]) for row in table.rows)])
    widths = [
        max([_width(head), *(_width(row[index + 1]) for row in table.rows)]) + _PADDING
        for index, head in enumerate(table.columns)
    ]
    parts: list[list[int]] = [[]]
    used = first
    for index, needed in enumerate(widths):
        if parts[-1] and used + needed > width:
            parts.append([])
            used = first
        parts[-1].append(index)
        used += needed
    return parts


def _width(cell: Cell) -> int:
    return max(len(cell.text), len(cell.detail))


def _render_part(table: Table, columns: list[int]) -> RichTable:
    rich = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    rich.add_column(table.first, overflow="fold")
    for index in columns:
        rich.add_column(_text(table.columns[index]), justify="right", overflow="fold")
    for row in table.rows:
        rich.add_row(_text(row[0]), *(_text(row[index + 1]) for index in columns))
    return rich


def _text(cell: Cell) -> Text:
    text = Text(cell.text, style=_STYLES[cell.tone])
    if cell.detail:
        text.append(f"\n{cell.detail}", style="not bold dim")
    return text
