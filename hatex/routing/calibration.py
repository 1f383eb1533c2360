"""Label calibration: what the gate-weighted adapters say, made to match how people voted on tune.

logits' = t(g) log p + b(g), with t(g) = sum_k g_k t_k and b(g) = sum_k g_k b_k: vector scaling (Guo et al., 2017)
whose parameters are blended by the same gate weights as the adapters, so that every strategy is calibrated at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.types import LABEL_SETS, LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pulls towards the identity (t = 1, b = 0); worth about as much as this many posts.
PRIOR_POSTS = 5.0


@dataclass(frozen=True)
class Calibration:
    """scales (adapters,) and biases (adapters, labels), in the engine's order of adapters."""

    scales: NDArray[np.float64]
    biases: NDArray[np.float64]

    @classmethod
    def identity(cls, adapters: int) -> Calibration:
        """Changes nothing."""
        return cls(np.ones(adapters), np.zeros((adapters, len(LABELS))))

    @classmethod
    def from_record(cls, record: Mapping[str, Any], adapters: Sequence[str]) -> Calibration:
        """Read what `record` says of each adapter; adapters it does not know stay as they are."""
        by_name = record.get("adapters", {})
        scales = [float(by_name.get(name, {}).get("scale", 1.0)) for name in adapters]
        biases = [by_name.get(name, {}).get("bias", [0.0] * len(LABELS)) for name in adapters]
        return cls(np.array(scales), np.array(biases, float))

    def record(self, adapters: Sequence[str]) -> dict[str, Any]:
        """The JSON form that `from_record` reads."""
        return {
            "adapters": {
                name: {"scale": round(float(scale), 6), "bias": [round(float(b), 6) for b in bias]}
                for name, scale, bias in zip(adapters, self.scales, self.biases, strict=True)
            }
        }

    def apply(self, log_probs: NDArray[np.float64], gates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Calibrated probabilities, shape (posts, labels)."""
        from scipy.special import softmax

        return np.asarray(softmax((gates @ self.scales)[:, None] * log_probs + gates @ self.biases, axis=1))


def fit_calibration(
    log_probs: NDArray[np.float64],
    gates: NDArray[np.float64],
    shares: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> Calibration:
    """Least vote loss on tune posts.

    log_probs (posts, labels) uncalibrated, gates (posts, adapters), shares (posts, sets), weights (posts,).
    Adapters without gate mass keep the identity.
    """
    from scipy.optimize import minimize

    members = np.array([[label in labels for label in LABELS] for labels in LABEL_SETS], float)
    count = gates.shape[1]

    def unpack(x: NDArray[np.float64]) -> Calibration:
        return Calibration(1 + x[:count], x[count:].reshape(count, len(LABELS)))

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        p = np.clip(unpack(x).apply(log_probs, gates), 1e-12, 1)
        mass = p @ members.T
        loss = -(weights * (shares * np.log(mass)).sum(1)).sum() + PRIOR_POSTS * (x**2).sum()
        # d loss / d logits: p - E[p given the voted sets]
        posterior = (shares / mass) @ members * p
        gradient = weights[:, None] * (p * shares.sum(1, keepdims=True) - posterior)
        scale = ((gradient * log_probs).sum(1)[:, None] * gates).sum(0)
        bias = gates.T @ gradient
        return float(loss), np.concatenate((scale, bias.ravel())) + 2 * PRIOR_POSTS * x

    found = minimize(objective, np.zeros(count * (1 + len(LABELS))), jac=True, method="L-BFGS-B")
    return unpack(found.x)
