"""The posts that `hatex eval` reads: prepared splits, further sources, and the rows the adapters learnt
from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hatex.data.examples import in_seeded_order, iter_examples, read_examples
from hatex.data.formatting import common_form
from hatex.data.raw import Problem, RawPost
from hatex.errors import DataError, TrainingError, UsageError
from hatex.evaluation.gold import Gold, build_gold, find_question
from hatex.recipe.evaluate import EvalSection
from hatex.recipe.prepare import PrepareSection, SourceSection
from hatex.recipe.train import TrainSection
from hatex.types import Example, Progress
from hatex.workflows.prepare_data import PlannedSource, plan_data

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.registry import Registry


FORMS: Final[dict[str, Callable[[str], str]]] = {
    "as_written": str,
    "lower": str.lower,
    "upper": str.upper,
    "common": common_form,
}

MAX_UNREADABLE: Final = 0.01
"""Share of a source's rows that may be unreadable before its figures would mislead."""


@dataclass(frozen=True)
class EvalData:
    """One data set: the chosen posts that gold is about, in its order; `n_total` is the size of the split."""

    gold: Gold
    examples: tuple[Example, ...]
    n_total: int
    form: str = "as_written"

    @property
    def texts(self) -> list[str]:
        """The posts in the form that they are answered in."""
        return [FORMS[self.form](example.text) for example in self.examples]

    @property
    def platforms(self) -> list[str]:
        return [example.platform for example in self.examples]


def load_data(section: EvalSection, progress: Progress) -> list[EvalData]:
    """Every data set of the section, in the order it names them, else by name.

    Raises UsageError for a data set that is not in the folder, DataError for folders and rows that cannot be
    used.
    """
    by_name: dict[str, list[Example]] = {}
    if section.data is not None:
        for example in iter_examples(Path(section.data), splits=(section.split,)):
            by_name.setdefault(example.dataset, []).append(example)
    for example in read_sources(section.sources, progress):
        by_name.setdefault(example.dataset, []).append(example)
    if not by_name:
        raise DataError(
            f"no posts in split {section.split}",
            where=section.data,
            hint="prepare the recipe with a larger prepare.tune_share or report_share, or add sources",
        )
    if missing := [name for name in section.datasets if name not in by_name]:
        raise UsageError(
            f"no {section.split} posts of {', '.join(missing)}",
            where="eval.datasets",
            hint=f"there are {', '.join(sorted(by_name))}",
        )
    return [_choose(name, by_name[name], section) for name in section.datasets or sorted(by_name)]


def _choose(name: str, examples: Sequence[Example], section: EvalSection) -> EvalData:
    # The question is that of the whole split: a small sample may miss a label set.
    question = find_question([example.votes for example in examples])
    gold = build_gold(name, choose_posts(examples, section.posts_per_set, section.seed), question)
    by_id = {example.id: example for example in examples}
    return EvalData(gold, tuple(by_id[id_] for id_ in gold.ids), len(examples), section.form)


def choose_posts(examples: Sequence[Example], limit: int | None, seed: int) -> list[Example]:
    """A seeded sample in file order. A post's rank depends on its id alone, so a grown set keeps most of it."""
    if limit is None or len(examples) <= limit:
        return list(examples)
    # By identity: rows of a source may share an id, and still no more than `limit` are wanted.
    chosen = {id(example) for example in in_seeded_order(examples, seed)[:limit]}
    return [example for example in examples if id(example) in chosen]


def read_sources(sections: Sequence[SourceSection], progress: Progress) -> list[Example]:
    """All rows of the sources but those of their official test parts, which are counted aloud.

    Raises DataError where a file is missing, a source has no other rows, or more than a hundredth of its rows
    cannot be read (such as a gold label that the recipe does not map); fewer are counted aloud.
    """
    posts: list[Example] = []
    if sections:
        for planned in plan_data(PrepareSection(output="evaluation", sources=tuple(sections))).sources:
            posts += _read_source(planned, progress)
    return posts


