"""Hard decisions and rankings: accuracy, F1, AUROC, average precision.

All are about posts with a most-named cell of the data set's question; ties are left out and `n` says so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hatex.evaluation.estimate import Array
from hatex.evaluation.gold import Bools, Gold, Scored
from hatex.evaluation.metric import (
    Metric,
    TieBlocks,
    decided_posts,
    ratio,
    weighted_mean,
    why_no_decided,
    why_one_class,
    why_one_side,
)
from hatex.types import LABEL_SETS, LABELS, LabelSet


def accuracy(scored: Scored, weights: Array) -> Array:
    """Share of decided posts whose cell is the gold cell."""
    return weighted_mean(scored.is_correct.astype(float), weights, scored.gold.is_decided)


def balanced_accuracy(scored: Scored, weights: Array) -> Array:
    """Mean recall of the cells that have gold posts."""
    counts = confusion(scored, weights)
    recall = ratio(np.einsum("bii->bi", counts), counts.sum(axis=2))
    return _mean_over_cells(recall, scored.gold)


def confusion(scored: Scored, weights: Array) -> Array:
    """Weight of posts by gold cell and decision, shape (replicates, gold cells, decided cells)."""
    decided, n_cells = scored.gold.is_decided, len(scored.gold.question.cells)
    pair = scored.gold.label[decided] * n_cells + scored.decision[decided]
    counts = weights[:, decided] @ np.eye(n_cells * n_cells)[pair]
    return np.asarray(counts.reshape(-1, n_cells, n_cells))


def class_f1(scored: Scored, weights: Array) -> Array:
    """2 TP / (2 TP + FP + FN) of each cell, shape (replicates, cells); NaN for a cell without gold posts."""
    counts = confusion(scored, weights)
    gold, decided = counts.sum(axis=2), counts.sum(axis=1)
    f1 = ratio(2 * np.einsum("bii->bi", counts), gold + decided)
    return np.where(gold > 0, f1, np.nan)


def macro_f1(scored: Scored, weights: Array) -> Array:
    """Mean F1 of the cells that have gold posts (two at least: with one, guessing it blindly would look
    perfect).
    """
    return _mean_over_cells(class_f1(scored, weights), scored.gold)


def _mean_over_cells(values: Array, gold: Gold) -> Array:
    """Mean over the cells that have gold posts, shape (replicates,).

    NaN where a replicate has drawn none of a rare one: the mean of the others would be about another question, and
    near 1 where a single common cell is left.
    """
    return np.asarray(values[:, np.unique(gold.label[gold.is_decided])].mean(axis=1))


def ranked_auc(scores: Array, is_positive: Bools, weights: Array) -> Array:
    """P(score of a positive > score of a negative), ties count half: the area under the ROC curve."""
    blocks = TieBlocks.of(scores)
    positive = blocks.sums(weights * is_positive)
    negative = blocks.sums(weights * ~is_positive)
    below = np.cumsum(negative, axis=1) - negative
    wins = (positive * (below + 0.5 * negative)).sum(axis=1)
    return ratio(wins, positive.sum(axis=1) * negative.sum(axis=1))


def ranked_precision(scores: Array, is_positive: Bools, weights: Array) -> Array:
    """Sum over thresholds of (recall step) x precision, as scikit-learn's `average_precision_score`.

    NaN without positives, and without negatives as well: nothing is ranked there.
    """
    blocks = TieBlocks.of(-scores)
    hits = blocks.sums(weights * is_positive)
    precision = ratio(np.cumsum(hits, axis=1), np.cumsum(blocks.sums(weights), axis=1), 0.0)
    positives = hits.sum(axis=1)
    is_ranked = positives < weights.sum(axis=1)
    return np.where(is_ranked, ratio((hits * precision).sum(axis=1), positives), np.nan)


def auroc(scored: Scored, weights: Array) -> Array:
    """AUROC of the harmful cell; with three cells the mean of one against the rest."""
    return _one_against_rest(ranked_auc, scored, weights)


def average_precision(scored: Scored, weights: Array) -> Array:
    """Average precision of the harmful cell; with three cells the mean of one against the rest."""
    return _one_against_rest(ranked_precision, scored, weights)


def harm_auroc(scored: Scored, weights: Array) -> Array:
    """AUROC of everything harmful against everything harmless."""
    keep = scored.gold.is_decided
    return ranked_auc(scored.harm[keep], scored.gold.is_harmful[keep], weights[:, keep])


def _one_against_rest(rank: Callable[[Array, Bools, Array], Array], scored: Scored, weights: Array) -> Array:
    gold, keep = scored.gold, scored.gold.is_decided
    label, kept = gold.label[keep], weights[:, keep]
    cells = [int(gold.question.harmful.argmax())] if gold.question.is_binary else np.unique(label).tolist()
    values = [rank(scored.cells[keep, cell], label == cell, kept) for cell in cells]
    return np.asarray(np.mean(values, axis=0))


def _f1_of(cell: LabelSet) -> Metric:
    def compute(scored: Scored, weights: Array) -> Array:
        return class_f1(scored, weights)[:, scored.gold.question.cells.index(cell)]

    def why(gold: Gold) -> str | None:
        if cell not in gold.question.cells:
            return f"this data set asks {' / '.join(gold.question.names)}"
        if not (gold.label == gold.question.cells.index(cell)).any():
            return f"no post is {'|'.join(cell)}"
        return None

    name = "_".join(cell)
    return Metric(f"f1_{name}", f"F1 of {'|'.join(cell)}", "higher", compute, why, decided_posts)


METRICS = (
    Metric(
        "macro_f1",
        "mean F1 of the classes the data set tells apart",
        "higher",
        macro_f1,
        why_one_class,
        decided_posts,
    ),
    Metric(
        "accuracy",
        "share of right decisions",
        "higher",
        accuracy,
        why_no_decided,
        decided_posts,
    ),
    Metric(
        "balanced_accuracy",
        "mean recall of the classes the data set tells apart",
        "higher",
        balanced_accuracy,
        why_one_class,
        decided_posts,
    ),
    Metric(
        "auroc",
        "area under the ROC curve (mean of one against the rest)",
        "higher",
        auroc,
        why_one_class,
        decided_posts,
    ),
    Metric(
        "average_precision",
        "area under precision-recall (mean of one against the rest)",
        "higher",
        average_precision,
        why_one_class,
        decided_posts,
    ),
    Metric(
        "harm_auroc",
        "AUROC of harmful against harmless",
        "higher",
        harm_auroc,
        why_one_side,
        decided_posts,
    ),
    *(_f1_of(cell) for cell in LABEL_SETS if len(cell) < len(LABELS)),
)
