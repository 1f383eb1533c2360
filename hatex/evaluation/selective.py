"""What is left to get wrong when people review the posts the model is least sure of.

The order is by the mass of the cell decided for, least sure first. Geifman and El-Yaniv 2017 (risk and
coverage); the area is the mean risk over all coverages 1/n ... 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from hatex.evaluation.estimate import Array
from hatex.evaluation.gold import Scored
from hatex.evaluation.metric import Metric, TieBlocks, decided_posts, ratio, why_no_decided

REVIEW_SHARES: Final = (0.05, 0.10, 0.20)


def _by_confidence(scored: Scored, weights: Array) -> tuple[Array, Array]:
    """Weight and wrong weight of each block of equally confident decided posts, most confident first."""
    keep = scored.gold.is_decided
    blocks = TieBlocks.of(-scored.confidence[keep])
    kept = weights[:, keep]
    return blocks.sums(kept), blocks.sums(kept * ~scored.is_correct[keep])


def aurc(scored: Scored, weights: Array) -> Array:
    """Area under the risk-coverage curve; weights are counts; equally confident posts count as in a random
    order (its expectation).
    """
    mass, wrong = _by_confidence(scored, weights)
    before, wrong_before = np.cumsum(mass, axis=1) - mass, np.cumsum(wrong, axis=1) - wrong
    risk = ratio(wrong, mass, 0.0)
    # Inside a block the k-th post sees wrong_before + (k - before) * risk errors; dividing by k and summing
    # over the block leaves a difference of harmonic numbers.
    numbers = _harmonic_numbers(int(mass.sum(axis=1).max()))
    harmonic = numbers[(before + mass).astype(int)] - numbers[before.astype(int)]
    area = mass * risk + (wrong_before - before * risk) * harmonic
    return ratio(area.sum(axis=1), mass.sum(axis=1))


def _harmonic_numbers(largest: int) -> Array:
    """1 + 1/2 + ... + 1/k for k = 0 ... largest."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, largest + 1))])


def accuracy_after_review(share: float) -> Callable[[Scored, Array], Array]:
    """Accuracy on what the model decides alone when people take the `share` least sure posts."""

    def compute(scored: Scored, weights: Array) -> Array:
        mass, wrong = _by_confidence(scored, weights)
        # The number of posts kept is rounded up to a whole post; the last block may be kept in part.
        budget = np.ceil((1 - share) * mass.sum(axis=1, keepdims=True) - 1e-9)
        kept = np.clip(budget - (np.cumsum(mass, axis=1) - mass), 0, mass)
        errors = (kept * ratio(wrong, mass, 0.0)).sum(axis=1)
        return 1 - ratio(errors, kept.sum(axis=1))

    return compute


@dataclass(frozen=True)
class RiskPoint:
    """Share of wrong decisions among the `coverage` most confident posts."""

    coverage: float
    risk: float


def risk_coverage_curve(scored: Scored) -> list[RiskPoint]:
    """One point per distinct confidence, from the most confident post to all of them; empty if all posts are
    ties.
    """
    if not scored.gold.is_decided.any():
        return []
    mass, wrong = _by_confidence(scored, np.ones((1, len(scored.gold))))
    covered, errors = np.cumsum(mass[0]), np.cumsum(wrong[0])
    return [RiskPoint(float(c / covered[-1]), float(e / c)) for c, e in zip(covered, errors, strict=True)]


METRICS = (
    Metric(
        "aurc",
        "area under the risk-coverage curve",
        "lower",
        aurc,
        why_no_decided,
        decided_posts,
    ),
    *(
        Metric(
            f"accuracy_review_{share * 100:.0f}",
            f"accuracy of the rest when people review the {share:.0%} least sure",
            "higher",
            accuracy_after_review(share),
            why_no_decided,
            decided_posts,
        )
        for share in REVIEW_SHARES
    ),
)
