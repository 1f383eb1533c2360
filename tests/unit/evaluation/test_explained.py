"""Marks of an explanation on the words of a post, and oracle gates."""

from __future__ import annotations

import numpy as np
import pytest

from hatex.data.prompts import PostView
from hatex.evaluation.explained import mark_post
from hatex.evaluation.specs import find_homes, oracle_gates
from hatex.types import Evidence, Explanation, HarmfulWord, Rationale, Vote

TEXT = "You are  useless clowns @someone"


def explanation(**fields) -> Explanation:
    start = TEXT.index("clowns")
    words = (HarmfulWord("clowns", start, start + 6, None, 1.0),)
    return Explanation("composed", "s", (), words, "r", **fields)


@pytest.fixture
def example(post):
    start = TEXT.index("useless")
    marks = (Rationale(start, start + len("useless clowns"), "r1"), Rationale(start, start + 7, "r2"))
    return post(0, [Vote(("offensive",))], text=TEXT, rationales=marks, has_rationales=True)


def test_words_are_marked_and_ordered_by_evidence(example):
    start = TEXT.index("useless")
    got = mark_post(
        example, explanation(evidence=(Evidence("useless", start, start + 7, 0.4), Evidence("You", 0, 3, -1)))
    )
    assert got.gold.tolist() == [False, False, True, True, False]  # half of two readers is enough
    assert got.predicted.tolist() == [False, False, False, True, False]
    assert got.weights.tolist() == [0, 0, 0.4, 0, 0]  # evidence against the label does not point at harm


def test_what_speaks_against_neutral_points_at_harm(example):
    start = TEXT.index("useless")
    evidence = (Evidence("useless", start, start + 7, -0.4), Evidence("You", 0, 3, 0.2))
    got = mark_post(example, explanation(evidence=evidence), is_neutral=True)
    assert got.weights.tolist() == [0, 0, 0.4, 0, 0]


def test_the_models_own_word_weights_come_first(example):
    weights = (0.1, 0.2, 0.3, 0.4, 0.5)
    got = mark_post(example, explanation(word_weights=weights, word_spans=PostView.of(TEXT).spans))
    np.testing.assert_allclose(got.weights, weights)


def test_no_weights_no_order(example):
    assert mark_post(example, explanation()).weights is None
    absent = mark_post(example, None)
    assert not absent.predicted.any()
    assert absent.weights is None


def test_oracle_gates():
    adapters = ("forums", "wiki", "full")
    assert find_homes(["wiki", "news", "forums"], adapters).tolist() == [1, -1, 0]
    np.testing.assert_array_equal(oracle_gates(["wiki", "forums"], adapters), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="without an adapter"):
        oracle_gates(["news"], adapters)
