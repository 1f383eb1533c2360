"""The trained engine beside another one, on the same report posts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatex.errors import UsageError
from hatex.recipe import Recipe, load_recipe
from hatex.registry import Registry
from hatex.types import Progress
from hatex.workflows.train_report import Comparison

if TYPE_CHECKING:
    from hatex.evaluation.estimate import Estimate
    from hatex.evaluation.run import EvalRun

METRICS = ("macro_f1", "auroc", "soft_cross_entropy")


def find_opponent(recipe: Recipe) -> Recipe:
    """The recipe that `train.compare_with` names.

    Raises RecipeError if there is none or the own recipe has no `eval` section, UsageError if it names itself.
    """
    name = recipe.require("train").compare_with
    assert name is not None
    recipe.require("eval")
    opponent = load_recipe(name)
    if opponent.name == recipe.name:
        raise UsageError("an engine cannot be compared with itself", where="train.compare_with")
    return opponent


def compare(recipe: Recipe, registry: Registry, progress: Progress) -> Comparison:
    """Blend of the trained engine against blend of `train.compare_with`, as the recipe's `eval` section says.

    Raises what `find_opponent` raises.
    """
    from hatex.workflows.evaluate import evaluate

    opponent = find_opponent(recipe)
    section = recipe.require("eval").model_copy(
        update={"strategies": ("blend",), "baseline": False, "suites": ()}
    )
    runs = [
        evaluate(each.model_copy(update={"eval": section}), registry, progress=progress)
        for each in (recipe, opponent)
    ]
    return Comparison(opponent.name, "blend", *(_figures(run) for run in runs))


def _figures(run: EvalRun) -> dict[str, dict[str, Estimate]]:
    """Metrics by data set, those that the data set has."""
    return {
        dataset: {
            metric: cells[metric] for metric in METRICS if metric in cells and cells[metric].value is not None
        }
        for dataset, cells in run.results["blend"].items()
    }
