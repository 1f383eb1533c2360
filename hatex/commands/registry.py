"""`hatex registry`: what is on disk, whether it is intact, and other people's artefacts in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

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
    from hatex.registry import Kind

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

RefArgument = Annotated[
    str, typer.Argument(metavar="ARTEFACT", help="adapter:BASE/NAME, router:NAME, or a name only one has.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put it in the place of one of that name.", show_default=False)
]


@app.callback()
def root() -> None:
    """List, show, verify, import and remove models.

    [bold]Example[/bold]
      hatex registry list --kind adapter
    """


@app.command("list")
def list_artefacts(
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="base, encoder, adapter or router.")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """All bases, encoders, adapters and routers, with disk use and licence.

    [bold]Example[/bold]
      hatex registry list --kind adapter
    """
    from hatex.render.registry import list_record, render_list

    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    found = list(store.scan(_kind(kind)))
    if as_json:
        console.json(list_record(store, found))
    else:
        console.table(render_list(store, found))


@app.command()
def show(
    artefact: RefArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """One artefact: files, recipe, data, metrics, and all it rests on with every licence.

    [bold]Example[/bold]
      hatex registry show router:starter
    """
    from hatex.registry.lineage import trace
    from hatex.render.registry import render_show, show_record

    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    found = store.find_ref(artefact)
    lineage = trace(store, found)
    compute = None
    if found.kind == "base":
        from hatex.model.policy import describe_compute

        compute = describe_compute(found.path)
    if as_json:
        console.json(show_record(store, found, lineage, compute))
    else:
        console.table(render_show(store, found, lineage, compute))


@app.command()
def licences(
    recipe: RecipeOption = STARTER,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Licences of all that an engine's answers rest on: base, encoder, adapters, router and their parents.

    [bold]Example[/bold]
      hatex registry licences --recipe starter
    """
    from hatex.registry.lineage import trace_all
    from hatex.render.registry import licences_record, render_licences

    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    loaded = build_recipe(recipe, overrides)
    declared = {
        f"encoder:{loaded.encoder.name}": loaded.encoder.source.licence,
        f"base:{loaded.base.name}": loaded.base.source.licence,
    }
    adapters = [f"adapter:{loaded.base.name}/{name}" for name in loaded.adapters]
    nodes = trace_all(store, [*adapters, f"router:{loaded.router}", *declared], declared)
    if as_json:
        console.json(licences_record(nodes))
    else:
        console.table(render_licences(nodes))


@app.command()
def verify(
    artefacts: Annotated[
        list[str] | None, typer.Argument(metavar="[ARTEFACT]...", help="Default: everything.")
    ] = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare every file with its manifest; exit 1 if any differs.

    [bold]Example[/bold]
      hatex registry verify adapter:smollm2-135m-instruct/wiki
    """
    from hatex.registry.integrity import verify_artefacts
    from hatex.render.registry import render_verify, verify_record

    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    results = verify_artefacts(store, artefacts or (), progress=console.progress())
    if as_json:
        console.json(verify_record(results))
    else:
        console.table(render_verify(results))
    if any(results.values()):
        raise typer.Exit(1)


@app.command("import")
def import_artefacts(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="PEFT folder, encoder folder, router file (.safetensors, or a .pth state dict), hub id "
            "OWNER/NAME, or another registry.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", metavar="NAME|FILE", help="Import what this recipe's imports name."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name in the registry. Default: the source's own.")] = None,
    base: Annotated[str | None, typer.Option(help="Adapters: the base they were trained on.")] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Routers: adapter names in class order.")
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="Routers: the encoder they read.")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX name. Default: what the model card says.")] = None,
    revision: Annotated[str | None, typer.Option(help="Hub ids: commit, tag or branch.")] = None,
    replace: ReplaceOption = False,
    overrides: SetOption = None,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Take in adapters, encoders and routers; refuse what is unsafe or does not fit.

    [bold]Example[/bold]
      hatex registry import ./my-lora --name mine --base smollm2-135m-instruct
      hatex registry import --recipe reference-llama2-7b
    """
    from hatex.errors import UsageError
    from hatex.registry import Artefact
    from hatex.registry.sources import ImportOptions, import_source

    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    if (source is None) == (recipe is None):
        raise UsageError("name either a SOURCE or a --recipe", hint="see `hatex registry import --help`")
    said = {"name": name, "base": base, "classes": classes, "encoder": encoder, "licence": licence}
    idle = {"set": overrides} if recipe is None else said | {"revision": revision}
    if unused := [f"--{option}" for option, value in idle.items() if value]:
        raise UsageError(
            "is for a SOURCE; a recipe says it in `imports`" if recipe else "changes a --recipe",
            where=", ".join(unused),
            hint="leave it out",
        )
    if recipe is not None:
        from hatex.workflows.imports import import_recipe

        loaded = build_recipe(recipe, overrides)
        imported = import_recipe(loaded, store, replace=replace, progress=console.progress())
    else:
        options = ImportOptions(
            name=name,
            base=base,
            classes=tuple(part.strip() for part in classes.split(",")) if classes else (),
            encoder=encoder,
            licence=licence,
            revision=revision,
            replace=replace,
        )
        imported = import_source(store, str(source), options)
    held = {found.name for _, found in store.scan("base") if isinstance(found, Artefact)}
    for missing in sorted({each.base for each in imported if each.base is not None} - held):
        console.note(
            f"base {missing} is not here yet: whether adapters fit it is seen when an engine is loaded"
        )
    if as_json:
        console.json({"imported": [{"ref": each.ref, "path": str(each.path)} for each in imported]})
    else:
        console.data("\n".join(each.ref for each in imported))


@app.command()
def remove(
    artefact: RefArgument,
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Delete one artefact, unless others need it.

    [bold]Example[/bold]
      hatex registry remove adapter:smollm2-135m-instruct/mine
    """
    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    found = store.find_ref(artefact)
    store.remove(found)
    if as_json:
        console.json({"removed": found.ref})
    else:
        console.note(f"removed {found.ref}")


@app.command()
def gc(registry: RegistryOption = None, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """Clear away what killed processes left half-written.

    [bold]Example[/bold]
      hatex registry gc
    """
    console = build_console(as_json=as_json, quiet=quiet)
    store = build_registry(registry, console)
    cleared = store.gc()
    if as_json:
        console.json({"cleared": cleared})
    else:
        console.note(f"cleared {cleared} unfinished folder{'' if cleared == 1 else 's'}")


def _kind(text: str | None) -> Kind | None:
    from hatex.errors import UsageError
    from hatex.registry.names import KINDS

    kind = next((each for each in KINDS if each == text), None)
    if text is not None and kind is None:
        raise UsageError(f"{text!r} is not a kind", where="--kind", hint=f"one of {', '.join(KINDS)}")
    return kind
