"""How much a post counts: by its class, by the weight of its data set, by the label-set shares that a recipe wants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hatex.data.votes import parse_label_set, vote_shares
from hatex.types import LABEL_SETS, Example


def class_weights(labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """What a post of each class counts, shape (classes,), so that all classes count alike and a post 1 on average."""
    return len(labels) / (classes * np.bincount(labels, minlength=classes).clip(1))


def example_weights(
    examples: Sequence[Example],
    dataset_weights: Mapping[str, float],
    priors: Mapping[str, Mapping[str, float]],
) -> list[float]:
    """Loss weight of every example.

    `priors` names the share of votes that a label set of a data set is to have (`{stormfront: {hate: 0.3}}`); its
    other label sets share the rest as they are. A data set's mean weight stays its own, whatever its priors.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        members[example.dataset].append(i)
    weights = np.array([dataset_weights.get(e.dataset, 1.0) for e in examples])
    for dataset in priors.keys() & members.keys():
        at = members[dataset]
        shares = np.array([vote_shares(examples[i].votes) for i in at])
        weights[at] *= shares @ _factors(shares.mean(0), priors[dataset])
    return [float(weight) for weight in weights]


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
