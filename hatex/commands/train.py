"""`hatex train`: adapters and the router."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

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
from hatex.types import OUTPUT_SCHEMA


def command(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Train this adapter (or `router`) alone; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Steps, tokens, memory and time it would take; train nothing.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace adapters of the same name.")] = False,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train adapters and the router on prepared examples.

    [bold]Example[/bold]
      hatex prepare mine.yaml && hatex train mine.yaml
      hatex train mine.yaml --only forums --set train.lr=5e-4 --resume

    Every adapter is published to the registry as soon as it is trained, with a
    model card. An interrupted run leaves its checkpoint: --resume goes on,
    --replace starts anew. Several processes train together under [bold]accelerate
    launch --multi_gpu -m hatex train[/bold], or with [bold]--use_fsdp[/bold], each with a
    share of the 4-bit base.
    """
    from hatex.workflows.train import train

    console = build_console(as_json=as_json, quiet=quiet)
    try:
        report = train(
            build_recipe(recipe, overrides),
            build_registry(registry, console),
            only=tuple(only or ()),
            resume=resume,
            dry_run=dry_run,
            replace=replace,
            progress=console.progress(),
        )
    except KeyboardInterrupt:
        if not dry_run:
            console.hint("the same command with --resume goes on from the last checkpoint")
        raise
    if not report.is_main:
        return  # one of several processes speaks for all
    record = {"schema": OUTPUT_SCHEMA, "dry_run": dry_run, **asdict(report)}
    del record["is_main"]
    if as_json:
        console.json(record)
    else:
        from hatex.render.train import render_train

        console.data(render_train(record))
