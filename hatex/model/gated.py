"""Linear layers that hold every adapter of a base, stacked, and blend them anew for every row.

With A = [A_1; ...; A_K] (sum r x in), B = [B_1, ..., B_K] (out x sum r) and s_k each adapter's own scaling, a row
with gate weights g gets

    y = W x + ((x A^T) * (g s)) B^T

where g s repeats g_k s_k over adapter k's r columns: the exact sum of low-rank updates, whatever the ranks, at the
price of one adapter of rank sum r. Adapters that do not touch a layer are simply not in its stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatex.errors import ModelError
from hatex.model.weights import Nf4Weight, ResidentWeight

Layout = tuple[tuple[int, int, float], ...]
"""(adapter, rank, scaling) of every part of a stack."""

Groups = tuple[tuple[int, int], ...]
"""(rows, tokens) of each group of rows of one length, of a batch that holds the tokens of all rows one behind the
other; scoring has one group a batch."""


class RankColumns(Protocol):
    """Low-rank columns of any adapters: which adapter each belongs to, and that adapter's scaling."""

    owner: Tensor
    scaling: Tensor
    layout: Layout


class GateState:
    """The gate weights of the batch that is running, shared by all gated layers of one model."""

    def __init__(self) -> None:
        self._gates: Tensor | None = None
        self._reference = False
        self._factors: dict[Layout, Tensor] = {}
        self._by_token: dict[tuple[Layout, Groups, int], Tensor] = {}
        self.tokens: int | None = None
        """Tokens a row in the running batch, for architectures that flatten rows and tokens on the way."""

    def set(self, gates: Tensor | None, *, reference: bool = False) -> None:
        """Use `gates`, shape (rows, adapters), from now on; None runs the bare base.

        `reference` blends as the research code does, with its cross-terms.
        """
        self._gates = gates
        self._reference = reference
        self._factors.clear()
        self._by_token.clear()

    @property
    def is_bare(self) -> bool:
        return self._gates is None

    @property
    def is_reference(self) -> bool:
        return self._reference

    def by_row(self, x: Tensor) -> Tensor:
        """`x` as (rows, tokens, width), however the architecture hands it over.

        Raises ModelError where tokens were picked out or mixed, as experts do: their row is not known any more.
        """
        assert self._gates is not None
        if x.dim() == 3 and x.shape[0] == len(self._gates):
            return x
        if self.tokens is None or x.numel() != len(self._gates) * self.tokens * x.shape[-1]:
            raise ModelError(
                "an adapter changes a layer that does not see rows of tokens",
                hint="layers inside experts cannot be blended per post; train adapters on attention layers",
            )
        return x.reshape(len(self._gates), self.tokens, x.shape[-1])

    def factors(self, stack: RankColumns) -> Tensor:
        """Factors of a stack's rank columns, shape (rows, 1, sum r): g s, or sqrt(g) for `reference`."""
        assert self._gates is not None
        found = self._factors.get(stack.layout)
        if found is None:
            columns = self._gates[:, stack.owner]
            found = columns.sqrt() if self._reference else columns * stack.scaling.to(columns.dtype)
            found = found.unsqueeze(1)
            # Gates that are trained are expanded anew in every layer, and again where activations are recomputed.
            if not found.requires_grad:
                self._factors[stack.layout] = found
        return found

    def factors_by_token(self, stack: RankColumns, groups: Groups, total: int) -> Tensor:
        """`factors` of every token of the groups' rows, and zeros up to `total`: (total, sum r)."""
        found = self._by_token.get((stack.layout, groups, total))
        if found is None:
            by_group = torch.split(self.factors(stack), [rows for rows, _ in groups])
            by_token = [
                factors.expand(-1, tokens, -1).flatten(0, 1)
                for factors, (_, tokens) in zip(by_group, groups, strict=True)
            ]
            found = torch.cat(by_token) if len(by_token) > 1 else by_token[0]
            found = F.pad(found, (0, 0, 0, total - len(found)))
            if not found.requires_grad:
                self._by_token[stack.layout, groups, total] = found
        return found


@dataclass(frozen=True)
class LoraPart:
    """One adapter's update of one layer: A (r, in), B (out, r), and which adapter it is."""

    adapter: int
    A: Tensor
    B: Tensor
    scaling: float


