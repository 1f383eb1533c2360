"""From probabilities and gates to what a caller reads of one post."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from hatex.routing.policy import decide
from hatex.types import LABELS, Explanation, Policy, Verdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOTES_FOR_DISAGREEMENT: Final = 2.0
"""An adapter trained on at least this many votes a post has learned how people split."""


def build_verdict(
    text: str,
    probabilities: NDArray[np.float64],
    gates: Mapping[str, float],
    *,
    votes_per_post: Mapping[str, float],
    policy: Policy,
    strategy: str,
    model: str,
    truncated: bool,
    explanation: Explanation | None,
) -> Verdict:
    """The verdict on one post; `probabilities` has shape (labels,), gates and votes are by adapter."""
    by_label = dict(zip(LABELS, probabilities.tolist(), strict=True))
    disagreement = float(
        -(probabilities * np.log(np.clip(probabilities, 1e-12, 1))).sum() / np.log(len(LABELS))
    )
    from_votes = sum(
        weight for name, weight in gates.items() if votes_per_post[name] >= VOTES_FOR_DISAGREEMENT
    )
    decision, reasons = decide(text, by_label, disagreement, policy)
    return Verdict(
        label=LABELS[int(probabilities.argmax())],
        probabilities=by_label,
        gates=dict(gates),
        strategy=strategy,
        disagreement=disagreement,
        disagreement_basis="votes" if from_votes >= 0.5 else "model",
        decision=decision,
        reasons=reasons,
        model=model,
        truncated=truncated,
        explanation=explanation,
    )
