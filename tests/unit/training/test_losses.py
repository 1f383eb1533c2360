"""Losses over label sets, against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hatex.data.votes import vote_shares
from hatex.training.losses import SET_MEMBERS, answer_loss, vote_loss
from hatex.types import LABEL_SETS, LABELS, Vote

LOGITS = st.lists(st.floats(-20, 20), min_size=3, max_size=3)


def shares(*votes: Vote) -> torch.Tensor:
    return torch.tensor([vote_shares(votes)])


def test_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    votes = shares(Vote(("hate",), 1), Vote(("offensive", "hate"), 2), Vote(("neutral",), 1))
    expected = -(0.25 * math.log(0.2) + 0.5 * math.log(0.5) + 0.25 * math.log(0.5))
    assert vote_loss(logits, votes).item() == pytest.approx(expected, rel=1e-5)


@given(LOGITS)
def test_votes_for_every_label_cost_nothing(logits: list[float]) -> None:
    assert vote_loss(torch.tensor([logits]), shares(Vote(LABELS))).item() == pytest.approx(0, abs=1e-5)


@given(LOGITS, st.lists(st.integers(0, 5), min_size=7, max_size=7).filter(any))
def test_is_never_negative(logits: list[float], counts: list[int]) -> None:
    votes = [Vote(labels, count) for labels, count in zip(LABEL_SETS, counts, strict=True)]
    assert vote_loss(torch.tensor([logits]), shares(*votes)).item() >= -1e-5


@given(LOGITS, st.lists(st.integers(0, 5), min_size=3, max_size=3).filter(any))
def test_is_soft_cross_entropy_for_votes_of_one_label(logits: list[float], counts: list[int]) -> None:
    votes = [Vote((label,), count) for label, count in zip(LABELS, counts, strict=True)]
    target = torch.tensor([counts]) / sum(counts)
    expected = torch.nn.functional.cross_entropy(torch.tensor([logits]), target)
    assert vote_loss(torch.tensor([logits]), shares(*votes)).item() == pytest.approx(
        expected.item(), abs=1e-4
    )


def test_gradient_is_what_calibration_uses() -> None:
    """The gradient by the logits is p - E[p given the voted set]; here for a coarse vote."""
    logits = torch.tensor([[0.2, -0.4, 0.9]], requires_grad=True)
    vote_loss(logits, shares(Vote(("offensive", "hate")))).sum().backward()
    p = logits.detach().softmax(-1)[0]
    inside = torch.tensor([0, p[1], p[2]]) / (p[1] + p[2])
    torch.testing.assert_close(logits.grad[0], p - inside)


def test_members_follow_the_label_sets() -> None:
    assert SET_MEMBERS.shape == (7, 3)
    assert SET_MEMBERS[LABEL_SETS.index(("neutral", "hate"))].tolist() == [True, False, True]


def test_answer_loss_is_a_mean_a_row_and_zero_without_tokens() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    losses = answer_loss(logits, torch.tensor([0, 1, 0]), torch.tensor([0, 0, 2]), 4)
    first = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    expected = torch.tensor([first, 0.0, math.log(1 + math.exp(3)), 0.0])
    torch.testing.assert_close(losses, expected)
