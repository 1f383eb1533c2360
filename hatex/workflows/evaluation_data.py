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
from hatex.data.raw import RawPost
from hatex.data.tally import Tally, sample, sound_posts
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

    Raises UsageError for a data set that is not there, or there twice, DataError for folders and rows that cannot
    be used.
    """
    by_name: dict[str, list[Example]] = {}
    if section.data is not None:
        for example in iter_examples(Path(section.data), splits=(section.split,)):
            by_name.setdefault(example.dataset, []).append(example)
    for planned in _plan_sources(section.sources):
        for name, examples in read_source(planned, section.seed, progress).items():
            if name in by_name:
                raise UsageError(
                    f"data set {name!r} is there already, in eval.data or an earlier source",
                    where=f"eval.sources, source {planned.name}",
                    hint="give the source another `name`",
                )
            by_name[name] = examples
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


def _plan_sources(sections: tuple[SourceSection, ...]) -> tuple[PlannedSource, ...]:
    return plan_data(PrepareSection(output="evaluation", sources=sections)).sources if sections else ()


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


def read_source(planned: PlannedSource, seed: int, progress: Progress) -> dict[str, list[Example]]:
    """The sound rows of a source but those of its official test part, by data set; what is left out is told.

    Where the source has a `limit`, the same sample as `prepare` takes of them with that seed.

    Raises DataError where there are no such rows, or where more than a hundredth of all rows cannot be read (such
    as a gold label that the recipe does not map, no text, or an id that repeats).
    """
    tally = Tally()
    posts: list[RawPost] = []
    n_test = 0
    for post in sound_posts(planned.source.read(planned.spec), tally):
        if post.part == "test" and planned.section.official_splits:
            n_test += 1
        else:
            posts.append(post)
    _tell(planned, tally, progress)
    test_rows = f"{n_test:,} rows of its official test part, left out unless it says `official_splits: false`"
    if not posts:
        raise DataError(
            "no posts to evaluate",
            where=f"source {planned.name}",
            hint=f"it has {test_rows}" if n_test else "look at its files",
        )
    if n_test:
        progress.say(f"{planned.name}: {test_rows}")
    by_name: dict[str, list[Example]] = {}
    for post in sample(posts, planned.section.limit, seed):
        by_name.setdefault(post.dataset, []).append(_example(post, planned.section))
    return by_name


def _tell(planned: PlannedSource, tally: Tally, progress: Progress) -> None:
    """Say which rows cannot be used, and why; raise DataError where they are too many."""
    if tally.problems:
        first, shares = tally.problems[0], f"{len(tally.problems):,} of {tally.rows:,}"
        if tally.error_share > MAX_UNREADABLE:
            raise DataError(
                f"{shares} rows cannot be read, first: {first.message}",
                where=first.file if first.row is None else f"{first.file}:{first.row}",
                hint="correct the rows, or map their values in the recipe",
            )
        progress.say(f"{planned.name}: {shares} rows cannot be read, first {first}")
    for reason, count in sorted(tally.left_out.items()):
        progress.say(f"{planned.name}: {count:,} rows left out: {reason}")


def _example(post: RawPost, section: SourceSection) -> Example:
    return Example(
        id=f"{post.dataset}:{post.id}",
        dataset=post.dataset,
        platform=section.platform,
        text=post.text,
        votes=post.votes,
        split="report",
        group=post.keys[0] if post.keys else f"{post.dataset}:{post.id}",
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
