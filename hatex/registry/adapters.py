"""LoRA adapters in PEFT's format: read strictly, written so that PEFT and vLLM load them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hatex.errors import ModelError
from hatex.registry.peft_config import CONFIG, WEIGHTS, PeftConfig, dump_peft_config, load_peft_config
from hatex.registry.store import Artefact, checked_file
from hatex.registry.tensors import load_tensors, save_tensors

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_KEY: Final = re.compile(r"base_model\.model\.(?P<module>[\w.]+)\.lora_(?P<side>[AB])(\.default)?\.weight")


class LoraUpdate(NamedTuple):
    """The update of one linear layer: scaling * B A. A has shape (r, in), B has shape (out, r)."""

    A: Tensor
    B: Tensor
    scaling: float

    @property
    def r(self) -> int:
        return self.A.shape[0]


@dataclass(frozen=True)
class LoraAdapter:
    """A named adapter; `modules` maps paths in the base (`model.layers.0.self_attn.q_proj`) to updates."""

    name: str
    modules: Mapping[str, LoraUpdate]
    base_model: str | None = None
    """What the adapter's own configuration calls its base."""

    @property
    def r(self) -> int:
        """The largest rank of any module."""
        return max(update.r for update in self.modules.values())


def load_adapter(source: Artefact | Path) -> LoraAdapter:
    """Read an adapter from the registry (hashes are checked) or from a PEFT folder; tensors stay in stored
    precision.

    Raises `ModelError` for DoRA, aLoRA, biases, retrained modules, kinds of PEFT that are not LoRA, pickled
    weights, unknown tensors, shapes or ranks that do not fit together, NaN and infinite values;
    `IntegrityError` for a file that is not what the manifest says.
    """
    folder, name = (source.path, source.name) if isinstance(source, Artefact) else (source, source.name)
    if not (folder / WEIGHTS).is_file() and (folder / CONFIG).is_file():
        raise ModelError(
            f"no {WEIGHTS}",
            where=str(folder),
            hint="pickled weights (adapter_model.bin) are refused; ask the owner for safetensors or convert them",
        )
    if isinstance(source, Artefact):
        checked_file(source, CONFIG)
        checked_file(source, WEIGHTS)
    config = load_peft_config(folder)
    return LoraAdapter(name, _updates(folder / WEIGHTS, config), config.base_model)


def save_adapter(
    folder: Path,
    adapter: LoraAdapter,
    *,
    base_model: str | None = None,
    dtype: torch.dtype | None = None,
    dropout: float = 0.0,
) -> None:
    """Write `adapter` into `folder` as plain PEFT; same adapter, same bytes.

    `base_model` is what the configuration calls the base (default: what the adapter says), `dtype` is
    bfloat16 unless given. Scaling is written as alpha = scaling * r, also where it came from rsLoRA, with
    patterns for modules whose rank or scaling differs from the commonest.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for module, (A, B, _) in adapter.modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = A.to(dtype or torch.bfloat16)
        tensors[f"base_model.model.{module}.lora_B.weight"] = B.to(dtype or torch.bfloat16)
    save_tensors(folder / WEIGHTS, tensors)
    config = _config(adapter, base_model or adapter.base_model)
    text = dump_peft_config(config, _targets(tuple(adapter.modules)), dropout=dropout)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _updates(path: Path, config: PeftConfig) -> dict[str, LoraUpdate]:
    sides: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_tensors(path).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise ModelError(f"unknown tensor {key!r}", where=str(path), hint="lora_A and lora_B are taken")
        sides.setdefault(match["module"], {})[match["side"]] = tensor
    if not sides:
        raise ModelError("it holds no LoRA weights", where=str(path))
    return {module: _update(module, sides[module], config, path) for module in sorted(sides, key=_natural)}


def _update(module: str, sides: Mapping[str, Tensor], config: PeftConfig, path: Path) -> LoraUpdate:
    if set(sides) != {"A", "B"}:
        raise ModelError(f"{module} has only lora_{next(iter(sides))}", where=str(path))
    A, B, rank = sides["A"], sides["B"], config.rank(module)
    if A.dim() != 2 or B.dim() != 2 or A.shape[0] != rank or B.shape[1] != rank:
        raise ModelError(
            f"{module}: lora_A {tuple(A.shape)} and lora_B {tuple(B.shape)} do not have rank {rank}",
            where=str(path),
        )
    return LoraUpdate(A, B, config.scaling(module))


def _config(adapter: LoraAdapter, base_model: str | None) -> PeftConfig:
    ranks = Counter(update.r for update in adapter.modules.values())
    r = ranks.most_common(1)[0][0]
    alphas = {module: update.scaling * update.r for module, update in adapter.modules.items()}
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return PeftConfig(
        r=r,
        alpha=alpha,
        rslora=False,
        rank_pattern={module: update.r for module, update in adapter.modules.items() if update.r != r},
        alpha_pattern={module: value for module, value in alphas.items() if value != alpha},
        base_model=base_model,
    )


def _targets(modules: tuple[str, ...]) -> tuple[str, ...]:
    """Short names (`q_proj`) where every layer has each of them, else full paths."""
    layers: dict[str, set[str]] = {}
    for module in modules:
        stem, _, leaf = module.rpartition(".")
        number = re.search(r"\.(\d+)\.", f".{stem}.")
        layers.setdefault(leaf, set()).add(number[1] if number else stem)
    depth = {frozenset(numbers) for numbers in layers.values()}
    is_regular = len(depth) == 1 and next(iter(depth)) == {str(i) for i in range(len(next(iter(depth))))}
    return tuple(sorted(layers)) if is_regular else modules


def _natural(module: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in module.split("."))
