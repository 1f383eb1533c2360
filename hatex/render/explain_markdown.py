"""An explained post as Markdown (CommonMark with tables): for tickets, wikis and reports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from hatex.explanation.report import PostReport
from hatex.explanation.wording import percent
from hatex.render.explain_parts import (
    CUT_NOTE,
    CUT_OFF_NOTE,
    LEVEL_MARKS,
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

_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|~&$]|(?<=www)\.|:(?=//)|^[#+=-])", re.IGNORECASE)
"""What Markdown would take for markup, a link or the start of a block."""
_LISTED: Final = re.compile(r"^(\d{1,9})([.)])")
"""What it would take for an item of a numbered list."""
_BAR: Final = 20


def render_markdown(reports: Sequence[PostReport]) -> str:
    """One section a post."""
    return "\n\n---\n\n".join(_render(report) for report in reports) + "\n"


def _render(report: PostReport) -> str:
    title = f"## {escape(verdict_line(report))}" + (
        "" if report.place is None else f" · {escape(report.place)}"
    )
    blocks = [
        title,
        escape(split_line(report)),
        _probabilities(report),
        _gates(report),
        "### Post",
        *_post(report),
    ]
    for number, explanation in enumerate((report.explanation, *report.samples), start=1):
        blocks += [f"### Explanation {number}" if report.samples else "### Why", *_why(report, explanation)]
    blocks += _evidence(report)
    change = change_line(report)
    if change:
        blocks += ["### What would change the verdict", escape(change)]
    if report.compared:
        blocks += ["### Strategies side by side", _comparison(report)]
    blocks.append(f"*{escape(report.verdict.strategy)} · {escape(report.verdict.model)}*")
    return "\n\n".join(blocks)


def escape(text: str) -> str:
    """Text on one line that Markdown leaves alone."""
    return _LISTED.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", " ".join(shown(text).split())))


def _table(head: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(align)}|"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _bar(share: float) -> str:
    return "█" * max(1, round(_BAR * share))


def _probabilities(report: PostReport) -> str:
    rows = [(label, percent(p), _bar(p)) for label, p in probability_rows(report)]
    return _table(("label", "probability", ""), ("---", "---:", "---"), rows)


def _gates(report: PostReport) -> str:
    alone = {a.adapter: f"{a.label} {percent(a.probability)}" for a in report.alone}
    rows = [
        (escape(name), f"{weight:.2f}", alone.get(name, "")) for name, weight in report.verdict.gates.items()
    ]
    return _table(("adapter", "weight", "that adapter alone would say"), ("---", "---:", "---"), rows)


def _post(report: PostReport) -> list[str]:
    """Marked words are bold, with a raised figure for how strongly; they need no colour.

    The figure stands inside: behind punctuation, asterisks would not end bold type.
    """
    parts, used = [], set()
    for segment in segments(report.text, report.explanation.harmful_words):
        text = escape(segment.text)
        if segment.level:
            used.add(segment.level)
            text = f"**{text}{LEVEL_MARKS[segment.level - 1]}**"
        lead = " " if segment.text[:1].isspace() else ""
        tail = " " if segment.text[-1:].isspace() else ""
        parts.append(f"{lead}{text}{tail}")
    blocks = ["> " + re.sub(" +", " ", "".join(parts)).strip()]
    if used:
        blocks.append(marks_legend(used))
    if report.verdict.truncated:
        blocks.append(CUT_NOTE)
    return blocks


def _why(report: PostReport, explanation: Explanation) -> list[str]:
    blocks = [escape(explanation.summary), escape(explanation.reason)]
    groups = ", ".join(f"{escape(g.name)} ({percent(g.probability)})" for g in explanation.affected_groups)
    if groups:
        blocks.insert(1, f"**{groups_heading(report.verdict, explanation)}:** {groups}")
    if not explanation.is_complete:
        blocks.append(CUT_OFF_NOTE)
    return blocks


def _evidence(report: PostReport) -> list[str]:
    supporting, opposing = ranked_evidence(report.explanation.evidence)
    if not supporting and not opposing:
        return []
    rows = [(escape(e.text), signed_points(e.weight)) for e in (*supporting, *opposing)]
    return ["### Evidence", _table(evidence_heads(report), ("---", "---:"), rows)]


def _comparison(report: PostReport) -> str:
    rows = [
        (escape(v.strategy), v.label, *(f"{v.probabilities[label]:.2f}" for label in LABELS), v.decision)
        for v in report.compared
    ]
    return _table(("strategy", "label", *LABELS, "decision"), ("---", "---", *["---:"] * 3, "---"), rows)
