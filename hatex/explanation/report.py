"""One explained post as renderers take it, and its JSON shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from hatex.jsonl import verdict_fields
from hatex.types import Explanation, Label, Verdict

ANSWER_FIELDS: Final = ("label", "probabilities", "gates", "disagreement", "decision")


@dataclass(frozen=True, slots=True)
class AdapterAnswer:
    """What one adapter alone would say."""

    adapter: str
    label: Label
    probability: float


@dataclass(frozen=True, slots=True)
class PostReport:
    """A post and all that is said of it. `verdict.explanation` is the first (or only) explanation.

    `samples` holds further explanations where several sequences were drawn; `alone` and `compared` are empty
    where nobody asked; `compared` has the verdicts of other strategies. `date` is the day the post was made,
    if known; `line` is the input line it came from.
    """

    id: str | int | float | None
    text: str
    verdict: Verdict
    alone: tuple[AdapterAnswer, ...] = ()
    compared: tuple[Verdict, ...] = ()
    samples: tuple[Explanation, ...] = ()
    date: str | None = None
    line: int = 1

    @property
    def name(self) -> str:
        """What messages call the post."""
        return f"line {self.line}" if self.id is None else f"post {self.id}"

    @property
    def explanation(self) -> Explanation:
        assert self.verdict.explanation is not None
        return self.verdict.explanation


def report_record(report: PostReport) -> dict[str, Any]:
    """The object that `hatex explain --json` prints for one post.

    `id` and `truncated` stand there where they say something; `samples` and `compared` where they were asked
    for.
    """
    verdict = report.verdict
    record = _answer(verdict, (*ANSWER_FIELDS, "explanation"))
    if report.id is not None:
        record = {"id": report.id, **record}
    if verdict.truncated:
        record["truncated"] = True
    if report.samples:
        samples = (replace(verdict, explanation=sample) for sample in report.samples)
        record["samples"] = [_answer(sample, ("explanation",))["explanation"] for sample in samples]
    if report.compared:
        record["compared"] = [_answer(other, ("strategy", *ANSWER_FIELDS)) for other in report.compared]
    return record


def _answer(verdict: Verdict, names: Sequence[str]) -> dict[str, Any]:
    fields = verdict_fields(verdict)
    return {name: fields[name] for name in names}
