"""Llama blocks compiled by torch for long runs: norms, rotations, activations and sums in one pass each.

Opt-in (`route.compile`): compiling takes about half a minute and a C++ compiler. The same values as `llama.LlamaBlock`
within rounding.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hatex.errors import ModelError

if TYPE_CHECKING:
    from hatex.model.llama import LlamaBlock


class CompiledBlocks:
    """All blocks of a decoder behind one compiled function; it serves every batch of two rows and tokens or more.

    Raises ModelError where there is no C++ compiler.
    """

    def __init__(self) -> None:
        if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
            raise ModelError(
                "compiling the base needs a C++ compiler", hint="install g++, or set route.compile: false"
            )
        self._step = torch.compile(_step, dynamic=True)

    def fits(self, shape: tuple[int, int], block: LlamaBlock) -> bool:
        """Whether it serves a batch; others take the plain block, since each special shape is a compilation."""
        gates = block.qkv.gates
        return min(shape) > 1 and not (torch.is_grad_enabled() or gates.is_bare or gates.is_reference)

    def __call__(
        self, block: LlamaBlock, x: Tensor, rotary: tuple[Tensor, Tensor], shape: tuple[int, int]
    ) -> Tensor:
        """Hidden states after `block`, shape (total, width), for rows and tokens `shape`."""
        fused = (block.qkv, block.out, block.gate_up, block.down)
        layers = [
            (layer.A, layer.weight, layer.gates.factors_by_token(layer, shape[1], len(x))) for layer in fused
        ]
        y: Tensor = self._step(
            x,
            rotary[0].float(),
            rotary[1].float(),
            block.norm_in,
            block.norm_mlp,
            layers,
            shape,
            (block.heads, block.kv_heads, block.head_dim),
            block.eps,
        )
        return y


def _step(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    norm_in: Tensor,
    norm_mlp: Tensor,
    layers: list[tuple[Tensor, Tensor, Tensor]],
    shape: tuple[int, int],
    form: tuple[int, int, int],
    eps: float,
) -> Tensor:
    heads, kv_heads, head_dim = form
    rows, tokens = shape
    dtype = layers[0][1].dtype
    qkv = _blended(_norm(x, norm_in, eps, dtype), *layers[0])[: rows * tokens]
    qkv = qkv.view(rows, tokens, -1, head_dim)
    turned = _rotate(qkv[:, :, : heads + kv_heads], cos, sin)
    attended = F.scaled_dot_product_attention(
        turned[:, :, :heads].transpose(1, 2),
        turned[:, :, heads:].transpose(1, 2),
        qkv[:, :, heads + kv_heads :].transpose(1, 2),
        is_causal=True,
        enable_gqa=kv_heads != heads,
    )
    attended = attended.transpose(1, 2).reshape(rows * tokens, -1)
    x = x + _blended(F.pad(attended, (0, 0, 0, len(x) - rows * tokens)), *layers[1])
    gate, up = _blended(_norm(x, norm_mlp, eps, dtype), *layers[2]).chunk(2, -1)
    return x + _blended(F.silu(gate.float()).to(gate.dtype) * up, *layers[3])


def _blended(x: Tensor, A: Tensor, weight: Tensor, factors: Tensor) -> Tensor:
    return F.linear(torch.cat([x, F.linear(x, A) * factors], -1), weight)


def _norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight).to(dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    return (x.float() * cos + torch.cat([second, first], -1) * sin).to(x.dtype)
