"""Where an adapter starts: fresh LoRA factors, or another adapter's."""

from __future__ import annotations

import math

import torch

from hatex.errors import TrainingError
from hatex.model.gatedlm import GatedLM
from hatex.recipe.train import LoraSection
from hatex.registry.adapters import LoraAdapter, LoraUpdate


def fresh_adapter(lm: GatedLM, name: str, lora: LoraSection, seed: int) -> LoraAdapter:
    """A uniform in +-1/sqrt(in), B zero, as PEFT starts LoRA (Hu et al., 2021); seeded.

    Raises TrainingError if `lora.modules` names a layer that the base does not have.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = lm.gated_layers()
    leaves = {path.rsplit(".", 1)[-1] for path in layers}
    if lora.modules is not None and (unknown := set(lora.modules) - leaves):
        raise TrainingError(
            f"the base has no linear layer {', '.join(sorted(unknown))}",
            where="train.lora.modules",
            hint=f"it has {', '.join(sorted(leaves))}",
        )
    scaling = lora.alpha / (math.sqrt(lora.r) if lora.rslora else lora.r)
    modules = {}
    for path, layer in layers.items():
        if lora.modules is None or path.rsplit(".", 1)[-1] in lora.modules:
            bound = 1 / math.sqrt(layer.in_features)
            A = torch.empty(lora.r, layer.in_features).uniform_(-bound, bound, generator=generator)
            modules[path] = LoraUpdate(A, torch.zeros(layer.out_features, lora.r), scaling)
    return LoraAdapter(name, modules)


def trained_adapter(start: LoraAdapter, weights: dict[str, torch.Tensor]) -> LoraAdapter:
    """`start` with the trained factors of `objective.lora_parameters`."""
    return LoraAdapter(
        start.name,
        {
            path: LoraUpdate(weights[f"{path}.A"], weights[f"{path}.B"], update.scaling)
            for path, update in start.modules.items()
        },
        start.base_model,
    )
