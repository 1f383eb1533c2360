"""A call of `hatex eval` that wants less, or other, than the recipe's `eval` section says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import UsageError
from hatex.evaluation.baseline import NAME as BASELINE
from hatex.evaluation.requirements import SUITE_METRICS
from hatex.evaluation.sheet import MEAN
from hatex.evaluation.specs import EVERY_SINGLE
from hatex.workflows.evaluate import require_section

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.recipe.evaluate import EvalSection, RequirementSection


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


def narrow(recipe: Recipe, wanted: Narrowing) -> tuple[Recipe, int]:
    """The recipe with the call's wishes laid over its `eval` section, and how many requirements that leaves
    out.

    Requirements about strategies or data sets that the call does not ask for cannot be judged. If the
    reference is not among the strategies asked for, the first of them takes its place. Raises RecipeError
    without an `eval` section.
    """
    section = require_section(recipe)
    changes: dict[str, Any] = {}
    if wanted.strategies:
        changes["strategies"] = wanted.strategies
        if section.reference not in wanted.strategies:
            changes["reference"] = wanted.strategies[0]
    if wanted.datasets:
        changes["datasets"] = wanted.datasets
    if wanted.every_post or wanted.posts_per_set is not None:
        changes["posts_per_set"] = wanted.posts_per_set
    if wanted.suites:
        changes["suites"] = wanted.suites
    if wanted.no_baseline:
        changes["baseline"] = False
    kept = tuple(each for each in section.requirements if _is_asked(each, wanted))
    changes["requirements"] = kept
    if wanted.gate:
        changes |= _only_required(kept, section, changes)
    narrowed: EvalSection = section.model_copy(update=changes)
    return recipe.model_copy(update={"eval": narrowed}), len(section.requirements) - len(kept)


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


def _is_asked(requirement: RequirementSection, wanted: Narrowing) -> bool:
    strategies, datasets = wanted.strategies, wanted.datasets
    is_single = requirement.strategy.startswith("single:") and EVERY_SINGLE in strategies
    is_baseline = requirement.strategy == BASELINE
    has_strategy = not strategies or requirement.strategy in strategies or is_single or is_baseline
    if is_baseline and wanted.no_baseline:
        return False
    if requirement.metric in SUITE_METRICS:
        return has_strategy and (
            not wanted.suites or requirement.data in {Path(s).stem for s in wanted.suites}
        )
    has_data = not datasets or requirement.data in datasets
    # The mean over fewer sets is another figure than the one the bound was set for.
    return has_strategy and has_data and not (requirement.data == MEAN and datasets)
