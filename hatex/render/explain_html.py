"""Explained posts as one self-contained HTML page: no script, nothing loaded, light and dark, printable."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape as escape_html
from importlib.resources import files
from typing import Final

from hatex.explanation.report import PostReport
from hatex.explanation.wording import percent
from hatex.render.explain_parts import (
    CUT_NOTE,
    CUT_OFF_NOTE,
    LEVEL_MARKS,
    LEVEL_NAMES,
    change_line,
    evidence_heads,
    groups_heading,
    marks_legend,
    probability_rows,
    ranked_evidence,
    segments,
    signed_points,
    split_line,
    verdict_line,
)
from hatex.render.terminal import shown
from hatex.types import LABELS, Explanation

CONTENT_NOTE: Final = "Content note: this page quotes posts that may hold hateful or strong language."


def render_html(reports: Sequence[PostReport]) -> str:
    """The whole page, one article a post."""
    articles = "\n".join(_article(report) for report in reports)
    style = files("hatex.render").joinpath("assets/explain.css").read_text(encoding="utf-8").strip()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>hatex explain</title>
<style>
{style}
</style>
</head>
<body>
<p class="note">{CONTENT_NOTE}</p>
{articles}
</body>
</html>
"""


def escape(text: str) -> str:
    return escape_html(shown(text))


def _article(report: PostReport) -> str:
    verdict = report.verdict
    label, _, rest = verdict_line(report).partition(" ")
    name = "" if report.place is None else f' <span class="note">{_isolated(report.place)}</span>'
    parts = [
        f'<article class="{verdict.label}">',
        f"<h1><b>{label}</b> {escape(rest)}{name}</h1>",
        f"<p>{escape(split_line(report))}</p>",
        _probabilities(report),
        "<h2>Gate weights</h2>",
        _gates(report),
        "<h2>Post</h2>",
        *_post(report),
    ]
    for number, explanation in enumerate((report.explanation, *report.samples), start=1):
        parts += [
            f"<h2>{f'Explanation {number}' if report.samples else 'Why'}</h2>",
            *_why(report, explanation),
        ]
    parts += _evidence(report)
    change = change_line(report)
    if change:
        parts += ["<h2>What would change the verdict</h2>", f"<p>{escape(change)}</p>"]
    if report.compared:
        parts += ["<h2>Strategies side by side</h2>", _comparison(report)]
    parts += [f"<footer>{escape(verdict.strategy)} · {escape(verdict.model)}</footer>", "</article>"]
    return "\n".join(parts)


def _isolated(text: str) -> str:
    """Text of any direction that does not disturb its surroundings."""
    return f'<bdi dir="auto">{escape(text)}</bdi>'


def _bar(share: float, style: str) -> str:
    return f'<td class="bar" aria-hidden="true"><i class="{style}" style="width:{100 * share:.1f}%"></i></td>'


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table>{f'<tr>{cells}</tr>' if head else ''}{body}</table>"


def _probabilities(report: PostReport) -> str:
    rows = [
        f'<td>{label}</td><td class="figure">{percent(p)}</td>{_bar(p, label)}'
        for label, p in probability_rows(report)
    ]
    return _table((), rows)


def _gates(report: PostReport) -> str:
    alone = {a.adapter: f"{a.label} {percent(a.probability)}" for a in report.alone}
    rows = [
        f'<td>{escape(name)}</td><td class="figure">{weight:.2f}</td>{_bar(weight, "gate")}'
        f"<td>{alone.get(name, '')}</td>"
        for name, weight in report.verdict.gates.items()
    ]
    return _table(("adapter", "weight", "", "that adapter alone would say"), rows)


def _post(report: PostReport) -> list[str]:
    body, used = [], set()
    for segment in segments(report.text, report.explanation.harmful_words):
        if segment.level == 0:
            body.append(escape(segment.text))
            continue
        used.add(segment.level)
        group = f", at {segment.group}" if segment.group else ""
        title = escape_html(f"{LEVEL_NAMES[segment.level - 1]} marked, weight {segment.weight:.2f}{group}")
        body.append(
            f'<mark class="level{segment.level}" title="{title}">{escape(segment.text)}'
            f"</mark>{LEVEL_MARKS[segment.level - 1]}"
        )
    lines = [f'<blockquote dir="auto">{"".join(body)}</blockquote>']
    if used:
        lines.append(f'<p class="legend">{marks_legend(used)}</p>')
    if report.verdict.truncated:
        lines.append(f'<p class="legend">{CUT_NOTE}</p>')
    return lines


def _why(report: PostReport, explanation: Explanation) -> list[str]:
    groups = ", ".join(f"{escape(g.name)} ({percent(g.probability)})" for g in explanation.affected_groups)
    lines = [f"<p>{escape(explanation.summary)}</p>", f"<p>{escape(explanation.reason)}</p>"]
    if groups:
        lines.insert(1, f"<p>{groups_heading(report.verdict, explanation)}: {groups}</p>")
    if not explanation.is_complete:
        lines.append(f'<p class="legend">{CUT_OFF_NOTE}</p>')
    return lines


def _evidence(report: PostReport) -> list[str]:
    supporting, opposing = ranked_evidence(report.explanation.evidence)
    shown_items = (*supporting, *opposing)
    if not shown_items:
        return []
    scale = max(abs(item.weight) for item in shown_items)
    rows = [
        f'<td>{_isolated(e.text)}</td><td class="figure">{signed_points(e.weight)}</td>'
        + _bar(abs(e.weight) / scale, report.verdict.label if e.weight > 0 else "against")
        for e in shown_items
    ]
    return ["<h2>Evidence</h2>", _table((*evidence_heads(report), ""), rows)]


def _comparison(report: PostReport) -> str:
    rows = [
        f"<td>{escape(v.strategy)}</td><td>{v.label}</td>"
        + "".join(f'<td class="figure">{v.probabilities[label]:.2f}</td>' for label in LABELS)
        + f"<td>{v.decision}</td>"
        for v in report.compared
    ]
    return _table(("strategy", "label", *LABELS, "decision"), rows)
