"""One adapter's training as data: what it trains on, and what came out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hatex.recipe.train import AdapterSection, TrainSection
from hatex.training.groups import plan_groups
from hatex.training.rows import TrainingRow

if TYPE_CHECKING:
    from torch import Tensor

    from hatex.training.checkpoint import Progressed


@dataclass(frozen=True)
class Trained:
    """LoRA factors by parameter name, and how the run went."""

    weights: dict[str, Tensor]
    progressed: Progressed
    tokens: int


@dataclass(frozen=True)
class Job:
    """One adapter to train: its rows, those of tune, and the settings that decide the result."""

    name: str
    section: AdapterSection
    train: TrainSection
    rows: Sequence[TrainingRow]
    tune_rows: Sequence[TrainingRow]
    pad: int
    key: str
    folder: Path

    def plan(self) -> list[list[int]]:
        """Indices of every step's groups, one step behind the other; whole epochs and the share of the last."""
        lengths = [len(row.ids) for row in self.rows]
        groups: list[list[int]] = []
        for epoch in range(math.ceil(self.section.epochs)):
            rng = Random(f"{self.train.seed}/{self.name}/{epoch}")
            planned = plan_groups(
                lengths, self.train.group_tokens, rng, self.train.group_rows, self.train.groups_per_step
            )
            share = min(1.0, self.section.epochs - epoch)
            groups += planned[: max(1, round(share * len(planned)))]
        return groups

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(len(self.plan()) / self.train.groups_per_step)

    @property
    def tokens(self) -> int:
        """Tokens of the whole run, padding not counted."""
        return sum(len(self.rows[i].ids) for group in self.plan() for i in group)
