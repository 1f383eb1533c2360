"""Gated layers that read one input, as one matmul: Q, K and V, or gate and up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.model.functions import BlendedLinear
from hatex.model.gated import GatedLinear, LoraStack, StackGroup
from hatex.model.weights import ResidentWeight


class FusedLinear(nn.Module):
    """Several gated layers of one input as one matmul; their adapters stay apart.

    The weights of the layers become views of the fused one, so nothing is held twice.
    """

    weight: Tensor

    def __init__(self, layers: Sequence[GatedLinear]) -> None:
        super().__init__()
        bases = [layer.base for layer in layers if isinstance(layer.base, ResidentWeight)]
        assert len(bases) == len(layers), "packed weights cannot be fused"
        weight = bases[0].weight if len(bases) == 1 else torch.cat([base.weight for base in bases])
        self.register_buffer("weight", weight, persistent=False)
        self.sizes = [layer.out_features for layer in layers]
        for base, part in zip(bases, torch.split(weight, self.sizes), strict=True):
            base.weight = part
        # In a tuple, so that the layers are not registered as children a second time.
        self.layers = tuple(layers)
        self.gates = layers[0].gates
        self.group: StackGroup | None = None

    def regroup(self) -> None:
        """Take up the adapters that are attached to the layers now."""
        stacks = [layer.stack for layer in self.layers if layer.stack is not None]
        is_frozen = not any(stack.A.requires_grad for stack in stacks)
        self.group = StackGroup(stacks) if len(stacks) > 1 and is_frozen else None

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all layers side by side, shape (rows, tokens, sum of outs). x (rows, tokens, in)."""
        if torch.is_grad_enabled() and not self.gates.is_bare:
            return self._differentiable(x)
        y = F.linear(x, self.weight)
        self._add_updates(y, x)
        return y

    def add_to(self, residual: Tensor, x: Tensor) -> Tensor:
        """`residual + self(x)`; without gradients the sum is written into `residual`."""
        if torch.is_grad_enabled():
            return residual + self.forward(x)
        if residual.dtype != x.dtype:
            return residual.add_(self.forward(x))
        residual.view(-1, residual.shape[-1]).addmm_(x.flatten(0, 1), self.weight.t())
        self._add_updates(residual, x)
        return residual

    def _add_updates(self, y: Tensor, x: Tensor) -> None:
        """Add every layer's blended update to its columns of `y`, in place."""
        if self.gates.is_bare:
            return
        columns = torch.split(y.view(-1, y.shape[-1]), self.sizes, dim=1)
        touched = [
            (part, layer.stack) for part, layer in zip(columns, self.layers, strict=True) if layer.stack
        ]
        for (part, stack), u in zip(touched, self._updates(x, [s for _, s in touched]), strict=True):
            part.addmm_(u.flatten(0, 1), stack.B.to(u.dtype).t())

    def _updates(self, x: Tensor, stacks: Sequence[LoraStack]) -> Iterator[Tensor]:
        if self.group is not None and not self.gates.is_reference:
            yield from self.group.updates(x, self.gates)
            return
        for stack in stacks:
            yield stack.updates(x, self.gates)

    def _differentiable(self, x: Tensor) -> Tensor:
        has_dropout = any(layer.stack is not None and layer.stack.dropout for layer in self.layers)
        if self.gates.is_reference or has_dropout:
            # Every layer draws a dropout mask of its own.
            return torch.cat([layer(x) for layer in self.layers], dim=-1)
        arguments: list[Tensor | None] = []
        for stack in (layer.stack for layer in self.layers):
            if stack is None:
                arguments += [None, None, None]
                continue
            factors = self.gates.factors(stack).expand(-1, x.shape[1], -1).flatten(0, 1)
            # Factors that are trained stay in float32 over a narrower base.
            arguments += [factors, stack.A.to(x.dtype), stack.B.to(x.dtype)]
        flat = x.flatten(0, 1)
        y: Tensor = BlendedLinear.apply(flat, self.weight, self.sizes, *arguments)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:2], -1)
