"""What the annotator is told; the recipe's `prepare.annotate` in plain form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AnnotateSettings:
    """See `recipe.prepare.AnnotateSection`; `groups` is the closed list that answers may name."""

    url: str
    model: str
    key_variable: str
    max_requests: int
    requests_per_minute: float
    max_attempts: int
    timeout_s: float
    max_tokens: int
    temperature: float
    splits: Sequence[str]
    limit: int | None
    seed: int
    groups: Sequence[str]
