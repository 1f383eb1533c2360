"""Tiny random bases of several architectures, random adapters, and the dense oracle they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hatex.model.gatedlm import GatedLM
from hatex.registry.adapters import LoraAdapter, LoraUpdate

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 48, "num_key_value_heads": 2},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": None, "head_dim": 8},
    "mistral+window": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": 4, "head_dim": 8},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2},
    "gpt_neox": {"intermediate_size": 48},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
}
ARCHITECTURES = ("llama", "llama-generic", "mistral", "qwen2", "gpt_neox", "opt")
"""`llama` runs the fast path, all others transformers' own forward."""


@dataclass(frozen=True)
class Spec:
    """A random adapter: rank, scaling, and a share of the layers that it touches."""

    r: int
    scaling: float
    leave_out: tuple[str, ...] = ()


MIXED = (
    Spec(2, 2.0),
    Spec(5, 0.7, ("k_proj", "up_proj", "dense")),
    Spec(3, 8 / 3**0.5, ("q_proj", "v_proj", "fc1")),
)
"""Different ranks, alphas and target modules; the third is scaled as rsLoRA is."""


@dataclass(frozen=True)
class Batch:
    """Rows of different lengths, padded on the right with tokens that must not matter."""

    ids: Tensor
    lengths: Tensor
    gates: Tensor

    def row(self, i: int) -> Tensor:
        return self.ids[i : i + 1, : self.lengths[i]]


def write_base(name: str, folder: Path) -> None:
    """Save a tiny random model of an architecture (what stands behind a + is its variant) as plain float32 weights."""
    config = CONFIG_MAPPING[name.split("+")[0]](**SIZES, **CONFIGS[name])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)


def random_adapters(lm: GatedLM, specs: Sequence[Spec], seed: int = 0) -> list[LoraAdapter]:
    generator = torch.Generator().manual_seed(seed)
    adapters = []
    for index, spec in enumerate(specs):
        modules = {
            path: LoraUpdate(
                torch.randn(spec.r, layer.in_features, generator=generator) * 0.1,
                torch.randn(layer.out_features, spec.r, generator=generator) * 0.1,
                spec.scaling,
            )
            for path, layer in lm.gated_layers().items()
            if not path.endswith(spec.leave_out or ("-",))
        }
        adapters.append(LoraAdapter(f"a{index}", modules))
    return adapters


def random_batch(rows: int, adapters: int, seed: int = 0, tokens: int = 11) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (rows,), generator=generator)
    lengths[0] = tokens
    gates = torch.softmax(2 * torch.randn(rows, adapters, generator=generator), -1)
    return Batch(torch.randint(3, 97, (rows, tokens), generator=generator), lengths, gates)


def delta(adapters: Sequence[LoraAdapter], gates: Tensor, path: str) -> Tensor | int:
    """sum_k g_k s_k B_k A_k of one layer, dense."""
    found = [(g, a.modules[path]) for g, a in zip(gates, adapters, strict=True) if path in a.modules]
    return sum(g * u.scaling * (u.B @ u.A) for g, u in found)


@torch.no_grad()
def dense_hidden(
    folder: Path,
    adapters: Sequence[LoraAdapter],
    batch: Batch,
    update: Callable[[Sequence[LoraAdapter], Tensor, str], Tensor | int] = delta,
) -> Tensor:
    """The oracle: merge each row's blend into the weights of plain transformers and run that row alone."""
    rows = []
    for i in range(len(batch.ids)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for path in {path for adapter in adapters for path in adapter.modules}:
            model.get_submodule(path).weight += update(adapters, batch.gates[i], path)
        rows.append(model.base_model(input_ids=batch.row(i)).last_hidden_state[0, -1])
    return torch.stack(rows)
