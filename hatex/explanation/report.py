"""One explained post as renderers take it, and its JSON shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hatex.jsonl import verdict_fields
from hatex.types import OUTPUT_SCHEMA, Explanation, Label, Verdict


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
    if known; `line` is the line of JSONL it came from, None for plain text.
    """

    id: str | int | float | None
    text: str
    verdict: Verdict
    alone: tuple[AdapterAnswer, ...] = ()
    compared: tuple[Verdict, ...] = ()
    samples: tuple[Explanation, ...] = ()
    date: str | None = None
    line: int | None = None

    @property
    def place(self) -> str | None:
        """By what a reader finds the post again: its id, else its line of JSONL; None of plain text."""
        if self.id is not None:
            return str(self.id)
        return None if self.line is None else f"line {self.line}"

    @property
    def name(self) -> str:
        """What messages call the post."""
        return f"post {self.id}" if self.id is not None else self.place or "the post"

    @property
    def explanation(self) -> Explanation:
        assert self.verdict.explanation is not None
        return self.verdict.explanation


def report_record(report: PostReport) -> dict[str, Any]:
    """The object that `hatex explain --json` prints for one post: what `hatex route --explain` writes of it.

    A post without an `id` has the `line` of the JSONL that it stood in, or neither; `samples` and `compared` stand
    there where they were asked for.
    """
    verdict = report.verdict
    record: dict[str, Any] = {"schema": OUTPUT_SCHEMA}
    if report.id is not None:
        record["id"] = report.id
    elif report.line is not None:
        record["line"] = report.line
    record |= verdict_fields(verdict)
    if report.samples:
        samples = (verdict_fields(replace(verdict, explanation=sample)) for sample in report.samples)
        record["samples"] = [each["explanation"] for each in samples]
    if report.compared:
        record["compared"] = [verdict_fields(replace(each, explanation=None)) for each in report.compared]
    return record
