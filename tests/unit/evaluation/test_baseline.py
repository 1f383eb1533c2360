"""The TF-IDF baseline: targets by hand, and that it learns from votes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hatex.data.cleaning import clean
from hatex.errors import DataError
from hatex.evaluation.baseline import fit_baseline, soft_targets
from hatex.types import Vote

N, OFF, H = ("neutral",), ("offensive",), ("hate",)


def test_targets_split_sets_by_the_prior_of_fully_labelled_rows(post):
    examples = [
        post(0, [Vote(N, 2), Vote(OFF)]),  # prior: neutral 2/3 + 1, offensive 1/3 + 1, hate 1
        post(1, [Vote(N)]),
        post(2, [Vote(OFF)]),
        post(3, [Vote(H)]),
        post(4, [Vote(("offensive", "hate"))]),
        post(5, [Vote(H), Vote(("neutral", "offensive"))]),
    ]
    got = soft_targets(examples)
    toxic = np.array([0, 4 / 3, 1]) / (7 / 3)
    mild = np.array([5 / 3, 4 / 3, 0]) / 3
    np.testing.assert_allclose(got[0], [2 / 3, 1 / 3, 0], atol=1e-9)
    np.testing.assert_allclose(got[4], toxic, atol=1e-9)
    np.testing.assert_allclose(got[5], 0.5 * np.array([0, 0, 1]) + 0.5 * mild, atol=1e-9)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-9)


def test_without_fully_labelled_rows_sets_split_evenly(post):
    np.testing.assert_allclose(soft_targets([post(0, [Vote(("offensive", "hate"))])]), [[0, 0.5, 0.5]])


@pytest.fixture(scope="module")
def club_rows(post):
    calm = [f"lovely match number {i} at the ground" for i in range(30)]
    rude = [f"useless clowns lost game {i} again" for i in range(30)]
    return [post(i, [Vote(N)], text=text) for i, text in enumerate(calm)] + [
        post(100 + i, [Vote(("offensive", "hate"), 2), Vote(OFF)], text=text) for i, text in enumerate(rude)
    ]


def test_learns_and_answers_for_every_label(club_rows):
    fitted = fit_baseline(club_rows, seed=1)
    got = fitted.predict(["lovely match", "useless clowns"])
    np.testing.assert_allclose(got.sum(axis=1), 1)
    assert got[0, 0] > 0.5 > got[1, 0]
    assert got[1, 1] > got[1, 2]  # the prior of fully labelled rows knows no hate
    assert fitted.predict([]).shape == (0, 3)
    np.testing.assert_array_equal(
        got, fit_baseline(club_rows, seed=1).predict(["lovely match", "useless clowns"])
    )


def test_raw_posts_are_read_as_clean_ones(club_rows):
    fitted = fit_baseline(club_rows, seed=1)
    raw = ["u\u200bseless cl\u00adowns &amp; co", "see https://club.example/1 or ask @fan"]
    np.testing.assert_array_equal(fitted.predict(raw), fitted.predict([clean(text).text for text in raw]))
    hidden = [replace(row, text=row.text.replace("s", "s\u200b")) for row in club_rows]
    np.testing.assert_array_equal(fit_baseline(hidden, seed=1).predict(raw), fitted.predict(raw))


def test_too_little_to_fit(post):
    with pytest.raises(DataError, match="no training rows"):
        fit_baseline([], seed=1)
    with pytest.raises(DataError, match="two labels"):
        fit_baseline([post(i, [Vote(N)], text="lovely match at the ground") for i in range(5)], seed=1)
