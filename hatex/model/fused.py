"""Gated layers that read one input, as one: Q, K and V, or gate and up, with all of their adapters.

The adapters' B stand beside the weight, so that a layer is two matmuls: u = (x A^T) * g, y = [x, u] [W, B]^T.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.model.functions import BlendedLinear, Block, add, write_updates
from hatex.model.gated import GatedLinear, Groups, Layout, LoraStack
from hatex.model.weights import ResidentWeight


class FusedLinear(nn.Module):
    """Several gated layers of one input as one.

    `weight` is [W, B], shape (sum of outs, in + rank), and `A` (rank, in), for rank columns of all adapters together.
    The layers' own weights and their frozen adapters' factors become views of them, so nothing is held twice.
    """

    weight: Tensor
    A: Tensor
    owner: Tensor
    scaling: Tensor

    def __init__(self, layers: Sequence[GatedLinear]) -> None:
        super().__init__()
        bases = [layer.base for layer in layers if isinstance(layer.base, ResidentWeight)]
        assert len(bases) == len(layers), "packed weights cannot be fused"
        self.in_features = layers[0].in_features
        # In a tuple, so that the layers are not registered as children a second time.
        self.layers, self._bases = tuple(layers), tuple(bases)
        self.gates = layers[0].gates
        weight = bases[0].weight if len(bases) == 1 else torch.cat([base.weight for base in bases])
        self.register_buffer("weight", weight, persistent=False)
        self.regroup()

    def regroup(self) -> None:
        """Take up the adapters that are attached to the layers now."""
        plain, sizes = self.weight[:, : self.in_features], [layer.out_features for layer in self.layers]
        rows = [slice(end - size, end) for size, end in zip(sizes, _ends(sizes), strict=True)]
        placed = [(at, layer.stack) for at, layer in zip(rows, self.layers, strict=True) if layer.stack]
        ranks = [stack.A.shape[0] for _, stack in placed]
        columns = [slice(end - rank, end) for rank, end in zip(ranks, _ends(ranks), strict=True)]
        self.stacks: tuple[LoraStack, ...] = tuple(stack for _, stack in placed)
        self.blocks: list[Block] = [(at, to) for (at, _), to in zip(placed, columns, strict=True)]
        self.layout: Layout = tuple(part for stack in self.stacks for part in stack.layout)
        # Otherwise the weights stay where they are.
        if sum(ranks) or plain.shape != self.weight.shape:
            self.weight = torch.cat([plain, plain.new_zeros(len(plain), sum(ranks))], 1)
        self.A = plain.new_empty(sum(ranks), self.in_features)
        none = torch.empty(0, device=plain.device)
        self.owner = torch.cat([none.long(), *(stack.owner for stack in self.stacks)])
        self.scaling = torch.cat([none, *(stack.scaling for stack in self.stacks)])
        for base, at in zip(self._bases, rows, strict=True):
            base.weight = self.weight[at, : self.in_features]
        self._copy_factors()
        self.is_frozen = not any(stack.A.requires_grad for stack in self.stacks)
        if self.is_frozen:
            for stack, (at, to) in zip(self.stacks, self.blocks, strict=True):
                stack.A = nn.Parameter(self.A[to], requires_grad=False)
                stack.B = nn.Parameter(self._beside[at, to], requires_grad=False)

    @property
    def _beside(self) -> Tensor:
        """The adapters' columns of `weight`, shape (sum of outs, rank)."""
        return self.weight[:, self.in_features :]

    @torch.no_grad()
    def _copy_factors(self) -> None:
        for stack, (rows, columns) in zip(self.stacks, self.blocks, strict=True):
            self.A[columns] = stack.A
            self._beside[rows, columns] = stack.B

    @property
    def room(self) -> int:
        """Columns that the layer's input must have free behind its own; 0 where the adapters go another way."""
        return 0 if self.gates.is_bare or self._goes_apart() else self.A.shape[0]

    def _goes_apart(self) -> bool:
        """With gradients, every layer draws a dropout mask of its own, and cross-terms are left to autograd."""
        return torch.is_grad_enabled() and (
            self.gates.is_reference or any(stack.dropout for stack in self.stacks)
        )

    def forward(self, x: Tensor, groups: Groups) -> Tensor:
        """Outputs of all layers side by side, shape (total, sum of outs).

        x (total, in + `room`) holds the tokens of every row of the batch, and may hold more behind them.
        """
        if self.gates.is_bare or not self.stacks:
            return F.linear(x, self.weight[:, : self.in_features])
        if self._goes_apart():
            by_row = self._by_row(x, groups)
            y = torch.cat([layer(by_row) for layer in self.layers], dim=-1).flatten(0, 1)
            return F.pad(y, (0, 0, 0, len(x) - len(y)))
        if not self.is_frozen:
            self._copy_factors()
        if not torch.is_grad_enabled():
            return F.linear(self._updated(x, groups), self.weight)
        factors = self.gates.factors_by_token(self, groups, len(x))
        parameters = [factor for stack in self.stacks for factor in (stack.A, stack.B)]
        return cast(
            Tensor,
            BlendedLinear.apply(x, factors, self.A, self.weight, self.blocks, *parameters),  # type: ignore[no-untyped-call]
        )

    def add_to(
        self, residual: Tensor, x: Tensor, groups: Groups, add: Callable[[Tensor, Tensor], Tensor] = add
    ) -> Tensor:
        """`residual + self(x, groups)`; without gradients the sum is written into `residual`."""
        if torch.is_grad_enabled() or residual.dtype != x.dtype:
            return add(residual, self.forward(x, groups))
        weight = self.weight[:, : x.shape[1]]
        if self.room:
            x = self._updated(x, groups)
        return residual.addmm_(x, weight.t())

    def _updated(self, x: Tensor, groups: Groups) -> Tensor:
        """`x` with the blended low-rank columns in its room. Without gradients."""
        if not self.gates.is_reference:
            write_updates(x, self.A, self.gates.factors_by_token(self, groups, len(x)))
            return x
        by_row = self._by_row(x, groups)
        x[:, self.in_features :] = 0
        for stack, (_, columns) in zip(self.stacks, self.blocks, strict=True):
            update = stack.updates(by_row, self.gates).flatten(0, 1)
            x[: len(update), self.in_features :][:, columns] = update
        return x

    def _by_row(self, x: Tensor, groups: Groups) -> Tensor:
        """The own columns of x, shape (rows, tokens, in). Raises ValueError for more than one group."""
        ((rows, tokens),) = groups
        return x[: rows * tokens, : self.in_features].view(rows, tokens, self.in_features)


def _ends(sizes: Sequence[int]) -> list[int]:
    return [sum(sizes[: i + 1]) for i in range(len(sizes))]
