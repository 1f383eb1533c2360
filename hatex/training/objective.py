"""What a batch costs: the votes at the label position, and the supervised tokens of the explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.training.losses import answer_loss, vote_loss

if TYPE_CHECKING:
    from hatex.model.gatedlm import GatedLM
    from hatex.training.batches import Batch


def lora_parameters(lm: GatedLM) -> dict[str, nn.Parameter]:
    """Trainable factors by name: `PATH.A` (r, in) and `PATH.B` (out, r)."""
    found = {}
    for path, layer in lm.gated_layers().items():
        if layer.stack is not None:
            found[f"{path}.A"], found[f"{path}.B"] = layer.stack.A, layer.stack.B
    return found


def batch_loss(lm: GatedLM, batch: Batch, head: Tensor, answer_weight: float) -> tuple[Tensor, Tensor]:
    """Loss of every row, shape (rows,): votes at the label, plus `answer_weight` times its answer tokens; and logits.

    head (labels, width) holds the label rows of the output head.
    """
    gates = F.pad(batch.gates, (0, len(lm.adapters) - batch.gates.shape[1]))
    if answer_weight == 0 or len(batch.answer_rows) == 0:
        logits = lm.last_hidden(batch.ids, batch.label_at + 1, gates) @ head.t()
        return vote_loss(logits, batch.shares), logits
    lm.set_gates(gates)
    hidden = lm.hidden(batch.ids)
    logits = hidden[torch.arange(len(hidden), device=hidden.device), batch.label_at] @ head.t()
    # The token at a position is predicted by the hidden state before it.
    before = hidden[batch.answer_rows, batch.answer_positions - 1]
    targets = batch.ids[batch.answer_rows, batch.answer_positions]
    answers = answer_loss(before @ lm.vocabulary.t(), targets, batch.answer_rows, len(hidden))
    return vote_loss(logits, batch.shares) + answer_weight * answers, logits
