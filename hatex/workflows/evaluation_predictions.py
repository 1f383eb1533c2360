"""`hatex eval --posts-to` and `--predictions`: the posts for another model to answer, and its answers judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hatex.errors import DataError
from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.gold import Scored
from hatex.evaluation.pictures import draw_data
from hatex.evaluation.requirements import Evaluated, check_requirements_known, judge_requirements
from hatex.evaluation.run import EvalRun, describe_data
from hatex.evaluation.sheet import fill_sheet
from hatex.jsonl import dump_line
from hatex.types import LABELS, NO_PROGRESS, Progress
from hatex.workflows.evaluate import require_section
from hatex.workflows.evaluation_data import EvalData, load_data
from hatex.workflows.partial import write_whole

if TYPE_CHECKING:
    from hatex.recipe import Recipe

NAME: Final = "predictions"
"""How tables call the answers if the file names no strategy, or several."""
_SUM_TOLERANCE: Final = 1e-3


def write_posts(recipe: Recipe, path: Path, *, progress: Progress = NO_PROGRESS) -> dict[str, int]:
    """Write the posts that the recipe evaluates as JSONL (`id`, `text`, `dataset`), each as it is to be answered.

    Labels are left out. Returns the number of posts of each data set.
    """
    sets = load_data(require_section(recipe), progress)
    lines = [
        dump_line({"id": post_id, "text": text, "dataset": each.gold.dataset})
        for each in sets
        for post_id, text in zip(each.gold.ids, each.texts, strict=True)
    ]
    write_whole(path, b"".join(lines))
    return {each.gold.dataset: len(each.gold) for each in sets}


@dataclass(frozen=True)
class Predictions:
    """P(label) by post id; `strategy` and `model` are those of every line, if they agree."""

    by_id: Mapping[str, tuple[float, ...]]
    strategy: str
    model: str


def evaluate_predictions(recipe: Recipe, path: Path, *, progress: Progress = NO_PROGRESS) -> EvalRun:
    """The recipe's data sets, metrics and requirements on answers in a file.

    Raises DataError where a chosen post has no answer, or a line is not one.
    """
    section = require_section(recipe)
    predictions = load_predictions(path)
    sets = load_data(section, progress)
    name = predictions.strategy
    known = Evaluated([each.gold.dataset for each in sets], [name], name, has_explanations=False)
    check_requirements_known(section.requirements, known)
    scored = {name: {each.gold.dataset: _score(each, predictions, path) for each in sets}}
    bootstrap = Bootstrap(section.seed, section.resamples, section.confidence)
    with progress.task("Resampling", len(sets), "sets") as advance:
        sheet = fill_sheet(scored, {}, name, list(METRICS.values()), bootstrap, advance)
    return EvalRun(
        engine=recipe.name,
        model=predictions.model,
        seed=section.seed,
        resamples=section.resamples,
        confidence=section.confidence,
        reference=name,
        data={each.gold.dataset: describe_data(each.gold, each.examples, each.n_total) for each in sets},
        results=sheet.results,
        differences=sheet.differences,
        pictures={each.gold.dataset: draw_data(scored, each.gold.dataset) for each in sets},
        outcomes=judge_requirements(section.requirements, sheet.results),
    )


def _score(data: EvalData, predictions: Predictions, path: Path) -> Scored:
    missing = [post_id for post_id in data.gold.ids if post_id not in predictions.by_id]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(data.gold):,} posts of {data.gold.dataset} have no answer, first {missing[0]}",
            where=str(path),
            hint="answer every post of the split, or name the sets that you answered with --data",
        )
    return Scored(data.gold, np.array([predictions.by_id[post_id] for post_id in data.gold.ids]))


def load_predictions(path: Path) -> Predictions:
    """Read route's JSONL; error lines are passed over, so that their posts count as missing.

    Raises DataError for a line that is not an answer, and for an id that is answered twice.
    """
    by_id: dict[str, tuple[float, ...]] = {}
    strategies, models = set(), set()
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                record = _parse(line, f"{path}:{number}")
                if "error" in record:
                    continue
                post_id = str(record["id"])
                if post_id in by_id:
                    raise DataError(f"id {post_id} is answered twice", where=f"{path}:{number}")
                by_id[post_id] = _probabilities(record, f"{path}:{number}")
                strategies.add(str(record.get("strategy", NAME)))
                models.add(str(record.get("model", "unknown")))
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise DataError("not UTF-8", where=str(path)) from error
    return Predictions(by_id, _only(strategies, NAME), _only(models, "several"))


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise DataError("not JSON", where=where) from error
    if not isinstance(record, dict) or ("error" not in record and "id" not in record):
        raise DataError("not an answer of hatex route", where=where, hint="a line needs id and probabilities")
    return record


def _probabilities(record: Mapping[str, Any], where: str) -> tuple[float, ...]:
    found = record.get("probabilities")
    hint = f"an object with {', '.join(LABELS)}"
    if not isinstance(found, dict) or set(found) != set(LABELS):
        raise DataError("probabilities do not name the three labels", where=where, hint=hint)
    values = tuple(found[label] for label in LABELS)
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        raise DataError("probabilities must lie between 0 and 1", where=where)
    if abs(sum(values) - 1) > _SUM_TOLERANCE:
        raise DataError("probabilities must sum to 1", where=where)
    return tuple(map(float, values))


def _only(values: set[str], otherwise: str) -> str:
    return values.pop() if len(values) == 1 else otherwise
