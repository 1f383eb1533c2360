"""Frozen weights of one linear layer, and how they are computed with.

NF4 with double quantisation is how a base is stored and which values it has. `resident` keeps those values
dequantised (fast, memory), `packed` leaves the matmul to bitsandbytes' 4-bit kernels (small; made for few rows),
`dequantize` unpacks for the length of one matmul, `mixed` does one or the other by the number of rows. All compute with
the same values, what bitsandbytes dequantises to the stored dtype; only `packed` in a wider dtype than the stored one
skips the rounding to it. On a CPU, bitsandbytes 0.50 unpacks inside its matmul, as `dequantize` does; its kernel for
one to sixteen rows, up to six times faster, wants bytes in another order and scales rounded to bf16, so other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import local
from typing import Any, Literal, cast

import torch
from bitsandbytes import functional as bnb
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.memory import LARGE, give_large_back

Compute = Literal["resident", "dequantize", "packed", "mixed"]
QUANT_STATE = "quant_state.bitsandbytes__nf4"
NF4_PARTS = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", QUANT_STATE)
ANY_ROWS = 1 << 62
CPU = torch.device("cpu")


class ResidentWeight(nn.Module):
    """A plain weight, shape (out, in)."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight, persistent=False)

    @property
    def out_features(self) -> int:
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        return self.weight.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        """`x W^T`, shape (..., out)."""
        return F.linear(x, self.weight)


class Nf4Weight(nn.Module):
    """A packed NF4 weight; up to `packed_rows` rows of x are computed on the packed bytes, more by unpacking first."""

    def __init__(
        self, packed: Tensor, state: bnb.QuantState, dtype: torch.dtype, *, packed_rows: int = 0
    ) -> None:
        super().__init__()
        # A parameter, although it never learns: that is what `sharding` spreads.
        self.packed = nn.Parameter(packed, requires_grad=False)
        self.state = state
        self.dtype = dtype
        self.packed_rows = packed_rows

    @property
    def out_features(self) -> int:
        return int(self.state.shape[0])

    @property
    def in_features(self) -> int:
        return int(self.state.shape[1])

    def dequantized(self) -> Tensor:
        """The values, shape (out, in), in the compute dtype."""
        return self._stored().to(self.dtype)

    def _stored(self) -> Tensor:
        """The values in the dtype that they were stored for."""
        return cast(Tensor, bnb.dequantize_4bit(self.packed, self.state))

    def unpacked(self) -> Tensor:
        """`dequantized` for one matmul: it may be gone when this thread unpacks another weight."""
        values = self._stored()
        if values.dtype == self.dtype or values.device != CPU:
            return values.to(self.dtype)
        return _scratch.take(values.numel(), self.dtype).view(values.shape).copy_(values)

    def forward(self, x: Tensor) -> Tensor:
        """`x W^T`, shape (..., out)."""
        if torch.is_grad_enabled():
            return cast(Tensor, UnpackedLinear.apply(x, self))  # type: ignore[no-untyped-call]
        if x.numel() // x.shape[-1] <= self.packed_rows:
            return packed_matmul(x, self.packed, self.state)
        return F.linear(x, self.unpacked())


class _Scratch(local):
    """Room of each thread for one weight in a wider dtype than the stored one.

    Allocated anew for every matmul, the stored and the wider values leave holes in malloc's heap that the next layer
    does not fit into: a base of the shape of Llama-2-7B grew to 11 GB.
    """

    def __init__(self) -> None:
        self.values = torch.empty(0)

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        """Room for `count` values; what was there before is lost."""
        if self.values.numel() < count or self.values.dtype != dtype:
            if count * dtype.itemsize > LARGE:
                give_large_back()
            self.values = torch.empty(0)  # the old one goes first
            # Gradients may be asked for next, and could not use what inference mode allocates.
            with torch.inference_mode(False):
                self.values = torch.empty(count, dtype=dtype)
        return self.values[:count]


_scratch = _Scratch()


class UnpackedLinear(torch.autograd.Function):
    """`x W^T` that unpacks W for the forward and again for the backward pass instead of keeping it between them.

    bitsandbytes' packed CPU kernels have no backward, so training never runs them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Nf4Weight) -> Tensor:
        ctx.weight = weight
        return F.linear(x, weight.unpacked())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ ctx.weight.unpacked(), None


def packed_matmul(x: Tensor, packed: Tensor, state: bnb.QuantState) -> Tensor:
    """Bitsandbytes' own 4-bit matmul on packed weights."""
    import bitsandbytes

    return cast(Tensor, bitsandbytes.matmul_4bit(x, packed.t(), quant_state=state)).to(x.dtype)


def quantize(weight: Tensor, block_size: int) -> dict[str, Tensor]:
    """NF4 with double quantisation: the tensors that transformers and bitsandbytes store for one weight.

    Keys are `""` for the packed bytes and the names of `NF4_PARTS`.
    """
    packed, state = bnb.quantize_4bit(
        weight.contiguous(), blocksize=block_size, quant_type="nf4", compress_statistics=True
    )
    return {"": packed, **state.as_dict(packed=True)}


def quant_state(parts: Mapping[str, Tensor], device: torch.device) -> bnb.QuantState:
    """Rebuild the quantisation state from `NF4_PARTS`."""
    return bnb.QuantState.from_dict(dict(parts), device=device)


def build_weight(
    tensors: Mapping[str, Tensor], compute: Compute, dtype: torch.dtype, device: torch.device = CPU
) -> ResidentWeight | Nf4Weight:
    """The weight of one layer on `device` from its stored tensors (packed NF4, or a plain tensor under `""`).

    For `mixed`, the caller sets `packed_rows` to the crossover that was measured.
    """
    if QUANT_STATE not in tensors:
        return ResidentWeight(tensors[""].to(device, dtype))
    packed = tensors[""].to(device)
    state = quant_state({k: v for k, v in tensors.items() if k}, device)
    weight = Nf4Weight(packed, state, dtype, packed_rows=ANY_ROWS if compute == "packed" else 0)
    return ResidentWeight(weight.dequantized()) if compute == "resident" else weight
