"""The search for merge weights."""

import pytest

from hatex.errors import UsageError
from hatex.merging.optimise import BOUNDS, optimise_weights


def bump(weights):
    return -((weights["a"] - 0.9) ** 2) - (weights["b"] - 0.1) ** 2 - 0.1 * (weights["c"] + 0.2) ** 2


def test_a_few_dozen_steps_come_near_the_best_weights():
    trials = optimise_weights(bump, "abc", steps=60, seed=1)
    assert len(trials) == 60
    assert trials[0].score > -0.02
    assert trials[0].score == max(trial.score for trial in trials)
    assert all(BOUNDS[0] <= w <= BOUNDS[1] for trial in trials for w in trial.weights.values())
    assert optimise_weights(bump, "abc", steps=60, seed=1) == trials


def test_the_result_is_never_worse_than_the_start():
    start = [0.9, 0.1, -0.2]
    trials = optimise_weights(bump, "abc", start=start, steps=8)
    assert trials[0].weights == dict(zip("abc", start, strict=True))


def test_a_flat_metric_does_not_end_the_search():
    assert len(optimise_weights(lambda _: 0.5, "ab", steps=30)) == 30


def test_one_adapter_leaves_nothing_to_weigh():
    with pytest.raises(UsageError, match="nothing to weigh"):
        optimise_weights(bump, "a")
