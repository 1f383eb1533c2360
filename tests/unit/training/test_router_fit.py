"""Router and calibration on data whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hatex.errors import TrainingError
from hatex.recipe.train import RouterSection, TrainSection
from hatex.routing.calibration import fit_calibration
from hatex.training.calibrate import tune_posts
from hatex.training.router import _fit, _temperature, check_platforms, choose_posts
from hatex.types import LABEL_SETS

SECTION = RouterSection(adapters=("forums", "wiki", "mine"), hidden=8, epochs=25, lr=1e-2)


def clusters(count: int, seed: int, spread: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings around three fixed directions, and which one each belongs to."""
    centres = np.random.default_rng(0).normal(size=(3, 16))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    points = centres[labels] + spread * rng.normal(size=(count, 16))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32), labels


def test_it_learns_platforms_and_repeats_itself() -> None:
    train, labels = clusters(600, 1)
    router = _fit(train, labels, SECTION, seed=1)
    again = _fit(train, labels, SECTION, seed=1)
    other = _fit(train, labels, SECTION, seed=2)
    unseen, truth = clusters(300, 2)
    assert (router.logits(unseen).argmax(1) == truth).mean() > 0.97
    assert all(np.array_equal(router.weights[k], again.weights[k]) for k in router.weights)
    assert not np.array_equal(router.weights["hidden.weight"], other.weights["hidden.weight"])
    assert router.adapters == SECTION.adapters


def test_dropout_repeats_itself_and_is_gone_from_the_router() -> None:
    train, labels = clusters(600, 1)
    section = SECTION.model_copy(update={"dropout": 0.5, "hidden": 32})
    router, again = (_fit(train, labels, section, seed=1) for _ in range(2))
    without = _fit(train, labels, section.model_copy(update={"dropout": 0.0}), seed=1)
    assert all(np.array_equal(router.weights[k], again.weights[k]) for k in router.weights)
    assert not np.array_equal(router.weights["output.weight"], without.weights["output.weight"])
    unseen, truth = clusters(300, 2)
    assert (router.logits(unseen).argmax(1) == truth).mean() > 0.97


def test_temperature_undoes_a_known_scale() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(20_000, 3)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    assert _temperature(logits, labels) == pytest.approx(1, abs=0.05)
    assert _temperature(2.5 * logits, labels) == pytest.approx(2.5, abs=0.12)


def test_a_platform_of_few_posts_counts_as_much_as_the_others() -> None:
    points, labels = clusters(3000, 4, spread=1.5)
    kept = (labels != 2) | (np.arange(len(labels)) % 20 == 0)
    points, labels = points[kept], labels[kept]
    section = SECTION.model_copy(update={"epochs": 40})
    router = _fit(points, labels, section, seed=1)
    router = replace(router, temperature=_temperature(router.logits(points), labels))
    unseen, truth = clusters(3000, 5, spread=1.5)
    # Of balanced posts each platform gets about its third.
    assert router.probabilities(unseen).mean(0) == pytest.approx(np.full(3, 1 / 3), abs=0.06)
    assert (router.logits(unseen).argmax(1) == truth).mean() > 0.5


def answers(count: int, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(count, 3)) * 1.5
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def shares_of(p: np.ndarray) -> np.ndarray:
    """Vote shares over the seven sets, all votes naming one label."""
    return np.concatenate((p, np.zeros((len(p), 4))), axis=1)


