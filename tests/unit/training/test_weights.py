"""Loss weights: data sets, and label-set shares moved to a prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from hatex.data.votes import vote_shares
from hatex.recipe.train import TrainSection
from hatex.training.rows import TrainingRow
from hatex.training.weights import weigh_rows, weigh_votes
from hatex.types import LABEL_SETS, Example, Vote

HATE, REST = ("hate",), ("neutral", "offensive")


@pytest.fixture
def forum(make_example) -> list[Example]:
    """Ten posts, one of them hateful, and one post of another data set."""
    votes = [(Vote(HATE, 3),), *[(Vote(REST, 1),)] * 9]
    posts = [replace(make_example(i), dataset="forum", votes=vote) for i, vote in enumerate(votes)]
    return [*posts, replace(make_example(10), dataset="talk", votes=(Vote(HATE, 1),))]


def weigh(examples, dataset_weights, priors) -> tuple[np.ndarray, np.ndarray]:
    shares = np.array([vote_shares(example.votes) for example in examples])
    return weigh_votes([example.dataset for example in examples], shares, dataset_weights, priors)


def share_of(labels, weights, shares) -> float:
    """What a label set has of all votes as they are weighed."""
    return float(weights @ shares[:, LABEL_SETS.index(labels)] / weights.sum())


def test_votes_reach_the_prior_and_the_mean_weight_stays(forum) -> None:
    weights, shares = weigh(forum, {"forum": 2.0}, {"forum": {"hate": 0.4}})
    assert share_of(HATE, weights[:10], shares[:10]) == pytest.approx(0.4)
    assert sum(weights[:10]) == pytest.approx(2.0 * 10)
    assert len({round(weight, 9) for weight in weights[1:10]}) == 1
    assert weights[10] == 1.0
    # A post of one vote, or of votes that agree, still says what they say.
    assert shares.tolist() == weigh(forum, {}, {})[1].tolist()


@pytest.mark.parametrize("unanimous", [0, 1])
def test_votes_of_contested_posts_reach_the_prior_too(make_example, unanimous: int) -> None:
    split = (Vote(HATE, 1), Vote(REST, 2))
    posts = [replace(make_example(i), dataset="forum", votes=split) for i in range(9)]
    posts += [replace(make_example(9), dataset="forum", votes=(Vote(REST, 1),))] * unanimous
    weights, shares = weigh(posts, {}, {"forum": {"hate": 0.6}})
    assert share_of(HATE, weights, shares) == pytest.approx(0.6)
    assert weights.mean() == pytest.approx(1)
    assert shares.sum(1) == pytest.approx(1)


def test_rows_take_what_their_votes_weigh(forum) -> None:
    rows = [TrainingRow(e.id, e.dataset, (1, 2), 1, (), vote_shares(e.votes), 1.0) for e in forum]
    weights, shares = weigh(forum, {"talk": 3.0}, {"forum": {"hate": 0.4}})
    weighed = weigh_rows(rows, {"talk": 3.0}, {"forum": {"hate": 0.4}})
    assert [row.weight for row in weighed] == weights.tolist()
    assert [list(row.shares) for row in weighed] == shares.tolist()
    assert weigh_rows((), {}, {}) == []


def test_a_set_that_nobody_chose_changes_nothing(forum) -> None:
    priors = {"forum": {"offensive": 0.4}, "elsewhere": {"hate": 0.2}}
    assert weigh(forum, {}, priors)[0].tolist() == [1.0] * 11
    assert weigh(forum[:1], {}, {"forum": {"hate": 0.4}})[0].tolist() == [1.0]


@pytest.mark.parametrize(
    ("priors", "message"),
    [({"hateful": 0.3}, "unknown label hateful"), ({"hate": 0.6, "neutral|offensive": 0.4}, "leave nothing")],
)
def test_priors_are_checked(priors, message) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSection.model_validate({"data": "d", "adapters": {"a": {}}, "priors": {"forum": priors}})
