"""What all renderings of an explained post share: marked segments, notes, ranked evidence."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from hatex.explanation.compose import describe_change, describe_split, likely_groups
from hatex.explanation.report import PostReport
from hatex.explanation.wording import percent
from hatex.types import LABELS, AffectedGroup, Evidence, Explanation, HarmfulWord, Label, Verdict

LEVEL_MARKS: Final = ("¹", "²", "³")
LEVEL_NAMES: Final = ("slightly", "clearly", "strongly")
MAX_FOR: Final = 5
MAX_AGAINST: Final = 3


def named_groups(verdict: Verdict, explanation: Explanation) -> list[AffectedGroup]:
    """The groups that a reader may take for affected: none of a neutral post."""
    if verdict.label == "neutral":
        return []
    return likely_groups(explanation.affected_groups, 1 - verdict.probabilities["neutral"])


def groups_heading(verdict: Verdict, explanation: Explanation) -> str:
    """What stands before the list of groups; sentences pass over a list that holds none to be named."""
    if verdict.label == "neutral":
        return "Affected groups, should it harm anyone"
    return (
        "Affected groups" if named_groups(verdict, explanation) else "Affected groups (none of them likely)"
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the post; `level` 0 is unmarked, 1 to 3 say how strongly the model marked it."""

    text: str
    level: int
    weight: float = 0.0
    group: str | None = None


def mark_level(weight: float) -> int:
    """1 below a weight of one third, 3 from two thirds on."""
    return min(3, 1 + int(3 * weight))


def marks_legend(levels: Iterable[int], lead: str = "") -> str:
    """What the raised figures behind marked words mean, weakest first; `lead` stands before each figure."""
    return ", ".join(
        f"{lead}{LEVEL_MARKS[level - 1]} {LEVEL_NAMES[level - 1]} marked" for level in sorted(levels)
    )


def segments(text: str, words: Sequence[HarmfulWord]) -> list[Segment]:
    """The post cut at the marked words; joined, the segments give the post back."""
    cut: list[Segment] = []
    position = 0
    for word in sorted(words, key=lambda w: w.start):
        if word.start < position:
            continue
        if word.start > position:
            cut.append(Segment(text[position : word.start], 0))
        cut.append(Segment(text[word.start : word.end], mark_level(word.weight), word.weight, word.group))
        position = word.end
    if position < len(text):
        cut.append(Segment(text[position:], 0))
    return cut


def is_right_to_left(text: str) -> bool:
    """Whether the first letter with a direction is a right-to-left one (Unicode rule P2)."""
    for char in text:
        direction = unicodedata.bidirectional(char)
        if direction in {"L", "R", "AL"}:
            return direction != "L"
    return False


def verdict_line(report: PostReport) -> str:
    """`hate (91 %): flag`, or `neutral (88 %): review (language: de)`."""
    why = f" ({', '.join(report.verdict.reasons)})" if report.verdict.reasons else ""
    return f"{short_verdict(report)}{why}"


def short_verdict(report: PostReport) -> str:
    """`hate (91 %): flag`: the verdict without reasons for review."""
    verdict = report.verdict
    return f"{verdict.label} ({percent(verdict.probabilities[verdict.label])}): {verdict.decision}"


def split_line(report: PostReport) -> str:
    """The predicted split of annotators in words; of a post that the model cannot judge, that it cannot."""
    verdict = report.verdict
    if verdict.reasons:
        return (
            f"The model cannot judge this post ({', '.join(verdict.reasons)}): what it says below is a guess."
        )
    said = describe_split(verdict.probabilities, verdict.disagreement, verdict.disagreement_basis)
    return said[0].upper() + said[1:] + "."


def change_line(report: PostReport) -> str:
    explanation = report.explanation
    return describe_change(
        report.text,
        report.verdict.label,
        explanation.change,
        explanation.evidence,
        explanation.evidence_method,
    )


CUT_NOTE: Final = "The post was cut to the context."
CUT_OFF_NOTE: Final = (
    "This explanation is unfinished, so that groups, marked words or sentences may be missing; if it ends at its limit "
    "of tokens, --max-new-tokens raises that."
)


def evidence_heads(report: PostReport) -> tuple[str, str]:
    """What stands over the words of the evidence, and over their points."""
    label = report.verdict.label
    if report.explanation.evidence_method == "gradient":
        return "word", f"points of P({label}) by integrated gradients"
    return "taken out", f"points of P({label}) lost"


def ranked_evidence(evidence: Sequence[Evidence]) -> tuple[list[Evidence], list[Evidence]]:
    """The strongest words for the label and against it, as far as they show in whole points."""
    supporting = sorted((e for e in evidence if e.weight >= 0.005), key=lambda e: -e.weight)[:MAX_FOR]
    opposing = sorted((e for e in evidence if e.weight <= -0.005), key=lambda e: e.weight)[:MAX_AGAINST]
    return supporting, opposing


def signed_points(weight: float) -> str:
    """`+21` or `−10`, in percentage points."""
    return f"{'−' if weight < 0 else '+'}{round(100 * abs(weight))}"


def probability_rows(report: PostReport) -> list[tuple[Label, float]]:
    return [(label, report.verdict.probabilities[label]) for label in LABELS]
