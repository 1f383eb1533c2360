"""From a model folder or a GGUF file to a base folder: NF4 weights, config and tokenizer, one shard at a time."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import ModelError
from hatex.types import Progress

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PretrainedConfig, PreTrainedModel

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")
SHARD_BYTES = 1 << 30
ALONE_BYTES = 1 << 27
"""Of a plain tensor that gets a file of its own: beside packed weights, which stay mapped, its pages would stay too."""
NF4_CONFIG = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
}
"""What transformers and bitsandbytes need to load the folder by themselves; block sizes stand in the quant states."""


def write_base(found: Path, folder: Path, block_size: int, progress: Progress) -> None:
    """Write the base of `found` (a GGUF file or a model folder in any float precision) into `folder`.

    Holds one weight and one shard in memory. Raises ModelError for quantised, missing or pickled weights.
    """
    with tempfile.TemporaryDirectory(prefix="hatex-gguf-") as scratch:
        source = _dequantized_gguf(found, Path(scratch), progress) if found.is_file() else found
        config = _read_config(source)
        shards = _Shards(folder)
        for name, tensor in _quantized(source, block_size, progress):
            shards.add(name, tensor)
        shards.finish()
        for name in TOKENIZER_FILES:
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        record = json.loads(config.to_json_string(use_diff=False)) | {"quantization_config": NF4_CONFIG}
        record.pop("_name_or_path", None)
        text = json.dumps(record, indent=2, sort_keys=True)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")


def _read_config(source: Path) -> PretrainedConfig:
    from transformers import AutoConfig

    if not (source / "config.json").is_file():
        raise ModelError("no config.json", where=str(source), hint="name a folder in transformers' layout")
    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError("the base is quantised already", hint="name the original, unquantised weights")
    return config


def _quantized(source: Path, block_size: int, progress: Progress) -> Iterator[tuple[str, Tensor]]:
    """Tensors of the base under their names in the model: linear layers in NF4, everything else in bf16."""
    import torch

    from hatex.model.loading import build_empty, iter_tensors, linear_paths, model_names
    from hatex.model.weights import quantize

    empty = build_empty(source, torch.bfloat16)
    # Built on the meta device, a tied head is a parameter of its own: tied again, it is none that could be missing.
    empty.tie_weights()
    linear, rename = set(linear_paths(empty)), model_names(empty)
    missing = {name for name, _ in empty.named_parameters()}
    with progress.task("Quantising to NF4", total=len(missing), unit="weights") as advance:
        for stored, tensor in iter_tensors(source):
            name = rename(stored)
            if name not in missing:
                # Buffers that older checkpoints carry, and tied heads: the architecture makes them itself.
                continue
            missing.remove(name)
            if name.endswith(".weight") and name.removesuffix(".weight") in linear:
                for part, value in quantize(tensor.to(torch.bfloat16), block_size).items():
                    yield f"{name}.{part}" if part else name, value
            else:
                yield name, tensor.to(torch.bfloat16)
            advance(1)
    if missing:
        raise ModelError(f"{len(missing)} weights are missing, first {min(missing)}", where=str(source))


class _Shards:
    """Safetensors files of about `SHARD_BYTES` each, with an index where there is more than one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pending: dict[str, Tensor] = {}
        self.written: list[list[str]] = []
        self.bytes = 0

    def add(self, name: str, tensor: Tensor) -> None:
        is_alone = tensor.is_floating_point() and tensor.nbytes >= ALONE_BYTES
        if is_alone:
            self._write()
        self.pending[name] = tensor
        if is_alone or sum(t.nbytes for t in self.pending.values()) >= SHARD_BYTES:
            self._write()

    def _write(self) -> None:
        from safetensors.torch import save_file

        if not self.pending:
            return
        self.bytes += sum(t.nbytes for t in self.pending.values())
        file = self.folder / f"shard-{len(self.written)}.safetensors"
        save_file({name: t.contiguous() for name, t in self.pending.items()}, file, metadata={"format": "pt"})
        self.written.append(list(self.pending))
        self.pending = {}

    def finish(self) -> None:
        """Write what is left and give the files the names that transformers looks for."""
        self._write()
        count = len(self.written)
        files = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
        if count == 1:
            files = ["model.safetensors"]
        for i, file in enumerate(files):
            (self.folder / f"shard-{i}.safetensors").rename(self.folder / file)
        if count > 1:
            places = {name: file for file, names in zip(files, self.written, strict=True) for name in names}
            index: dict[str, Any] = {"metadata": {"total_size": self.bytes}, "weight_map": places}
            text = json.dumps(index, indent=2, sort_keys=True)
            (self.folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")


def _dequantized_gguf(file: Path, target: Path, progress: Progress) -> Path:
    """A model folder below `target` with the bf16 values of a GGUF file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with progress.task(f"Reading {file.name}"):
        # Without `dequantize`, transformers would keep the GGUF blocks packed.
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            trust_remote_code=False,
        )
        model.save_pretrained(target)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)
    return target
