"""What each ingredient of training is worth: `recipes/ablation.yaml` with one thing changed at a time.

Run: python tests/bench/ablation.py [--registry DIR] [--only NAME ...] [--markdown FILE]. Everything is seeded (the
recipe's seed), the figures are from report posts, and nothing that is done is done again. All variants answer the same
posts and are resampled together, so differences are paired. Their intervals are of the posts alone: `another seed`
shows what a training moves by itself.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from hatex.commands.options import build_console
from hatex.engine import load_engine
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.document import Cell, Document, Gaps, Table
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored
from hatex.evaluation.report import difference_cell
from hatex.evaluation.report_markdown import markdown_report
from hatex.evaluation.sheet import MEAN, Sheet, fill_sheet
from hatex.recipe import Recipe, load_recipe
from hatex.recipe.evaluate import EvalSection
from hatex.registry import Registry
from hatex.render.evaluate import render_document
from hatex.types import Progress
from hatex.workflows.evaluation_answers import keep_answers
from hatex.workflows.evaluation_data import EvalData, load_data
from hatex.workflows.evaluation_passes import EvalState, gate_sets, score_sets
from hatex.workflows.partial import write_whole
from hatex.workflows.train import train

AS_IT_STANDS = "as it stands"
FULL_ALONE = "full alone, on as many rows"
CHANGES = {
    AS_IT_STANDS: (),
    "another seed": ("train.seed=1",),
    "majority instead of all votes": ("train.votes=majority",),
    "no formatting noise": ("train.formatting_noise=0", "train.router.formatting_noise=0"),
    "no explanation loss": ("train.explanation_weight=0",),
    "no invented sentences": (
        *(f"train.adapters.{name}.rows.contrast=1" for name in ("full", "microblog", "forums", "wiki")),
        *(f"train.adapters.{name}.rows.insults=1" for name in ("forums", "wiki")),
    ),
    "steps of one length": ("train.batch_lengths=1",),
    "twice the rank": ("train.lora.r=16", "train.lora.alpha=32"),
    "platform adapters start anew": tuple(
        f"train.adapters.{name}.init=null" for name in ("microblog", "forums", "wiki")
    ),
    "partners (soft gates)": (
        "train.adapters.microblog.partners=[full]",
        "train.adapters.wiki.partners=[full, microblog]",
        "train.adapters.forums.partners=[full, microblog, wiki]",
    ),
    # Its rows are counted once the recipe as it stands is trained: `rows_of_all`.
    FULL_ALONE: (),
}
BLEND = "blend"
ANSWERS_BY = {FULL_ALONE: "full"}
"""The strategy that a variant is about, where that is not its blend."""
RIVALS = ("full", "uniform")
"""Strategies that every variant is asked for beside its blend: is the blend still above them?"""
SHOWN = ("macro_f1", "auroc", "soft_cross_entropy")

ByStrategy = Mapping[str, Mapping[str, Scored]]


@dataclass(frozen=True)
class Answered:
    """Report posts as one variant answers them, by strategy and data set; `absent` says why there is no answer."""

    scored: ByStrategy
    absent: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Outcome:
    """One variant on posts as they are written, and in the one common form."""

    as_written: Answered
    common: Answered


@dataclass(frozen=True)
class Posts:
    """The report posts of all variants, as written and in the one common form."""

    as_written: Sequence[EvalData]
    common: Sequence[EvalData]

    @staticmethod
    def load(section: EvalSection, progress: Progress) -> Posts:
        """Raises as `load_data`."""
        as_written = load_data(section, progress)
        return Posts(as_written, [replace(each, form="common") for each in as_written])


def rows_of_all(trained: Registry) -> tuple[str, ...]:
    """All rows that the adapters in `trained` saw one after the other, borrowed ones too, as rows of `full`.

    Raises RegistryError if one of them is not there.
    """
    rows: Counter[str] = Counter()
    for name in load_recipe("ablation").require("train").adapters:
        rows.update(trained.find("adapter", name).manifest.extra["rows"])
    return tuple(f"train.adapters.full.rows.{dataset}={count}" for dataset, count in rows.items())


def measure(
    name: str, changes: Sequence[str], registry: Registry, posts: Posts, progress: Progress
) -> Outcome:
    """Train what is not trained yet, then answer the report posts."""
    recipe = load_recipe("ablation", changes)
    train(recipe, registry, resume=True, progress=progress)
    engine = load_engine(recipe, registry, progress=progress)
    section = recipe.require("eval")
    asked = section.strategies if name == AS_IT_STANDS else (BLEND, *RIVALS)
    with keep_answers(engine, registry.root / "answers.jsonl") as answers:

        def answer(sets: Sequence[EvalData], strategies: Sequence[str]) -> Answered:
            narrowed = section.model_copy(update={"strategies": tuple(strategies)})
            state = EvalState.start(narrowed, engine, sets, progress)
            gate_sets(state)
            score_sets(state, answers)
            return Answered(state.scored, state.absent)

        return Outcome(answer(posts.as_written, asked), answer(posts.common, [ANSWERS_BY.get(name, BLEND)]))


def share_models(registry: Path, folder: Path) -> None:
    """Give a variant's registry the base and the encoder of the others, as hard links."""
    for kind in ("bases", "encoders"):
        for found in sorted(registry.glob(f"*/{kind}")):
            if not (folder / kind).exists():
                shutil.copytree(found, folder / kind, copy_function=os.link)


