"""Bias AUCs by hand (Borkan et al. 2019), their generalised mean, and counterfactual flips."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from hatex.evaluation import bias
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored

CLOSE = {"abs": 1e-9, "rel": 0}


@pytest.fixture
def scored(gold_of):
    """Posts about A (scores: harmful .9 .4, harmless .6 .2) and about nobody (harmful .8 .3, harmless .5
    .1).
    """
    hate = np.array([0.9, 0.4, 0.6, 0.2, 0.8, 0.3, 0.5, 0.1])
    targets = [("A",)] * 4 + [()] * 4
    gold = gold_of(*"hhXXhhXX", targets=targets, has_targets=[True] * 8)
    return Scored(gold, np.stack([1 - hate, np.zeros(8), hate], axis=1))


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("subgroup", 3 / 4),  # .9 beats .6 and .2, .4 beats .2
        ("bpsn", 3 / 4),  # background harmful .8 .3 against group harmless .6 .2: three of four
        ("bnsp", 3 / 4),  # group harmful .9 .4 against background harmless .5 .1: three of four
    ],
)
def test_aucs_by_hand(scored, side, expected):
    assert bias.bias_auc(scored, np.ones((1, 8)), "A", side)[0] == pytest.approx(expected, **CLOSE)


def test_sides_differ_and_agree_with_scikit_learn(gold_of):
    rng = np.random.default_rng(5)
    letters = ["h" if x else "n" for x in rng.random(120) < 0.4]
    targets = [("A",) if x else () for x in rng.random(120) < 0.5]
    gold = gold_of(*letters, targets=targets, has_targets=[True] * 120)
    scored = Scored(gold, rng.dirichlet([1, 1, 1], size=120))
    harmful, inside = gold.is_harmful, np.array([bool(t) for t in targets])
    for side, keep in {
        "subgroup": inside,
        "bpsn": (inside & ~harmful) | (~inside & harmful),
        "bnsp": (inside & harmful) | (~inside & ~harmful),
    }.items():
        expected = roc_auc_score(harmful[keep], scored.harm[keep])
        assert bias.bias_auc(scored, np.ones((1, 120)), "A", side)[0] == pytest.approx(expected, **CLOSE)
        estimate = bias.group_biases(scored, Bootstrap(1, 50))[0].aucs[side]
        assert estimate.value == pytest.approx(expected, **CLOSE)
        mean = METRICS[f"bias_{side}_auc"].estimate(scored, Bootstrap(1, 50))
        assert mean.value == pytest.approx(expected, **CLOSE)  # One group: the mean is its value.


def test_generalised_mean_by_hand():
    values = np.array([[0.9], [0.6], [np.nan]])
    expected = ((0.9**-5 + 0.6**-5) / 2) ** (-1 / 5)
    assert bias.generalised_mean(values)[0] == pytest.approx(expected, **CLOSE)
    assert bias.generalised_mean(np.array([[0.9], [0.0]]))[0] == 0.0
    assert np.isnan(bias.generalised_mean(np.array([[np.nan]]))[0])


def test_small_and_missing_groups_say_so(scored, binary_scored):
    estimate = METRICS["bias_subgroup_auc"].estimate(scored, Bootstrap(1, 20))
    assert estimate.why_missing == "no target group is named by 10 posts"
    assert bias.bias_groups(scored.gold, smallest=4) == ["A"]
    estimate = METRICS["bias_bpsn_auc"].estimate(binary_scored, Bootstrap(1, 20))
    assert estimate.why_missing == "target groups were not annotated"


def test_group_with_one_class_is_missing(gold_of):
    gold = gold_of(*"hhhX", targets=[("A",)] * 3 + [()], has_targets=[True] * 4)
    scored = Scored(gold, np.full((4, 3), 1 / 3))
    [group] = bias.group_biases(scored, Bootstrap(1, 20), smallest=3)
    assert group.aucs["subgroup"].why_missing == "one class only"
    assert group.aucs["bnsp"].value == 0.5


def test_a_mean_over_groups_is_always_over_the_same_groups(gold_of):
    """Group B has one harmless post; resamples without it would leave out the worst group."""
    letters = "hn" * 20 + "h" * 10 + "n"
    targets = [("A",)] * 40 + [("B",)] * 11
    gold = gold_of(*letters, targets=targets, has_targets=[True] * 51)
    hate = np.array([0.9, 0.1] * 20 + [0.3] * 10 + [0.5])
    scored = Scored(gold, np.stack([1 - hate, np.zeros(51), hate], axis=1))
    weights = np.ones((2, 51))
    weights[1, 50] = 0
    assert bias.mean_bias_auc("subgroup")(scored, weights).tolist() == [
        0.0,
        pytest.approx(np.nan, nan_ok=True),
    ]


def test_flip_rate_by_hand():
    # Three variants, one flagged: 2 of 3 pairs differ. Two alike: none. One variant: says nothing.
    assert bias.flip_rate([[True, False, False], [False, False], [True]]) == pytest.approx([2 / 3, 0.0])
