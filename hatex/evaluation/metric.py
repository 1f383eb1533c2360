"""What a metric is, and the weighted arithmetic the families share.

A metric is written once, as a function of post weights: all ones give the value, bootstrap counts give its
replicates, one row a replicate, without a Python loop over resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hatex.evaluation.estimate import Array, Bootstrap, Estimate, Sample, count_clusters
from hatex.evaluation.gold import Bools, Gold, Scored


@dataclass(frozen=True)
class Metric:
    """One figure about a model's probabilities on a data set.

    `compute(scored, weights)` maps weights of shape (replicates, n) to values of shape (replicates,), NaN
    where undefined. `why_undefined(gold)` says why the gold cannot carry the metric, None where it can.
    `posts(gold)` is the number of posts it is about.
    """

    name: str
    meaning: str
    better: Literal["higher", "lower"]
    compute: Callable[[Scored, Array], Array]
    why_undefined: Callable[[Gold], str | None]
    posts: Callable[[Gold], int]
    is_inflated: bool = False
    """Whether noise alone makes it larger (`Sample.is_inflated`)."""

    def gap(self, gold: Gold) -> Estimate | None:
        """A missing estimate that says why the gold cannot carry the metric; None where it can."""
        why = self.why_undefined(gold)
        return None if why is None else Estimate.missing(why, self.posts(gold))

    def sample(self, scored: Scored, bootstrap: Bootstrap) -> Sample | Estimate:
        """The metric with its replicates, or a missing estimate."""
        [cell] = sample_metrics([self], [scored], bootstrap)[0]
        return cell

    def estimate(self, scored: Scored, bootstrap: Bootstrap) -> Estimate:
        """The metric with its interval, or `n/a (why)`."""
        sample = self.sample(scored, bootstrap)
        return sample if isinstance(sample, Estimate) else bootstrap.interval(sample)

    def difference(self, scored: Scored, reference: Scored, bootstrap: Bootstrap) -> Estimate:
        """`scored` minus `reference` on the same posts, resampled together (paired bootstrap)."""
        if scored.gold is not reference.gold:
            raise ValueError("a paired difference needs the same gold")
        first, second = self.sample(scored, bootstrap), self.sample(reference, bootstrap)
        if isinstance(first, Estimate):
            return first
        if isinstance(second, Estimate):
            return second
        return bootstrap.interval(first.minus(second))


def sample_metrics(
    metrics: Sequence[Metric], scored: Sequence[Scored], bootstrap: Bootstrap
) -> list[list[Sample | Estimate]]:
    """Every metric of every prediction on one data set, shape (predictions, metrics), over the same
    resamples.

    Raises ValueError where predictions are not about the same gold.
    """
    gold = scored[0].gold
    if any(one.gold is not gold for one in scored):
        raise ValueError("predictions must be about the same gold")
    defined = [metric for metric in metrics if metric.gap(gold) is None]
    values, chunks = _compute(defined, scored, np.ones((1, len(gold)))), []
    if defined:
        chunks = [_compute(defined, scored, w) for w in bootstrap.weights(gold.clusters, gold.dataset)]
    replicates = np.concatenate(chunks, axis=2) if chunks else values
    out: list[list[Sample | Estimate]] = []
    for row in range(len(scored)):
        columns = iter(range(len(defined)))
        cells: list[Sample | Estimate] = []
        for metric in metrics:
            gap = metric.gap(gold)
            if gap is None:
                column = next(columns)
                value = float(values[row, column, 0])
                clusters = count_clusters(gold.clusters)
                n, drawn = metric.posts(gold), replicates[row, column]
                cells.append(Sample(value, drawn, n, clusters, metric.is_inflated))
            else:
                cells.append(gap)
        out.append(cells)
    return out


def _compute(metrics: Sequence[Metric], scored: Sequence[Scored], weights: Array) -> Array:
    """Shape (predictions, metrics, replicates)."""
    return np.array([[metric.compute(one, weights) for metric in metrics] for one in scored])


def always(_gold: Gold) -> str | None:
    """For metrics that every data set can carry."""
    return None


def all_posts(gold: Gold) -> int:
    return len(gold)


def decided_posts(gold: Gold) -> int:
    return int(gold.is_decided.sum())


def why_no_decided(gold: Gold) -> str | None:
    """Why hard decisions cannot be judged."""
    if len(gold.question.cells) < 2:
        return "the votes of this data set tell no two labels apart"
    return None if gold.is_decided.any() else "every post is a tie"


def why_one_class(gold: Gold) -> str | None:
    """Why a ranking metric is undefined."""
    if why := why_no_decided(gold):
        return why
    present = np.unique(gold.label[gold.is_decided])
    return f"one class only: {gold.question.names[present[0]]}" if len(present) == 1 else None


def why_one_side(gold: Gold) -> str | None:
    """Why harmful cannot be ranked against harmless."""
    if why := why_no_decided(gold):
        return why
    harmful = gold.is_harmful[gold.is_decided]
    if harmful.all() or not harmful.any():
        return f"one class only: every post is {'harmful' if harmful.all() else 'harmless'}"
    return None


def ratio(numerator: Array, denominator: Array, otherwise: float = np.nan) -> Array:
    """Elementwise quotient; `otherwise` where the denominator is 0."""
    out = np.full(np.broadcast(numerator, denominator).shape, otherwise)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def weighted_mean(values: Array, weights: Array, where: Bools | None = None) -> Array:
    """Mean of `values` (n,) under each row of `weights`, over the posts of `where`."""
    if where is not None:
        values, weights = values[where], weights[:, where]
    return ratio(weights @ values, weights.sum(axis=1))


@dataclass(frozen=True)
class TieBlocks:
    """Posts sorted by score, ascending, in blocks of equal scores: the order inside a tie must not matter."""

    order: np.ndarray[tuple[int], np.dtype[np.intp]]
    starts: np.ndarray[tuple[int], np.dtype[np.intp]]

    @staticmethod
    def of(scores: Array) -> TieBlocks:
        order = np.argsort(scores, kind="stable")
        changes = np.flatnonzero(np.diff(scores[order]) != 0) + 1
        return TieBlocks(order, np.concatenate([np.zeros(1, dtype=np.intp), changes]))

    def sums(self, weights: Array) -> Array:
        """Weight of each block, shape (replicates, blocks)."""
        ordered = weights[:, self.order]
        # Without ties there is nothing to add up, and `reduceat` is slow.
        return (
            ordered if len(self.starts) == len(self.order) else np.add.reduceat(ordered, self.starts, axis=1)
        )
