"""`hatex registry import --recipe`: everything that a recipe's section `imports` names."""

from __future__ import annotations

from pathlib import Path

from hatex.errors import RecipeError, UsageError
from hatex.model.fetch import check_hash
from hatex.recipe.imports import ImportedRouter
from hatex.recipe.schema import Recipe
from hatex.registry import Artefact, Registry
from hatex.registry.sources import ImportOptions, import_source
from hatex.types import NO_PROGRESS, Progress


def import_recipe(
    recipe: Recipe, registry: Registry, *, replace: bool = False, progress: Progress = NO_PROGRESS
) -> list[Artefact]:
    """Import the recipe's adapters and router, under the names that the recipe uses.

    Raises `RecipeError` where it names none or others than its own, and what the imports raise; artefacts
    that came in before a failure stay.
    """
    section = recipe.imports
    if section is None:
        raise RecipeError([f"recipe {recipe.name} has no section imports"], hint="name a SOURCE instead")
    named = [*section.adapters, *(section.router.classes if section.router else ())]
    if unknown := sorted(set(named) - set(recipe.adapters)):
        raise RecipeError([f"imports name {', '.join(unknown)}, which `adapters` lacks"])
    if section.router is not None:
        _check_router_file(section.router)
    imported: list[Artefact] = []
    total = len(section.adapters) + (section.router is not None)
    with progress.task("Importing", total=total, unit="artefacts") as advance:
        for name, adapter in section.adapters.items():
            options = ImportOptions(
                name=name,
                base=recipe.base.name,
                licence=adapter.licence,
                revision=adapter.revision,
                replace=replace,
            )
            imported += import_source(registry, adapter.source, options)
            advance(1)
        if section.router is not None:
            options = ImportOptions(
                name=recipe.router,
                classes=section.router.classes,
                encoder=recipe.encoder.name,
                licence=section.router.licence,
                replace=replace,
            )
            imported += import_source(registry, section.router.file, options)
            advance(1)
    return imported


def _check_router_file(router: ImportedRouter) -> None:
    path = Path(router.file).expanduser()
    if not path.is_file():
        raise UsageError("no such file", where=router.file, hint="correct imports.router.file in the recipe")
    check_hash(path, router.sha256)