def _read_source(planned: PlannedSource, progress: Progress) -> list[Example]:
    posts: list[Example] = []
    problems: list[Problem] = []
    n_test = 0
    for item in planned.source.read(planned.spec):
        if isinstance(item, Problem):
            problems.append(item)
        elif isinstance(item, RawPost):
            if item.part == "test" and planned.section.official_splits:
                n_test += 1
            else:
                posts.append(_example(item, planned.section))
    if len(problems) > MAX_UNREADABLE * (len(posts) + len(problems)):
        first = problems[0]
        raise DataError(
            f"{len(problems):,} of {len(posts) + len(problems):,} rows cannot be read, first: {first.message}",
            where=first.file if first.row is None else f"{first.file}:{first.row}",
            hint="correct the rows, or map their values in the recipe",
        )
    if problems:
        progress.say(f"{planned.name}: {len(problems):,} rows could not be read")
    test_rows = f"{n_test:,} rows of its official test part, left out unless it says `official_splits: false`"
    if not posts:
        raise DataError(
            "no posts to evaluate",
            where=f"source {planned.name}",
            hint=f"it has {test_rows}" if n_test else "look at its files",
        )
    if n_test:
        progress.say(f"{planned.name}: {test_rows}")
    limit = planned.section.limit
    return posts if limit is None else choose_posts(posts, limit, seed=0)


def _example(post: RawPost, section: SourceSection) -> Example:
    dataset = section.name or post.dataset
    return Example(
        id=f"{dataset}:{post.id}",
        dataset=dataset,
        platform=section.platform,
        text=post.text,
        votes=post.votes,
        split="report",
        group=post.keys[0] if post.keys else f"{dataset}:{post.id}",
        targets=post.targets,
        has_targets=post.has_targets,
        rationales=post.rationales,
        has_rationales=post.has_rationales,
        context=post.context,
        language=post.language,
    )


def load_training_rows(
    section: EvalSection, recipe: Recipe, registry: Registry, progress: Progress
) -> list[Example]:
    """The training rows of all adapters of the recipe together, as their manifests' recipes choose them.

    Where no adapter says how it was trained (imported weights), every training row of the prepared folder.
    """
    if section.data is None:
        raise DataError(
            "the TF-IDF baseline needs a prepared folder", where="eval.data", hint="use --no-baseline"
        )
    examples = read_examples(Path(section.data), splits=("train",))
    chosen: set[str] = set()
    for name in recipe.adapters:
        manifest = registry.find("adapter", name, base=recipe.base.name).manifest
        chosen |= _trained_on(name, (manifest.recipe or {}).get("train"), examples, progress)
    if not chosen:
        progress.say("no adapter records its training rows: the baseline is fitted on every training row")
        return examples
    return [example for example in examples if example.id in chosen]


def _trained_on(name: str, train: object, examples: Sequence[Example], progress: Progress) -> set[str]:
    from pydantic import ValidationError

    if not isinstance(train, dict):
        return set()
    try:
        section = TrainSection.model_validate(train)
    except ValidationError:
        progress.say(
            f"adapter {name} was trained by a recipe that this version does not read: its rows are not known"
        )
        return set()
    return _prepared_rows(name, section, examples, progress) if name in section.adapters else set()


def _prepared_rows(
    name: str, train: TrainSection, examples: Sequence[Example], progress: Progress
) -> set[str]:
    """Ids of the adapter's training rows, as far as its data sets and platforms are prepared here."""
    from hatex.training.rows import select_examples

    section = train.adapters[name]
    prepared = {each.dataset for each in examples}, {each.platform for each in examples}
    rows = {dataset: count for dataset, count in section.rows.items() if dataset in prepared[0]}
    platforms = tuple(platform for platform in section.platforms if platform in prepared[1])
    if lacking := sorted({*section.rows, *section.platforms} - {*rows, *platforms}):
        progress.say(
            f"adapter {name} was also trained on {', '.join(lacking)}, not prepared here: the baseline goes without"
        )
    if bool(rows) < bool(section.rows) or bool(platforms) < bool(section.platforms):
        return set()
    here = section.model_copy(update={"rows": rows, "platforms": platforms})
    try:
        chosen = select_examples(examples, name, {**train.adapters, name: here}, train.seed)
    except TrainingError as error:  # no fully labelled row is prepared
        progress.say(f"adapter {name}: its training rows cannot be chosen again: {error.message}")
        return set()
    return {example.id for example in chosen}
