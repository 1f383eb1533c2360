"""A causal LM with all adapters of its base attached: one forward, a different exact blend in every row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from hatex.errors import ModelError
from hatex.memory import configure_memory
from hatex.model.gated import GatedLinear, GateState, LoraPart, LoraStack
from hatex.model.llama import FAST_TYPES, LlamaDecoder, is_supported
from hatex.model.loading import load_gated
from hatex.model.policy import measured_packed_rows
from hatex.model.weights import CPU, Compute, Nf4Weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from hatex.registry.adapters import LoraAdapter

ALIBI_TYPES = frozenset({"bloom", "mpt"})


class GatedLM(nn.Module):
    """A base and its adapters. Gate vectors have one entry an adapter, in the order of `adapters`.

    All layers read the gates of the batch that is running, so `lock` is held from setting them to the end of the pass:
    threads may share a model, and take turns.
    """

    def __init__(self, model: PreTrainedModel, gates: GateState, *, fast: bool = True) -> None:
        super().__init__()
        self.model = model
        self.gates = gates
        self.lock = RLock()
        self.adapters: tuple[str, ...] = ()
        self.decoder = LlamaDecoder(model) if fast and is_supported(model) else None

    @classmethod
    def load(
        cls,
        folder: Path,
        compute: Compute,
        dtype: torch.dtype,
        *,
        device: torch.device = CPU,
        fast: bool = True,
    ) -> GatedLM:
        """Load the base in `folder` to `device`; `fast=False` keeps to transformers' own forward.

        Raises ModelError for missing or misshapen weights, or an output head that is more than a matrix.
        """
        configure_memory()
        gates = GateState()
        lm = cls(load_gated(folder, compute, dtype, gates, device), gates, fast=fast)
        if compute == "mixed":
            lm._set_crossover()
        if lm.model.config.model_type not in FAST_TYPES:
            lm._check_head()
        return lm

    def compile(self) -> None:
        """Compile what stands between the matmuls on the first batch, for long runs of scoring.

        Raises ModelError for a base without the fast path, or a machine without a C++ compiler.
        """
        if self.decoder is None:
            raise ModelError(
                "only resident Llama bases can be compiled",
                hint="set route.compile: false, or base.compute: resident",
            )
        self.decoder.compile()

    @property
    def device(self) -> torch.device:
        """Where the model computes; inputs are taken there, and hidden states and logits stay there."""
        return self.vocabulary.device

    @property
    def dtype(self) -> torch.dtype:
        return self.vocabulary.dtype

    @property
    def vocabulary(self) -> Tensor:
        """Rows of the output head, shape (vocabulary, width)."""
        return cast(Tensor, self.model.get_output_embeddings().weight)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits over the vocabulary behind final hidden states, shape (..., vocabulary).

        Handed over as fp32, computed in the compute dtype: what decoding chooses between is as coarse as that.
        """
        return F.linear(hidden, self.vocabulary).float()

    def gated_layers(self) -> dict[str, GatedLinear]:
        """Every gated layer by its path in the base."""
        return {path: m for path, m in self.model.named_modules() if isinstance(m, GatedLinear)}

    def attach(
        self, adapters: Sequence[LoraAdapter], *, trainable: bool = False, dropout: float = 0.0
    ) -> None:
        """Stack these adapters in every layer they touch; replaces what was attached.

        `trainable` keeps their factors in fp32; `dropout` is the share of adapter inputs zeroed with gradients.

        Raises ModelError for a module the base does not have, or a shape that does not fit.
        """
        layers = self.gated_layers()
        parts: dict[str, list[LoraPart]] = {path: [] for path in layers}
        dtype = torch.float32 if trainable else self.dtype
        for index, adapter in enumerate(adapters):
            for path, update in adapter.modules.items():
                _check_fit(adapter.name, path, update.A, update.B, layers)
                A, B = update.A.to(self.device, dtype), update.B.to(self.device, dtype)
                parts[path].append(LoraPart(index, A, B, update.scaling))
        for path, layer in layers.items():
            stack = parts[path]
            layer.stack = LoraStack(stack, trainable=trainable, dropout=dropout) if stack else None
        if self.decoder is not None:
            self.decoder.regroup()
        self.adapters = tuple(adapter.name for adapter in adapters)

    def checkpoint_activations(self, enabled: bool) -> None:
        """Recompute each block in the backward pass instead of keeping what it computed."""
        if self.decoder is not None:
            self.decoder.checkpointing = enabled
            return
        # transformers checkpoints blocks that are in training mode, where some apply the base's own dropout.
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module.__dict__.pop("forward", None)
                if enabled:
                    module.forward = partial(_recomputed, module.forward)

    def last_hidden(
        self, ids: Tensor, lengths: Tensor, gates: Tensor | None, *, reference: bool = False
    ) -> Tensor:
        """Final hidden state at each row's last token, shape (rows, width).

        ids (rows, tokens) padded on the right, lengths (rows,), gates (rows, adapters) or None for the bare base.
        """
        with self.lock:
            self.set_gates(gates, reference=reference)
            last = lengths.to(self.device) - 1
            if self.decoder is not None:
                return cast(Tensor, self.decoder(ids.to(self.device), last=last)[:, 0])
            return self.hidden(ids)[torch.arange(len(ids), device=self.device), last]

    @property
    def needs_equal_lengths(self) -> bool:
        """Whether a cache must not hold padding.

        Sliding windows and ALiBi count what stands in the cache, so that padding would push real tokens out or away.
        """
        config = self.model.config.get_text_config()
        has_alibi = config.model_type in ALIBI_TYPES or getattr(config, "alibi", False)
        return self.decoder is None and (
            bool(has_alibi) or getattr(config, "sliding_window", None) is not None
        )

    def set_gates(self, gates: Tensor | None, *, reference: bool = False) -> None:
        """Blend with `gates`, shape (rows, adapters), from now on; None runs the bare base."""
        if gates is not None and gates.shape[1] != len(self.adapters):
            raise ModelError(f"{gates.shape[1]} gate weights a post for {len(self.adapters)} adapters")
        self.gates.set(None if gates is None else gates.to(self.device, self.dtype), reference=reference)

    def hidden(self, ids: Tensor) -> Tensor:
        """Final hidden states under the gates that are set, shape (rows, tokens, width)."""
        ids = ids.to(self.device)
        # Causal models padded on the right need no mask: nothing real looks at padding.
        return self.decoder(ids) if self.decoder is not None else self.run_base(ids, use_cache=False)

    @property
    def takes_groups(self) -> bool:
        """Whether `hidden_together` serves this base and the adapters that are attached."""
        stacks = (layer.stack for layer in self.gated_layers().values())
        return self.decoder is not None and not any(stack.dropout for stack in stacks if stack is not None)

    def hidden_together(self, groups: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """`hidden` of every group of ids (rows, tokens), in one pass, under gates for the rows of all groups.

        More than one only where `takes_groups`: other forwards and dropout know rows of one length.
        """
        if len(groups) == 1:
            return (self.hidden(groups[0]),)
        assert self.decoder is not None
        return self.decoder.together([ids.to(self.device) for ids in groups])

    def run_base(self, ids: Tensor, **options: Any) -> Tensor:
        """Final hidden states by transformers' own forward."""
        self.gates.tokens = ids.shape[1]
        return cast(Tensor, self.model.base_model(input_ids=ids, **options).last_hidden_state)

    def _set_crossover(self) -> None:
        # In another than the stored dtype, packed matmuls skip a rounding: answers would depend on the batch size.
        weights = [m for m in self.modules() if isinstance(m, Nf4Weight) and m.state.dtype == self.dtype]
        largest = max(weights, key=lambda w: w.out_features * w.in_features, default=None)
        if largest is not None:
            rows = measured_packed_rows(
                largest.out_features, largest.in_features, self.dtype, largest.state.blocksize, self.device
            )
            for weight in weights:
                weight.packed_rows = rows

    @torch.no_grad()
    def _check_head(self) -> None:
        """Biases, scales and soft caps behind the head would be left out: such bases are refused."""
        ids = torch.tensor([[1, 2]], device=self.device)
        self.set_gates(None)
        expected = self.model(input_ids=ids, use_cache=False).logits.float()
        if not torch.allclose(
            self.logits(self.run_base(ids, use_cache=False)), expected, rtol=1e-2, atol=1e-2
        ):
            raise ModelError(
                f"the output head of {self.model.config.model_type} is more than a matrix",
                hint="hatex scores labels with the rows of the head; choose a base without a bias or cap on logits",
            )


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a block computes; with gradients, once more in the backward pass."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _check_fit(adapter: str, path: str, A: Tensor, B: Tensor, layers: dict[str, GatedLinear]) -> None:
    layer = layers.get(path)
    if layer is None:
        raise ModelError(
            f"adapter {adapter} changes {path}, which the base does not have as a linear layer",
            hint="the adapter belongs to another base, or targets embeddings or the output head",
        )
    if A.shape[1] != layer.in_features or B.shape[0] != layer.out_features:
        raise ModelError(f"adapter {adapter} does not fit {path}: the base is of another size")
