"""Predictions against the whole distribution of annotator votes, not against their majority.

`soft_cross_entropy` is the training loss (a vote costs -log of the mass of its label set); the others
compare the cells of the data set's question, so that a perfect predictor of the votes reaches their best
value exactly. The choice of measures follows Uma et al. 2021, "Learning from Disagreement", JAIR 72.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import rel_entr, xlogy

from hatex.evaluation.annotators import NamedVotes
from hatex.evaluation.estimate import Array, Bootstrap, Estimate, Sample, count_clusters
from hatex.evaluation.gold import MEMBERSHIP, Gold, Scored
from hatex.evaluation.metric import Metric, all_posts, always, ratio, weighted_mean, why_no_decided

_SMALLEST_MASS: Final = 1e-12
"""A probability of 0 for a set that got votes costs -log of this instead of infinity."""


def soft_cross_entropy(scored: Scored, weights: Array) -> Array:
    """Mean over posts of -sum_S share(S) log P(S) over label sets S, in nats."""
    informative = MEMBERSHIP.sum(axis=1) < MEMBERSHIP.shape[1]
    shares = scored.gold.shares[:, informative]
    masses = np.clip(scored.set_masses[:, informative], _SMALLEST_MASS, 1)
    return weighted_mean(-(shares * np.log(masses)).sum(axis=1), weights)


def vote_entropy(gold: Gold) -> Array:
    """Entropy of the votes over the cells of the question, nats, shape (n,)."""
    return np.asarray(-xlogy(gold.cells, gold.cells).sum(axis=1))


def entropy_gap(scored: Scored, weights: Array) -> Array:
    """Cross-entropy over cells minus the entropy of the votes (the Kullback-Leibler divergence), in nats."""
    gap = rel_entr(scored.gold.cells, np.clip(scored.cells, _SMALLEST_MASS, None)).sum(axis=1)
    return weighted_mean(gap, weights)


def manhattan(scored: Scored, weights: Array) -> Array:
    """Mean of sum over cells of |votes - prediction|, in [0, 2]."""
    return weighted_mean(np.abs(scored.gold.cells - scored.cells).sum(axis=1), weights)


def jensen_shannon(scored: Scored, weights: Array) -> Array:
    """Mean Jensen-Shannon divergence of votes and prediction over cells, base 2, in [0, 1]."""
    votes, prediction = scored.gold.cells, scored.cells / scored.cells.sum(axis=1, keepdims=True)
    middle = (votes + prediction) / 2
    divergence = (rel_entr(votes, middle) + rel_entr(prediction, middle)).sum(axis=1) / 2
    return weighted_mean(divergence / np.log(2), weights)


def entropy_correlation(scored: Scored, weights: Array) -> Array:
    """Pearson correlation over posts between the entropy of the votes and that of the prediction."""
    votes = _centred(vote_entropy(scored.gold))
    prediction = _centred(-xlogy(scored.cells, scored.cells).sum(axis=1))
    total = weights.sum(axis=1)
    mean_votes, mean_prediction = ratio(weights @ votes, total), ratio(weights @ prediction, total)
    covariance = ratio(weights @ (votes * prediction), total) - mean_votes * mean_prediction
    square_votes, square_prediction = (
        ratio(weights @ votes**2, total),
        ratio(weights @ prediction**2, total),
    )
    spread_votes, spread_prediction = square_votes - mean_votes**2, square_prediction - mean_prediction**2
    # Less is the rounding of a difference of equals.
    is_defined = (spread_votes > 1e-12 * square_votes) & (spread_prediction > 1e-12 * square_prediction)
    return ratio(covariance, np.where(is_defined, np.sqrt(np.abs(spread_votes * spread_prediction)), 0.0))


def _centred(values: Array) -> Array:
    """Values less their mean; what differs by rounding alone is all alike."""
    centred = values - values.mean()
    return np.where(np.abs(centred) > 1e-9, centred, 0.0)


def accuracy_unanimous(scored: Scored, weights: Array) -> Array:
    """Accuracy where all of two or more votes agree."""
    return weighted_mean(scored.is_correct.astype(float), weights, scored.gold.is_unanimous)


def accuracy_contested(scored: Scored, weights: Array) -> Array:
    """Accuracy where votes differ and yet one cell has most of them."""
    keep = scored.gold.is_contested & scored.gold.is_decided
    return weighted_mean(scored.is_correct.astype(float), weights, keep)


@dataclass(frozen=True)
class AnnotatorError:
    """How far the predictions are from one annotator, or one group of annotators.

    `error` is the mean over this annotator's votes of 1 - P(label set of the vote): the absolute error of the
    prediction as a guess of that vote, in [0, 1]. Its `n` counts votes; those for all labels say nothing and are
    left out.
    """

    name: str
    error: Estimate


def annotator_errors(scored: Scored, bootstrap: Bootstrap, *, by_group: bool = False) -> list[AnnotatorError]:
    """One error per annotator id (or annotator group), by name; empty where votes carry none."""
    gold = scored.gold
    votes = gold.by_group if by_group else gold.by_annotator
    if not votes.names:
        return []

    def errors(weights: Array) -> Array:
        return _errors(scored, votes, weights)

    values = errors(np.ones((1, len(gold))))[0]
    replicates = bootstrap.replicates(errors, gold.clusters, gold.dataset)
    counts = votes.sums(np.ones((1, len(gold))), votes.counts)[0]
    clusters = count_clusters(gold.clusters)
    samples = (
        Sample(float(value), replicates[:, column], int(counts[column]), clusters)
        for column, value in enumerate(values)
    )
    return [
        AnnotatorError(name, bootstrap.interval(sample))
        for name, sample in zip(votes.names, samples, strict=True)
    ]


def annotator_error(scored: Scored, weights: Array) -> Array:
    """Mean over annotators of their error: everyone counts the same, however many posts they read."""
    errors = _errors(scored, scored.gold.by_annotator, weights)
    return ratio(np.nansum(errors, axis=1), np.isfinite(errors).sum(axis=1).astype(float))


def _errors(scored: Scored, votes: NamedVotes, weights: Array) -> Array:
    """Error of everyone in `votes.names`, shape (replicates, names); NaN where none of their posts was drawn."""
    misses = votes.counts * (1 - scored.set_masses[votes.posts, votes.label_sets])
    return ratio(votes.sums(weights, misses), votes.sums(weights, votes.counts))


def _why_constant_votes(gold: Gold) -> str | None:
    if (gold.n_votes < 2).all():
        return "one vote a post"
    return "no post is contested" if not gold.is_contested.any() else None


def _why_no_unanimous(gold: Gold) -> str | None:
    if (gold.n_votes < 2).all():
        return "one vote a post"
    return None if gold.is_unanimous.any() else "no post is unanimous"


def _why_no_contested(gold: Gold) -> str | None:
    if why := why_no_decided(gold) or _why_constant_votes(gold):
        return why
    return None if (gold.is_contested & gold.is_decided).any() else "every contested post is a tie"


def _why_no_annotators(gold: Gold) -> str | None:
    if gold.by_annotator.names:
        return None
    named = any(vote.annotator for votes in gold.votes for vote in votes)
    return "votes with annotator ids tell no labels apart" if named else "votes carry no annotator ids"


METRICS = (
    Metric(
        "soft_cross_entropy",
        "-log of the mass of each vote's label set, nats",
        "lower",
        soft_cross_entropy,
        always,
        all_posts,
    ),
    Metric(
        "entropy_gap",
        "cross-entropy minus the entropy of the votes, nats",
        "lower",
        entropy_gap,
        always,
        all_posts,
    ),
    Metric("manhattan", "sum of |votes - prediction|", "lower", manhattan, always, all_posts),
    Metric(
        "jensen_shannon",
        "Jensen-Shannon divergence to the votes, base 2",
        "lower",
        jensen_shannon,
        always,
        all_posts,
    ),
    Metric(
        "entropy_correlation",
        "correlation of predicted and voted entropy",
        "higher",
        entropy_correlation,
        _why_constant_votes,
        all_posts,
    ),
    Metric(
        "accuracy_unanimous",
        "accuracy where all votes agree",
        "higher",
        accuracy_unanimous,
        _why_no_unanimous,
        lambda gold: int(gold.is_unanimous.sum()),
    ),
    Metric(
        "accuracy_contested",
        "accuracy where votes differ",
        "higher",
        accuracy_contested,
        _why_no_contested,
        lambda gold: int((gold.is_contested & gold.is_decided).sum()),
    ),
    Metric(
        "annotator_error",
        "mean over annotators of 1 - P(their vote)",
        "lower",
        annotator_error,
        _why_no_annotators,
        all_posts,
    ),
)
