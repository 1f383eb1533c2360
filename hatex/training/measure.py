"""What a finished adapter makes of held-out rows, for its card; `hatex eval` is the full account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

import torch

from hatex.training.batches import collate, plan_batches
from hatex.training.losses import SET_MEMBERS
from hatex.training.objective import batch_loss

if TYPE_CHECKING:
    from torch import Tensor

    from hatex.model.gatedlm import GatedLM
    from hatex.training.job import Job
    from hatex.training.rows import TrainingRow


@torch.no_grad()
def measure_rows(
    lm: GatedLM, rows: Sequence[TrainingRow], job: Job, head: Tensor, advance: Callable[[float], None]
) -> dict[str, float]:
    """`posts`, mean `vote_loss`, and `accuracy`: how often the likeliest label lies in a set with most votes.

    There is one row at least; `advance` is told the rows of every batch.
    """
    loss, right = 0.0, 0
    for indices in plan_batches([len(row.ids) for row in rows], 2 * job.train.batch_tokens, Random(0)):
        batch = collate([rows[i] for i in indices], job.pad).to(lm.device)
        losses, logits = batch_loss(lm, batch, head, 0.0)
        loss += losses.sum().item()
        top = batch.shares == batch.shares.amax(1, keepdim=True)
        agrees = SET_MEMBERS.to(lm.device)[:, logits.argmax(1)].T & top
        right += int(agrees.any(1).sum())
        advance(len(indices))
    count = len(rows)
    return {"posts": len(rows), "vote_loss": round(loss / count, 4), "accuracy": round(right / count, 4)}
