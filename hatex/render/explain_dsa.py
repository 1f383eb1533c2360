"""A statement of reasons in the shape of the EU transparency database (Articles 17 and 24(5) of Regulation
2022/2065).

The facts name labels, groups and figures and quote nothing: a post may hold personal data, a statement must
not.
"""

from __future__ import annotations

import json
import re
from datetime import date
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from hatex.errors import UsageError
from hatex.explanation.compose import describe_split
from hatex.explanation.report import PostReport
from hatex.explanation.wording import join_words, percent
from hatex.recipe.explain import StatementSection
from hatex.render.explain_parts import named_groups

MAX_FACTS: Final = 5000
MAX_PUID: Final = 500
YEARS: Final = range(2000, 2100)
"""That the database takes."""
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]+")


@cache
def statement_schema() -> dict[str, Any]:
    """The JSON Schema that every statement meets."""
    text = files("hatex.render").joinpath("assets/statement.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def build_statement(report: PostReport, section: StatementSection, decided: date) -> dict[str, Any]:
    """The statement for one flagged or reviewed post.

    The content date is the post's own where it has one, else the day `decided`, from which the measure applies;
    `section` is what the recipe says of ground, measure and source.

    Raises UsageError where the statement does not meet the schema; `date_trouble` tells before whether the post's date
    can be used.
    """
    ground = {
        "incompatible": (
            "INCOMPATIBLE_CONTENT",
            "incompatible_content_ground",
            "incompatible_content_explanation",
        ),
        "illegal": ("ILLEGAL_CONTENT", "illegal_content_legal_ground", "illegal_content_explanation"),
    }[section.ground]
    statement = {
        "decision_visibility": [section.visibility],
        "decision_ground": f"DECISION_GROUND_{ground[0]}",
        ground[1]: section.reference,
        ground[2]: section.explanation,
        "category": "STATEMENT_CATEGORY_ILLEGAL_OR_HARMFUL_SPEECH",
        "category_specification": ["KEYWORD_HATE_SPEECH"],
        "content_type": ["CONTENT_TYPE_TEXT"],
        "content_date": _content_date(report, decided),
        "application_date": decided.isoformat(),
        "decision_facts": describe_facts(report)[:MAX_FACTS],
        "source_type": section.source_type,
        "automated_detection": "Yes",
        "automated_decision": section.automated_decision,
        "puid": _unique_id(report, section.puid_prefix),
    }
    _validate(statement)
    return statement


def describe_facts(report: PostReport) -> str:
    """What the decision rests on, in sentences without any word of the post."""
    verdict = report.verdict
    explanation = report.explanation
    split = describe_split(verdict.probabilities, verdict.disagreement, verdict.disagreement_basis)
    is_from_votes = verdict.disagreement_basis == "votes"
    said = "Expected agreement of readers" if is_from_votes else "Certainty of the classifier itself"
    sentences = [
        f"An automated classifier (hatex, model {verdict.model}, strategy {verdict.strategy}) read the post.",
        f"It rated the post {verdict.label}: "
        + ", ".join(f"{label} {percent(p)}" for label, p in verdict.probabilities.items())
        + ".",
        f"{said}: {split}.",
        f"The classifier's recommendation was: {verdict.decision}.",
    ]
    if likely := named_groups(verdict, explanation):
        sentences.append(f"Groups affected: {join_words([group.name for group in likely])}.")
    marked = len(explanation.harmful_words)
    if marked:
        sentences.append(
            f"It marked {marked} {'passage' if marked == 1 else 'passages'} of the post as harmful."
        )
    if explanation.evidence:
        strongest = max(item.weight for item in explanation.evidence)
        most = f"{100 * max(strongest, 0.0):.0f} points"
        sentences.append(
            f"Single passages account for up to {most} of the probability of {verdict.label}, by its gradients."
            if explanation.evidence_method == "gradient"
            else f"Taking out single passages lowered the probability of {verdict.label} by up to {most}."
        )
    return " ".join(sentences)


def date_trouble(report: PostReport) -> str | None:
    """Why the post's own date cannot stand in a statement; None if it can, or if there is none."""
    if report.date is None or (_post_date(report.date) or date.min).year in YEARS:
        return None
    return f"`date` is not YYYY-MM-DD, from {YEARS.start} to {YEARS.stop - 1}"


def _post_date(text: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def _content_date(report: PostReport, decided: date) -> str:
    own = _post_date(report.date) if report.date is not None else None
    return (own or decided).isoformat()


def _unique_id(report: PostReport, prefix: str) -> str:
    """The post's own id where its characters are allowed; otherwise a hash of id (or line) and text, the same every
    time.
    """
    own = "" if report.id is None else str(report.id)
    if _PLAIN_ID.fullmatch(own) and len(prefix) + len(own) <= MAX_PUID:
        return prefix + own
    told_apart = f"{own or f'line {report.line or 1}'}\n{report.text}"
    return prefix + sha256(told_apart.encode("utf-8", "surrogatepass")).hexdigest()


def _validate(statement: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    problems = sorted(
        Draft202012Validator(statement_schema()).iter_errors(statement), key=lambda e: list(e.path)
    )
    if problems:
        first = problems[0]
        raise UsageError(
            f"the statement of reasons breaks the rule {'/'.join(map(str, first.schema_path))}",
            where=".".join(map(str, first.path)) or "statement",
            hint="correct explain.statement in the recipe",
        )
