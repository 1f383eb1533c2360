"""A plain rewrite of the Llama block for gated adapters: the same hidden states as transformers', in fewer passes.

QKV is one matmul and gate/up another, the residual stays in float32 (where the weights are float32 too, it is summed
inside the matmuls that write it), attention is causal without a mask (posts are padded on the right, so nothing real
ever looks at padding), and scoring runs the last block on one position a row. Groups of rows of other lengths share
the matmuls of one pass: each is padded, and attends, on its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from hatex.memory import release_device_cache, release_free_pages
from hatex.model import functions
from hatex.model.compiled import CompiledFunctions
from hatex.model.fused import FusedLinear
from hatex.model.gated import GatedLinear, Groups
from hatex.model.layercache import LayerCache
from hatex.model.weights import ResidentWeight

FAST_TYPES = frozenset({"llama"})
# Tokens a row up to which all attention weights may be kept for the backward pass.
SHORT_ROWS = 512


def is_supported(model: PreTrainedModel) -> bool:
    """Whether this module computes `model` exactly: Llama blocks, SiLU, no biases, weights resident."""
    config = model.config
    return (
        config.model_type in FAST_TYPES
        and config.hidden_act == "silu"
        and not getattr(config, "attention_bias", False)
        and not getattr(config, "mlp_bias", False)
        and all(isinstance(m.base, ResidentWeight) for m in model.modules() if isinstance(m, GatedLinear))
    )


class Functions(Protocol):
    """What stands between a block's matmuls; `functions` itself, or `compiled.CompiledFunctions`."""

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, room: int = 0) -> Tensor: ...

    def swiglu(self, fused: Tensor, room: int = 0) -> Tensor: ...

    def split_heads(
        self, fused: Tensor, cos: Tensor, sin: Tensor, shape: tuple[int, int], heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def add(self, residual: Tensor, y: Tensor) -> Tensor: ...


class LlamaBlock(nn.Module):
    """One decoder block over the layers of a transformers block."""

    def __init__(self, layer: nn.Module, heads: int, kv_heads: int, eps: float) -> None:
        super().__init__()
        self.qkv = _fuse(layer, "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
        self.out = _fuse(layer, "self_attn.o_proj")
        self.gate_up = _fuse(layer, "mlp.gate_proj", "mlp.up_proj")
        self.down = _fuse(layer, "mlp.down_proj")
        self.norm_in = layer.get_parameter("input_layernorm.weight")
        self.norm_mlp = layer.get_parameter("post_attention_layernorm.weight")
        self.heads, self.kv_heads, self.eps = heads, kv_heads, eps

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        is_causal = mask is None and q.shape[2] > 1
        if is_causal and torch.is_grad_enabled() and q.shape[2] <= SHORT_ROWS:
            return functions.causal_attention(q, k, v)
        return F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            is_causal=is_causal,
            enable_gqa=self.kv_heads != self.heads,
        )

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        groups: Groups,
        last: Tensor | None = None,
        cache: LayerCache | None = None,
        mask: Tensor | None = None,
        ops: Functions = functions,
    ) -> Tensor:
        """Hidden states after the block, shape (total, width); without gradients they are written into `x`.

        x holds the tokens of all rows one behind the other, and zeros up to its total. With more than one of `groups`,
        none of the following: with `last` (rows,), only position `last` of every row is computed behind the keys and
        values, one token a row; with `cache`, keys and values of earlier tokens come from it and the new ones are
        appended; `mask` says what a position sees.
        """
        qkv = self.qkv(ops.rms_norm(x, self.norm_in, self.eps, self.qkv.room), groups)
        if len(groups) > 1:
            attended = self._attend_apart(qkv, rotary, groups, ops)
        else:
            (shape,) = groups
            q, k, v = ops.split_heads(qkv, *rotary, shape, self.heads, self.kv_heads)
            if cache is not None:
                k, v = cache.append(k, v)
            if last is not None:
                rows, tokens = shape
                index = torch.arange(rows, device=x.device)
                x, q = with_spare_rows(x[index * tokens + last], qkv.dtype), q[index, :, last].unsqueeze(2)
                mask = (torch.arange(k.shape[2], device=x.device)[None, :] <= last[:, None])[:, None, None, :]
                groups = ((rows, 1),)
            attended = functions.join_heads(self._attend(q, k, v, mask), len(x), self.out.room)
            del q, k, v
        x = self.out.add_to(x, attended, groups, ops.add)
        # Gone before the block's widest tensors come.
        del qkv, attended
        fused = self.gate_up(ops.rms_norm(x, self.norm_mlp, self.eps, self.gate_up.room), groups)
        return self.down.add_to(x, ops.swiglu(fused, self.down.room), groups, ops.add)

    def _attend_apart(
        self, qkv: Tensor, rotary: tuple[Tensor, Tensor], groups: Groups, ops: Functions
    ) -> Tensor:
        """What each group's rows attend to; the spare rows of `qkv` count to the last one."""
        totals = [rows * tokens for rows, tokens in groups]
        totals[-1] += len(qkv) - sum(totals)
        attended = []
        for own, shape in zip(torch.split(qkv, totals), groups, strict=True):
            cos, sin = (t[:, : shape[1]] for t in rotary)
            q, k, v = ops.split_heads(own, cos, sin, shape, self.heads, self.kv_heads)
            attended.append(functions.join_heads(self._attend(q, k, v, None), len(own), self.out.room))
        return torch.cat(attended)


