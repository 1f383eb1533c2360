"""A document with figures as one HTML page that needs nothing else: no script, no font, no address."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from hatex.evaluation.document import Cell, Document, Table
from hatex.evaluation.figures import Figure

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d1d1f; background: #fff; margin: 2rem auto; max-width:
72rem;
  padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
.facts { color: #555; margin: 0; padding: 0; list-style: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e4e4e8; }
th { font-weight: 600; border-bottom: 2px solid #b9b9c0; }
th:first-child, td:first-child { text-align: left; }
small { display: block; color: #666; font-weight: 400; white-space: nowrap; }
.best { font-weight: 700; background: #eef5fd; }
.good { color: #22691c; font-weight: 600; }
.bad { color: #a31515; font-weight: 700; }
.missing, .faint { color: #767676; }
.note { color: #555; font-size: .87rem; margin: .4rem 0 0; }
figure { margin: 0; }
figcaption { color: #555; font-size: .87rem; max-width: 60rem; margin-bottom: .6rem; }
svg { max-width: 100%; height: auto; }
@media print { body { max-width: none; } h2 { break-after: avoid; } }
"""


def html_report(document: Document, figures: Sequence[Figure]) -> str:
    """The page: tables, then figures."""
    title = escape(document.title)
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in document.facts)
    body = "\n".join([*map(_table, document.tables), *(_figure(i, each) for i, each in enumerate(figures))])
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<ul class="facts">{facts}</ul>\n{body}\n</body>\n</html>\n'
    )


def _table(table: Table) -> str:
    head = "".join(_cell("th", cell) for cell in (Cell(table.first), *table.columns))
    rows = "\n".join("<tr>" + "".join(_cell("td", cell) for cell in row) + "</tr>" for row in table.rows)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<section>\n<h2>{escape(table.title)}</h2>\n<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>\n{notes}\n</section>"
    )


def _cell(tag: str, cell: Cell) -> str:
    attribute = "" if cell.tone == "plain" else f' class="{cell.tone}"'
    detail = f"<small>{escape(cell.detail)}</small>" if cell.detail else ""
    return f"<{tag}{attribute}>{escape(cell.text)}{detail}</{tag}>"


def _figure(number: int, figure: Figure) -> str:
    return (
        f"<section>\n<h2>{escape(figure.title)}</h2>\n<figure>\n<figcaption>{escape(figure.caption)}</figcaption>\n"
        f"{_own_ids(figure.svg, f'f{number}-')}\n</figure>\n</section>"
    )


def _own_ids(svg: str, prefix: str) -> str:
    """Give every drawing ids of its own: they share one page."""
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'href="#', f'href="#{prefix}', svg)
    return svg.replace("url(#", f"url(#{prefix}")
