"""Soft-label metrics against scipy and by hand."""

from __future__ import annotations

from math import log
from typing import ClassVar

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, pearsonr
from sklearn.metrics import log_loss

from hatex.evaluation import soft_labels
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored, build_gold
from hatex.types import LABELS, Vote

CLOSE = {"abs": 1e-9, "rel": 0}


def value(metric, scored):
    return metric(scored, np.ones((1, len(scored.gold))))[0]


def smoothed(scored):
    return Scored(scored.gold, 0.9 * scored.probabilities + 0.1 / 3)


def test_soft_cross_entropy_of_single_labels_is_weighted_log_loss(random_scored):
    scored = smoothed(random_scored)
    n = len(scored.gold)
    expected = log_loss(
        np.tile([0, 1, 2], n),
        np.repeat(scored.probabilities, 3, axis=0),
        sample_weight=scored.gold.cells.ravel(),
    )
    assert value(soft_labels.soft_cross_entropy, scored) == pytest.approx(expected, **CLOSE)


def test_soft_cross_entropy_over_label_sets_by_hand(gold_of):
    scored = Scored(gold_of("hT", "X", "nA"), np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1]]))
    first = -(log(0.5) + log(0.8)) / 2
    second = -log(0.9)
    third = -log(0.7) / 2  # The vote for every label costs nothing.
    # The question of these sets joins everything, which the loss does not mind.
    assert value(soft_labels.soft_cross_entropy, scored) == pytest.approx(
        (first + second + third) / 3, **CLOSE
    )


def test_gap_is_cross_entropy_minus_entropy_and_zero_for_the_votes(random_scored):
    scored = smoothed(random_scored)
    gap = value(soft_labels.entropy_gap, scored)
    entropies = np.mean([entropy(row) for row in scored.gold.cells])
    assert gap == pytest.approx(value(soft_labels.soft_cross_entropy, scored) - entropies, **CLOSE)
    perfect = Scored(scored.gold, scored.gold.cells)
    for metric in (soft_labels.entropy_gap, soft_labels.manhattan, soft_labels.jensen_shannon):
        assert value(metric, perfect) == 0.0
    assert value(soft_labels.entropy_correlation, perfect) == pytest.approx(1.0, **CLOSE)


def test_distances_agree_with_scipy(random_scored):
    votes, cells = random_scored.gold.cells, random_scored.cells
    divergence = np.mean([jensenshannon(v, p, base=2) ** 2 for v, p in zip(votes, cells, strict=True)])
    assert value(soft_labels.jensen_shannon, random_scored) == pytest.approx(divergence, **CLOSE)
    manhattan = np.mean([sum(abs(v - p)) for v, p in zip(votes, cells, strict=True)])
    assert value(soft_labels.manhattan, random_scored) == pytest.approx(manhattan, **CLOSE)
    correlation = pearsonr([entropy(v) for v in votes], [entropy(p) for p in cells])[0]
    assert value(soft_labels.entropy_correlation, random_scored) == pytest.approx(correlation, **CLOSE)


def test_a_constant_prediction_has_no_correlation(gold_of):
    gold = gold_of("nnn", "hhh", "nnh", "hhn", "hho", "nnn", "nno")
    scored = Scored(gold, np.tile([0.1, 0.2, 0.7], (7, 1)))
    got = METRICS["entropy_correlation"].estimate(scored, Bootstrap(1, 20))
    assert (got.value, got.why_missing) == (None, "undefined on these posts")


def test_unanimous_and_contested_by_hand(gold_of):
    # Decisions: neutral everywhere. Unanimous: nnn right, hhh wrong. Contested: nnh right, hhn wrong, hho
    # wrong.
    scored = Scored(gold_of("nnn", "hhh", "nnh", "hhn", "hho", "nh", "n"), np.tile([0.8, 0.1, 0.1], (7, 1)))
    assert value(soft_labels.accuracy_unanimous, scored) == pytest.approx(1 / 2, **CLOSE)
    assert value(soft_labels.accuracy_contested, scored) == pytest.approx(1 / 3, **CLOSE)


def test_single_votes_say_nothing_about_disagreement(binary_scored):
    for name in ("entropy_correlation", "accuracy_unanimous", "accuracy_contested"):
        assert METRICS[name].estimate(binary_scored, Bootstrap(1, 20)).why_missing == "one vote a post"


