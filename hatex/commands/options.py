"""Options that every verb shares, and what a verb builds from them.

A verb is one file, `commands/VERB.py`, with one function named `command`; `cli.py` has it in its table and
imports it only when it is invoked. Options are parsed, one workflow is called, its result is drawn:

    def command(
        recipe: RecipeOption = STARTER,
        overrides: SetOption = None,
        registry: RegistryOption = None,
        as_json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        \"""One line, the same as in the table of `cli.py`.

        [bold]Example[/bold]
          hatex verb --recipe mine.yaml

        A paragraph of lines of at most 78 columns: line breaks are kept as they stand here.
        Square brackets are Rich markup.
        \"""
        from hatex.workflows.verb import verb                      # heavy imports inside

        console = build_console(as_json=as_json, quiet=quiet)
        loaded = build_recipe(recipe, overrides)
        outcome = verb(loaded, build_registry(registry, console), progress=console.progress())
        if as_json:
            console.json(verb_record(outcome))
        else:
            from hatex.render.verb import render_verb

            console.data(render_verb(outcome))

Failures are raised as `hatex.errors.HatexError`: the boundary in `cli.py` prints them and picks the exit
code. A requirement that failed after its table was shown is `raise typer.Exit(3)`. What a command file imports
at its top may not import torch, transformers, pydantic or the like: `tests/cli/test_help.py` holds that.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hatex.types import BlendSpace

if TYPE_CHECKING:
    from hatex.console import Console
    from hatex.recipe import Recipe
    from hatex.registry import Registry

STARTER: Final = "starter"
"""The recipe, shipped with hatex, that commands fall back to when none is named."""

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="Recipe: a bare name that hatex ships, or a YAML file.")
]
RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe", "-r", metavar="NAME|FILE", help="Recipe: a bare name that hatex ships, or a YAML file."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one value of the recipe, as in train.lr=1e-4; repeatable."
    ),
]
RegistryOption = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        metavar="DIR",
        help="Folder of bases, adapters and routers. Default: $HATEX_HOME, else your user data folder.",
    ),
]
StrategyOption = Annotated[
    str | None,
    typer.Option("--strategy", metavar="S", help="blend, top-K, single:NAME, uniform or full."),
]
SpaceOption = Annotated[
    BlendSpace | None,
    typer.Option("--space", help="Where the blend happens.", show_default=False),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout; errors too, as one object.", show_default=False)
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, hints or notes on stderr.", show_default=False)
]


def build_console(*, as_json: bool = False, quiet: bool = False) -> Console:
    """The one sink for output: data on stdout, everything else on stderr."""
    from hatex.console import Console

    return Console(as_json=as_json, quiet=quiet)


def build_recipe(name_or_path: str, overrides: list[str] | None = None) -> Recipe:
    """The recipe with `--set` laid over it; RecipeError (exit 2) lists every mistake."""
    from hatex.recipe import load_recipe

    return load_recipe(name_or_path, overrides or ())


def build_registry(directory: Path | None, console: Console) -> Registry:
    """The registry at `directory`, or the default one; the starter set is looked up second."""
    from hatex.registry import open_registry

    if directory is not None and not directory.exists():
        console.note(f"there was no registry at {directory}: it begins with what hatex ships")
    return open_registry(directory)
