"""The optimizer a recipe names, its schedule, and its state as named tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hatex.errors import TrainingError

if TYPE_CHECKING:
    from hatex.recipe.train import TrainSection


def learning_rate(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """Linear warm-up, then a cosine down to 0; `step` counts from 0."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def check_optimizer(name: str, *, on_cuda: bool) -> None:
    """Raise TrainingError for an optimizer that this device does not have."""
    if name not in ("auto", "adamw") and not on_cuda:
        raise TrainingError(
            f"optimizer {name} needs CUDA, and base.device is the CPU here",
            where="train.optimizer",
            hint="use `auto`, which takes paged_adamw_32bit on CUDA and adamw elsewhere",
        )


def build_optimizer(train: TrainSection, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW as the recipe names it; paged and 8-bit ones are bitsandbytes' and need CUDA."""
    on_cuda = parameters[0].is_cuda
    check_optimizer(train.optimizer, on_cuda=on_cuda)
    name = train.optimizer
    if name == "auto":
        name = "paged_adamw_32bit" if on_cuda else "adamw"
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay, fused=True)
    import bitsandbytes.optim as bnb

    kinds = {
        "adamw_8bit": bnb.AdamW8bit,
        "paged_adamw_32bit": bnb.PagedAdamW32bit,
        "paged_adamw_8bit": bnb.PagedAdamW8bit,
    }
    return kinds[name](parameters, lr=train.lr, weight_decay=train.weight_decay)  # type: ignore[no-any-return]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A copy of the state of every parameter in main memory, as `INDEX.KEY`; a whole number is an int64 scalar.

    Read where it lies: the `state_dict` of bitsandbytes' optimizers nests it so that FSDP looks past it, and their
    8-bit parameters share one code book, which safetensors does not write twice.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return {
        f"{index}.{key}": torch.as_tensor(value).to("cpu", copy=True)
        for index, parameter in enumerate(parameters)
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take up a state that `optimizer_tensors` gave."""
    record = optimizer.state_dict()
    state: dict[int, dict[str, Tensor | int]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        # bitsandbytes counts its steps in a plain int, and its kernels take no tensor for it.
        is_count = tensor.ndim == 0 and tensor.dtype == torch.int64
        state.setdefault(int(index), {})[key] = int(tensor) if is_count else tensor
    optimizer.load_state_dict({**record, "state": state})
