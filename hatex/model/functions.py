"""Autograd functions: the same values as the plain expressions, in fewer passes over memory.

Only activations, gates and LoRA factors get gradients; frozen weights never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F


class BlendedLinear(torch.autograd.Function):
    """`x W^T` plus the blended update of each output slice: y[:, s] += ((x A_s^T) * f_s) B_s^T.

    x (tokens, in), weight (out, in); for every slice its width, factors f (tokens, r), A (r, in) and B (width, r), or
    three times None where no adapter touches it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, widths: Sequence[int], *stacks: Tensor | None) -> Tensor:
        y = x @ weight.t()
        updates: list[Tensor | None] = []
        for i, part in enumerate(torch.split(y, list(widths), dim=1)):
            factors, A, B = stacks[3 * i : 3 * i + 3]
            if factors is None or A is None or B is None:
                updates.append(None)
                continue
            u = (x @ A.t()).mul_(factors)
            part.addmm_(u, B.t())
            updates.append(u)
        ctx.save_for_backward(x, weight, *stacks, *updates)
        ctx.widths = list(widths)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *rest = ctx.saved_tensors
        count = len(ctx.widths)
        stacks, updates = rest[: 3 * count], rest[3 * count :]
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        grads: list[Tensor | None] = []
        for i, part in enumerate(torch.split(grad, ctx.widths, dim=1)):
            factors, A, B = stacks[3 * i : 3 * i + 3]
            if factors is None:
                grads += [None, None, None]
                continue
            grad_u = part @ B
            grad_factors = grad_u * (x @ A.t()) if ctx.needs_input_grad[3 + 3 * i] else None
            grad_u = grad_u.mul_(factors)
            if grad_x is not None:
                grad_x.addmm_(grad_u, A)
            grads += [grad_factors, grad_u.t() @ x, part.t() @ updates[i]]
        return grad_x, None, None, *grads


class SwiGlu(torch.autograd.Function):
    """`silu(gate) * up` of a fused (tokens, 2 width) tensor; the gradient is written into one fused tensor too."""

    @staticmethod
    def forward(ctx: Any, fused: Tensor) -> Tensor:
        ctx.save_for_backward(fused)
        gate, up = fused.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (fused,) = ctx.saved_tensors
        gate, up = fused.chunk(2, dim=-1)
        out = torch.empty_like(fused)
        grad_gate, grad_up = out.chunk(2, dim=-1)
        torch.mul(F.silu(gate), grad, out=grad_up)
        torch.mul(grad, up, out=grad_gate)
        grad_gate.copy_(torch.ops.aten.silu_backward(grad_gate.contiguous(), gate.contiguous()))
        return out


class RmsNorm(torch.autograd.Function):
    """`x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich, 2019), float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = inverse.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return (x * weight).mul_(inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        weighted = grad * weight
        along = (weighted * x).sum(-1, keepdim=True).mul_(inverse.pow(3)).mul_(-1 / x.shape[-1])
        return weighted.mul_(inverse).addcmul_(x, along), None, None


class Rotate(torch.autograd.Function):
    """Rotary position embedding; x (rows, tokens, heads, dim), cos and sin (rows or 1, tokens, 1, dim / 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out_first, out_second = y.chunk(2, dim=-1)
    torch.mul(first, cos, out=out_first)
    out_first.addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=out_second)
    out_second.addcmul_(first, sin, value=sign)
    return y


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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """`RmsNorm` of the residual, which is float32."""
    return cast(Tensor, RmsNorm.apply(x, weight, eps))  # type: ignore[no-untyped-call]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`Rotate`."""
    return cast(Tensor, Rotate.apply(x, cos, sin))  # type: ignore[no-untyped-call]


def swiglu(fused: Tensor) -> Tensor:
    """`SwiGlu`."""
    return cast(Tensor, SwiGlu.apply(fused))  # type: ignore[no-untyped-call]
