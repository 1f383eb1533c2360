"""Groups of rows of similar length under a token budget, in a seeded order that a resumed run repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from random import Random
from typing import Any

import torch
from torch import Tensor

from hatex.training.rows import TrainingRow
from hatex.types import LABEL_SETS


@dataclass(frozen=True)
class Group:
    """Padded rows. ids (rows, tokens), label_at (rows,), shares (rows, sets), weights (rows,), gates (rows, adapters).

    `answer_rows` and `answer_positions` (answer tokens,) point at the supervised tokens in `ids`.
    """

    ids: Tensor
    lengths: Tensor
    label_at: Tensor
    shares: Tensor
    weights: Tensor
    gates: Tensor
    answer_rows: Tensor
    answer_positions: Tensor

    def to(self, device: torch.device) -> Group:
        """The group with its tensors on `device`."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def plan_groups(
    lengths: Sequence[int], max_tokens: int, rng: Random, max_rows: int | None = None, together: int = 1
) -> list[list[int]]:
    """Indices of each group: `rows x longest row <= max_tokens` (one longer row makes a group of its own), at most
    `max_rows` rows.

    Rows are shuffled before they are sorted by length, and the groups afterwards: equal seeds give equal plans.
    Of any `together` groups in a row, each comes from another part of the lengths. A harmful post has an answer behind
    its label and is long, so that a step of one length would see posts of nearly one label.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    order.sort(key=lambda i: lengths[i])
    groups: list[list[int]] = []
    for index in order:
        rows = len(groups[-1]) + 1 if groups else 0
        if rows and rows * lengths[index] <= max_tokens and (max_rows is None or rows <= max_rows):
            groups[-1].append(index)
        else:
            groups.append([index])
    ends = [round(part * len(groups) / together) for part in range(together + 1)]
    parts = [groups[start:end] for start, end in pairwise(ends)]
    for part in parts:
        rng.shuffle(part)
    return [group for step in zip_longest(*parts) for group in step if group is not None]


def collate(rows: Sequence[TrainingRow], pad: int) -> Group:
    """Pad rows on the right; partners that a row does not name weigh nothing in it."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
    gates = torch.zeros(len(rows), max(len(row.gates) for row in rows))
    for i, row in enumerate(rows):
        gates[i, : len(row.gates)] = torch.tensor(row.gates)
    answers = [(i, at) for i, row in enumerate(rows) for at in row.answer_at]
    shares = torch.tensor([row.shares for row in rows], dtype=torch.float32).view(-1, len(LABEL_SETS))
    return Group(
        ids,
        torch.tensor([len(row.ids) for row in rows]),
        torch.tensor([row.label_at for row in rows]),
        shares,
        torch.tensor([row.weight for row in rows]),
        gates,
        torch.tensor([i for i, _ in answers], dtype=torch.long),
        torch.tensor([at for _, at in answers], dtype=torch.long),
    )
