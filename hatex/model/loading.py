"""From a folder in transformers' layout to a causal LM whose linear layers are gated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from hatex.errors import ModelError
from hatex.model.gated import GatedLinear, GateState
from hatex.model.weights import NF4_PARTS, Compute, build_weight


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, in order; raises ModelError if there are none."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [folder / name for name in names]
    single = folder / "model.safetensors"
    if not single.is_file():
        raise ModelError(
            "no safetensors weights", where=str(folder), hint="hatex reads safetensors only, never pickle"
        )
    return [single]


def iter_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a model folder, one at a time."""
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                    yield name, tensors.get_tensor(name)
        except SafetensorError as error:
            raise ModelError(f"damaged weights: {error}", where=str(file)) from error


def build_empty(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The architecture of a folder, without weights. Remote code is never run."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with init_empty_weights(include_buffers=False):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)


def linear_paths(model: PreTrainedModel) -> list[str]:
    """Paths of every linear layer but the output head."""
    head = model.get_output_embeddings()
    return [path for path, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]


def model_names(model: PreTrainedModel) -> Callable[[str], str]:
    """From the name a file gives a tensor to its name in `model`: some architectures are stored under older names.

    The function raises ModelError for tensors that the architecture stores in another arrangement.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    known = model.state_dict()

    def rename(name: str) -> str:
        part = next((f".{part}" for part in NF4_PARTS if name.endswith(f".weight.{part}")), "")
        stored = name.removesuffix(part)
        if stored in known:
            return name
        found, converter = rename_source_key(stored, renamings, converters, model.base_model_prefix, known)
        if converter is not None:
            raise ModelError(
                f"{model.config.model_type} stores {stored} in an arrangement that hatex cannot read"
            )
        return f"{found}{part}"

    return rename


def load_gated(
    folder: Path, compute: Compute, dtype: torch.dtype, gates: GateState, device: torch.device
) -> PreTrainedModel:
    """Load a base (packed NF4 or plain weights) to `device`, with a `GatedLinear` in place of every linear layer.

    Raises ModelError where a weight is missing or of the wrong shape.
    """
    model = build_empty(folder, dtype)
    gated = set(linear_paths(model))
    pending: dict[str, dict[str, Tensor]] = {path: {} for path in gated}
    rename = model_names(model)
    for stored, tensor in iter_tensors(folder):
        name = rename(stored)
        path, part = _split(name, gated)
        if path is None:
            _set(model, name, tensor.to(dtype) if tensor.is_floating_point() else tensor, device)
        else:
            pending[path][part] = tensor
    for path in sorted(pending):
        # Popped, so that the packed bytes of a layer are freed as soon as its values are resident.
        _replace(model, path, pending.pop(path), compute, dtype, gates, device)
    model.tie_weights()
    for buffer in model.buffers():
        # What no file holds, such as the frequencies of rotations, was computed on the processor.
        buffer.data = buffer.data.to(device)
    missing = [name for name, p in model.named_parameters() if p.is_meta]
    if missing:
        raise ModelError(f"{len(missing)} weights are missing, first {missing[0]}", where=str(folder))
    model.requires_grad_(False)
    return model.eval()


def _split(name: str, gated: set[str]) -> tuple[str | None, str]:
    """`a.b.q_proj.weight.absmax` -> (`a.b.q_proj`, `absmax`); (None, name) for tensors of other modules."""
    head, _, tail = name.rpartition(".weight")
    if head in gated and tail.lstrip(".") in ("", *NF4_PARTS):
        return head, tail.lstrip(".")
    if name.endswith(".bias") and name.removesuffix(".bias") in gated:
        return name.removesuffix(".bias"), "bias"
    return None, name


def _set(model: PreTrainedModel, name: str, tensor: Tensor, device: torch.device) -> None:
    try:
        set_module_tensor_to_device(model, name, device, value=tensor)
    except (ValueError, AttributeError) as error:
        raise ModelError(f"unexpected weight {name}: {error}") from error


def _replace(
    model: PreTrainedModel,
    path: str,
    tensors: dict[str, Tensor],
    compute: Compute,
    dtype: torch.dtype,
    gates: GateState,
    device: torch.device,
) -> None:
    linear = model.get_submodule(path)
    if "" not in tensors:
        raise ModelError(f"weight of {path} is missing")
    bias = tensors.pop("bias", None)
    weight = build_weight(tensors, compute, dtype, device)
    if (weight.out_features, weight.in_features) != (linear.out_features, linear.in_features):
        raise ModelError(f"weight of {path} has the wrong shape")
    model.set_submodule(path, GatedLinear(weight, None if bias is None else bias.to(device, dtype), gates))
