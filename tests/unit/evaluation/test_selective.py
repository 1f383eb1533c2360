"""Risk and coverage by hand, and ties as the expectation over their orders."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from hatex.evaluation import selective
from hatex.evaluation.gold import Scored

CLOSE = {"abs": 1e-9, "rel": 0}


@pytest.fixture
def four(gold_of):
    """Confidence .9 right, .8 wrong, .7 right, .6 wrong."""
    hate = np.array([0.9, 0.8, 0.7, 0.6])
    return Scored(gold_of("h", "X", "h", "X"), np.stack([1 - hate, np.zeros(4), hate], axis=1))


def test_aurc_by_hand(four):
    # Risks at coverage 1/4..1: 0, 1/2, 1/3, 1/2.
    assert selective.aurc(four, np.ones((1, 4)))[0] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 2) / 4, **CLOSE)


def test_aurc_of_ties_is_the_mean_over_their_orders(gold_of):
    hate = np.array([0.9, 0.7, 0.7, 0.7, 0.6])
    scored = Scored(gold_of("X", "h", "X", "X", "h"), np.stack([1 - hate, np.zeros(5), hate], axis=1))
    areas = []
    for order in permutations([0, 1, 1]):
        wrong = [1, *order, 0]
        areas.append(np.mean([sum(wrong[:k]) / k for k in range(1, 6)]))
    assert selective.aurc(scored, np.ones((1, 5)))[0] == pytest.approx(np.mean(areas), **CLOSE)


def test_weights_are_repetitions(random_scored):
    weights = np.random.default_rng(4).multinomial(200, np.full(200, 1 / 200), size=3).astype(float)
    keep = random_scored.gold.is_decided
    for row in weights:
        rows = np.repeat(np.arange(200), (row * keep).astype(int))
        confidence, wrong = random_scored.confidence[rows], ~random_scored.is_correct[rows]
        # Ties in expectation: every post of a block carries the block's error rate.
        rate = np.array([wrong[confidence == c].mean() for c in confidence])
        order = np.argsort(-confidence, kind="stable")
        by_hand = np.mean(np.cumsum(rate[order]) / np.arange(1, len(rows) + 1))
        assert selective.aurc(random_scored, row[None])[0] == pytest.approx(by_hand, **CLOSE)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 2 / 4), (0.25, 2 / 3), (0.5, 1 / 2), (0.75, 1.0)])
def test_accuracy_after_review_by_hand(four, share, expected):
    got = selective.accuracy_after_review(share)(four, np.ones((1, 4)))[0]
    assert got == pytest.approx(expected, **CLOSE)


def test_curve_ends_at_the_error_rate(four, gold_of):
    curve = selective.risk_coverage_curve(four)
    assert [(p.coverage, p.risk) for p in curve] == [
        (0.25, 0.0),
        (0.5, 0.5),
        (0.75, pytest.approx(1 / 3)),
        (1.0, 0.5),
    ]
    assert selective.risk_coverage_curve(Scored(gold_of("nh"), np.full((1, 3), 1 / 3))) == []
