"""Intervals: a replicate is the metric on the posts that were drawn, whole threads at a time."""

from __future__ import annotations

import numpy as np
import pytest

from hatex.evaluation import calibration
from hatex.evaluation.bias import bias_auc, generalised_mean
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored, build_gold
from hatex.evaluation.metric import weighted_mean
from hatex.types import Vote


@pytest.mark.parametrize("name", METRICS)
def test_replicates_are_the_metric_on_the_drawn_posts(post, name):
    rng = np.random.default_rng(5)
    fine = name.count("_") < 2 or not name.startswith("f1_")
    sets = (
        [("neutral",), ("offensive",), ("hate",)]
        if fine
        else [
            tuple(name[3:].split("_")),
            tuple(label for label in ("neutral", "offensive", "hate") if label not in name[3:].split("_")),
        ]
    )
    votes = [
        [Vote(sets[i], 1, f"ann-{k}") for k, i in enumerate(rng.integers(len(sets), size=3))]
        for _ in range(80)
    ]
    p = rng.dirichlet([1, 1, 1], size=80)
    targets = [(("A", "B")[k % 2],) for k in range(80)]

    def scored(rows):
        posts = [
            post(i, votes[r], id=f"{i}", targets=targets[r], has_targets=True) for i, r in enumerate(rows)
        ]
        return Scored(build_gold("pub", posts), p[rows])

    whole, metric = scored(np.arange(80)), METRICS[name]
    for seed in (1, 2):
        drawn = np.sort(np.random.default_rng(seed).choice(80, size=80))
        weights = np.bincount(drawn, minlength=80)[None].astype(float)
        got, want = metric.compute(whole, weights)[0], metric.compute(scored(drawn), np.ones((1, 80)))[0]
        assert got == pytest.approx(want, abs=1e-9)
        assert metric.compute(whole, np.ones((1, 80)))[0] != pytest.approx(want, abs=1e-6)


def test_posts_of_one_thread_are_resampled_together(post):
    votes = [[Vote(("hate",) if i % 2 else ("neutral",))] for i in range(80)]
    right = np.arange(80) // 10 % 2 == 0  # whole threads are right, or wrong
    p = np.where(((np.arange(80) % 2 == 1) == right)[:, None], [0.1, 0.0, 0.9], [0.9, 0.0, 0.1])

    def width(group):
        gold = build_gold("pub", [post(i, v, group=group(i)) for i, v in enumerate(votes)])
        got = METRICS["accuracy"].estimate(Scored(gold, p), Bootstrap(1, 500))
        return got.high - got.low

    assert width(lambda i: f"thread {i // 10}") > 2 * width(lambda i: f"post {i}")


def test_calibration_error_by_hand(gold_of):
    three = Scored(gold_of("n", "o", "h"), np.tile([0.5, 0.3, 0.2], (3, 1)))
    # one bin a cell: |.5 - 1/3|, |.3 - 1/3|, |.2 - 1/3|, averaged over cells
    assert calibration.calibration_error(three, np.ones((1, 3)))[0] == pytest.approx(
        (1 / 6 + 1 / 30 + 2 / 15) / 3
    )
    two = Scored(gold_of("h", "X"), np.array([[0.1, 0.1, 0.8], [0.1, 0.1, 0.8]]))
    assert calibration.calibration_error(two, np.ones((1, 2)))[0] == pytest.approx(0.3)
    [point] = calibration.reliability_curve(two)
    assert (point.prediction, point.share, point.n) == (pytest.approx(0.8), 0.5, 2)


def test_mean_bias_is_the_generalised_mean_over_groups(gold_of):
    rng = np.random.default_rng(3)
    letters = ["h" if x else "n" for x in rng.random(200) < 0.4]
    targets = [(("A", "B", "C")[k % 3],) for k in range(200)]
    scored = Scored(
        gold_of(*letters, targets=targets, has_targets=[True] * 200), rng.dirichlet([1, 1, 1], size=200)
    )
    ones = np.ones((1, 200))
    each = np.stack([bias_auc(scored, ones, g, "subgroup") for g in "ABC"])
    got = METRICS["bias_subgroup_auc"].estimate(scored, Bootstrap(1, 50)).value
    assert got == pytest.approx(generalised_mean(each)[0], abs=1e-12)
    assert got != pytest.approx(each.mean(), abs=1e-4)


def test_the_confidence_asked_for():
    values = np.random.default_rng(1).normal(size=200)

    def width(c):
        got = Bootstrap(1, 1000, c).estimate(lambda w: weighted_mean(values, w), np.arange(200), "x")
        return got.high - got.low

    assert width(0.5) / width(0.95) == pytest.approx(0.674 / 1.96, rel=0.15)
