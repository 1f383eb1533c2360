"""What a finished adapter makes of held-out rows, for its card; `hatex eval` is the full account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch

from hatex.training.groups import collate, plan_groups
from hatex.training.objective import batch_loss
from hatex.types import LABELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hatex.model.gatedlm import GatedLM
    from hatex.training.job import Job
    from hatex.training.rows import TrainingRow


@torch.no_grad()
def measure_rows(
    lm: GatedLM, rows: Sequence[TrainingRow], job: Job, head: Tensor, advance: Callable[[float], None]
) -> tuple[float, NDArray[np.float64]]:
    """The mean vote loss, and P(label) of every row, shape (rows, labels), uncalibrated.

    There is one row at least; `advance` is told the rows of every batch.
    """
    loss, probabilities = 0.0, np.zeros((len(rows), len(LABELS)))
    for indices in plan_groups([len(row.ids) for row in rows], 2 * job.train.batch_tokens, Random(0)):
        group = collate([rows[i] for i in indices], job.pad).to(lm.device)
        losses, logits = batch_loss(lm, [group], head, 0.0)
        loss += losses.sum().item()
        probabilities[indices] = logits.float().softmax(-1).cpu().numpy()
        advance(len(indices))
    return loss / len(rows), probabilities
