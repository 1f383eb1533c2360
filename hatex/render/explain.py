"""The terminal panel of an explained post: everything a reviewer needs, readable without colour, from 40
columns on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.box import ROUNDED, SIMPLE
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hatex.explanation.report import PostReport
from hatex.explanation.wording import percent
from hatex.render.explain_parts import (
    CUT_NOTE,
    CUT_OFF_NOTE,
    LEVEL_MARKS,
    change_line,
    evidence_heads,
    groups_heading,
    is_right_to_left,
    marks_legend,
    probability_rows,
    ranked_evidence,
    segments,
    short_verdict,
    signed_points,
    split_line,
    verdict_line,
)
from hatex.render.terminal import shown
from hatex.types import LABELS, Explanation, Label

LABEL_STYLES: Final[dict[Label, str]] = {"neutral": "green", "offensive": "yellow", "hate": "red"}
LEVEL_STYLES: Final = ("", "underline", "bold underline", "bold reverse")
NARROW: Final = 60
"""Below this many columns inside the panel, tables drop their bars and stack their columns."""
AROUND_TITLE: Final = 6
"""Columns of the panel's upper edge that a title leaves to the frame."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of 1 as a bar of block characters over the whole width it is given."""

    share: float
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        eighths = round(8 * options.max_width * self.share)
        full, rest = divmod(eighths, 8)
        blocks = "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")
        yield Text(blocks or "▏", style=self.style, no_wrap=True, overflow="crop", end="")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(4, options.max_width)


@dataclass(frozen=True, slots=True)
class ExplainPanel:
    """One post; lays itself out for the width that it is given."""

    report: PostReport

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield render_panel(self.report, width=options.max_width)


def render_explanation(report: PostReport) -> RenderableType:
    """The panel of one post."""
    return ExplainPanel(report)


def render_panel(report: PostReport, *, width: int) -> Panel:
    verdict = report.verdict
    is_narrow = width < NARROW
    title, heads = _title(report, width - AROUND_TITLE)
    parts: list[RenderableType] = [
        *heads,
        Text(split_line(report)),
        Text(),
        _probabilities(report),
        *_section("Gate weights", _gates(report, is_narrow)),
        *_section("Post", _post(report)),
    ]
    for number, explanation in enumerate((report.explanation, *report.samples), start=1):
        heading = f"Explanation {number}" if report.samples else "Why"
        parts += _section(heading, _why(report, explanation))
    parts += _section("Evidence", _evidence(report))
    change = change_line(report)
    parts += _section("What would change the verdict", Text(shown(change)) if change else None)
    parts += _section("Strategies side by side", _comparison(report, is_narrow) if report.compared else None)
    footer = Text(f"{verdict.strategy} · {verdict.model}", style="dim")
    return Panel(
        Group(*parts), title=title, title_align="left", subtitle=footer, subtitle_align="right", box=ROUNDED
    )


def _title(report: PostReport, width: int) -> tuple[Text, list[Text]]:
    """Verdict, reasons for review and id on one line, or the verdict and lines for what that would cut off."""
    style = f"bold {LABEL_STYLES[report.verdict.label]}"
    whole = Text(verdict_line(report), style=style)
    if report.place is not None:
        whole.append(f" · {shown(report.place)}", style="default")
    if whole.cell_len <= width:
        return whole, []
    heads = []
    if report.verdict.reasons:
        heads.append(Text(f"For review: {', '.join(report.verdict.reasons)}", style="bold"))
    if report.place is not None:
        heads.append(Text(f"{'' if report.id is None else 'id: '}{shown(report.place)}", overflow="fold"))
    return Text(short_verdict(report), style=style), heads


def _section(heading: str, body: RenderableType | None) -> list[RenderableType]:
    if body is None:
        return []
    return [Rule(Text(heading, style="bold"), align="left", style="dim"), body]


def _probabilities(report: PostReport) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    for label, probability in probability_rows(report):
        chosen = "bold" if label == report.verdict.label else ""
        style = LABEL_STYLES[label]
        table.add_row(
            Text(label, style=chosen), Text(percent(probability), style=chosen), Bar(probability, style)
        )
    return table


