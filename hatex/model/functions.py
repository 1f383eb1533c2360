"""Autograd functions: the same values as the plain expressions, in fewer passes over memory.

Only activations, gates and LoRA factors get gradients; frozen weights never do. Functions with `room` leave that many
columns free behind their output, in which the layer that reads it writes its low-rank columns (`BlendedLinear`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

Block = tuple[slice, slice]
"""Where one adapter stack stands in a layer: its rows of the output, its low-rank columns."""


class BlendedLinear(torch.autograd.Function):
    """`y = [x, u] [W, B]^T` with `u = (x A^T) * f`: a layer and the blended update of its slices, in two matmuls.

    x (tokens, in + r), whose last r columns are free and get u; factors f (tokens, r), A (r, in), weight [W, B]
    (out, in + r), zero outside the blocks. `parameters` are the A and B of every block's stack, to get their gradients.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        factors: Tensor,
        A: Tensor,
        weight: Tensor,
        blocks: Sequence[Block],
        *parameters: Tensor,  # noqa: ARG004
    ) -> Tensor:
        write_updates(x, A, factors)
        # Unchanged between here and the backward pass, though other passes write the same values again.
        ctx.A, ctx.weight, ctx.blocks = A, weight, blocks
        ctx.save_for_backward(x, factors)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, factors = ctx.saved_tensors
        A, weight = ctx.A, ctx.weight
        width = A.shape[1]
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grad_u = grad @ weight[:, width:] if grad_x is None else grad_x[:, width:]
        grad_factors = grad_u * (x[:, :width] @ A.t()) if ctx.needs_input_grad[1] else None
        grad_u = grad_u * factors
        if grad_x is not None:
            # The free columns' gradient goes nowhere: whoever left them free takes the first columns only.
            grad_x[:, :width].addmm_(grad_u, A)
        grads: list[Tensor | None] = [None] * (len(ctx.needs_input_grad) - 5)
        if any(ctx.needs_input_grad[5:]):
            grad_A, grad_B = grad_u.t() @ x[:, :width], grad.t() @ x[:, width:]
            grads = [
                part for rows, columns in ctx.blocks for part in (grad_A[columns], grad_B[rows, columns])
            ]
        return grad_x, grad_factors, None, None, None, *grads


def write_updates(x: Tensor, A: Tensor, factors: Tensor) -> None:
    """Write `(x A^T) * factors` into the free columns of x (tokens, in + r)."""
    width = A.shape[1]
    torch.mul(x[:, :width] @ A.t(), factors, out=x[:, width:])


