"""An optimizer's state through a checkpoint, for torch's AdamW and for those that run on CUDA alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import bitsandbytes.optim as bnb
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from hatex.training.optimizer import optimizer_tensors, restore_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "32 bits": bnb.AdamW32bit,
    # So small parameters stay in 32 bits otherwise.
    "8 bits": partial(bnb.AdamW8bit, min_8bit_size=1),
}


def step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters[:2]:  # The last one is a partner's: it never gets a gradient.
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_through_a_file_goes_on_to_the_same_bytes(kind: str, tmp_path: Path) -> None:
    build: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = KINDS[kind]
    whole = [nn.Parameter(torch.ones(4, 8)), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2))]
    optimizer = build(whole)
    step(optimizer, whole, 1)
    save_file(optimizer_tensors(optimizer), tmp_path / "optimizer.safetensors")
    resumed = [nn.Parameter(parameter.detach().clone()) for parameter in whole]
    other = build(resumed)
    restore_optimizer(other, load_file(tmp_path / "optimizer.safetensors"))
    for seed in (2, 3):
        step(optimizer, whole, seed)
        step(other, resumed, seed)
    assert not torch.equal(whole[0], torch.ones(4, 8))
    for one, two in zip(whole, resumed, strict=True):
        assert torch.equal(one, two)
