"""What `model.functions` does between a block's matmuls, compiled by torch for long runs: one pass over memory each.

Opt-in (`route.compile`): compiling takes half a minute and a C++ compiler. The same values within rounding, and without
gradients. Matmuls and attention stay outside: torch's compiler calls the same kernels for them.
"""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor

from hatex.errors import ModelError
from hatex.model.functions import with_room
from hatex.model.gated import Groups


class CompiledFunctions:
    """Stands in for the functions of the same names in batches that it `fits`.

    Raises ModelError where there is no C++ compiler.
    """

    def __init__(self) -> None:
        if not (os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")):
            raise ModelError(
                "compiling the base needs a C++ compiler", hint="install g++, or set route.compile: false"
            )
        self._normalise = torch.compile(_normalise, dynamic=True)
        self._activate = torch.compile(_activate, dynamic=True)
        self._turn = torch.compile(_turn, dynamic=True)
        self._add = torch.compile(_add, dynamic=True)

    @staticmethod
    def fits(groups: Groups) -> bool:
        """Whether it serves a batch of these groups; each special shape would be a compilation."""
        return min(map(min, groups)) > 1 and not torch.is_grad_enabled()

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float, room: int = 0) -> Tensor:
        """`functions.rms_norm`."""
        y, into = with_room(x, room, weight.dtype)
        self._normalise(x, weight, eps, into)
        return y

    def swiglu(self, fused: Tensor, room: int = 0) -> Tensor:
        """`functions.swiglu`."""
        y, into = with_room(fused[:, : fused.shape[1] // 2], room, fused.dtype)
        self._activate(fused, into)
        return y

    def split_heads(
        self, fused: Tensor, cos: Tensor, sin: Tensor, shape: tuple[int, int], heads: int, kv_heads: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`functions.split_heads`."""
        split = fused[: shape[0] * shape[1]].view(*shape, heads + 2 * kv_heads, -1)
        turned = self._turn(split[:, :, :-kv_heads], cos, sin)
        q, k, v = turned[:, :, :heads], turned[:, :, heads:], split[:, :, -kv_heads:]
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)

    def add(self, residual: Tensor, y: Tensor) -> Tensor:
        """`functions.add`."""
        self._add(residual, y)
        return residual


def _normalise(x: Tensor, weight: Tensor, eps: float, into: Tensor) -> None:
    into.copy_(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight)


def _activate(fused: Tensor, into: Tensor) -> None:
    gate, up = fused.float().chunk(2, -1)
    into.copy_(gate * torch.sigmoid(gate) * up)


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half].float(), x[..., half:].float()
    cos, sin = cos[..., :half].float(), sin[..., half:].float()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


def _add(residual: Tensor, y: Tensor) -> None:
    residual.add_(y)
