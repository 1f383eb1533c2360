"""`hatex recipe`: check, show, schema."""

from __future__ import annotations

import typer

from hatex.commands.options import (
    JsonOption,
    QuietOption,
    RecipeArgument,
    SetOption,
    build_console,
    build_recipe,
)
from hatex.types import OUTPUT_SCHEMA

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.callback()
def group() -> None:
    """List, check and show recipes; print their JSON Schema.

    A recipe is a YAML file that says what a command does. hatex ships some,
    which are found by bare name.

    [bold]Example[/bold]
      hatex recipe show starter
    """


@app.command("list")
def list_recipes(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """The recipes that hatex ships, and what each is for.

    [bold]Example[/bold]
      hatex recipe list
    """
    from hatex.recipe import shipped_summaries

    console = build_console(as_json=as_json, quiet=quiet)
    summaries = shipped_summaries()
    if as_json:
        recipes = [{"name": name, "summary": summary} for name, summary in summaries.items()]
        console.json({"schema": OUTPUT_SCHEMA, "recipes": recipes})
    else:
        from hatex.render.recipe import render_list

        console.table(render_list(summaries))


@app.command()
def check(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Report every mistake in a recipe, each with file, line and column.

    [bold]Example[/bold]
      hatex recipe check mine.yaml --set train.lr=1e-4

    Exit code 2 if there is one. A variable that is not set is a mistake here,
    whichever command needs it.
    """
    from hatex.workflows.recipe_check import check_recipe, remarks

    console = build_console(as_json=as_json, quiet=quiet)
    loaded = build_recipe(recipe, overrides)
    sections = check_recipe(loaded)
    for remark in remarks(loaded):
        console.note(f"note: {remark}")
    if as_json:
        console.json({"schema": OUTPUT_SCHEMA, "recipe": loaded.name, "sections": sections})
    else:
        console.data(f"{recipe}: {loaded.name} is fine; sections: {', '.join(sections) or 'none'}")


@app.command()
def show(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Print a recipe as hatex understands it, defaults included.

    [bold]Example[/bold]
      hatex recipe show starter --set route.strategy=top-2

    `extends` and --set are laid in; ${NAME} stays by name, so that the output
    can be shared and used as a recipe.
    """
    console = build_console(as_json=as_json, quiet=quiet)
    resolved = build_recipe(recipe, overrides).resolved()
    if as_json:
        console.json(resolved)
    else:
        from hatex.render.recipe import recipe_yaml, render_recipe

        console.data(render_recipe(resolved) if console.is_terminal else recipe_yaml(resolved))


@app.command()
def schema(as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Print the JSON Schema of recipes, for editors and validators.

    [bold]Example[/bold]
      hatex recipe schema > recipe.schema.json

    Many editors take it from the first line of a recipe:
      # yaml-language-server: $schema=recipe.schema.json
    """
    import json

    from hatex.recipe import recipe_json_schema

    console = build_console(as_json=as_json, quiet=quiet)
    if as_json:
        console.json(recipe_json_schema())
    else:
        console.data(json.dumps(recipe_json_schema(), indent=2, ensure_ascii=False))
