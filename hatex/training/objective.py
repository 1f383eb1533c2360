"""What a batch costs: the votes at the label position, and the supervised tokens of the explanation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.training.losses import answer_loss, vote_loss

if TYPE_CHECKING:
    from hatex.model.gatedlm import GatedLM
    from hatex.training.groups import Group


def lora_parameters(lm: GatedLM) -> dict[str, nn.Parameter]:
    """Trainable factors by name: `PATH.A` (r, in) and `PATH.B` (out, r)."""
    found = {}
    for path, layer in lm.gated_layers().items():
        if layer.stack is not None:
            found[f"{path}.A"], found[f"{path}.B"] = layer.stack.A, layer.stack.B
    return found


def batch_loss(
    lm: GatedLM, groups: Sequence[Group], head: Tensor, answer_weight: float
) -> tuple[Tensor, Tensor]:
    """Loss of every row, shape (rows,): votes at the label, plus `answer_weight` times its answer tokens; and logits.

    head (labels, width) holds the label rows of the output head. More than one of `groups`, which run in one pass, only
    where `lm.takes_groups`; their rows come one group behind the other.
    """
    gates = torch.cat([F.pad(g.gates, (0, len(lm.adapters) - g.gates.shape[1])) for g in groups])
    shares = torch.cat([g.shares for g in groups])
    has_answers = answer_weight > 0 and any(len(g.answer_rows) for g in groups)
    if len(groups) == 1 and not has_answers:
        logits = lm.last_hidden(groups[0].ids, groups[0].label_at + 1, gates) @ head.t()
        return vote_loss(logits, shares), logits
    lm.set_gates(gates)
    found = list(zip(lm.hidden_together([g.ids for g in groups]), groups, strict=True))
    at_label = [h[torch.arange(len(h), device=h.device), g.label_at] for h, g in found]
    logits = torch.cat(at_label) @ head.t()
    votes = vote_loss(logits, shares)
    if not has_answers:
        return votes, logits
    # The token at a position is predicted by the hidden state before it.
    before = torch.cat([h[g.answer_rows, g.answer_positions - 1] for h, g in found])
    targets = torch.cat([g.ids[g.answer_rows, g.answer_positions] for g in groups])
    starts = accumulate((len(g.ids) for g in groups[:-1]), initial=0)
    rows = torch.cat([g.answer_rows + start for g, start in zip(groups, starts, strict=True)])
    answers = answer_loss(before @ lm.vocabulary.t(), targets, rows, len(votes))
    return votes + answer_weight * answers, logits
