"""From probabilities and gates to a verdict: label, disagreement and whose it is, decision and its reasons."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hatex.engine.verdict import build_verdict
from hatex.types import Policy, Verdict

ENGLISH = "Thank you all for a wonderful evening at the stadium, see you next week"
GERMAN = "Vielen Dank für den wunderbaren Abend im Stadion, wir sehen uns nächste Woche wieder"


def verdict_on(
    text: str = ENGLISH, probabilities: tuple[float, ...] = (0.9, 0.06, 0.04), **gates: Any
) -> Verdict:
    return build_verdict(
        text,
        np.array(probabilities),
        gates or {"many": 1.0},
        votes_per_post={"many": 3.0, "one": 1.0},
        policy=Policy(),
        strategy="blend",
        model="m",
        truncated=False,
        explanation=None,
    )


@pytest.mark.parametrize(
    ("probabilities", "disagreement"),
    [((1 / 3, 1 / 3, 1 / 3), 1.0), ((1.0, 0.0, 0.0), 0.0), ((0.5, 0.5, 0.0), 0.631)],
)
def test_disagreement_is_entropy_as_a_share_of_its_largest_value(probabilities, disagreement: float) -> None:
    assert verdict_on(probabilities=probabilities).disagreement == pytest.approx(disagreement, abs=1e-3)


@pytest.mark.parametrize(("share", "basis"), [(0.5, "votes"), (0.49, "model")])
def test_disagreement_is_peoples_where_half_of_the_gates_saw_several_votes(share: float, basis: str) -> None:
    assert verdict_on(many=share, one=1 - share).disagreement_basis == basis


@pytest.mark.parametrize(
    ("text", "probabilities", "decision", "reasons"),
    [
        (ENGLISH, (0.9, 0.06, 0.04), "allow", ()),
        (GERMAN, (0.9, 0.06, 0.04), "review", ("language: de",)),
        ("12 34 ...", (0.9, 0.06, 0.04), "review", ("not readable",)),
        (GERMAN, (0.2, 0.2, 0.6), "flag", ()),
        (ENGLISH, (0.45, 0.5, 0.05), "review", ()),
    ],
)
def test_decisions_come_with_the_posts_own_reasons(text: str, probabilities, decision: str, reasons) -> None:
    verdict = verdict_on(text, probabilities)
    assert (verdict.decision, verdict.reasons) == (decision, reasons)
