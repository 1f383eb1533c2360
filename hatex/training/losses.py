"""Losses over people: what a vote's label set makes of the label probabilities.

The loss of a vote is -log of the probability mass of its set (`design`: a vote names the labels it is compatible
with), the loss of a post is the mean over its votes. With votes that each name one label this is the soft
cross-entropy of Uma et al. (2021), "Learning from Disagreement"; a vote for all three labels costs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hatex.types import LABEL_SETS, LABELS

SET_MEMBERS = torch.tensor([[label in labels for label in LABELS] for labels in LABEL_SETS])
"""Which labels each set holds, shape (sets, labels)."""


def vote_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Loss of every post, shape (posts,): `-sum_s share_s log sum_{l in s} p_l`.

    logits (posts, labels), shares (posts, sets) as `data.votes.vote_shares` gives them.
    """
    logits = logits.float()
    outside = torch.zeros(SET_MEMBERS.shape).masked_fill(~SET_MEMBERS, float("-inf")).to(logits.device)
    of_sets = torch.logsumexp(logits.unsqueeze(1) + outside, dim=-1)
    log_mass = of_sets - torch.logsumexp(logits, dim=-1, keepdim=True)
    return -(shares * log_mass).sum(-1)


def answer_loss(logits: Tensor, targets: Tensor, rows: Tensor, count: int) -> Tensor:
    """Mean cross-entropy of each row's supervised answer tokens, shape (count,); 0 for rows that have none.

    logits (tokens, vocabulary), targets (tokens,), rows (tokens,): which row each token belongs to.
    """
    losses = F.cross_entropy(logits.float(), targets, reduction="none")
    sums = torch.zeros(count, device=losses.device).index_add(0, rows, losses)
    tokens = torch.zeros(count, device=losses.device).index_add(0, rows, torch.ones_like(losses))
    return sums / tokens.clamp(min=1)