def test_annotator_errors_by_hand(post):
    votes = [
        [Vote(("hate",), 1, "ann-1", "left"), Vote(("neutral",), 1, "ann-2", "right")],
        [Vote(("offensive",), 1, "ann-1", "left"), Vote(("neutral", "offensive"), 1, "ann-3", "right")],
    ]
    gold = build_gold("pub", [post(i, v) for i, v in enumerate(votes)])
    scored = Scored(gold, np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    by_name = {e.name: e.error for e in soft_labels.annotator_errors(scored, Bootstrap(1, 50))}
    assert by_name["ann-1"].value == pytest.approx((0.5 + 0.7) / 2, **CLOSE)
    assert by_name["ann-2"].value == pytest.approx(0.8, **CLOSE)
    assert by_name["ann-3"].value == pytest.approx(0.1, **CLOSE)
    assert by_name["ann-3"].n == 1
    groups = {
        e.name: e.error.value for e in soft_labels.annotator_errors(scored, Bootstrap(1, 50), by_group=True)
    }
    assert groups == pytest.approx({"left": 0.6, "right": 0.45}, **CLOSE)
    mean = value(soft_labels.annotator_error, scored)
    assert mean == pytest.approx((0.6 + 0.8 + 0.1) / 3, **CLOSE)


def test_votes_for_all_labels_are_no_annotators_hits(post):
    everything = ("neutral", "offensive", "hate")
    votes = [
        [Vote(("hate",), 1, "ann-1", "left"), Vote(everything, 3, "ann-2", "right")],
        [Vote(everything, 1, "ann-1", "left"), Vote(("neutral",), 1, "ann-3", "left")],
    ]
    gold = build_gold("pub", [post(i, v) for i, v in enumerate(votes)])
    scored = Scored(gold, np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    errors = {e.name: e.error for e in soft_labels.annotator_errors(scored, Bootstrap(1, 50))}
    assert {name: (error.value, error.n) for name, error in errors.items()} == {
        "ann-1": (pytest.approx(0.5, **CLOSE), 1),
        "ann-3": (pytest.approx(0.4, **CLOSE), 1),
    }
    [group] = soft_labels.annotator_errors(scored, Bootstrap(1, 50), by_group=True)
    assert (group.name, group.error.value, group.error.n) == ("left", pytest.approx(0.45, **CLOSE), 2)
    assert value(soft_labels.annotator_error, scored) == pytest.approx((0.5 + 0.4) / 2, **CLOSE)
    silent = [[Vote(("hate",)), Vote(everything, 1, "ann-1")]]
    nobody = Scored(build_gold("pub", [post(0, silent[0])]), np.array([[0.2, 0.3, 0.5]]))
    assert soft_labels.annotator_errors(nobody, Bootstrap(1, 50)) == []
    why = METRICS["annotator_error"].estimate(nobody, Bootstrap(1, 20)).why_missing
    assert why == "votes with annotator ids tell no labels apart"


class Counting(Bootstrap):
    """Notes every time that resamples are drawn."""

    drawn: ClassVar[list[str]] = []

    def weights(self, clusters, stream):
        self.drawn.append(stream)
        return super().weights(clusters, stream)


def test_all_annotators_share_the_resamples_of_one_alone(post):
    rng = np.random.default_rng(5)
    sets = [("neutral",), ("offensive",), ("hate",), ("neutral", "offensive")]
    votes = [
        [Vote(sets[rng.integers(4)], int(rng.integers(1, 3)), f"ann-{rng.integers(9)}") for _ in range(4)]
        for _ in range(40)
    ]
    gold = build_gold("pub", [post(i, v, group=f"g{i // 2}") for i, v in enumerate(votes)])
    scored = Scored(gold, rng.dirichlet(np.ones(3), 40))
    Counting.drawn.clear()
    found = {e.name: e.error for e in soft_labels.annotator_errors(scored, Counting(1, 200))}
    assert (sorted(found), Counting.drawn) == ([f"ann-{i}" for i in range(9)], ["pub"])
    for name, error in found.items():
        misses, counts = np.zeros(40), np.zeros(40)
        for row, given in enumerate(votes):
            for vote in given:
                if vote.annotator == name:
                    mass = sum(scored.probabilities[row, LABELS.index(label)] for label in vote.labels)
                    misses[row] += vote.count * (1 - mass)
                    counts[row] += vote.count

        def alone(weights, misses=misses, counts=counts):
            return (weights @ misses) / (weights @ counts)

        expected = Bootstrap(1, 200).estimate(alone, gold.clusters, "pub", int(counts.sum()))
        assert (error.value, error.low, error.high) == pytest.approx(
            (expected.value, expected.low, expected.high), abs=1e-12
        )
        assert error.n == expected.n == counts.sum()


def test_votes_without_annotators_say_so(random_scored):
    assert "no annotator ids" in str(METRICS["annotator_error"].estimate(random_scored, Bootstrap(1, 20)))
    assert soft_labels.annotator_errors(random_scored, Bootstrap(1, 20)) == []
