"""Adapters and weights to one adapter, one linear layer at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from hatex.errors import UsageError
from hatex.merging.lowrank import Factors, concatenate, pad, squared_distance, squared_norm
from hatex.merging.methods import METHODS, SPARSE, Part, Settings
from hatex.registry.adapters import LoraAdapter, LoraUpdate
from hatex.types import NO_PROGRESS, Progress

Weights = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What to merge, and how. `layers` overrides `weights` for modules that match a pattern; the first match
    counts.

    Patterns are shell patterns on module paths: `model.layers.1?.*`, `*.mlp.*`.
    """

    name: str
    weights: Weights
    method: str = "cat"
    rank: int | None = None
    density: float = 1.0
    seed: int = 4761
    layers: Mapping[str, Weights] = field(default_factory=dict)

    def weights_for(self, module: str) -> Weights:
        """The weights of one module; adapters that an override does not name keep theirs."""
        for pattern, override in self.layers.items():
            if fnmatchcase(module, pattern):
                return {**self.weights, **override}
        return self.weights


@dataclass(frozen=True, slots=True)
class MergeReport:
    """What came of a merge. Errors and energies are over all modules together, in Frobenius norms."""

    method: str
    rank: int
    size_bytes: int
    """Of the weights in float32, as the registry stores them."""
    relative_error: float
    """Norm of the difference to the exact weighted sum, over the norm of that sum."""
    energy: float
    """Share of the squared norm of what the method computed that its rank holds; 1 for exact methods."""


@dataclass(frozen=True, slots=True)
class Merged:
    adapter: LoraAdapter
    report: MergeReport


def merge_adapters(
    adapters: Sequence[LoraAdapter], plan: MergePlan, *, progress: Progress = NO_PROGRESS
) -> Merged:
    """Merge `adapters` as `plan` says; at most one layer is dense at a time. Tensors of the result are
    float32.

    Raises `UsageError` for a plan that does not fit the adapters: unknown names, a wrong density or rank,
    weights that are not finite or all zero, shapes that differ.
    """
    used = _used(adapters, plan)
    rank = _rank(used, plan)
    settings = Settings(rank=rank, density=plan.density, seed=plan.seed)
    modules = list(dict.fromkeys(module for adapter in used for module in adapter.modules))
    merged: dict[str, LoraUpdate] = {}
    kept = total = distance = norm = 0.0
    with progress.task(f"Merging ({plan.method})", total=len(modules), unit="layers") as advance:
        for module in modules:
            parts = _parts(used, plan.weights_for(module), module)
            if parts:
                result = METHODS[plan.method](parts, settings, module)
                exact = concatenate([part.factors() for part in parts])
                kept, total = kept + result.kept, total + result.total
                distance += squared_distance(result.factors, exact)
                norm += squared_norm(exact)
                merged[module] = _update(result.factors, rank)
            advance(1)
    report = MergeReport(
        method=plan.method,
        rank=rank,
        size_bytes=4 * sum(update.A.numel() + update.B.numel() for update in merged.values()),
        relative_error=math.sqrt(distance / norm) if norm else 0.0,
        energy=kept / total if total else 1.0,
    )
    return Merged(LoraAdapter(plan.name, merged, used[0].base_model), report)


def _update(factors: Factors, rank: int) -> LoraUpdate:
    A, B = pad(factors, rank)
    return LoraUpdate(A, B, 1.0)


def _used(adapters: Sequence[LoraAdapter], plan: MergePlan) -> list[LoraAdapter]:
    """The adapters that any weight touches, in the order given; checks the plan against them."""
    known = [adapter.name for adapter in adapters]
    named = [plan.weights, *plan.layers.values()]
    if unknown := sorted({name for weights in named for name in weights} - set(known)):
        raise UsageError(
            f"weights name unknown adapters: {', '.join(unknown)}", hint=f"known: {', '.join(known)}"
        )
    if not all(math.isfinite(weight) for weights in named for weight in weights.values()):
        raise UsageError("weights must be finite numbers")
    if plan.method not in METHODS:
        raise UsageError(f"unknown method {plan.method!r}", hint=f"one of {', '.join(METHODS)}")
    if not 0 < plan.density <= 1:
        raise UsageError(f"density must be above 0 and at most 1 (got {plan.density})")
    if plan.density < 1 and plan.method not in SPARSE:
        raise UsageError(
            f"method {plan.method} has no density", hint=f"density is for {', '.join(sorted(SPARSE))}"
        )
    used = [a for a in adapters if any(weights.get(a.name, 0.0) != 0.0 for weights in named)]
    if not used:
        raise UsageError("all weights are zero")
    return used


def _rank(used: Sequence[LoraAdapter], plan: MergePlan) -> int:
    """Rank of the result: what the method gives, or `plan.rank` where it truncates."""
    everything = sum(adapter.r for adapter in used)
    if plan.method == "svd":
        rank = max(adapter.r for adapter in used) if plan.rank is None else plan.rank
    elif plan.method in SPARSE:
        rank = everything if plan.rank is None else plan.rank
    elif plan.rank is not None:
        raise UsageError(f"method {plan.method} has no choice of rank", hint="use svd, or leave the rank out")
    else:
        rank = everything if plan.method == "cat" else used[0].r
    if rank < 1:
        raise UsageError(f"rank must be at least 1 (got {rank})")
    return rank


def _parts(used: Sequence[LoraAdapter], weights: Weights, module: str) -> list[Part]:
    parts = [
        Part(adapter.modules[module], weights[adapter.name])
        for adapter in used
        if module in adapter.modules and weights.get(adapter.name, 0.0) != 0.0
    ]
    if len({(part.update.A.shape[1], part.update.B.shape[0]) for part in parts}) > 1:
        raise UsageError(
            f"{module} has different shapes in these adapters", hint="merge adapters of one base"
        )
    return parts
