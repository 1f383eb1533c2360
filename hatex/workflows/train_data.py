"""The prepared data that `hatex train` reads: made where they are missing, refused where they are another recipe's."""

from __future__ import annotations

import json
from pathlib import Path

from hatex.data.card import CARD_JSON
from hatex.data.examples import FILE_NAME
from hatex.errors import DataError
from hatex.recipe.prepare import PrepareSection
from hatex.recipe.schema import Recipe
from hatex.registry import Registry
from hatex.types import Progress


def prepare_missing(recipe: Recipe, registry: Registry, progress: Progress) -> None:
    """Prepare `train.data` where it is not there yet and is what the recipe's own `prepare` section writes."""
    data = Path(recipe.require("train").data)
    if _writer_of(data, recipe) is None or (data / FILE_NAME).is_file():
        return
    from hatex.workflows.prepare import prepare

    progress.say(f"{data} is not there yet: preparing it")
    prepare(recipe, registry=registry, only="data", progress=progress)


def _writer_of(data: Path, recipe: Recipe) -> PrepareSection | None:
    """The recipe's `prepare` section, if that is what writes `data`."""
    section = recipe.prepare
    return section if section is not None and Path(section.output) == data else None


def check_prepared(recipe: Recipe) -> None:
    """Raise DataError where `train.data` is from other files or settings than the recipe's `prepare` section names."""
    from hatex.workflows.prepare_plan import plan_data

    data = Path(recipe.require("train").data)
    section, card = _writer_of(data, recipe), data / CARD_JSON
    known = json.loads(card.read_text("utf-8")).get("key") if card.is_file() else None
    if section is None or known is None:
        return
    try:
        key = plan_data(section).key
    except DataError:
        return  # The raw files need not be here any more.
    if key != known:
        raise DataError(
            "prepared from other files or settings than those of the recipe",
            where=str(data),
            hint="run `hatex prepare` with this recipe, or name another folder in prepare.output and train.data",
        )
