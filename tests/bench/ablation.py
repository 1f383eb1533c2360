"""What each ingredient of training is worth: `recipes/ablation.yaml` with one thing changed at a time.

Run: python tests/bench/ablation.py [--registry DIR] [--only NAME ...]. Everything is seeded (the recipe's seed), the
figures are from report posts, and finished variants are not trained again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from hatex.commands.options import build_console
from hatex.evaluation.run import EvalRun
from hatex.recipe import Recipe, load_recipe
from hatex.registry import Registry
from hatex.types import Progress
from hatex.workflows.evaluate import evaluate
from hatex.workflows.train import train

AS_IT_STANDS = "as it stands"
CHANGES = {
    AS_IT_STANDS: (),
    "majority instead of all votes": ("train.votes=majority",),
    "no formatting noise": ("train.formatting_noise=0", "train.router.formatting_noise=0"),
    "no explanation loss": ("train.explanation_weight=0",),
    "no invented sentences": (
        *(f"train.adapters.{name}.rows.contrast=1" for name in ("full", "microblog", "forums", "wiki")),
        *(f"train.adapters.{name}.rows.insults=1" for name in ("forums", "wiki")),
    ),
    "all platform adapters start from full": tuple(
        f"train.adapters.{name}.init=full" for name in ("microblog", "wiki", "forums")
    ),
    "platform adapters start anew": tuple(
        f"train.adapters.{name}.init=null" for name in ("microblog", "forums", "wiki")
    ),
    "partners (soft gates)": (
        "train.adapters.microblog.partners=[full]",
        "train.adapters.wiki.partners=[full, microblog]",
        "train.adapters.forums.partners=[full, microblog, wiki]",
    ),
}
METRICS = ("macro_f1", "auroc", "soft_cross_entropy")


@dataclass(frozen=True)
class Outcome:
    """Report figures of one variant: as posts are written, and in the one common form."""

    as_written: EvalRun
    common: EvalRun


def measure(name: str, registry: Registry, progress: Progress) -> Outcome:
    """Train what is not trained yet, then evaluate."""
    recipe = load_recipe("ablation", CHANGES[name])
    train(recipe, registry, resume=True, progress=progress)
    blend_alone: dict[str, object] = {"strategies": ("blend",)}
    return Outcome(
        _evaluate(recipe, registry, progress, {} if name == AS_IT_STANDS else blend_alone),
        _evaluate(recipe, registry, progress, blend_alone | {"form": "common", "suites": ()}),
    )


def share_models(registry: Path, folder: Path) -> None:
    """Give a variant's registry the base and the encoder of the others, as hard links."""
    for kind in ("bases", "encoders"):
        for found in sorted(registry.glob(f"*/{kind}")):
            if not (folder / kind).exists():
                shutil.copytree(found, folder / kind, copy_function=os.link)


def _evaluate(
    recipe: Recipe, registry: Registry, progress: Progress, changes: Mapping[str, object]
) -> EvalRun:
    section = recipe.require("eval").model_copy(update=changes)
    return evaluate(recipe.model_copy(update={"eval": section}), registry, progress=progress)


def variants_table(outcomes: dict[str, Outcome], seed: int) -> Table:
    """One row a variant: blend over all report sets, and the share of right answers on the suite's two sides."""
    table = Table(title=f"Training: one thing changed at a time (blend, mean of report sets, seed {seed})")
    table.add_column("variant")
    for heading in (*METRICS, "macro_f1, common form", "suite: hateful", "suite: not hateful"):
        table.add_column(heading, justify="right")
    for name, outcome in outcomes.items():
        mean = outcome.as_written.results["blend"]["mean"]
        common = outcome.common.results["blend"]["mean"]["macro_f1"]
        sides = [
            str(side) for suite in outcome.as_written.suites for side in (suite.hateful, suite.non_hateful)
        ]
        table.add_row(name, *(str(mean[metric]) for metric in METRICS), str(common), *sides)
    return table


def strategies_table(run: EvalRun) -> Table:
    """One row a strategy of the recipe as it stands, with its paired difference to blend."""
    table = Table(title="Strategies (mean of report sets)")
    for heading in ("strategy", "macro_f1", "minus blend"):
        table.add_column(heading)
    for strategy, cells in run.results.items():
        difference = run.differences.get(strategy, {}).get("mean", {}).get("macro_f1")
        table.add_row(strategy, str(cells["mean"]["macro_f1"]), "" if difference is None else str(difference))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, default=Path("build/ablation"))
    parser.add_argument("--only", nargs="*", default=list(CHANGES), choices=CHANGES)
    arguments = parser.parse_args()
    progress = build_console(as_json=False, quiet=False).progress()
    outcomes = {}
    for name in arguments.only:
        folder = (arguments.registry / re.sub(r"\W+", "-", name)).resolve()
        share_models(arguments.registry.resolve(), folder)
        outcomes[name] = measure(name, Registry(folder, None), progress)
    console = Console(width=150)
    if AS_IT_STANDS in outcomes:
        console.print(strategies_table(outcomes[AS_IT_STANDS].as_written))
    console.print(variants_table(outcomes, load_recipe("ablation").require("train").seed))


if __name__ == "__main__":
    main()
