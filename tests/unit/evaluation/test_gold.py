"""Gold arrays: the question of a data set, ties, and decisions by set masses."""

from __future__ import annotations

import numpy as np
import pytest

from hatex.errors import DataError
from hatex.evaluation.gold import Scored, build_gold


@pytest.mark.parametrize(
    ("posts", "cells"),
    [
        (["n", "o", "h"], ("neutral", "offensive", "hate")),
        (["h", "X"], ("neutral|offensive", "hate")),
        (["T", "n"], ("neutral", "offensive|hate")),
        (["h", "T", "n"], ("neutral", "offensive|hate")),
        (["h", "X", "o", "n"], ("neutral|offensive", "hate")),
        (["h", "X", "A"], ("neutral|offensive", "hate")),
        (["T", "X"], ("neutral|offensive|hate",)),
    ],
)
def test_question_joins_overlapping_sets(gold_of, posts, cells):
    assert gold_of(*posts).question.names == cells


def test_coarse_gold_is_decided_by_set_mass_not_argmax(gold_of):
    gold = gold_of("h", "X")
    # The argmax over labels is `hate` in the first row, but {neutral, offensive} holds more mass.
    scored = Scored(gold, np.array([[0.3, 0.3, 0.4], [0.25, 0.25, 0.5]]))
    assert [gold.question.names[cell] for cell in scored.decision] == ["neutral|offensive", "hate"]


def test_ties_have_no_label_and_shares_follow_counts(gold_of):
    gold = gold_of("nh", "nnh", "hhh")
    assert gold.label.tolist() == [-1, 0, 2]
    assert gold.is_contested.tolist() == [True, True, False]
    assert gold.is_unanimous.tolist() == [False, False, True]
    np.testing.assert_allclose(gold.cells, [[0.5, 0, 0.5], [2 / 3, 0, 1 / 3], [0, 0, 1]])


def test_one_vote_is_not_unanimity(gold_of):
    assert not gold_of("n", "h").is_unanimous.any()


def test_votes_for_everything_are_silent(gold_of):
    gold = gold_of("n", "A", "nA", "h")
    assert gold.ids == ("pub-0", "pub-2", "pub-3")
    assert gold.n_silent == 1
    assert gold.n_votes.tolist() == [1, 1, 1]


def test_bad_gold_is_refused(post):
    from hatex.types import Vote

    with pytest.raises(DataError, match="no posts"):
        build_gold("pub", [])
    with pytest.raises(DataError, match="tells labels apart"):
        build_gold("pub", [post(0, [Vote(("neutral", "offensive", "hate"))])])
    with pytest.raises(DataError, match="ids repeat"):
        build_gold("pub", [post(0, [Vote(("hate",))]), post(0, [Vote(("hate",))])])


@pytest.mark.parametrize(
    "probabilities", [[[0.5, 0.5]], [[0.2, 0.2, 0.2]], [[np.nan, 0.5, 0.5]], [[-0.1, 0.6, 0.5]]]
)
def test_bad_probabilities_are_refused(gold_of, probabilities):
    with pytest.raises(ValueError, match="probabilities"):
        Scored(gold_of("h"), np.array(probabilities))
