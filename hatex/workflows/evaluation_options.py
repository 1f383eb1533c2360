"""A call of `hatex eval` that wants less, or other, than the recipe's `eval` section says."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import UsageError
from hatex.evaluation.baseline import NAME as BASELINE
from hatex.evaluation.requirements import SUITE_METRICS
from hatex.evaluation.sheet import MEAN
from hatex.evaluation.specs import (
    EVERY_SINGLE,
    EVERY_TOP,
    ORACLE,
    StrategySpec,
    expand_strategies,
    parse_strategy,
)
from hatex.workflows.evaluate import require_section

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.recipe.evaluate import EvalSection, RequirementSection
    from hatex.registry import Registry


@dataclass(frozen=True)
class Narrowing:
    """What the command line says; None and empty leave the recipe's value."""

    strategies: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    posts_per_set: int | None = None
    every_post: bool = False
    suites: tuple[str, ...] = ()
    no_baseline: bool = False
    gate: bool = False
    """Evaluate only what requirements name."""


def narrow(recipe: Recipe, wanted: Narrowing, registry: Registry | None = None) -> tuple[Recipe, int]:
    """The recipe with the call's wishes laid over its `eval` section, and how many requirements that leaves
    out.

    Requirements about strategies or data sets that the call does not ask for cannot be judged. If the
    reference is not among the strategies asked for, the first of them that can be one takes its place.
    `registry` holds the router, whose adapters `single:*` and `top-*` stand for; without it (where no model is
    asked) they stand for all of the recipe's. Raises RecipeError without an `eval` section, UsageError where
    only the oracle is asked for, RegistryError where the router is not there.
    """
    section = require_section(recipe)
    changes: dict[str, Any] = {}
    asked: list[StrategySpec] = []
    if wanted.strategies:
        asked = expand_strategies(wanted.strategies, _routed(recipe, wanted, registry))
        changes["strategies"] = wanted.strategies
        changes["reference"] = _reference(section.reference, asked)
    if wanted.datasets:
        changes["datasets"] = wanted.datasets
    if wanted.every_post or wanted.posts_per_set is not None:
        changes["posts_per_set"] = wanted.posts_per_set
    if wanted.suites:
        changes["suites"] = wanted.suites
    if wanted.no_baseline:
        changes["baseline"] = False
    kept = tuple(
        each for each in section.requirements if _is_asked(each, wanted, {spec.name for spec in asked})
    )
    changes["requirements"] = kept
    if wanted.gate:
        changes |= _only_required(kept, section, changes)
    narrowed: EvalSection = section.model_copy(update=changes)
    return recipe.model_copy(update={"eval": narrowed}), len(section.requirements) - len(kept)


def _routed(recipe: Recipe, wanted: Narrowing, registry: Registry | None) -> Sequence[str]:
    wildcards = {parse_strategy(text).strategy for text in wanted.strategies} & {EVERY_SINGLE, EVERY_TOP}
    if registry is None or not wildcards:
        return recipe.adapters
    routed: Sequence[str] = registry.find("router", recipe.router).manifest.extra["adapters"]
    return routed


def _reference(usual: str, asked: Sequence[StrategySpec]) -> str:
    names = [spec.name for spec in asked if spec.strategy != ORACLE]
    if not names:
        hint = "add one that needs no platform, such as -s blend"
        raise UsageError("the oracle alone has nothing to differ from", where="--strategy", hint=hint)
    return usual if usual in names else names[0]


def _only_required(
    requirements: Sequence[RequirementSection], section: EvalSection, changes: dict[str, Any]
) -> dict[str, Any]:
    if not requirements:
        hint = "add eval.requirements to the recipe"
        raise UsageError("there are no requirements to hold", where="--gate", hint=hint)
    reference = changes.get("reference", section.reference)
    strategies = dict.fromkeys([reference, *(each.strategy for each in requirements)])
    data = dict.fromkeys(each.data for each in requirements if each.metric not in SUITE_METRICS)
    suites = {each.data for each in requirements if each.metric in SUITE_METRICS}
    return {
        "strategies": tuple(name for name in strategies if name != BASELINE),
        "datasets": () if MEAN in data else tuple(data),
        "baseline": BASELINE in strategies,
        "suites": tuple(s for s in changes.get("suites", section.suites) if Path(s).stem in suites),
    }


def _is_asked(requirement: RequirementSection, wanted: Narrowing, strategies: Set[str]) -> bool:
    datasets = wanted.datasets
    is_baseline = requirement.strategy == BASELINE
    has_strategy = not strategies or requirement.strategy in strategies or is_baseline
    if is_baseline and wanted.no_baseline:
        return False
    if requirement.metric in SUITE_METRICS:
        return has_strategy and (
            not wanted.suites or requirement.data in {Path(s).stem for s in wanted.suites}
        )
    has_data = not datasets or requirement.data in datasets
    # The mean over fewer sets is another figure than the one the bound was set for.
    return has_strategy and has_data and not (requirement.data == MEAN and datasets)
