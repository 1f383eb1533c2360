"""What a training run would take, without loading the base: one block of its shape is built and timed."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hatex.model.gated import GatedLinear, GateState
from hatex.model.gatedlm import GatedLM
from hatex.model.loading import linear_paths
from hatex.model.policy import packed_shapes
from hatex.model.weights import ResidentWeight
from hatex.training.initial import fresh_adapter

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from hatex.recipe.train import TrainSection

TIMED_TOKENS = 256
FP32_BYTES = 4
# Weight, gradient and both Adam moments of every factor, and the best weights so far.
ADAPTER_COPIES = 5


@dataclass(frozen=True)
class Estimate:
    """Bytes of memory by what they hold, and training tokens a second, all layers counted."""

    base_bytes: int
    adapter_bytes: int
    activation_bytes: int
    tokens_per_s: float


def training_bytes(base: Path, train: TrainSection, dtype: torch.dtype) -> int:
    """About what training takes beside a base's weights: factors and their moments, and what autograd keeps.

    It keeps what goes into each linear layer and comes out; with checkpointing of one block at a time, and the float32
    residual of all others.
    """
    sides = [sum(shape) for shape in packed_shapes(base)]
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    layers, tokens = config["num_hidden_layers"], max(train.batch_tokens, train.max_tokens)
    factors = train.lora.r * sum(sides) * FP32_BYTES * ADAPTER_COPIES
    kept = sum(sides) * dtype.itemsize
    if train.checkpointing:
        kept = kept // layers + layers * config["hidden_size"] * FP32_BYTES
    return int(factors + kept * tokens)


def estimate(
    config: PretrainedConfig, train: TrainSection, dtype: torch.dtype, longest: int, device: torch.device
) -> Estimate:
    """Time and memory of training on a base of this shape on `device`, with its weights resident in `dtype`.

    One block with random weights is trained for a step of at most 256 tokens in rows of `longest`; its seconds and
    what autograd keeps are multiplied by blocks and tokens. Embeddings and the output head are counted as memory,
    not as time.
    """
    layers = int(config.num_hidden_layers)
    lm = _one_block(config, dtype, device)
    adapter = fresh_adapter(lm, "estimate", train.lora, train.seed)
    lm.attach([adapter], trainable=True, dropout=train.lora.dropout)
    width = min(longest, TIMED_TOKENS)
    tokens = width * max(1, min(TIMED_TOKENS, train.batch_tokens) // width)
    ids = torch.zeros(tokens // width, width, dtype=torch.long)
    _step(lm, ids)
    seconds = min(_step(lm, ids) for _ in range(2))
    if train.checkpointing:
        seconds *= 4 / 3  # forward, forward again, and a backward pass of twice the work
    linear = sum(layer.in_features * layer.out_features for layer in lm.gated_layers().values())
    embeddings = int(config.vocab_size * config.hidden_size) * (1 if config.tie_word_embeddings else 2)
    factors = sum(update.A.numel() + update.B.numel() for update in adapter.modules.values())
    per_token = _kept_bytes(lm, ids) / tokens
    # The residual between blocks is float32 on the fast path.
    between = config.hidden_size * (dtype.itemsize if lm.decoder is None else FP32_BYTES)
    kept = per_token + layers * between if train.checkpointing else per_token * layers
    return Estimate(
        base_bytes=(linear * layers + embeddings) * dtype.itemsize,
        adapter_bytes=factors * layers * FP32_BYTES * ADAPTER_COPIES,
        activation_bytes=round(kept * max(train.batch_tokens, longest)),
        tokens_per_s=tokens / (seconds * layers),
    )


def _one_block(config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> GatedLM:
    from transformers import AutoModelForCausalLM

    small = copy.deepcopy(config)
    small.num_hidden_layers, small.vocab_size = 1, 8
    small.pad_token_id = small.bos_token_id = small.eos_token_id = None
    if hasattr(small, "quantization_config"):
        del small.quantization_config
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(small, dtype=dtype, trust_remote_code=False).to(device)
    gates = GateState()
    for path in linear_paths(model):
        linear = model.get_submodule(path)
        bias = None if linear.bias is None else linear.bias.data
        model.set_submodule(path, GatedLinear(ResidentWeight(linear.weight.data), bias, gates))
    model.requires_grad_(False)
    # Every block but the first passes gradients on to its input; the one that stands for all must too.
    model.get_input_embeddings().weight.requires_grad_(True)
    return GatedLM(model.eval(), gates)


def _step(lm: GatedLM, ids: torch.Tensor) -> float:
    started = time.perf_counter()
    lm.set_gates(torch.ones(len(ids), 1))
    lm.hidden(ids).float().pow(2).mean().backward()  # type: ignore[no-untyped-call]
    if lm.device.type == "cuda":
        torch.cuda.synchronize(lm.device)
    return time.perf_counter() - started


def _kept_bytes(lm: GatedLM, ids: torch.Tensor) -> int:
    """Bytes that autograd keeps between forward and backward, the weights not counted."""
    weights = {t.untyped_storage().data_ptr() for t in (*lm.parameters(), *lm.buffers())}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        lm.set_gates(torch.ones(len(ids), 1))
        hidden = lm.hidden(ids)
    del hidden
    return sum(kept.values())
