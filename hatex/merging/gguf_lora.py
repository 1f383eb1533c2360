"""LoRA adapters as llama.cpp reads them: a GGUF file of type `adapter` for Llama-architecture bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from hatex.errors import ModelError
from hatex.registry.adapters import LoraAdapter, LoraUpdate

ARCHITECTURE: Final = "llama"


def write_gguf_lora(path: Path, adapter: LoraAdapter, config: dict[str, Any]) -> None:
    """Write `adapter` for a base with transformers configuration `config`; alpha = r, scaling goes into B.

    Raises `ModelError` for other architectures than Llama, and modules that llama.cpp has no name for.
    """
    import gguf

    if config.get("model_type") != ARCHITECTURE:
        raise ModelError(f"gguf-lora knows Llama bases only (got {config.get('model_type')!r})")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(adapter.r))
    writer.add_string(gguf.Keys.General.NAME, adapter.name)
    for module, (A, B, scaling) in adapter.modules.items():
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if name is None:
            raise ModelError(f"llama.cpp has no name for {module}")
        # llama.cpp computes alpha / r per module from A's own rank.
        B = B.float() * (scaling * A.shape[0] / adapter.r)
        writer.add_tensor(f"{name}.lora_a", A.float().numpy())
        writer.add_tensor(f"{name}.lora_b", _permute(B, _heads(module, config)).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf_lora(path: Path, config: dict[str, Any]) -> LoraAdapter:
    """Read back what `write_gguf_lora` wrote, names and row order as transformers has them."""
    import gguf

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    reader = gguf.GGUFReader(path)
    alpha = float(reader.get_field(gguf.Keys.Adapter.LORA_ALPHA).contents())
    modules = _modules(config["num_hidden_layers"])
    paths = {names.get_name(f"{module}.weight", try_suffixes=(".weight",)): module for module in modules}
    sides: dict[str, dict[str, Tensor]] = {}
    for tensor in reader.tensors:
        stem, _, side = tensor.name.rpartition(".")
        sides.setdefault(paths[stem], {})[side] = torch.from_numpy(np.array(tensor.data))
    updates = {}
    for module, parts in sides.items():
        B = _unpermute(parts["lora_b"], _heads(module, config))
        updates[module] = LoraUpdate(parts["lora_a"], B, alpha / parts["lora_a"].shape[0])
    return LoraAdapter(path.stem, updates)


def _heads(module: str, config: dict[str, Any]) -> int | None:
    """Number of heads whose rotary halves llama.cpp interleaves; None for modules that are left as they
    are.
    """
    heads = int(config["num_attention_heads"])
    if module.endswith(".q_proj"):
        return heads
    if module.endswith(".k_proj"):
        return int(config.get("num_key_value_heads") or heads)
    return None


def _permute(B: Tensor, heads: int | None) -> Tensor:
    """Rows from transformers' rotary layout (halves) to llama.cpp's (pairs)."""
    if heads is None:
        return B
    return B.reshape(heads, 2, -1, B.shape[1]).transpose(1, 2).reshape(B.shape).contiguous()


def _unpermute(B: Tensor, heads: int | None) -> Tensor:
    if heads is None:
        return B
    return B.reshape(heads, -1, 2, B.shape[1]).transpose(1, 2).reshape(B.shape).contiguous()


def _modules(layers: int) -> list[str]:
    attention = [f"self_attn.{x}_proj" for x in "qkvo"]
    mlp = [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    return [f"model.layers.{i}.{leaf}" for i in range(layers) for leaf in (*attention, *mlp)]
