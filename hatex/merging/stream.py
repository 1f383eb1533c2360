"""A base with an adapter merged into its weights, one matrix in memory at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from hatex.model.loading import weight_files
from hatex.model.weights import NF4_PARTS, ResidentWeight, build_weight
from hatex.registry.adapters import LoraAdapter

TOKENIZER_FILES: Final = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model"),
    *("generation_config.json", "chat_template.jinja"),
)


class MergedWeight(NamedTuple):
    """One tensor of the merged model in float32; `parts` say how the base packs it, empty: not at all."""

    name: str
    tensor: Tensor
    parts: Mapping[str, Tensor]


def iter_merged(base: Path, adapter: LoraAdapter) -> Iterator[MergedWeight]:
    """Every tensor of the base in `base`, dequantised, plus `adapter`'s update where it has one.

    The sum is taken in float32; whoever writes it rounds it, once.
    """
    for file in weight_files(base):
        with safe_open(file, framework="pt") as tensors:
            names = set(tensors.keys())
            inner = {f"{name}.{part}" for name in names for part in NF4_PARTS}
            for name in sorted(names - inner):
                parts = {p: tensors.get_tensor(f"{name}.{p}") for p in NF4_PARTS if f"{name}.{p}" in names}
                weight = _values({"": tensors.get_tensor(name), **parts}).float()
                update = adapter.modules.get(name.removesuffix(".weight"))
                if update is not None:
                    weight = weight + update.scaling * (update.B.float() @ update.A.float())
                yield MergedWeight(name, weight, parts)


def _values(stored: Mapping[str, Tensor]) -> Tensor:
    if len(stored) == 1:
        return stored[""]
    weight = build_weight(stored, "resident", torch.float32)
    assert isinstance(weight, ResidentWeight)
    return weight.weight


class ShardWriter:
    """Writes tensors as they come into safetensors shards of at most `max_bytes`, with transformers'
    index.
    """

    def __init__(self, folder: Path, max_bytes: int = 2_000_000_000) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Take one tensor; writes a shard when the next would be too large."""
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size > self._max_bytes:
            self._flush()
        self._pending[name] = tensor.contiguous()
        self._pending_bytes += size

    def close(self) -> int:
        """Write what is left, name the shards, write the index if there are several; return bytes of
        weights.
        """
        self._flush()
        count = len(self._shards)
        if count == 1:
            self._path(0).rename(self._folder / "model.safetensors")
            return self._total_bytes
        weight_map: dict[str, str] = {}
        for number, names in enumerate(self._shards):
            final = f"model-{number + 1:05}-of-{count:05}.safetensors"
            self._path(number).rename(self._folder / final)
            weight_map |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self._total_bytes}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (self._folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        return self._total_bytes

    def _flush(self) -> None:
        if self._pending:
            save_file(self._pending, self._path(len(self._shards)), metadata={"format": "pt"})
            self._shards.append(sorted(self._pending))
            self._total_bytes += self._pending_bytes
            self._pending, self._pending_bytes = {}, 0

    def _path(self, number: int) -> Path:
        return self._folder / f"shard-{number}.safetensors"


def copy_frame(base: Path, target: Path, *, quantised: bool) -> None:
    """Configuration and tokenizer of a base beside exported weights; drops the quantisation unless
    `quantised`.
    """
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if not quantised:
        config.pop("quantization_config", None)
        config["dtype"] = "bfloat16"
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (target / "config.json").write_text(text, encoding="utf-8")
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, target / name)
