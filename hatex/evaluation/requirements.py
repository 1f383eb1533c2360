"""Bounds that CI holds: requirements of a recipe, and regressions against a saved run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hatex.errors import UsageError
from hatex.evaluation import faithfulness
from hatex.evaluation.catalogue import METRICS, find_metric
from hatex.evaluation.estimate import Estimate
from hatex.evaluation.functional import SuiteResult
from hatex.evaluation.sheet import MEAN, Cells, shared_columns
from hatex.recipe.evaluate import RequirementSection

Origin = Literal["requirement", "regression"]

SUITE_METRICS: Final = ("suite_hateful", "suite_non_hateful", "suite_flip_rate")
"""Figures of a functional suite; the requirement's `data` is the suite's name."""
EXPLANATION_METRICS: Final = (
    "token_f1",
    "iou_f1",
    "rationale_auprc",
    *faithfulness.NAMES,
    "target_group_f1",
    "target_group_macro_f1",
    "verbatim_rate",
    "parse_rate",
)
"""Figures of the explanations of a data set's harmful posts."""


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


@dataclass(frozen=True)
class Evaluated:
    """What a run has to judge requirements by; `strategies` is None where they are not known yet.

    Suites and explanations are those of `reference` alone.
    """

    data: Sequence[str]
    strategies: Sequence[str] | None
    reference: str
    suites: Sequence[str] = ()
    has_explanations: bool = True


def data_to_explain(requirements: Iterable[RequirementSection]) -> set[str]:
    """Data sets whose explanations a requirement is about, so that they have to be judged."""
    return {each.data for each in requirements if each.metric in EXPLANATION_METRICS}


def check_requirements_known(requirements: Iterable[RequirementSection], run: Evaluated) -> None:
    """Raises UsageError for a metric, strategy, data set or suite that the run will not have, before it
    starts.
    """
    for number, requirement in enumerate(requirements, start=1):
        where = f"eval.requirements, number {number}"
        of_reference = requirement.metric in (*SUITE_METRICS, *EXPLANATION_METRICS)
        if not of_reference:
            find_metric(requirement.metric, also=(*SUITE_METRICS, *EXPLANATION_METRICS))
        strategies = (run.reference,) if of_reference else run.strategies
        if strategies is not None and requirement.strategy not in strategies:
            hint = f"{requirement.metric} is about {', '.join(strategies)}"
            raise UsageError(f"strategy {requirement.strategy!r} is not evaluated", where=where, hint=hint)
        _check_data(requirement, run, where)


def _check_data(requirement: RequirementSection, run: Evaluated, where: str) -> None:
    if requirement.metric in EXPLANATION_METRICS and not run.has_explanations:
        raise UsageError(
            f"{requirement.metric} is about explanations, and this run has none",
            where=where,
            hint="run without --predictions",
        )
    if requirement.metric in SUITE_METRICS:
        kind, known = "suite", tuple(run.suites)
    elif requirement.metric in EXPLANATION_METRICS:
        kind, known = "data set", tuple(run.data)
    else:
        kind, known = "data set", (*run.data, MEAN)
    if requirement.data not in known:
        has = ", ".join(known) or f"no {kind}"
        raise UsageError(
            f"{kind} {requirement.data!r} is not evaluated", where=where, hint=f"this run has {has}"
        )


def requirement_cells(
    results: Cells,
    reference: str,
    suites: Iterable[SuiteResult],
    explanations: Mapping[str, Mapping[str, Estimate]],
) -> Cells:
    """Results with the figures of suites and explanations beside those of the reference strategy."""
    cells = {data: dict(by_metric) for data, by_metric in results[reference].items()}
    for suite in suites:
        figures = (suite.hateful, suite.non_hateful, suite.flip_rate)
        cells.setdefault(suite.suite, {}).update(zip(SUITE_METRICS, figures, strict=True))
    for data, figure_by_name in explanations.items():
        cells.setdefault(data, {}).update(figure_by_name)
    return {**results, reference: cells}


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

    Cells that were `n/a` before bind nothing, nor does a mean over other data sets.
    """
    outcomes = []
    for strategy in (name for name in now if name in before):
        for dataset in shared_columns(before[strategy], now[strategy]):
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
