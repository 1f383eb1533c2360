"""`hatex route`: JSONL posts in, JSONL answers out."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from hatex.commands.options import (
    STARTER,
    JsonOption,
    QuietOption,
    RecipeOption,
    RegistryOption,
    SetOption,
    SpaceOption,
    StrategyOption,
    build_console,
    build_recipe,
    build_registry,
)
from hatex.errors import InputLinesError, UsageError
from hatex.types import OUTPUT_SCHEMA


def command(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT", help="JSONL files (also .gz), - for stdin (the default).", show_default=False
        ),
    ] = None,
    strategy: StrategyOption = None,
    space: SpaceOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Add an explanation to every answer.")] = False,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="FIELD,...", help="Input fields to repeat in the answer.")
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option("--batch-tokens", metavar="N", min=1, help="Token budget of one batch in the engine."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write here, whole or not at all, instead of stdout."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --output: go on after the last line that was written.")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Fixed batches: identical bytes from pipes and resumed runs."),
    ] = False,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="Answer here, or by the workers of Ray Data.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", metavar="N", min=1, help="Workers of --engine ray. Default: one a GPU or machine."
        ),
    ] = None,
    recipe: RecipeOption = STARTER,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Answer JSONL posts with labels, gate weights and decisions.

    [bold]Example[/bold]
      echo '{"id": 1, "text": "What a lovely goal!"}' | hatex route
      hatex route posts.jsonl --keep user,time --output answers.jsonl --resume
      hatex route posts.jsonl --engine ray --workers 4 > answers.jsonl

    Each line in, {"id": ..., "text": ...}, gives one line out, in order, as soon
    as its batch is done: label, probabilities, gates, decision (allow, review or
    flag) and more. A line that cannot be answered gives an error object with its
    line number (counted through all files; the message then names file and line);
    the others are unaffected, and the exit code is 4.
    """
    if resume and output is None:
        raise UsageError("needs --output FILE", where="--resume")
    from hatex.workflows.inputs import STDIN
    from hatex.workflows.route import RouteOptions, route

    console = build_console(as_json=as_json, quiet=quiet)
    sources = tuple(inputs or [STDIN])
    if STDIN in sources and sys.stdin.isatty():
        console.hint("reading JSONL posts from the terminal; end with Ctrl-D")
    if explain:
        console.content_note()
    changes = [*(overrides or ()), *([f"route.batch_tokens={batch_tokens}"] if batch_tokens else [])]
    outcome = route(
        build_recipe(recipe, changes),
        build_registry(registry, console),
        inputs=sources,
        write=console.lines,
        output=output,
        resume=resume,
        options=RouteOptions(strategy, space, explain, fields_of(keep), deterministic, engine, workers),
        progress=console.progress(streams=output is None),
    )
    if as_json and output is not None:
        console.json(
            {
                "schema": OUTPUT_SCHEMA,
                "output": str(output),
                "answered": outcome.answered,
                "failed": dict(outcome.failed),
            }
        )
    if outcome.failed:
        message = describe_failures(outcome.lines, outcome.failed, outcome.first_failed)
        if as_json:  # stdout already has an object for each of them
            console.note(message)
            raise typer.Exit(InputLinesError.exit_code)
        raise InputLinesError(message, hint="the output has an `error` object with a line number for each")


def fields_of(keep: str | None) -> tuple[str, ...]:
    """`a,b` to ("a", "b")."""
    return tuple(dict.fromkeys(name.strip() for name in (keep or "").split(",") if name.strip()))


def describe_failures(lines: int, failed: Counter[str], first: str | None = None) -> str:
    """`2 of 9 lines could not be answered (1 empty, 1 json), first posts.jsonl:7`."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(failed.items()))
    place = f", first {first}" if first else ""
    return f"{failed.total()} of {lines} lines could not be answered ({kinds}){place}"
