"""Do the marked words agree with the words people marked?  (ERASER, DeYoung et al. 2020, section 4.)

Everything is counted on words: maximal runs of characters that are not white space. A word is marked when a
span covers any of its characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hatex.evaluation.estimate import Array
from hatex.evaluation.gold import Bools
from hatex.evaluation.metric import ratio, weighted_mean
from hatex.types import Rationale

Span = tuple[int, int]
"""Start and end (exclusive) in words or characters."""

MATCH: Final = 0.5
"""Intersection over union from which a predicted span counts as found."""


@dataclass(frozen=True)
class MarkedPost:
    """One post's words as people and the model marked them, each of shape (words,).

    `weights` orders words by how harmful the model finds them; None where it only marks.
    """

    gold: Bools
    predicted: Bools
    weights: Array | None = None


def find_words(text: str) -> list[Span]:
    """Character spans of the words of a post, in code points."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def mark_words(words: Sequence[Span], spans: Sequence[Span]) -> Bools:
    """Which words a set of character spans touches, shape (words,)."""
    return np.array([any(a < end and start < b for a, b in spans) for start, end in words], dtype=bool)


def majority_mask(
    words: Sequence[Span], rationales: Sequence[Rationale], n_readers: int | None = None
) -> Bools:
    """Words that at least half of the readers marked, shape (words,); a union without reader names counts as
    one.

    `n_readers` counts the people asked, where more were asked than marked anything.
    """
    readers = sorted({rationale.annotator or "" for rationale in rationales})
    masks = [
        mark_words(words, [(r.start, r.end) for r in rationales if (r.annotator or "") == reader])
        for reader in readers
    ]
    total = max(len(readers), n_readers or 0)
    if not total:
        return np.zeros(len(words), dtype=bool)
    return np.asarray(np.sum(masks, axis=0) * 2 >= total) if masks else np.zeros(len(words), dtype=bool)


def word_weights(words: Sequence[Span], spans: Sequence[tuple[int, int, float]]) -> Array:
    """Largest weight of the spans that touch each word, 0 where none does, shape (words,)."""
    out = np.zeros(len(words))
    for start, end, weight in spans:
        for index, (a, b) in enumerate(words):
            if a < end and start < b:
                out[index] = max(out[index], weight)
    return out


def find_runs(mask: Bools) -> list[Span]:
    """Maximal runs of marked words."""
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def token_f1(post: MarkedPost) -> float:
    """F1 of marked words; 1 where neither marked anything, 0 where only one did."""
    hits = int((post.gold & post.predicted).sum())
    total = int(post.gold.sum() + post.predicted.sum())
    return 2 * hits / total if total else 1.0


def span_matches(post: MarkedPost) -> tuple[float, float]:
    """Precision and recall of spans, NaN of a side that marked none.

    A span is found when its intersection over union with one of the other side reaches .5.
    """
    gold, predicted = find_runs(post.gold), find_runs(post.predicted)
    overlaps = np.array([[_intersection_over_union(p, g) for g in gold] for p in predicted])
    is_found = overlaps.reshape(len(predicted), len(gold)) >= MATCH
    return (
        float(is_found.any(axis=1).mean()) if predicted else np.nan,
        float(is_found.any(axis=0).mean()) if gold else np.nan,
    )


def iou_f1(matches: Array, weights: Array) -> Array:
    """F1 of the mean precision and the mean recall, each over the posts that have it (ERASER's macro average).

    `matches` are `span_matches` of the posts, shape (posts, 2).
    """
    precision, recall = (weighted_mean(np.nan_to_num(side), weights, np.isfinite(side)) for side in matches.T)
    # Where nothing was predicted, nothing was found.
    precision = np.nan_to_num(precision)
    return np.where(np.isnan(recall), np.nan, ratio(2 * precision * recall, precision + recall, 0.0))


def rationale_auprc(post: MarkedPost) -> float | None:
    """Area under precision-recall of the word weights (trapezoids); None where people marked nothing or
    everything is unordered.
    """
    from sklearn.metrics import auc, precision_recall_curve

    if post.weights is None or not post.gold.any():
        return None
    precision, recall, _ = precision_recall_curve(post.gold, post.weights)
    return float(auc(recall, precision))


def _intersection_over_union(a: Span, b: Span) -> float:
    shared = max(0, min(a[1], b[1]) - max(a[0], b[0]))
    return shared / ((a[1] - a[0]) + (b[1] - b[0]) - shared)