class SwiGlu(torch.autograd.Function):
    """`silu(gate) * up` of a fused (tokens, 2 width) tensor, with room; the gradient is one fused tensor too."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor, room: int) -> Tensor:
        ctx.save_for_backward(fused)
        gate, up = fused.chunk(2, dim=-1)
        y, into = with_room(gate, room, fused.dtype)
        torch.ops.aten.silu.out(gate, out=into).mul_(up)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (fused,) = ctx.saved_tensors
        gate, up = fused.chunk(2, dim=-1)
        grad = grad[..., : gate.shape[-1]]
        out = torch.empty_like(fused)
        grad_gate, grad_up = out.chunk(2, dim=-1)
        torch.mul(grad, up, out=grad_gate)
        torch.ops.aten.silu_backward.grad_input(grad_gate, gate, grad_input=grad_gate)
        torch.ops.aten.silu.out(gate, out=grad_up).mul_(grad)
        return out, None


class RmsNorm(torch.autograd.Function):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich, 2019), with room.

    The mean is taken in float32; the normed row is rounded to `weight`'s type and then scaled, as transformers does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, room: int) -> Tensor:
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = inverse.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y, into = with_room(x, room, weight.dtype)
        torch.mul(x, inverse, out=into).mul_(weight)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight, inverse = ctx.saved_tensors
        weighted = grad[..., : x.shape[-1]] * weight.to(x.dtype)
        along = (weighted * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).mul_(-1 / x.shape[-1])
        return weighted.mul_(inverse).addcmul_(x, along), None, None, None


class SplitHeads(torch.autograd.Function):
    """Q, K and V of every head out of one fused tensor, Q and K turned by their position (rotary embedding).

    fused (tokens of all rows and more, (heads + 2 kv heads) dim); cos and sin (rows or 1, tokens, 1, dim), the first
    half of sin negative: `x cos + [x2, x1] sin` for the halves x1 and x2 of every head.
    """

    @staticmethod
    def forward(
        ctx: Any, fused: Tensor, cos: Tensor, sin: Tensor, shape: tuple[int, int], heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.width, ctx.total = fused.shape[1], len(fused)
        split = fused[: shape[0] * shape[1]].view(*shape, heads + 2 * kv_heads, -1)
        turned, v = split[:, :, :-kv_heads], split[:, :, -kv_heads:]
        turned = (turned * cos).addcmul_(_swapped(turned), sin)
        return turned[:, :, :heads].transpose(1, 2), turned[:, :, heads:].transpose(1, 2), v.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        rows, _, tokens, dim = grads[0].shape
        grad = grads[0].new_empty(ctx.total, ctx.width)
        grad[rows * tokens :] = 0
        split = grad[: rows * tokens].view(rows, tokens, -1, dim)
        parts = torch.split(split, [part.shape[1] for part in grads], 2)
        for part, given in zip(parts[:2], grads[:2], strict=True):
            given = given.transpose(1, 2)
            torch.mul(given, cos, out=part).addcmul_(_swapped(given), sin, value=-1)
        parts[2].copy_(grads[2].transpose(1, 2))
        return grad, None, None, None, None, None


def _swapped(x: Tensor) -> Tensor:
    return x.roll(x.shape[-1] // 2, -1)


class JoinHeads(torch.autograd.Function):
    """(rows, heads, tokens, dim) as (total, heads dim) with room, zero behind the rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, total: int, room: int) -> Tensor:
        ctx.shape = rows, heads, tokens, dim = x.shape
        y = x.new_empty(total, heads * dim + room)
        y[rows * tokens :] = 0
        _by_head(y, ctx.shape).copy_(x.transpose(1, 2))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _by_head(grad, ctx.shape).transpose(1, 2), None, None


def _by_head(y: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """The view (rows, tokens, heads, dim) of joined heads."""
    rows, heads, tokens, dim = shape
    return y[: rows * tokens, : heads * dim].view(rows, tokens, heads, dim)


def with_room(x: Tensor, room: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """An empty tensor with `room` columns more than x, and its view of x's shape."""
    y = x.new_empty(*x.shape[:-1], x.shape[-1] + room, dtype=dtype)
    return y, y[..., : x.shape[-1]]


def add(residual: Tensor, y: Tensor) -> Tensor:
    """`residual + y`; without gradients the sum is written into `residual`."""
    return residual + y if torch.is_grad_enabled() else residual.add_(y)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention in plain matmuls: torch's own CPU kernel takes six times as long for short rows' gradients.

    q (rows, heads, tokens, dim), k and v (rows, kv heads, tokens, dim); every kv head serves heads / kv heads of q.
    """
    rows, heads, tokens, dim = q.shape
    grouped = q.reshape(rows, k.shape[1], -1, dim)
    scores = (grouped @ k.transpose(2, 3) * dim**-0.5).view(rows, heads, tokens, tokens)
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
    weights = scores.masked_fill(later, float("-inf")).softmax(-1)
    attended: Tensor = weights.view(rows, k.shape[1], -1, tokens) @ v
    return attended.view(q.shape)


def rms_norm(x: Tensor, weight: Tensor, eps: float, room: int = 0) -> Tensor:
    """`RmsNorm` of the residual, which is float32."""
    return cast(Tensor, RmsNorm.apply(x, weight, eps, room))  # type: ignore[no-untyped-call]


def swiglu(fused: Tensor, room: int = 0) -> Tensor:
    """`SwiGlu`."""
    return cast(Tensor, SwiGlu.apply(fused, room))  # type: ignore[no-untyped-call]


def split_heads(
    fused: Tensor, cos: Tensor, sin: Tensor, shape: tuple[int, int], heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`SplitHeads`: (rows, heads or kv heads, tokens, dim) for `shape` (rows, tokens)."""
    return cast(
        tuple[Tensor, Tensor, Tensor],
        SplitHeads.apply(fused, cos, sin, shape, heads, kv_heads),  # type: ignore[no-untyped-call]
    )


def join_heads(x: Tensor, total: int, room: int = 0) -> Tensor:
    """`JoinHeads`."""
    return cast(Tensor, JoinHeads.apply(x, total, room))  # type: ignore[no-untyped-call]