def normalised(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def test_calibration_recovers_a_known_scale_and_bias() -> None:
    log_p = answers(6000, 4)
    bias = np.array([0.6, -0.2, -0.4])
    gates = np.ones((len(log_p), 1))
    fitted = fit_calibration(log_p, gates, shares_of(normalised(0.5 * log_p + bias)), np.ones(len(log_p)))
    assert fitted.scales[0] == pytest.approx(0.5, abs=0.03)
    assert fitted.biases[0] - fitted.biases[0].mean() == pytest.approx(bias - bias.mean(), abs=0.03)


def test_a_perfect_predictor_stays_and_unseen_adapters_too() -> None:
    log_p = answers(3000, 5)
    gates = np.tile([1.0, 0.0], (len(log_p), 1))
    fitted = fit_calibration(log_p, gates, shares_of(np.exp(log_p)), np.ones(len(log_p)))
    assert fitted.scales == pytest.approx([1, 1], abs=1e-3)
    assert fitted.biases == pytest.approx(np.zeros((2, 3)), abs=1e-3)
    assert fitted.apply(log_p, gates) == pytest.approx(np.exp(log_p), abs=1e-3)


def test_calibration_follows_the_gates() -> None:
    log_p = answers(6000, 6)
    gates = np.eye(2)[np.arange(len(log_p)) % 2]
    truth = np.where(gates[:, :1] > 0, normalised(2 * log_p), normalised(log_p))
    fitted = fit_calibration(log_p, gates, shares_of(truth), np.ones(len(log_p)))
    assert fitted.scales == pytest.approx([2, 1], abs=0.08)


def test_coarse_votes_leave_the_split_inside_their_set_alone() -> None:
    log_p = answers(3000, 7)
    p = np.exp(log_p)
    shares = np.zeros((len(p), 7))
    shares[:, LABEL_SETS.index(("neutral",))] = p[:, 0]
    shares[:, LABEL_SETS.index(("offensive", "hate"))] = p[:, 1] + p[:, 2]
    fitted = fit_calibration(log_p, np.ones((len(p), 1)), shares, np.ones(len(p)))
    assert fitted.apply(log_p, np.ones((len(p), 1))) == pytest.approx(p, abs=5e-3)


def test_data_sets_take_turns_and_platforms_must_exist(make_example) -> None:
    rows = [make_example(i, dataset="boards") for i in range(50)]
    rows += [make_example(i, dataset="letters") for i in range(10)]
    rows += [
        make_example(i, dataset="talk", platform="wiki", split=s) for i in range(6) for s in ("train", "tune")
    ]
    section = RouterSection(adapters=("forums", "wiki"))
    drawn = choose_posts(rows, section, "train", 16, 1)
    names = [e.dataset for e in drawn]
    assert (names.count("boards"), names.count("letters"), names.count("talk")) == (8, 8, 6)
    assert drawn == choose_posts(rows, section, "train", 16, 1) != choose_posts(rows, section, "train", 16, 2)
    with pytest.raises(TrainingError, match="no tune posts of platform forums") as caught:
        check_platforms(rows, section)
    assert "wiki" in (caught.value.hint or "")


def test_calibration_sees_what_platform_adapters_are_trained_on(make_example) -> None:
    train = TrainSection.model_validate(
        {
            "data": "d",
            "adapters": {"forums": {"rows": {"boards": 10}}, "full": {}},
            "router": {"adapters": ["forums", "wiki"], "calibration_posts": 3},
        }
    )
    sets = [("boards", "forums"), ("threads", "forums"), ("talk", "wiki"), ("comments", "news")]
    examples = [
        replace(make_example(i), dataset=dataset, platform=platform, split="tune")
        for i, (dataset, platform) in enumerate(sets * 4)
    ]
    assert [e.dataset for e in tune_posts(examples, train)] == ["boards"] * 3 + ["talk"] * 3


def test_calibration_makes_do_with_sets_beside_those_of_training(make_example) -> None:
    train = TrainSection.model_validate(
        {
            "data": "d",
            "adapters": {"forums": {"rows": {"letters": 10}}},
            "router": {"adapters": ["forums"], "calibration_posts": 3},
        }
    )
    examples = [replace(make_example(i), split="tune") for i in range(5)]
    assert [e.dataset for e in tune_posts(examples, train)] == ["boards"] * 3


@pytest.mark.parametrize(
    ("weighed", "left"), [(["boards"], ["talk"]), (["boards", "talk"], ["boards", "talk"])]
)
def test_calibration_goes_by_sets_without_priors(make_example, weighed: list[str], left: list[str]) -> None:
    train = TrainSection.model_validate(
        {
            "data": "d",
            "adapters": {"forums": {}},
            "router": {"adapters": ["forums", "wiki"], "calibration_posts": 1},
            "priors": {name: {"hate": 0.3} for name in weighed},
        }
    )
    examples = [
        replace(make_example(i), dataset=dataset, platform=platform, split="tune")
        for i, (dataset, platform) in enumerate([("boards", "forums"), ("talk", "wiki")] * 2)
    ]
    assert [e.dataset for e in tune_posts(examples, train)] == left
