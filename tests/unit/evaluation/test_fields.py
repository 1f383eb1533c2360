"""Affected groups, verbatim quotes and parse rate on hand-made explanations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.fields import NamedGroups, field_rates, group_f1, quotations_stand
from hatex.types import AffectedGroup, Evidence, Explanation, HarmfulWord

FEW = Bootstrap(1, 50)


def named(gold: str, predicted: str) -> NamedGroups:
    return NamedGroups(frozenset(gold.split()), frozenset(predicted.split()))


def test_group_f1_by_hand():
    posts = [named("A", "A B"), named("A B", "B"), named("", "C")]
    got = group_f1(posts, np.arange(3), FEW)
    # Hits: A, B = 2; gold 3, predicted 4: micro 4/7. A: 2*1/(2+1), B: 2*1/(1+2); C is nobody's gold.
    assert got["target_group_f1"].value == pytest.approx(4 / 7, abs=1e-9)
    assert got["target_group_macro_f1"].value == pytest.approx(2 / 3, abs=1e-9)


def test_a_resample_without_a_group_has_no_mean_over_groups():
    """Of five groups, one is named in a single post, and never found."""
    posts = [named(name, name) for name in "ABCD"] * 6 + [named("E", "A")]
    got = group_f1(posts, np.arange(25), Bootstrap(1, 200))["target_group_macro_f1"]
    assert got.value == pytest.approx((3 + 12 / 13) / 5)
    assert got.high < 0.9


@pytest.mark.parametrize(
    ("prose", "text", "stands"),
    [
        ("The word “clowns” is rude; without “you” it is not.", "you clowns", True),
        ("The word “clown” is rude; without “they” it is not.", "you clowns", False),
        ("The wording “”you” said he” is rude.", "”you” said he", True),
        ("An “open end", "open end", False),
    ],
)
def test_quotations_stand_in_the_post(prose: str, text: str, stands: bool):
    assert quotations_stand(prose, text) is stands


def test_a_cut_answer_does_not_parse():
    whole = explanation()
    assert (
        field_rates(["x", "x"], [whole, replace(whole, is_complete=False)], 0.95)["parse_rate"].value == 0.5
    )


def test_no_annotated_group_says_so():
    assert group_f1([named("", "A")], np.arange(1), FEW)["target_group_f1"].value is None


def explanation(words=(), evidence=(), probability=0.5, summary="s"):
    return Explanation(
        "composed", summary, (AffectedGroup("A", probability),), tuple(words), "r", tuple(evidence)
    )


def test_rates_by_hand():
    text = "wet cardboard"
    good = explanation([HarmfulWord("wet", 0, 3, None, 1.0)], [Evidence("cardboard", 4, 13, -0.1)])
    moved = explanation([HarmfulWord("wet", 1, 4, None, 1.0)])
    broken = explanation(probability=1.5)
    got = field_rates([text] * 4, [good, moved, broken, None], 0.95)
    assert got["verbatim_rate"].value == 0.5
    assert got["verbatim_rate"].n == 2
    assert got["parse_rate"].value == 0.5
    assert field_rates([text], [good], 0.95)["verbatim_rate"].low < 0.5  # one post proves little


def test_no_quotes_no_rate():
    got = field_rates(["x"], [explanation()], 0.95)
    assert got["verbatim_rate"].why_missing == "no explanation quotes the post"
    assert field_rates([], [], 0.95)["parse_rate"].value is None
