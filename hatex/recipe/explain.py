"""Recipe section `explain`: how explanations are made, and what a statement of reasons says."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hatex.recipe.section import Section


class StatementSection(Section):
    """Texts and codes of a statement of reasons (Article 17 of Regulation (EU) 2022/2065) that no model can
    know.
    """

    ground: Literal["incompatible", "illegal"] = "incompatible"
    """Whether the post breaks the platform's terms or a law."""
    reference: str = Field(default="Terms of service: hate speech", min_length=1, max_length=500)
    """The clause of the terms, or the legal provision, that the decision rests on."""
    explanation: str = Field(
        default="Content that degrades people for who they are is not allowed on this service.",
        min_length=1,
        max_length=2000,
    )
    """Why such content falls under the reference."""
    visibility: Literal[
        "DECISION_VISIBILITY_CONTENT_REMOVED",
        "DECISION_VISIBILITY_CONTENT_DISABLED",
        "DECISION_VISIBILITY_CONTENT_DEMOTED",
        "DECISION_VISIBILITY_CONTENT_AGE_RESTRICTED",
        "DECISION_VISIBILITY_CONTENT_INTERACTION_RESTRICTED",
        "DECISION_VISIBILITY_CONTENT_LABELLED",
    ] = "DECISION_VISIBILITY_CONTENT_DEMOTED"
    """What was done with the post."""
    automated_decision: Literal[
        "AUTOMATED_DECISION_FULLY", "AUTOMATED_DECISION_PARTIALLY", "AUTOMATED_DECISION_NOT_AUTOMATED"
    ] = "AUTOMATED_DECISION_PARTIALLY"
    """Whether people took part in the decision."""
    source_type: Literal[
        "SOURCE_ARTICLE_16", "SOURCE_TRUSTED_FLAGGER", "SOURCE_TYPE_OTHER_NOTIFICATION", "SOURCE_VOLUNTARY"
    ] = "SOURCE_VOLUNTARY"
    """What led to the decision."""
    puid_prefix: str = Field(default="hatex-", pattern="^[A-Za-z0-9_-]{0,64}$")
    """Stands before the post's id in the platform's unique identifier."""


class ExplainSection(Section):
    max_new_tokens: int = Field(default=200, gt=0)
    """Tokens of one generated answer; a cut answer keeps the fields that were complete."""
    evidence: Literal["leave-out", "gradient", "none"] = "leave-out"
    """How evidence is found: by taking words out, by integrated gradients, or not at all."""
    max_variants: int = Field(default=48, gt=0)
    """Variants of one post that evidence may score; longer posts lose spans of words at a time."""
    statement: StatementSection = StatementSection()
    """What `--format dsa` says beyond the model's answer."""
