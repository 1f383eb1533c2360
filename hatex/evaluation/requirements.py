"""Bounds that CI holds: requirements of a recipe, and regressions against a saved run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hatex.errors import UsageError
from hatex.evaluation.catalogue import METRICS, find_metric
from hatex.evaluation.estimate import Estimate
from hatex.evaluation.sheet import MEAN, Cells
from hatex.recipe.evaluate import RequirementSection

Origin = Literal["requirement", "regression"]


@dataclass(frozen=True)
class Outcome:
    """One bound and what came of it. `margin` is the distance to the bound, negative where it is broken; None
    where the metric is `n/a`, which never satisfies a bound.
    """

    origin: Origin
    metric: str
    data: str
    strategy: str
    bound: Literal["min", "max"]
    limit: float
    estimate: Estimate

    @property
    def margin(self) -> float | None:
        if self.estimate.value is None:
            return None
        return self.estimate.value - self.limit if self.bound == "min" else self.limit - self.estimate.value

    @property
    def holds(self) -> bool:
        return self.margin is not None and self.margin >= 0

    def to_json(self) -> dict[str, Any]:
        return {
            "origin": self.origin,
            "metric": self.metric,
            "data": self.data,
            "strategy": self.strategy,
            "bound": self.bound,
            "limit": self.limit,
            "estimate": self.estimate.to_json(),
            "margin": self.margin,
            "holds": self.holds,
        }


def check_requirements_known(
    requirements: Iterable[RequirementSection], strategies: Sequence[str] | None, data: Sequence[str]
) -> None:
    """Raises UsageError for a metric, strategy or data set that the run will not have, before it starts.

    `strategies` is None where they are not known yet.
    """
    for number, requirement in enumerate(requirements, start=1):
        where = f"eval.requirements, number {number}"
        find_metric(requirement.metric)
        if strategies is not None and requirement.strategy not in strategies:
            hint = f"this run has {', '.join(strategies)}"
            raise UsageError(f"strategy {requirement.strategy!r} is not evaluated", where=where, hint=hint)
        if requirement.data not in (*data, MEAN):
            raise UsageError(
                f"data set {requirement.data!r} is not evaluated",
                where=where,
                hint=f"this run has {', '.join(data)}",
            )


def judge_requirements(requirements: Iterable[RequirementSection], results: Cells) -> list[Outcome]:
    """One outcome per bound."""
    outcomes = []
    for requirement in requirements:
        cells = results[requirement.strategy].get(requirement.data, {})
        estimate = cells.get(requirement.metric, Estimate.missing("not computed"))
        for bound, limit in (("min", requirement.min), ("max", requirement.max)):
            if limit is not None:
                where = (requirement.metric, requirement.data, requirement.strategy)
                outcomes.append(
                    Outcome("requirement", *where, "min" if bound == "min" else "max", limit, estimate)
                )
    return outcomes


def judge_regressions(before: Cells, now: Cells, metrics: Sequence[str], tolerance: float) -> list[Outcome]:
    """One outcome per cell that both runs have: no metric may be worse than before by more than `tolerance`.

    Cells that were `n/a` before bind nothing.
    """
    outcomes = []
    for strategy in (name for name in now if name in before):
        for dataset in (name for name in now[strategy] if name in before[strategy]):
            for metric in metrics:
                old = before[strategy][dataset].get(metric)
                if old is None or old.value is None:
                    continue
                estimate = now[strategy][dataset].get(metric, Estimate.missing("not computed"))
                higher = METRICS[metric].better == "higher"
                outcomes.append(
                    Outcome(
                        "regression",
                        metric,
                        dataset,
                        strategy,
                        "min" if higher else "max",
                        old.value - tolerance if higher else old.value + tolerance,
                        estimate,
                    )
                )
    return outcomes
