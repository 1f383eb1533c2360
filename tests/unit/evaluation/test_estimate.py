"""Intervals: seeded, paired, clustered, and explicit where there are none."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from hatex.evaluation.calibration import binned_gaps
from hatex.evaluation.estimate import Bootstrap, Estimate, Sample, cluster_numbers
from hatex.evaluation.metric import weighted_mean


def test_interval_of_a_mean_is_close_to_its_standard_error():
    rng = np.random.default_rng(1)
    values = rng.normal(size=400)
    got = Bootstrap(seed=3, resamples=2000).estimate(lambda w: weighted_mean(values, w), np.arange(400), "x")
    error = values.std(ddof=1) / np.sqrt(400)
    assert got.value == pytest.approx(values.mean(), abs=1e-12)
    assert got.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert got.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    assert got.n == 400


def test_same_seed_same_bytes_other_seed_other_interval():
    values = np.arange(30.0)

    def run(seed: int, stream: str = "x") -> Estimate:
        return Bootstrap(seed).estimate(lambda w: weighted_mean(values, w), np.arange(30), stream)

    assert json.dumps(run(1).to_json()) == json.dumps(run(1).to_json())
    assert run(1) != run(2)
    assert run(1) != run(1, "y")


def test_chunks_do_not_change_the_draws(monkeypatch):
    clusters = np.arange(50)
    whole = np.concatenate(list(Bootstrap(1, 40).weights(clusters, "x")))
    monkeypatch.setattr("hatex.evaluation.estimate._CHUNK_CELLS", 150)
    parts = list(Bootstrap(1, 40).weights(clusters, "x"))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (whole.sum(axis=1) == 50).all()


def test_posts_of_a_cluster_are_drawn_together():
    clusters = cluster_numbers(["thread", "alone", "thread", "other"])
    weights = next(Bootstrap(5, 100).weights(clusters, "x"))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, 0] != weights[:, 1]).any()


def test_no_number_without_a_reason():
    assert str(Estimate.missing("one class only")) == "n/a (one class only)"
    one = Bootstrap(1).estimate(lambda w: weighted_mean(np.ones(1), w), np.zeros(1, dtype=int), "x")
    assert (one.value, one.low, one.high) == (1.0, None, None)
    assert "no interval" in str(one)
    undefined = Bootstrap(1).estimate(lambda w: np.full(len(w), np.nan), np.arange(4), "x")
    assert str(undefined) == "n/a (undefined on these posts)"


def test_posts_of_a_few_threads_give_no_interval():
    """One thread has a width of 0, and a difference of one post would be told as significant."""
    values, threads = np.arange(200) % 3.0, np.arange(200) % 4
    got = Bootstrap(1).estimate(lambda w: weighted_mean(values, w), threads, "x")
    assert got.value is not None
    assert (got.low, got.why_missing) == (None, "too few groups of posts to resample")


@pytest.mark.parametrize("estimate", [Estimate(0.5, 0.4, 0.6, 9), Estimate.missing("why", 3)])
def test_json_round_trip(estimate):
    assert Estimate.from_json(json.loads(json.dumps(estimate.to_json()))) == estimate


def test_interval_holds_the_value_even_where_resampling_is_biased():
    got = Bootstrap(1).interval(Sample(0.1, np.linspace(0.2, 0.4, 100), 10, 10))
    assert got.low == 0.1


def test_what_noise_inflates_has_an_interval_below_its_resamples():
    replicates = np.linspace(0.2, 0.4, 1001)
    got = Bootstrap(1).interval(Sample(0.15, replicates, 10, 10, is_inflated=True))
    # Basic interval: twice the value less the quantiles, from 0 up; it ends at the value itself.
    assert (got.low, got.high) == (0.0, 0.15)
    usual = Bootstrap(1).interval(Sample(0.28, replicates, 10, 10, is_inflated=True))
    assert (usual.low, usual.high) == (pytest.approx(0.56 - 0.395), pytest.approx(0.56 - 0.205))


def test_the_interval_of_a_calibration_error_mostly_holds_the_true_one():
    """Posts whose vote says 1 with probability .1 more than predicted; the error that resampling finds is larger."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(60):
        prediction = rng.uniform(0.1, 0.8, 300)
        share = (rng.random(300) < prediction + 0.1).astype(float)
        got = Bootstrap(1, 100).estimate(
            partial(binned_gaps, prediction, share), np.arange(300), "x", is_inflated=True
        )
        held += got.low <= 0.1 <= got.high
    assert held >= 45


def test_samples_subtract_and_average_row_by_row():
    first, second = Sample(0.5, np.array([0.4, 0.6]), 10, 6), Sample(0.3, np.array([0.1, 0.5]), 20, 9)
    difference, mean = first.minus(second), Sample.mean([first, second])
    inflated = replace(first, is_inflated=True)
    assert (inflated.minus(second).is_inflated, Sample.mean([second, inflated]).is_inflated) == (False, True)
    assert difference.value == pytest.approx(0.2)
    np.testing.assert_allclose(difference.replicates, [0.3, 0.1])
    assert mean.value == pytest.approx(0.4)
    assert (mean.n, mean.clusters) == (30, 6)
    np.testing.assert_allclose(mean.replicates, [0.25, 0.55])
