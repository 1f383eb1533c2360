"""Calibration against vote shares: exactly 0 for the votes themselves, by hand otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from hatex.evaluation import calibration
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored

CLOSE = {"abs": 1e-9, "rel": 0}


def value(metric, scored):
    return metric(scored, np.ones((1, len(scored.gold))))[0]


def test_perfect_predictor_of_the_votes_gets_exactly_zero(random_scored):
    perfect = Scored(random_scored.gold, random_scored.gold.cells)
    estimate = METRICS["calibration_error"].estimate(perfect, Bootstrap(1, 100))
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    assert value(calibration.brier, perfect) == 0.0
    for point in calibration.reliability_curve(perfect):
        assert point.prediction == point.share


def test_error_of_equal_mass_bins_by_hand():
    # Two bins of two posts: |(.1 + .2) - (0 + 1)| = .7 and |(.6 + .9) - (1 + 1)| = .5, over 4 posts.
    prediction, share = np.array([0.9, 0.1, 0.6, 0.2]), np.array([1.0, 0.0, 1.0, 1.0])
    got = calibration.binned_gaps(prediction, share, np.ones((1, 4)), bins=2)[0]
    assert got == pytest.approx((0.7 + 0.5) / 4, **CLOSE)


def test_equal_predictions_share_a_bin_whatever_their_order():
    prediction, share = np.full(6, 0.5), np.array([1.0, 1, 1, 0, 0, 0])
    for order in (np.arange(6), np.arange(6)[::-1]):
        assert calibration.binned_gaps(prediction[order], share[order], np.ones((1, 6)), bins=3)[0] == 0.0


def test_error_agrees_with_scikit_learns_quantile_bins():
    rng = np.random.default_rng(2)
    prediction = rng.random(300)
    gold = (rng.random(300) < prediction**2).astype(float)
    observed, predicted = calibration_curve(gold, prediction, n_bins=15, strategy="quantile")
    # 300 distinct predictions fall 20 to a bin.
    assert calibration.binned_gaps(prediction, gold, np.ones((1, 300)))[0] == pytest.approx(
        np.abs(observed - predicted).mean(), **CLOSE
    )


def test_weights_are_repetitions():
    rng = np.random.default_rng(3)
    prediction, share = np.round(rng.random(60), 2), rng.random(60)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=4).astype(float)
    for row in weights:
        rows = np.repeat(np.arange(60), row.astype(int))
        repeated = calibration.binned_gaps(prediction[rows], share[rows], np.ones((1, 60)))[0]
        assert calibration.binned_gaps(prediction, share, row[None])[0] == pytest.approx(repeated, **CLOSE)


def test_brier_agrees_with_scikit_learn(random_scored, binary_scored):
    hate = binary_scored.gold.label == 1
    assert value(calibration.brier, binary_scored) == pytest.approx(
        brier_score_loss(hate, binary_scored.harm), **CLOSE
    )
    gold, p = random_scored.gold.cells, random_scored.cells
    by_hand = sum(float(((g - q) ** 2).sum()) for g, q in zip(gold, p, strict=True)) / len(gold)
    assert value(calibration.brier, random_scored) == pytest.approx(by_hand, **CLOSE)


def test_reliability_points_hold_all_posts(random_scored):
    points = calibration.reliability_curve(random_scored)
    assert sum(point.n for point in points) == len(random_scored.gold)
    assert [p.prediction for p in points] == sorted(p.prediction for p in points)
