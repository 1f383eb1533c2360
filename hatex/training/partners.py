"""Blend-aware training: rows that an adapter answers together with partners that stay as they are.

An adapter that is only ever trained alone is good alone; the router blends. On a share of its rows a partner answers
with it, at weights drawn anew for every row, so that the trained adapter also learns its part of a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from torch import Tensor

from hatex.model.gatedlm import GatedLM
from hatex.training.rows import TrainingRow

LEAST_OWN_WEIGHT = 0.3


def draw_gates(rows: Sequence[TrainingRow], partners: int, share: float, seed: int) -> list[TrainingRow]:
    """The rows with gates of the adapter and its `partners`, which sum to 1; seeded by the example.

    A `share` of the rows has one partner, and the adapter itself weighs at least `LEAST_OWN_WEIGHT` there.
    """
    drawn = []
    for row in rows:
        rng = Random(f"{seed}/partners/{row.example_id}")
        gates = [1.0] + [0.0] * partners
        if rng.random() < share:
            gates[0] = rng.uniform(LEAST_OWN_WEIGHT, 1)
            gates[1 + rng.randrange(partners)] = 1 - gates[0]
        drawn.append(replace(row, gates=tuple(gates)))
    return drawn


def own_factors(lm: GatedLM, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of `objective.lora_parameters`, the first adapter's: `PATH.A` (r, in) and `PATH.B` (out, r)."""
    own = {}
    for path, layer in lm.gated_layers().items():
        if layer.stack is not None and (rank := layer.stack.first_rank):
            own[f"{path}.A"] = weights[f"{path}.A"][:rank].contiguous()
            own[f"{path}.B"] = weights[f"{path}.B"][:, :rank].contiguous()
    return own