def describe(outcomes: Mapping[str, Outcome], recipe: Recipe) -> Document:
    """Variants beside the recipe as it stands, and this one's strategies beside its blend."""
    section = recipe.require("eval")
    bootstrap = Bootstrap(section.seed, section.resamples, section.confidence)
    facts = (
        f"seed {recipe.require('train').seed}, up to {section.posts_per_set} report posts a set, the mean over sets",
        f"{section.confidence:.0%} intervals from {section.resamples:,} resamples of the posts, paired",
    )
    by = {name: ANSWERS_BY.get(name, BLEND) for name in outcomes}
    written = _fill({name: each.as_written.scored[by[name]] for name, each in outcomes.items()}, bootstrap)
    common = _fill({name: each.common.scored[by[name]] for name, each in outcomes.items()}, bootstrap)
    columns = [(name, written, name) for name in SHOWN] + [("macro_f1, common form", common, "macro_f1")]
    rivals = {name: dict(_rivals(each, bootstrap)) for name, each in outcomes.items()}
    first = next(iter(outcomes))
    variants = _table("Training: one thing changed at a time", "variant", columns, first)
    beside = tuple(Cell(f"{rival} minus blend", "macro_f1") for rival in RIVALS)
    rows = tuple((*row, *(rivals[row[0].text][rival] for rival in RIVALS)) for row in variants.rows)
    tables = [replace(variants, columns=(*variants.columns, *beside), rows=rows)]
    if AS_IT_STANDS in outcomes:
        answered = outcomes[AS_IT_STANDS].as_written
        sheet = _fill(answered.scored, bootstrap, answered.absent)
        tables.append(
            _table("Strategies, as it stands", "strategy", [(name, sheet, name) for name in SHOWN], BLEND)
        )
    return Document("What each ingredient of training is worth", facts, tuple(tables))


def _fill(
    scored: ByStrategy, bootstrap: Bootstrap, absent: Mapping[str, Mapping[str, str]] | None = None
) -> Sheet:
    metrics = [METRICS[name] for name in SHOWN]
    return fill_sheet(scored, absent or {}, next(iter(scored)), metrics, bootstrap, lambda _: None)


def _rivals(outcome: Outcome, bootstrap: Bootstrap) -> Iterator[tuple[str, Cell]]:
    scored = outcome.as_written.scored
    sheet = _fill({name: scored[name] for name in (BLEND, *RIVALS)}, bootstrap)
    for rival in RIVALS:
        yield rival, difference_cell(sheet.differences[rival][MEAN]["macro_f1"])


def _table(title: str, first: str, columns: list[tuple[str, Sheet, str]], reference: str) -> Table:
    """One row a variant or strategy: the reference's own figures, of all others how far they are from these."""
    gaps = Gaps()
    rows = []
    for name in columns[0][1].results:
        cells = [Cell(name)]
        for heading, sheet, metric in columns:
            if name == reference:
                cells.append(gaps.cell(sheet.results[name][MEAN][metric], heading))
            else:
                cells.append(difference_cell(sheet.differences[name][MEAN][metric]))
        rows.append(tuple(cells))
    heads = tuple(Cell(heading, f"{METRICS[metric].better} is better") for heading, _sheet, metric in columns)
    return Table(title, heads, tuple(rows), gaps.notes(), first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", type=Path, default=Path("build/ablation"))
    parser.add_argument("--only", nargs="*", default=list(CHANGES), choices=CHANGES)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    progress = build_console(as_json=False, quiet=False).progress()
    recipe = load_recipe("ablation")
    posts = Posts.load(recipe.require("eval"), progress)

    def registry_of(name: str) -> Registry:
        return Registry((arguments.registry / re.sub(r"\W+", "-", name)).resolve(), None)

    outcomes = {}
    for name in arguments.only:
        registry = registry_of(name)
        share_models(arguments.registry.resolve(), registry.root)
        changes = rows_of_all(registry_of(AS_IT_STANDS)) if name == FULL_ALONE else CHANGES[name]
        outcomes[name] = measure(name, changes, registry, posts, progress)
    document = describe(outcomes, recipe)
    Console(width=170).print(render_document(document, 170))
    if arguments.markdown is not None:
        write_whole(arguments.markdown, markdown_report(document).encode())


if __name__ == "__main__":
    main()
