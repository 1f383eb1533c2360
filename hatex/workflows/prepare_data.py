"""The data half of `hatex prepare`: raw rows of many sources to one parquet of examples and its card."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hatex.data.annotation import AnnotateSettings, annotate
from hatex.data.assemble import assemble
from hatex.data.card import (
    CARD_JSON,
    CARD_SCHEMA,
    card_json,
    card_markdown,
    source_record,
    unknown_target_warnings,
)
from hatex.data.condense import Options, condense_all
from hatex.data.corpus import Corpus, Division, Rules, divide
from hatex.data.examples import FILE_NAME
from hatex.data.groups import GROUPS
from hatex.data.holdout import Holdout, load_texts
from hatex.data.splits import CAP, SPLITS, Shares
from hatex.data.statistics import Statistics
from hatex.data.tally import Tally, sample, sound_posts
from hatex.errors import DataError
from hatex.hashing import hash_file
from hatex.locks import hold
from hatex.recipe.prepare import PrepareSection
from hatex.types import NO_PROGRESS, Progress
from hatex.workflows.prepare_plan import WORK, PlannedSource, PreparePlan, plan_data, shard_of

__all__ = [
    "CARD_JSON",
    "CARD_MARKDOWN",
    "PlannedSource",
    "PreparePlan",
    "Prepared",
    "plan_data",
    "prepare_data",
]

ANSWERS = "annotations.jsonl"
CARD_MARKDOWN = "card.md"
_LISTED = 20


Annotator = Callable[[Path], dict[str, Any] | None]


@dataclass(frozen=True)
class Prepared:
    """Where the examples are, and the card."""

    folder: Path
    card: dict[str, Any]
    resumed: tuple[str, ...]


def prepare_data(
    section: PrepareSection,
    *,
    holdout: tuple[Path, ...] = (),
    consent: bool = False,
    groups: Sequence[str] = (),
    progress: Progress = NO_PROGRESS,
) -> Prepared:
    """Read, clean, group and split all sources of a section, and write examples and card.

    `holdout` adds files to those of the section, `consent` lets masked posts go to the endpoint of
    `annotate`, `groups` is the closed list that explanations may name (default: the one hatex ships): targets of
    tables outside it are counted in the card. An
    interrupted run leaves the sources it has read below the output folder, and the next run goes on from
    there. Raises DataError with every problem where there are more than `max_error_share` allows.
    """
    plan = plan_data(section)
    folder = Path(section.output)
    with _locked(folder):
        tallies = _read_all(plan, progress)
        _check_problems(section, tallies)
        files = (*(Path(name) for name in section.holdout.files), *holdout)
        held_out = Holdout((text for path in files for text in load_texts(path)), section.holdout.threshold)
        closed = tuple(groups) or GROUPS
        annotator = partial(_annotate, section, consent, closed, progress)
        card = _finish(plan, tallies, held_out, closed, annotator, progress)
        shutil.rmtree(folder / WORK)
    for warning in unknown_target_warnings(card["unknown_targets"]):
        progress.say(f"warning: {warning}")
    return Prepared(folder, card, plan.done)


def _read_all(plan: PreparePlan, progress: Progress) -> dict[str, Tally]:
    """Read every source, so that a run that fails reports what is wrong with all of them."""
    tallies: dict[str, Tally] = {}
    failures: list[DataError] = []
    for each in plan.sources:
        try:
            tallies[each.name] = _read(plan.section, each, progress)
        except DataError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise DataError("\n".join(map(str, failures)), hint=failures[0].hint)
    return tallies


def _read(section: PrepareSection, planned: PlannedSource, progress: Progress) -> Tally:
    shard = shard_of(section, planned)
    if shard.is_whole:
        return shard.tally()
    tally = Tally()
    options = Options(
        planned.section.platform,
        section.cleaning,
        section.languages.min_probability,
        planned.section.official_splits,
    )
    items = planned.source.read(planned.spec)
    posts = sample(sound_posts(items, tally), planned.section.limit, section.seed)
    with progress.task(f"read {planned.name}", unit="posts") as advance:
        for written in shard.write(condense_all(posts, options, section.num_proc), tally):
            advance(written)
    return shard.tally()


def _check_problems(section: PrepareSection, tallies: dict[str, Tally]) -> None:
    allowed = 0.0 if section.on_error == "fail" else section.max_error_share
    bad = {name: tally for name, tally in tallies.items() if tally.error_share > allowed}
    if not bad:
        return
    listed = [str(problem) for tally in bad.values() for problem in tally.problems]
    shown = listed[:_LISTED]
    if len(listed) > len(shown):
        shown.append(f"... and {len(listed) - len(shown):,} more")
    shares = ", ".join(f"{name} {tally.error_share:.2%}" for name, tally in bad.items())
    hint = "correct the files, or set prepare.on_error and prepare.max_error_share"
    if any(problem.kind == "id" for tally in bad.values() for problem in tally.problems):
        hint += "; if every row is one person's annotation, name who gave it in columns.annotator"
    raise DataError(f"too many bad rows ({shares}; allowed {allowed:.2%})\n" + "\n".join(shown), hint=hint)


def _finish(
    plan: PreparePlan,
    tallies: dict[str, Tally],
    holdout: Holdout,
    groups: Sequence[str],
    annotator: Annotator,
    progress: Progress,
) -> dict[str, Any]:
    """Join, divide and write; the finished files move into place one after the other, the examples first."""
    section = plan.section
    folder = Path(section.output)
    scratch = folder / WORK / "join"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    corpus = Corpus([shard_of(section, each) for each in plan.sources], scratch)
    with progress.task("join posts", unit="posts") as advance:
        division = divide(corpus, _rules(section), holdout)
        advance(corpus.rows)
    out = folder / WORK / "out"
    with progress.task("write examples", total=corpus.rows, unit="posts") as advance:
        statistics, dropped = assemble(corpus, division, out / FILE_NAME, advance)
    _check_splits(section, division)
    notes = annotator(out / FILE_NAME)
    card = _card(plan, tallies, statistics, dropped, division, out / FILE_NAME)
    if notes is not None:
        card["annotation"] = notes
    card["unknown_targets"] = _unknown_targets(plan, card["datasets"], groups)
    card["holdout"] = {"texts": len(holdout), "threshold": holdout.threshold}
    (out / CARD_JSON).write_text(card_json(card), "utf-8")
    (out / CARD_MARKDOWN).write_text(card_markdown(card), "utf-8")
    for name in (FILE_NAME, CARD_JSON, CARD_MARKDOWN):
        (out / name).replace(folder / name)
    return card


def _annotate(
    section: PrepareSection, consent: bool, groups: Sequence[str], progress: Progress, examples: Path
) -> dict[str, Any] | None:
    """Let a model explain the posts where the recipe says so; answers are kept beside the examples."""
    if section.annotate is None:
        return None
    settings = AnnotateSettings(**section.annotate.model_dump(), seed=section.seed, groups=groups)
    cache = Path(section.output) / ANSWERS
    report = annotate(examples, cache, settings, consent=consent, progress=progress)
    return report.to_json(settings)


def _rules(section: PrepareSection) -> Rules:
    return Rules(
        section.languages.keep,
        section.duplicates.threshold,
        section.duplicates.exact == "drop",
        Shares(section.tune_share, section.report_share),
        section.seed,
    )


def _card(
    plan: PreparePlan,
    tallies: dict[str, Tally],
    statistics: Statistics,
    dropped: dict[str, dict[str, int]],
    division: Division,
    examples: Path,
) -> dict[str, Any]:
    section = plan.section
    datasets = statistics.to_json()
    languages: Counter[str] = Counter()
    for data in datasets.values():
        languages.update(data["languages"])
    rows = sum(data["rows"] for data in datasets.values())
    return {
        "schema": CARD_SCHEMA,
        "hatex": version("hatex"),
        "key": plan.key,
        "seed": section.seed,
        "examples": {"file": FILE_NAME, "rows": rows, "sha256": hash_file(examples)},
        "splits": list(SPLITS[:3])
        + (["test"] if any("test" in d["splits"] for d in datasets.values()) else []),
        "settings": section.model_dump(mode="json", exclude={"output", "sources", "num_proc", "holdout"}),
        "datasets": datasets,
        "dropped": dropped,
        "repeats": division.repeats,
        "capped": division.capped,
        "languages": dict(languages.most_common()),
        "warnings": _warnings(section, datasets, division.capped),
        "sources": [
            source_record(each.name, each.section.platform, each.source.info, each.files, tallies[each.name])
            for each in plan.sources
        ],
    }


def _asked_splits(section: PrepareSection) -> list[str]:
    wanted = {"train": 1.0, "tune": section.tune_share, "report": section.report_share}
    return [split for split, share in wanted.items() if share > 0]


def _check_splits(section: PrepareSection, division: Division) -> None:
    """Raise DataError where no row at all is in a split that the shares ask for."""
    import numpy as np

    kept = division.splits >= 0
    for split in _asked_splits(section):
        if not np.any(division.splits == SPLITS.index(split)):
            groups = len(np.unique(division.groups[kept]))
            capped = sum(division.capped.values())
            raise DataError(
                f"split {split!r} is empty: {kept.sum():,} posts stand in {groups:,} groups of posts that must not be "
                "parted (near-copies of each other, or of one author or thread)"
                + (f"; among them {capped:,} {CAP}" if capped else ""),
                hint="add posts, raise prepare.tune_share and report_share, or raise prepare.duplicates.threshold if "
                "your posts only look alike; where a source's own parts leave it empty, set its official_splits: false",
            )


def _warnings(section: PrepareSection, datasets: dict[str, Any], capped: dict[str, int]) -> list[str]:
    """Splits that came out empty for one data set."""
    return [
        f"{name} has no rows in {split}" + (f" ({capped[name]:,} {CAP})" if name in capped else "")
        for name, data in datasets.items()
        for split in _asked_splits(section)
        if not data["splits"].get(split)
    ]


def _unknown_targets(
    plan: PreparePlan, datasets: dict[str, Any], groups: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Names in people's own tables that the list of groups does not have, by data set; other readers map theirs."""
    tables = (each.name for each in plan.sources if each.section.source == "table" and each.name in datasets)
    found = {
        name: {target: count for target, count in datasets[name]["targets"].items() if target not in groups}
        for name in tables
    }
    return {name: counts for name, counts in found.items() if counts}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    (folder / WORK).mkdir(parents=True, exist_ok=True)
    busy = DataError(
        "another run is writing to this folder",
        where=str(folder),
        hint="wait until it has ended, or name another folder in prepare.output",
    )
    with hold(folder / WORK / "lock", busy):
        yield
