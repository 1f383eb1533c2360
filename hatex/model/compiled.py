"""Llama blocks compiled by torch for long runs: norms, rotations, activations and sums in one pass each.

Opt-in (`route.compile`): compiling takes about half a minute and a C++ compiler, and a second copy of the weights, with
the adapters' B beside W, so that a layer is two matmuls: u = (x A^T) * g, y = [x, u] [W, B]^T. The same values as
`llama.LlamaBlock` within rounding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hatex.errors import ModelError
from hatex.model.fused import FusedLinear
from hatex.model.gated import GateState, LoraStack

if TYPE_CHECKING:
    from hatex.model.llama import LlamaBlock


@dataclass(frozen=True)
class _Layer:
    """A (sum r, in), weight [W, B] (out, in + sum r) with each stack's B at its own rows and columns."""

    A: Tensor
    weight: Tensor
    stacks: tuple[LoraStack, ...]

    @classmethod
    def of(cls, fused: FusedLinear) -> _Layer:
        pairs = [(layer.stack, layer.out_features) for layer in fused.layers]
        stacks = tuple(stack for stack, _ in pairs if stack is not None)
        dtype = fused.weight.dtype
        A = torch.cat(
            [fused.weight.new_zeros(0, fused.weight.shape[1]), *(s.A.detach().to(dtype) for s in stacks)]
        )
        B = [fused.weight.new_zeros(out, 0) if s is None else s.B.detach().to(dtype) for s, out in pairs]
        beside = torch.block_diag(*B)  # type: ignore[no-untyped-call]
        return cls(A, torch.cat([fused.weight, beside], 1), stacks)

    def arguments(self, gates: GateState) -> tuple[Tensor, Tensor, Tensor]:
        """A, weight, and the factors of its rank columns, shape (rows, 1, sum r)."""
        rows = gates.rows
        factors = [gates.factors(stack) for stack in self.stacks] or [self.A.new_zeros(rows, 1, 0)]
        return self.A, self.weight, torch.cat(factors, -1)


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
        self._layers: list[list[_Layer]] = []

    def regroup(self, blocks: Sequence[LlamaBlock]) -> None:
        """Take up the adapters that are attached now."""
        self._layers = [[_Layer.of(f) for f in (b.qkv, b.out, b.gate_up, b.down)] for b in blocks]

    def fits(self, x: Tensor, block: LlamaBlock) -> bool:
        """Whether it serves this batch; others take the plain block, since each special shape is a compilation."""
        gates = block.qkv.gates
        return min(x.shape[:2]) > 1 and not (torch.is_grad_enabled() or gates.is_bare or gates.is_reference)

    def __call__(self, index: int, block: LlamaBlock, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """Hidden states after block `index`, shape (rows, tokens, width)."""
        layers = [layer.arguments(block.qkv.gates) for layer in self._layers[index]]
        y: Tensor = self._step(
            x,
            rotary[0].float(),
            rotary[1].float(),
            block.norm_in,
            block.norm_mlp,
            layers,
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
    shape: tuple[int, int, int],
    eps: float,
) -> Tensor:
    heads, kv_heads, head_dim = shape
    rows, tokens, _ = x.shape
    dtype = layers[0][1].dtype
    qkv = _blended(_norm(x, norm_in, eps, dtype), *layers[0]).view(rows, tokens, -1, head_dim)
    turned = _rotate(qkv[:, :, : heads + kv_heads], cos, sin)
    attended = F.scaled_dot_product_attention(
        turned[:, :, :heads].transpose(1, 2),
        turned[:, :, heads:].transpose(1, 2),
        qkv[:, :, heads + kv_heads :].transpose(1, 2),
        is_causal=True,
        enable_gqa=kv_heads != heads,
    )
    x = x + _blended(attended.transpose(1, 2).flatten(2), *layers[1])
    gate, up = _blended(_norm(x, norm_mlp, eps, dtype), *layers[2]).chunk(2, -1)
    return x + _blended(F.silu(gate.float()).to(gate.dtype) * up, *layers[3])


def _blended(x: Tensor, A: Tensor, weight: Tensor, factors: Tensor) -> Tensor:
    return F.linear(torch.cat([x, F.linear(x, A) * factors], -1), weight)


def _norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight).to(dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)
