"""Do probabilities mean what the votes say? Everything is measured against vote shares, not majorities.

A model that answers the vote shares themselves has a calibration error and a Brier score of exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from hatex.evaluation.estimate import Array
from hatex.evaluation.gold import Gold, Scored
from hatex.evaluation.metric import Metric, TieBlocks, all_posts, ratio, weighted_mean

BINS: Final = 15
"""Equal-mass bins of the calibration error, as in Guo et al. 2017 (who took equal widths)."""


def binned_gaps(prediction: Array, share: Array, weights: Array, bins: int = BINS) -> Array:
    """Expected calibration error with bins of equal mass, shape (replicates,).

    Sum over bins of |sum of weight x (prediction - share)| over the total weight. Posts of equal prediction
    share the bin of their middle rank, so the order of ties does not matter; the rank runs over the
    resampled posts.
    """
    blocks = TieBlocks.of(prediction)
    mass = blocks.sums(weights)
    gap = blocks.sums(weights * (prediction - share))
    total = mass.sum(axis=1)
    middle = np.cumsum(mass, axis=1) - mass / 2
    chosen = np.minimum((bins * ratio(middle, total[:, None], 0.0)).astype(int), bins - 1)
    flat = (chosen + np.arange(len(chosen))[:, None] * bins).ravel()
    sums = np.bincount(flat, weights=gap.ravel(), minlength=len(chosen) * bins)
    return ratio(np.abs(sums.reshape(-1, bins)).sum(axis=1), total)


def calibration_error(scored: Scored, weights: Array) -> Array:
    """Calibration error of the harmful cell; with three cells the mean over cells."""
    cells = scored.gold.question.harmful if scored.gold.question.is_binary else slice(None)
    pairs = zip(scored.cells[:, cells].T, scored.gold.cells[:, cells].T, strict=True)
    return np.asarray(np.mean([binned_gaps(p, q, weights) for p, q in pairs], axis=0))


def brier(scored: Scored, weights: Array) -> Array:
    """Mean squared distance to the vote shares: of the harmful cell if there are two, else summed over
    cells.
    """
    squared = ((scored.cells - scored.gold.cells) ** 2).sum(axis=1)
    return weighted_mean(squared / 2 if scored.gold.question.is_binary else squared, weights)


@dataclass(frozen=True)
class ReliabilityPoint:
    """One bin of the reliability plot: mean prediction against mean vote share of `n` posts."""

    prediction: float
    share: float
    n: int


def reliability_curve(scored: Scored, bins: int = BINS) -> list[ReliabilityPoint]:
    """The curve of P(harmful), bins as in the calibration error, from low to high predictions."""
    prediction = scored.harm
    share = scored.gold.cells[:, scored.gold.question.harmful].sum(axis=1)
    blocks = TieBlocks.of(prediction)
    mass = blocks.sums(np.ones((1, len(prediction))))[0]
    chosen = np.minimum(bins * (np.cumsum(mass) - mass / 2) // mass.sum(), bins - 1)
    bin_of = np.repeat(chosen, mass.astype(int))
    points = []
    for index in np.unique(bin_of):
        rows = blocks.order[bin_of == index]
        points.append(ReliabilityPoint(float(prediction[rows].mean()), float(share[rows].mean()), len(rows)))
    return points


def _why_one_cell(gold: Gold) -> str | None:
    return None if len(gold.question.cells) > 1 else "the votes of this data set tell no two labels apart"


METRICS = (
    Metric(
        "calibration_error",
        f"expected calibration error against vote shares, {BINS} equal-mass bins",
        "lower",
        calibration_error,
        _why_one_cell,
        all_posts,
        is_inflated=True,
    ),
    Metric(
        "brier",
        "squared distance to the vote shares",
        "lower",
        brier,
        _why_one_cell,
        all_posts,
    ),
)
