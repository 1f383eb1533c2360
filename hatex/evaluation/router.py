"""Does the router do what its name says: know the platform, know how sure it is, notice what it has not
seen?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hatex.evaluation.calibration import binned_gaps
from hatex.evaluation.classification import ranked_auc
from hatex.evaluation.estimate import Array, Bootstrap, Estimate
from hatex.evaluation.gold import Ints
from hatex.evaluation.metric import weighted_mean
from hatex.evaluation.passes import Gates

_STREAM = "router"


@dataclass(frozen=True)
class RouterQuality:
    """How well the router's own weights, before any fallback, name the platform of n posts.

    `ood_auroc` is P(largest weight of a post from a known platform > that of one from an unknown platform).
    """

    accuracy: Estimate
    calibration_error: Estimate
    ood_auroc: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            name: getattr(self, name).to_json() for name in ("accuracy", "calibration_error", "ood_auroc")
        }


def router_quality(gates: Gates, home: Ints, clusters: Ints, bootstrap: Bootstrap) -> RouterQuality:
    """Quality over all posts of a run.

    `gates` (n, adapters) are the router's; `home` (n,) is the column of the adapter trained on the post's
    platform, -1 where no adapter was.
    """
    known = home >= 0
    likeliest, weight = gates.argmax(axis=1), gates.max(axis=1).astype(np.float64)
    is_home = (likeliest == home).astype(float)

    def accuracy(weights: Array) -> Array:
        return weighted_mean(is_home, weights, known)

    def error(weights: Array) -> Array:
        return binned_gaps(weight[known], is_home[known], weights[:, known])

    def ood(weights: Array) -> Array:
        return ranked_auc(weight, known, weights)

    n = int(known.sum())
    if n == 0:
        missing = Estimate.missing("no post comes from a platform with an adapter")
        return RouterQuality(missing, missing, missing)
    outside = len(home) - n
    return RouterQuality(
        bootstrap.estimate(accuracy, clusters, _STREAM, n),
        bootstrap.estimate(error, clusters, _STREAM, n, is_inflated=True),
        bootstrap.estimate(ood, clusters, _STREAM)
        if outside
        else Estimate.missing("every post comes from a platform with an adapter", n),
    )


def mean_gates(gates: Gates) -> list[float]:
    """Mean weight of each adapter over the posts, shape (adapters,)."""
    return [float(weight) for weight in gates.mean(axis=0)]
