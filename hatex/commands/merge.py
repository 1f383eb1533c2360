"""`hatex merge`: adapters into one adapter, or a whole model to ship."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hatex.commands.options import (
    STARTER,
    JsonOption,
    QuietOption,
    RecipeOption,
    RegistryOption,
    SetOption,
    build_console,
    build_recipe,
    build_registry,
)

if TYPE_CHECKING:
    from hatex.recipe import Recipe


def command(
    recipe: RecipeOption = STARTER,
    name: Annotated[str | None, typer.Option(help="Name of the new adapter.")] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option("--weight", "-w", metavar="NAME=W", help="Weight of an adapter; repeatable."),
    ] = None,
    gates_from: Annotated[
        str | None,
        typer.Option(
            metavar="POSTS", help="Weigh by the router's mean gates on a prepared folder or JSONL file."
        ),
    ] = None,
    optimise: Annotated[
        str | None, typer.Option(metavar="macro_f1", help="Search for the best weights on tune posts.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="cat, svd, ties, dare_ties, dare_linear, magnitude_prune or linear. Default: cat."),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the new adapter (svd, sparse methods).")] = None,
    density: Annotated[float | None, typer.Option(help="Share of entries that sparse methods keep.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="METHOD", help="Measure this method too; repeatable.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Prepared folder to choose (tune) and report on.")
    ] = None,
    export: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="peft, hf, nf4 or gguf-lora; repeatable.")
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the exports.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace an adapter of that name, and earlier exports.")
    ] = False,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Merge adapters into one adapter, or a whole model to ship.

    [bold]Example[/bold]
      hatex merge --name mix -w microblog=.6 -w forums=.4
      hatex merge --name mix --gates-from posts.jsonl --export peft --output out

    Options stand in for the recipe's section merge. Exports are compared with
    hatex's own answers to fifty posts before they are announced.
    """
    from hatex.workflows.merge import merge

    console = build_console(as_json=as_json, quiet=quiet)
    given = {
        "name": name,
        "weights": _weights(weight),
        "gates_from": gates_from,
        "optimise": optimise,
        "method": method,
        "rank": rank,
        "density": density,
        "compare": compare,
        "data": data,
        "export": export,
        "output": output,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if any(override.startswith("merge.") for override in overrides or ()):
        # What --set changes of a section has to be part of a whole one.
        overrides = [
            *(f"merge.{key}={json.dumps(value)}" for key, value in options.items()),
            *(overrides or ()),
        ]
    loaded = _with_options(build_recipe(recipe, overrides), options)
    outcome = merge(loaded, build_registry(registry, console), replace=replace, progress=console.progress())
    total, least = sum(outcome.weights.values()), min(outcome.weights.values())
    if least < 0 or not 0.99 < total < 1.01:
        console.note(f"gate weights sum to 1, none below 0; these sum to {total:g}, the least is {least:g}")
    from hatex.render.merge import merge_record, render_merge

    if as_json:
        console.json(merge_record(outcome))
    else:
        console.data(render_merge(outcome))


def _weights(pairs: list[str] | None) -> dict[str, float] | None:
    from hatex.errors import UsageError

    weights = {}
    for pair in pairs or ():
        name, _, number = pair.rpartition("=")
        if name in weights:
            raise UsageError(f"{name} has two weights", where="--weight", hint="name every adapter once")
        try:
            weights[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"{pair!r} is not NAME=WEIGHT", where="--weight", hint="as in -w microblog=.6")
    return weights or None


def _with_options(recipe: Recipe, options: dict[str, Any]) -> Recipe:
    """The recipe with options laid over its section merge."""
    if not options:
        return recipe
    from pydantic import ValidationError

    from hatex.errors import UsageError
    from hatex.recipe.merge import MergeSection

    written = {} if recipe.merge is None else recipe.merge.model_dump(exclude_unset=True)
    if {"weights", "gates_from", "optimise"} & options.keys():
        written = {k: v for k, v in written.items() if k not in ("weights", "gates_from", "optimise")}
    try:
        section = MergeSection.model_validate(written | options)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else None
        option = key and "--" + {"weights": "weight"}.get(key, key).replace("_", "-")
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        raise UsageError(message, where=option, hint="see `hatex merge --help`") from error
    return recipe.model_copy(update={"merge": section})
