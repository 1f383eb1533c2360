"""Accuracy, F1, AUROC and average precision against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from hatex.evaluation import classification
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored

CLOSE = {"abs": 1e-9, "rel": 0}


def ones(scored):
    return np.ones((1, len(scored.gold)))


def decided(scored):
    keep = scored.gold.is_decided
    return scored.gold.label[keep], scored.decision[keep], scored.cells[keep]


@pytest.fixture(params=["random_scored", "binary_scored"])
def scored(request):
    return request.getfixturevalue(request.param)


def test_accuracy_and_f1_agree_with_scikit_learn(scored):
    gold, decision, _ = decided(scored)
    assert classification.accuracy(scored, ones(scored))[0] == pytest.approx(
        reference.accuracy_score(gold, decision), **CLOSE
    )
    assert classification.balanced_accuracy(scored, ones(scored))[0] == pytest.approx(
        reference.balanced_accuracy_score(gold, decision), **CLOSE
    )
    assert classification.macro_f1(scored, ones(scored))[0] == pytest.approx(
        reference.f1_score(gold, decision, average="macro"), **CLOSE
    )
    np.testing.assert_allclose(
        classification.class_f1(scored, ones(scored))[0],
        reference.f1_score(gold, decision, average=None),
        atol=1e-9,
    )
    np.testing.assert_array_equal(
        classification.confusion(scored, ones(scored))[0], reference.confusion_matrix(gold, decision)
    )


def test_rankings_agree_with_scikit_learn(scored):
    gold, _, cells = decided(scored)
    n_cells = cells.shape[1]
    chosen = [1] if n_cells == 2 else range(n_cells)
    auc = np.mean([reference.roc_auc_score(gold == c, cells[:, c]) for c in chosen])
    precision = np.mean([reference.average_precision_score(gold == c, cells[:, c]) for c in chosen])
    assert classification.auroc(scored, ones(scored))[0] == pytest.approx(auc, **CLOSE)
    assert classification.average_precision(scored, ones(scored))[0] == pytest.approx(precision, **CLOSE)
    harm = reference.roc_auc_score(gold != 0, scored.harm[scored.gold.is_decided])
    assert classification.harm_auroc(scored, ones(scored))[0] == pytest.approx(harm, **CLOSE)


def test_weights_are_repetitions(scored):
    """A bootstrap count of 2 is the post twice: the vectorised replicates equal scikit-learn on drawn
    rows.
    """
    keep = np.flatnonzero(scored.gold.is_decided)
    weights = np.zeros((3, len(scored.gold)))
    for row, seed in enumerate((1, 2, 3)):
        drawn = np.random.default_rng(seed).choice(keep, size=len(keep))
        np.add.at(weights[row], drawn, 1)
        rows = np.repeat(np.arange(len(scored.gold)), weights[row].astype(int))
        gold, decision = scored.gold.label[rows], scored.decision[rows]
        assert classification.macro_f1(scored, weights)[row] == pytest.approx(
            reference.f1_score(gold, decision, average="macro"), **CLOSE
        )
        harm = gold > 0
        assert classification.harm_auroc(scored, weights)[row] == pytest.approx(
            reference.roc_auc_score(harm, scored.harm[rows]), **CLOSE
        )
        if scored.gold.question.is_binary:
            assert classification.average_precision(scored, weights)[row] == pytest.approx(
                reference.average_precision_score(harm, scored.harm[rows]), **CLOSE
            )


def test_macro_f1_by_hand(gold_of):
    # gold n n o h, decided n o o n: F1(n) = 2*1/(2+2) = 1/2, F1(o) = 2*1/(1+2) = 2/3, F1(h) = 0.
    scored = Scored(gold_of("n", "n", "o", "h"), np.eye(3)[[0, 1, 1, 0]])
    assert classification.macro_f1(scored, np.ones((1, 4)))[0] == pytest.approx(
        (1 / 2 + 2 / 3 + 0) / 3, **CLOSE
    )


def test_class_without_gold_posts_is_left_out(gold_of):
    # The single vote for `offensive` is outvoted: no post is gold-offensive.
    scored = Scored(gold_of("nno", "n", "h"), np.eye(3)[[0, 0, 2]])
    assert classification.macro_f1(scored, np.ones((1, 3)))[0] == pytest.approx(1.0, **CLOSE)
    estimate = METRICS["f1_offensive"].estimate(scored, Bootstrap(1, 50))
    assert str(estimate) == "n/a (no post is offensive)"


@pytest.mark.parametrize("name", ["macro_f1", "balanced_accuracy", "average_precision", "auroc"])
def test_resamples_that_miss_a_rare_class_do_not_count_as_perfect(gold_of, name):
    gold = gold_of(*["h"] * 3, *["n"] * 97)
    scored = Scored(gold, np.array([[0.8, 0.1, 0.1]] * 100))
    without = np.array([[0.0] * 3 + [1.0] * 97, [1.0] * 3 + [0.0] * 97])
    assert np.isnan(METRICS[name].compute(scored, without)).all()
    estimate = METRICS[name].estimate(scored, Bootstrap(1, 400))
    assert estimate.high < 0.6


def test_one_class_has_no_auroc(gold_of):
    scored = Scored(gold_of("h", "h", "hX"), np.full((3, 3), 1 / 3))
    estimate = METRICS["auroc"].estimate(scored, Bootstrap(1, 50))
    assert estimate.value is None
    assert estimate.why_missing == "one class only: hate"
    assert METRICS["macro_f1"].estimate(scored, Bootstrap(1, 50)).why_missing == "one class only: hate"
    assert METRICS["accuracy"].estimate(scored, Bootstrap(1, 50)).value is not None


def test_f1_of_a_class_the_data_set_does_not_tell(binary_scored):
    estimate = METRICS["f1_offensive"].estimate(binary_scored, Bootstrap(1, 50))
    assert estimate.why_missing == "this data set asks neutral|offensive / hate"
    assert METRICS["f1_hate"].estimate(binary_scored, Bootstrap(1, 50)).value is not None


def test_all_ties_and_undivided_question(gold_of):
    ties = Scored(gold_of("nh", "hn"), np.full((2, 3), 1 / 3))
    assert METRICS["accuracy"].estimate(ties, Bootstrap(1, 50)).why_missing == "every post is a tie"
    flat = Scored(gold_of("T", "X"), np.full((2, 3), 1 / 3))
    assert "no two labels apart" in str(METRICS["macro_f1"].estimate(flat, Bootstrap(1, 50)))


def test_paired_difference_resamples_the_same_posts(binary_scored):
    shift = np.array([0.05, 0.05, 0])
    other = Scored(binary_scored.gold, binary_scored.probabilities * 0.9 + shift)
    metric, bootstrap = METRICS["auroc"], Bootstrap(1, 400)
    assert metric.estimate(other, bootstrap) == metric.estimate(binary_scored, bootstrap)
    # A monotone change of scores ranks alike in every replicate: no width at all.
    same = metric.difference(other, binary_scored, bootstrap)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    brier = METRICS["brier"].difference(other, binary_scored, bootstrap)
    assert brier.low < brier.high


def test_difference_needs_the_same_posts(binary_scored, random_scored):
    with pytest.raises(ValueError, match="same gold"):
        METRICS["auroc"].difference(binary_scored, random_scored, Bootstrap(1, 20))