def with_spare_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` with rows of zeros behind it, up to one of few totals, if matmuls run in `dtype` bf16.

    oneDNN prepares a matmul anew for every shape, which takes up to twice as long as running it once.
    """
    if dtype == torch.float32:
        return x
    step = 64 if len(x) > 512 else 16
    return F.pad(x, (0, 0, 0, -len(x) % step))


def _fuse(layer: nn.Module, *paths: str) -> FusedLinear:
    parts = [layer.get_submodule(path) for path in paths]
    return FusedLinear([part for part in parts if isinstance(part, GatedLinear)])


class LlamaDecoder(nn.Module):
    """Embeddings to final hidden states, over the weights of a transformers Llama."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        config, inner = model.config, model.model
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.embed, self.rotary, self.norm = inner.embed_tokens, inner.rotary_emb, inner.norm.weight
        self.eps = config.rms_norm_eps
        self.checkpointing = False
        self.compiled: CompiledFunctions | None = None
        self.blocks = nn.ModuleList()
        for layer in inner.layers:
            self.blocks.append(LlamaBlock(layer, heads, kv_heads, config.rms_norm_eps))
            # The layer's own weights leave holes that no fused one fits into.
            release_free_pages()
        release_device_cache()

    def regroup(self) -> None:
        """Take up the adapters that are attached now."""
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, FusedLinear):
                    module.regroup()
            release_free_pages()
        release_device_cache()

    def compile(self) -> None:
        """Run `compiled.CompiledFunctions` between the matmuls from now on, where they serve the batch."""
        self.compiled = CompiledFunctions()

    def forward(
        self,
        ids: Tensor,
        last: Tensor | None = None,
        cache: Sequence[LayerCache] | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states (rows, tokens, width), or (rows, 1, width) of position `last` only."""
        rows, tokens = ids.shape
        x = self._run(self.embed(ids).flatten(0, 1), ((rows, tokens),), last, cache, positions, mask)
        return x[: rows * (tokens if last is None else 1)].view(rows, -1, x.shape[1])

    def together(self, groups: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Final hidden states of every group of ids (rows, tokens), of other tokens each, in one pass."""
        shapes = tuple((len(ids), ids.shape[1]) for ids in groups)
        x = self._run(torch.cat([self.embed(ids).flatten(0, 1) for ids in groups]), shapes)
        sizes = [rows * tokens for rows, tokens in shapes]
        parts = torch.split(x[: sum(sizes)], sizes)
        return tuple(part.view(*shape, -1) for part, shape in zip(parts, shapes, strict=True))

    def _run(
        self,
        embedded: Tensor,
        groups: Groups,
        last: Tensor | None = None,
        cache: Sequence[LayerCache] | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Embedded tokens of all rows (tokens, width) to their final hidden states, and spare rows behind them."""
        # The sum over blocks stays in float32: rounded to bf16 it would tell which batch a post was in.
        x = with_spare_rows(embedded.float(), embedded.dtype)
        if positions is None:
            positions = torch.arange(max(tokens for _, tokens in groups), device=x.device).unsqueeze(0)
        cos, sin = (t.unsqueeze(2) for t in self.rotary(embedded, positions))
        first, second = sin.chunk(2, -1)
        rotary = cos, torch.cat([-first, second], -1)
        final = len(self.blocks) - 1
        ops: Functions = functions
        if self.compiled is not None and cache is None and self.compiled.fits(groups):
            ops = self.compiled
        for i, block in enumerate(self.blocks):
            only = last if i == final else None
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, rotary, groups, only, use_reentrant=False)
            else:
                x = block(x, rotary, groups, only, cache[i] if cache else None, mask, ops)
        return functions.rms_norm(x, self.norm, self.eps)
