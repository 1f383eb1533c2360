"""ERASER agreement and faithfulness on hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.evaluation import rationales
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.faithfulness import NAMES, LabelMasses, alter_text, faithfulness
from hatex.evaluation.rationales import MarkedPost
from hatex.types import Rationale

TEXT = "your club plays like wet cardboard"


def mask(bits: str) -> np.ndarray:
    return np.array([bit == "1" for bit in bits])


def test_words_and_marks():
    words = rationales.find_words(TEXT)
    assert [TEXT[a:b] for a, b in words] == TEXT.split()
    start = TEXT.index("wet")
    assert rationales.mark_words(words, [(start, len(TEXT))]).tolist() == mask("000011").tolist()
    # Half a word marks the word; white space marks nothing.
    assert rationales.mark_words(words, [(start + 1, start + 2), (4, 5)]).tolist() == mask("000010").tolist()


def test_majority_of_readers():
    words = rationales.find_words(TEXT)
    wet, card = TEXT.index("wet"), TEXT.index("cardboard")
    marks = [Rationale(wet, wet + 3, "r1"), Rationale(card, card + 9, "r1"), Rationale(wet, wet + 3, "r2")]
    assert rationales.majority_mask(words, marks).tolist() == mask("000011").tolist()
    assert rationales.majority_mask(words, marks, n_readers=3).tolist() == mask("000010").tolist()
    assert not rationales.majority_mask(words, []).any()


@pytest.mark.parametrize(
    ("gold", "predicted", "token", "iou"),
    [
        ("111000", "011000", 2 * 2 / 5, 1.0),  # 2 of 3 shared: IOU 2/3, found
        ("111000", "001110", 2 * 1 / 6, 0.0),  # IOU 1/5
        ("110011", "110000", 2 * 2 / 6, 2 / 3),  # precision 1, recall 1/2
        ("100000", "110000", 2 * 1 / 3, 1.0),  # IOU exactly .5
        ("000000", "000000", 1.0, np.nan),
        ("110000", "000000", 0.0, 0.0),
        ("000000", "100000", 0.0, np.nan),
    ],
)
def test_agreement_by_hand(gold, predicted, token, iou):
    post = MarkedPost(mask(gold), mask(predicted))
    assert rationales.token_f1(post) == pytest.approx(token, abs=1e-9)
    matches = np.array([rationales.span_matches(post)])
    assert rationales.iou_f1(matches, np.ones((1, 1))) == pytest.approx(iou, abs=1e-9, nan_ok=True)


def test_span_f1_over_posts_is_that_of_the_means():
    posts = [("10100", "10000"), ("10000", "10100"), ("10000", "00000"), ("11000", "00110")]
    matches = np.array([rationales.span_matches(MarkedPost(mask(a), mask(b))) for a, b in posts])
    precision, recall = (1 + 0.5 + 0) / 3, (0.5 + 1 + 0 + 0) / 4
    f1 = 2 * precision * recall / (precision + recall)
    # The second resample draws the first post four times.
    weights = np.array([[1, 1, 1, 1], [4, 0, 0, 0]])
    assert rationales.iou_f1(matches, weights) == pytest.approx([f1, 2 / 3])


def test_auprc_by_hand():
    # Descending weights: hit, miss, hit. (recall, precision): (0, 1), (.5, 1), (.5, .5), (1, 2/3).
    post = MarkedPost(mask("101"), mask("111"), np.array([0.9, 0.5, 0.1]))
    assert rationales.rationale_auprc(post) == pytest.approx(0.5 + 0.5 * (0.5 + 2 / 3) / 2, abs=1e-9)
    assert rationales.rationale_auprc(MarkedPost(mask("000"), mask("100"), np.ones(3))) is None
    assert rationales.rationale_auprc(MarkedPost(mask("100"), mask("100"))) is None


def test_word_weights_take_the_largest():
    words = rationales.find_words("a bb c")
    assert rationales.word_weights(words, [(0, 4, 0.2), (2, 4, 0.7)]).tolist() == [0.2, 0.7, 0.0]


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_runs_rebuild_the_mask(bits):
    rebuilt = np.zeros(len(bits), dtype=bool)
    for start, end in rationales.find_runs(np.array(bits)):
        rebuilt[start:end] = True
    assert rebuilt.tolist() == bits


def test_altered_texts():
    words = rationales.find_words(TEXT)
    altered = alter_text(TEXT, words, mask("000011"), np.random.default_rng(0))
    assert altered.without == "your club plays like"
    assert altered.only == "wet cardboard"
    assert sorted(f"{altered.random_without} {altered.random_only}".split()) == sorted(TEXT.split())
    assert len(altered.random_only.split()) == 2


def test_faithfulness_by_hand():
    masses = LabelMasses(
        whole=np.array([0.9, 0.8]),
        empty=np.array([0.3, 0.4]),
        without=np.array([0.5, 0.6]),
        only=np.array([0.8, 0.8]),
        random_without=np.array([0.9, 0.7]),
        random_only=np.array([0.4, 0.5]),
    )
    got = {n: e.value for n, e in faithfulness(masses, np.arange(2), Bootstrap(1, 50)).items()}
    assert got == pytest.approx(
        {
            "comprehensiveness": (0.4 + 0.2) / 2,
            "comprehensiveness_share": 0.6 / 1.0,
            "sufficiency": 0.05,
            "sufficiency_share": 0.1,
            "random_comprehensiveness": 0.05,
            "random_comprehensiveness_share": 0.1,
            "random_sufficiency": 0.4,
            "random_sufficiency_share": 0.8,
        },
        abs=1e-9,
    )
    assert set(got) == set(NAMES)


def test_nothing_to_lose_has_no_share():
    flat = np.array([0.5])
    got = faithfulness(LabelMasses(flat, flat, flat, flat, flat, flat), np.arange(1), Bootstrap(1, 20))
    assert got["comprehensiveness"].value == 0.0
    assert "does not lower" in str(got["comprehensiveness_share"])
    none = np.array([])
    empty = faithfulness(LabelMasses(*[none] * 6), np.arange(0), Bootstrap(1, 20))
    assert set(empty) == set(NAMES)
    assert all(e.value is None for e in empty.values())
