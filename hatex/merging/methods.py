"""How the weighted updates of one linear layer become one update.

Every method but `linear` works on whole updates, weight * scaling * B A, never on A and B apart: the product
of merged factors is not the merge of the products.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from hatex.errors import UsageError
from hatex.merging.lowrank import (
    Factors,
    Truncated,
    concatenate,
    squared_norm,
    truncate_dense,
    truncate_factors,
)
from hatex.registry.adapters import LoraUpdate


@dataclass(frozen=True, slots=True)
class Part:
    """One adapter's update of one layer, and its weight in the merge."""

    update: LoraUpdate
    weight: float

    def factors(self) -> Factors:
        """The update in float32; weight and scaling are in B."""
        return Factors(self.update.A.float(), self.update.B.float() * (self.weight * self.update.scaling))

    def dense(self) -> Tensor:
        """The update with the sign of the weight but not its size, shape (out, in)."""
        sign = math.copysign(self.update.scaling, self.weight * self.update.scaling)
        return (self.update.B.float() * sign) @ self.update.A.float()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a method may need: the rank of the result, the share of entries kept, and where chance comes
    from.
    """

    rank: int
    density: float = 1.0
    seed: int = 0

    def generator(self, *key: object) -> torch.Generator:
        """Random numbers that depend on the seed and `key` alone, not on the order of layers."""
        text = "/".join(map(str, (self.seed, *key)))
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(seed)


Method = Callable[[Sequence[Part], Settings, str], Truncated]


def _cat(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    del settings, module
    exact = concatenate([part.factors() for part in parts])
    energy = squared_norm(exact)
    return Truncated(exact, energy, energy)


def _svd(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    del module
    return truncate_factors(concatenate([part.factors() for part in parts]), settings.rank)


def _linear(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    """PEFT's `combination_type="linear"`: sqrt-weighted B times sqrt-weighted A, cross-terms B_i A_j
    included.
    """
    del settings, module
    if len({part.update.r for part in parts}) > 1:
        raise UsageError("method linear needs adapters of one rank", hint="use cat or svd")
    roots = [math.sqrt(abs(part.weight * part.update.scaling)) for part in parts]
    signs = [math.copysign(1.0, part.weight * part.update.scaling) for part in parts]
    A = sum(
        part.update.A.float() * (root * sign) for part, root, sign in zip(parts, roots, signs, strict=True)
    )
    B = sum(part.update.B.float() * root for part, root in zip(parts, roots, strict=True))
    mixed = Factors(torch.as_tensor(A), torch.as_tensor(B))
    energy = squared_norm(mixed)
    return Truncated(mixed, energy, energy)


def _ties(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    """Trim, elect signs, merge the agreeing entries (TIES, Yadav et al. 2023)."""
    trimmed = [_largest(part.dense(), settings.density) for part in parts]
    return _dense(_elect([part.weight for part in parts], trimmed), settings, module)


def _dare_ties(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    """Drop at random and rescale (DARE, Yu et al. 2023), then elect signs as TIES does."""
    dropped = [_drop(part, k, settings, module) for k, part in enumerate(parts)]
    return _dense(_elect([part.weight for part in parts], dropped), settings, module)


def _dare_linear(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    """Drop at random and rescale (DARE, Yu et al. 2023), then add."""
    dropped = [_drop(part, k, settings, module).mul_(abs(part.weight)) for k, part in enumerate(parts)]
    return _dense(torch.stack(dropped).sum(dim=0), settings, module)


def _magnitude_prune(parts: Sequence[Part], settings: Settings, module: str) -> Truncated:
    """Keep the largest entries of every update, then add."""
    kept = [_largest(part.dense(), settings.density).mul_(abs(part.weight)) for part in parts]
    return _dense(torch.stack(kept).sum(dim=0), settings, module)


METHODS: Final[Mapping[str, Method]] = {
    "cat": _cat,
    "svd": _svd,
    "ties": _ties,
    "dare_ties": _dare_ties,
    "dare_linear": _dare_linear,
    "magnitude_prune": _magnitude_prune,
    "linear": _linear,
}
SPARSE: Final = frozenset({"ties", "dare_ties", "dare_linear", "magnitude_prune"})
"""Methods that read `density` and build one dense layer at a time."""


def _largest(matrix: Tensor, density: float) -> Tensor:
    """Zero all but the `density` share of entries that are largest in magnitude."""
    if density >= 1:
        return matrix
    dropped = matrix.numel() - round(density * matrix.numel())
    if dropped == 0:
        return matrix
    magnitude = matrix.abs().flatten()
    threshold = magnitude.kthvalue(dropped).values
    # Of equal entries at the threshold as many go as the share asks for, from the start.
    at = (magnitude == threshold).nonzero().flatten()
    matrix.view(-1)[at[: dropped - int((magnitude < threshold).sum())]] = 0
    return matrix.masked_fill_((magnitude < threshold).view_as(matrix), 0)


def _drop(part: Part, index: int, settings: Settings, module: str) -> Tensor:
    matrix = part.dense()
    if settings.density >= 1:
        return matrix
    chance = torch.rand(matrix.shape, generator=settings.generator("drop", module, index))
    return matrix.masked_fill_(chance >= settings.density, 0).div_(settings.density)


def _elect(weights: Sequence[float], matrices: Sequence[Tensor]) -> Tensor:
    """Weighted mean of the entries whose sign is that of the weighted sum, times the sum of all weights.

    The last factor keeps the size of an update where weights sum to 1, and w times it for a single weight w.
    """
    sizes = [abs(weight) for weight in weights]
    elected = torch.stack([m * size for m, size in zip(matrices, sizes, strict=True)]).sum(dim=0).sign_()
    numerator, denominator = torch.zeros_like(elected), torch.zeros_like(elected)
    for matrix, size in zip(matrices, sizes, strict=True):
        agrees = (matrix.sign() == elected) & (matrix != 0)
        numerator += torch.where(agrees, matrix * size, 0)
        denominator += agrees * size
    return numerator.div_(denominator.clamp_min_(torch.finfo(torch.float32).tiny)).mul_(sum(sizes))


def _dense(matrix: Tensor, settings: Settings, module: str) -> Truncated:
    return truncate_dense(matrix, settings.rank, settings.generator("svd", module))
