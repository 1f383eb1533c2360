"""Annotate the examples of a parquet file: plan, ask, remember every answer at once, write.

Answers are kept in a JSONL file by content hash: nothing is asked twice, and an interrupted run goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hatex.data.annotation.client import BudgetSpentError, Client, Pace, RefusedError
from hatex.data.annotation.request import (
    InvalidAnswerError,
    Question,
    build_question,
    is_explainable,
    parse_answer,
)
from hatex.data.annotation.settings import AnnotateSettings
from hatex.data.duplicates import key_of
from hatex.data.examples import iter_examples, write_examples
from hatex.errors import UsageError
from hatex.types import Example, Progress


@dataclass
class AnnotationReport:
    """Counts of one run, for the card."""

    chosen: int = 0
    cached: int = 0
    asked: int = 0
    answered: int = 0
    requests: int = 0
    budget_spent: bool = False
    failures: Counter[str] = field(default_factory=Counter)

    def to_json(self, settings: AnnotateSettings) -> dict[str, Any]:
        """The part that does not depend on what an earlier run had cached."""
        return {
            "url": settings.url,
            "model": settings.model,
            "posts": self.chosen,
            "explained": self.cached + self.answered,
            "failures": dict(sorted(self.failures.items())),
        }


def annotate(
    examples: Path,
    cache: Path,
    settings: AnnotateSettings,
    *,
    consent: bool,
    progress: Progress,
    pace: Pace | None = None,
) -> AnnotationReport:
    """Add explanations to the chosen posts of a parquet file, in place.

    Raises:
        UsageError: posts would have to be sent and `consent` is not given; says where and how many.
        FetchError: the endpoint refuses for good.
    """
    chosen = _choose(examples, settings)
    answers = _load_cache(cache)
    report = AnnotationReport(chosen=len(chosen))
    waiting = []
    for question in _questions(examples, chosen, settings):
        if question.key not in answers:
            waiting.append(question)
    report.cached = len(chosen) - len(waiting)
    if waiting:
        _require_consent(len(waiting), settings, consent)
        progress.say(f"sending {len(waiting):,} masked posts to {settings.url} ({settings.model})")
        _ask(waiting, cache, answers, settings, report, progress, pace)
    write_examples(examples, _explained(examples, chosen, answers, settings))
    return report


def _require_consent(posts: int, settings: AnnotateSettings, consent: bool) -> None:
    if not consent:
        raise UsageError(
            f"{posts:,} masked posts would be sent to {settings.url} ({settings.model}), "
            f"in at most {settings.max_requests:,} requests",
            hint="pass --yes if they may leave this machine, or take prepare.annotate out",
        )


def _choose(examples: Path, settings: AnnotateSettings) -> frozenset[str]:
    """Ids of the posts to explain: those of the named splits, or a seeded sample of them."""
    found = []
    for example in iter_examples(examples):
        if example.split in settings.splits and is_explainable(example) and example.explanation is None:
            found.append((key_of(str(settings.seed), example.id), example.id))
    if settings.limit is not None:
        found = sorted(found)[: settings.limit]
    return frozenset(name for _, name in found)


def _questions(examples: Path, chosen: frozenset[str], settings: AnnotateSettings) -> Iterator[Question]:
    for example in iter_examples(examples):
        if example.id in chosen:
            yield build_question(example, settings)


def _load_cache(path: Path) -> dict[str, dict[str, Any]]:
    """Answers by key; a last line that an interruption cut off is passed over."""
    answers: dict[str, dict[str, Any]] = {}
    if path.exists():
        for line in path.read_text("utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            answers[entry["key"]] = entry["explanation"]
    return answers


def _ask(
    waiting: list[Question],
    cache: Path,
    answers: dict[str, dict[str, Any]],
    settings: AnnotateSettings,
    report: AnnotationReport,
    progress: Progress,
    pace: Pace | None,
) -> None:
    with (
        Client(settings, pace) as client,
        cache.open("a", encoding="utf-8") as stream,
        progress.task("annotate", total=len(waiting), unit="posts") as advance,
    ):
        if stream.tell():
            stream.write("\n")  # ends a line that an interruption may have cut off
        for question in waiting:
            report.asked += 1
            try:
                explanation = _ask_one(client, question, settings)
            except BudgetSpentError:
                report.budget_spent = True
                progress.say(
                    f"max_requests ({settings.max_requests:,}) reached; the next run goes on from here"
                )
                break
            except (RefusedError, InvalidAnswerError) as error:
                report.failures[str(error)] += 1
            else:
                answers[question.key] = explanation
                report.answered += 1
                entry = {"key": question.key, "id": question.example.id, "explanation": explanation}
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
                stream.flush()
            advance(1)
        report.requests = client.requests


def _ask_one(client: Client, question: Question, settings: AnnotateSettings) -> dict[str, Any]:
    """An answer that is valid; an invalid one is asked for again, up to `max_attempts` times."""
    for attempt in range(1, settings.max_attempts + 1):
        content = client.complete(question.messages)
        try:
            return parse_answer(content, question, settings.groups)
        except InvalidAnswerError:
            if attempt == settings.max_attempts:
                raise
    raise AssertionError("max_attempts is positive")


def _explained(
    examples: Path, chosen: frozenset[str], answers: dict[str, dict[str, Any]], settings: AnnotateSettings
) -> Iterator[Example]:
    for example in iter_examples(examples):
        if example.id in chosen:
            explanation = answers.get(build_question(example, settings).key)
            yield replace(example, explanation=explanation)
        else:
            yield example
