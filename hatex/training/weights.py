"""How much posts and votes count: by class, by the weight of a data set, by the shares of label sets wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hatex.data.votes import parse_label_set
from hatex.types import LABEL_SETS

if TYPE_CHECKING:
    from hatex.training.rows import TrainingRow


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """What a post of each class counts, shape (classes,), so that all classes count alike and a post 1 on average."""
    return len(labels) / (classes * np.bincount(labels, minlength=classes).clip(1))


def weigh_votes(
    datasets: Sequence[str],
    shares: NDArray[np.float64],
    dataset_weights: Mapping[str, float],
    priors: Mapping[str, Mapping[str, float]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loss weights (posts,) and vote shares (posts, sets) of posts of these data sets, whose votes have `shares`.

    `priors` names the share of votes that a label set of a data set is to have (`{stormfront: {hate: 0.3}}`); its
    other label sets share the rest as they are. Every vote is weighed, so that shares inside a post move as well
    (Saerens, Latinne and Decaestecker 2002). A data set's mean weight stays its own, whatever its priors.
    """
    weights = np.array([dataset_weights.get(dataset, 1.0) for dataset in datasets])
    weighed, names = shares.copy(), np.array(datasets)
    for dataset in sorted(priors.keys() & set(datasets)):
        at = np.flatnonzero(names == dataset)
        votes = shares[at] * _factors(shares[at].mean(0), priors[dataset])
        totals = votes.sum(1)
        weights[at] *= totals
        weighed[at] = votes / totals[:, None]
    return weights, weighed


def weigh_rows(
    rows: Sequence[TrainingRow],
    dataset_weights: Mapping[str, float],
    priors: Mapping[str, Mapping[str, float]],
) -> list[TrainingRow]:
    """The rows with weights and shares as of `weigh_votes`."""
    if not rows:
        return []
    shares = np.array([row.shares for row in rows])
    weights, weighed = weigh_votes([row.dataset for row in rows], shares, dataset_weights, priors)
    found = zip(rows, weights.tolist(), map(tuple, weighed.tolist()), strict=True)
    return [replace(row, weight=weight, shares=votes) for row, weight, votes in found]


def _factors(found: np.ndarray, wanted: Mapping[str, float]) -> np.ndarray:
    """What to multiply each label set's votes with, shape (sets,); sets that nobody chose keep 1."""
    factors = np.ones(len(LABEL_SETS))
    named = [LABEL_SETS.index(parse_label_set(name)) for name in wanted]
    rest = [i for i in range(len(LABEL_SETS)) if i not in named and found[i] > 0]
    if not rest or any(found[i] == 0 for i in named):
        return factors
    factors[named] = np.array(list(wanted.values())) / found[named]
    factors[rest] = (1 - sum(wanted.values())) / found[rest].sum()
    return factors