class LoraStack(nn.Module):
    """All adapters' low-rank factors of one linear layer. `A` (sum r, in) and `B` (out, sum r)."""

    owner: Tensor
    scaling: Tensor

    def __init__(self, parts: Sequence[LoraPart], *, trainable: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.A = nn.Parameter(torch.cat([p.A for p in parts], 0), requires_grad=trainable)
        self.B = nn.Parameter(torch.cat([p.B for p in parts], 1).contiguous(), requires_grad=trainable)
        self.layout: Layout = tuple((p.adapter, p.A.shape[0], p.scaling) for p in parts)
        ranks = torch.tensor([p.A.shape[0] for p in parts])
        owner = torch.repeat_interleave(torch.tensor([p.adapter for p in parts]), ranks)
        scaling = torch.repeat_interleave(torch.tensor([p.scaling for p in parts]), ranks)
        self.register_buffer("owner", owner.to(self.A.device), persistent=False)
        self.register_buffer("scaling", scaling.to(self.A.device), persistent=False)

    @property
    def first_rank(self) -> int:
        """Rank of the first adapter's part; 0 if that adapter does not touch the layer."""
        return sum(rank for adapter, rank, _ in self.layout if adapter == 0)

    def train_first_only(self) -> None:
        """Give the factors of all adapters but the first no gradient."""
        rank = self.first_rank
        self.A.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: torch.cat([grad[:rank], torch.zeros_like(grad[rank:])])
        )
        self.B.register_hook(  # type: ignore[no-untyped-call]
            lambda grad: torch.cat([grad[:, :rank], torch.zeros_like(grad[:, rank:])], 1)
        )

    def dropped(self, x: Tensor) -> Tensor:
        """The adapters' input: with gradients, a `dropout` share of it is zeroed (Hu et al., 2021)."""
        return F.dropout(x, self.dropout) if self.dropout and torch.is_grad_enabled() else x

    def updates(self, x: Tensor, gates: GateState) -> Tensor:
        """Columns that `B` maps to the update, shape (rows, tokens, sum r). x (rows, tokens, in)."""
        # Factors that are trained stay in float32 over a narrower base.
        h = F.linear(self.dropped(x), self.A.to(x.dtype))
        return self._with_cross_terms(h, gates) if gates.is_reference else h * gates.factors(self)

    def _with_cross_terms(self, h: Tensor, gates: GateState) -> Tensor:
        """sum_j sqrt(g_j) s_j A_j x, then sqrt(g_i) of it for every adapter: PEFT 0.8.2's `linear`."""
        ranks = {rank for _, rank, _ in self.layout}
        if len(ranks) > 1:
            raise ModelError(
                "blend space `reference` needs adapters of one rank", hint="use --space delta, which is exact"
            )
        factors = gates.factors(self)
        scaled = h * factors * self.scaling.to(h.dtype)
        mixed = scaled.view(*h.shape[:-1], len(self.layout), ranks.pop()).sum(-2)
        return mixed.repeat(1, 1, len(self.layout)) * factors


class GatedLinear(nn.Module):
    """A frozen linear layer plus the blend of its adapters. Input (rows, tokens, in), output (rows, tokens, out)."""

    bias: Tensor | None

    def __init__(self, base: ResidentWeight | Nf4Weight, bias: Tensor | None, gates: GateState) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("bias", bias, persistent=False)
        self.gates = gates
        self.stack: LoraStack | None = None

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    def forward(self, x: Tensor) -> Tensor:
        """`W x + b + sum_k g_k s_k B_k A_k x` for every row. Rows and tokens may come flattened into one dimension."""
        y: Tensor = self.base(x)
        if self.bias is not None:
            y = y + self.bias
        if self.stack is None or self.gates.is_bare:
            return y
        u = self.stack.updates(self.gates.by_row(x), self.gates)
        if torch.is_grad_enabled():
            return y + F.linear(u, self.stack.B.to(u.dtype)).view(y.shape)
        return add_product_(y, u, self.stack.B)


def add_product_(y: Tensor, u: Tensor, weight: Tensor) -> Tensor:
    """`y += u weight^T` in place, without a temporary of y's size. y (..., out) contiguous. For inference only."""
    y.view(-1, y.shape[-1]).addmm_(u.reshape(-1, u.shape[-1]), weight.to(u.dtype).t())
    return y
