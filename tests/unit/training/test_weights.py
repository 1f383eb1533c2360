"""Loss weights: data sets, and label-set shares moved to a prior."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from hatex.recipe.train import TrainSection
from hatex.training.weights import example_weights
from hatex.types import Example, Vote

HATE, REST = ("hate",), ("neutral", "offensive")


@pytest.fixture
def forum(make_example) -> list[Example]:
    """Ten posts, one of them hateful, and one post of another data set."""
    votes = [(Vote(HATE, 3),), *[(Vote(REST, 1),)] * 9]
    posts = [replace(make_example(i), dataset="forum", votes=vote) for i, vote in enumerate(votes)]
    return [*posts, replace(make_example(10), dataset="talk", votes=(Vote(HATE, 1),))]


def test_votes_reach_the_prior_and_the_mean_weight_stays(forum) -> None:
    weights = example_weights(forum, {"forum": 2.0}, {"forum": {"hate": 0.4}})
    assert weights[0] / sum(weights[:10]) == pytest.approx(0.4)
    assert sum(weights[:10]) == pytest.approx(2.0 * 10)
    assert len({round(weight, 9) for weight in weights[1:10]}) == 1
    assert weights[10] == 1.0


def test_a_contested_post_weighs_between_the_sets(forum) -> None:
    contested = replace(forum[1], votes=(Vote(HATE, 1), Vote(REST, 1)))
    weights = example_weights([*forum, contested], {}, {"forum": {"hate": 0.4}})
    assert weights[-1] == pytest.approx((weights[0] + weights[1]) / 2)


def test_a_set_that_nobody_chose_changes_nothing(forum) -> None:
    assert example_weights(forum, {}, {"forum": {"offensive": 0.4}, "elsewhere": {"hate": 0.2}}) == [1.0] * 11
    assert example_weights(forum[:1], {}, {"forum": {"hate": 0.4}}) == [1.0]


@pytest.mark.parametrize(
    ("priors", "message"),
    [({"hateful": 0.3}, "unknown label hateful"), ({"hate": 0.6, "neutral|offensive": 0.4}, "leave nothing")],
)
def test_priors_are_checked(priors, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSection.model_validate({"data": "d", "adapters": {"a": {}}, "priors": {"forum": priors}})