def _gates(report: PostReport, is_narrow: bool) -> Table:
    alone = {answer.adapter: f"{answer.label} {percent(answer.probability)}" for answer in report.alone}
    table = Table(box=None, padding=(0, 1, 0, 0), expand=True, show_edge=False, header_style="dim")
    table.add_column("adapter", overflow="fold", max_width=10 if is_narrow else 20)
    table.add_column("weight", justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column("", ratio=1)
    if alone:
        table.add_column("alone says" if is_narrow else "that adapter alone would say", overflow="fold")
    for adapter, weight in report.verdict.gates.items():
        row: list[RenderableType] = [shown(adapter), f"{weight:.2f}"]
        if not is_narrow:
            row.append(Bar(weight, "cyan") if weight > 0 else Text())
        table.add_row(*row, *([alone.get(adapter, "")] if alone else []))
    return table


def _post(report: PostReport) -> RenderableType:
    """The post with its marked words in brackets, a raised figure telling how strongly each was marked."""
    body = Text(overflow="fold", justify="right" if is_right_to_left(report.text) else "left")
    used: set[int] = set()
    for segment in segments(report.text, report.explanation.harmful_words):
        if segment.level == 0:
            body.append(shown(segment.text))
            continue
        used.add(segment.level)
        body.append("[")
        body.append(shown(segment.text), style=LEVEL_STYLES[segment.level])
        body.append(f"]{LEVEL_MARKS[segment.level - 1]}")
    notes = [marks_legend(used, "[ ]"), CUT_NOTE if report.verdict.truncated else ""]
    return Group(body, *(Text(note, style="dim") for note in notes if note))


def _why(report: PostReport, explanation: Explanation) -> Group:
    groups = ", ".join(f"{shown(g.name)} ({percent(g.probability)})" for g in explanation.affected_groups)
    lines = [Text(shown(explanation.summary)), Text(shown(explanation.reason))]
    if groups:
        lines.insert(1, Text.assemble((f"{groups_heading(report.verdict, explanation)}: ", "bold"), groups))
    directed = [word for word in explanation.harmful_words if word.group is not None]
    if directed and len(explanation.affected_groups) > 1:
        said = ", ".join(f"“{shown(word.text)}” at {word.group}" for word in directed)
        lines.append(Text.assemble(("Directed: ", "bold"), said))
    if not explanation.is_complete:
        lines.append(Text(CUT_OFF_NOTE, style="dim"))
    return Group(*lines)


def _evidence(report: PostReport) -> RenderableType | None:
    label = report.verdict.label
    supporting, opposing = ranked_evidence(report.explanation.evidence)
    if not supporting and not opposing:
        return None
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(overflow="fold", ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    scale = max(abs(item.weight) for item in (*supporting, *opposing))
    for item in (*supporting, *opposing):
        bar = Bar(abs(item.weight) / scale, LABEL_STYLES[label] if item.weight > 0 else "blue")
        table.add_row(Text(" ".join(shown(item.text).split())), signed_points(item.weight), bar)
    words, points = evidence_heads(report)
    return Group(table, Text(f"{words}: {points}", style="dim"))


def _comparison(report: PostReport, is_narrow: bool) -> Table:
    table = Table(box=None if is_narrow else SIMPLE, expand=True, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("strategy", overflow="fold")
    table.add_column("label", no_wrap=True)
    for label in LABELS:
        table.add_column(label[:3] if is_narrow else label, justify="right", no_wrap=True)
    if not is_narrow:
        table.add_column("decision", no_wrap=True)
    for verdict in report.compared:
        chosen = Text(verdict.label, style=LABEL_STYLES[verdict.label])
        figures = [f"{verdict.probabilities[label]:.2f}" for label in LABELS]
        table.add_row(verdict.strategy, chosen, *figures, *([] if is_narrow else [verdict.decision]))
    return table


def render_explanations(reports: list[PostReport]) -> RenderableType:
    """Several panels, one under the other."""
    return Group(*(Padding(ExplainPanel(report), (0, 0, 1, 0)) for report in reports))
