"""A document as GitHub-flavoured Markdown, for pull requests."""

from __future__ import annotations

from hatex.evaluation.document import Cell, Document, Table


def markdown_report(document: Document) -> str:
    """Markdown text that ends with a line break."""
    parts = [f"## {_escape(document.title)}", "  \n".join(map(_escape, document.facts))]
    parts += [_table(table) for table in document.tables]
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    head = [Cell(table.first), *table.columns]
    lines = [
        f"**{_escape(table.title)}**",
        "",
        _row(head),
        "|" + "|".join(["---", *["---:"] * len(table.columns)]) + "|",
        *(_row(row) for row in table.rows),
    ]
    if table.notes:
        lines += ["", *(f"<sub>{_escape(note)}</sub>  " for note in table.notes)]
    return "\n".join(lines)


def _row(cells: tuple[Cell, ...] | list[Cell]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(cell: Cell) -> str:
    text = _escape(cell.text)
    if cell.tone in ("best", "bad"):
        text = f"**{text}**"
    return f"{text} <sub>{_escape(cell.detail)}</sub>" if cell.detail else text


def _escape(text: str) -> str:
    for character in "\\|*_<>`":
        text = text.replace(character, f"\\{character}")
    return text
