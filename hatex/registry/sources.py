"""What `hatex registry import SOURCE` is given: a folder, a file, a hub id or another registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatex.errors import RegistryError, UsageError
from hatex.registry.files import MANIFEST
from hatex.registry.hub import fetch_snapshot, is_hub_id
from hatex.registry.imports import (
    import_adapter,
    import_artefact,
    import_encoder,
    import_registry,
    import_router,
)
from hatex.registry.manifest import Manifest, load_manifest
from hatex.registry.names import FOLDERS
from hatex.registry.peft_config import CONFIG
from hatex.registry.store import Artefact, Registry


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What a source does not say of itself."""

    name: str | None = None
    base: str | None = None
    """Adapters: name of the base in the registry."""
    classes: tuple[str, ...] = ()
    """Routers: adapter names in class order."""
    encoder: str | None = None
    """Routers: name of the encoder."""
    licence: str | None = None
    revision: str | None = None
    """Hub ids: commit, tag or branch."""
    replace: bool = False


def import_source(registry: Registry, source: str, options: ImportOptions) -> list[Artefact]:
    """Import whatever `source` is; raises `UsageError` where it is nothing known or an option is missing."""
    path = Path(source).expanduser()
    if path.exists():
        if options.revision is not None:
            raise UsageError("only hub ids have revisions", where="--revision", hint="leave it out")
        path = path.resolve()
        _refuse_links(path)
        return _import_path(registry, path, {"path": path.name}, options)
    if is_hub_id(source):
        snapshot = fetch_snapshot(source, options.revision)
        origin = {"hub": snapshot.hub, "revision": snapshot.revision}
        return _import_path(registry, snapshot.folder, origin, options, default_name=source.partition("/")[2])
    raise UsageError(f"{source!r} is neither a path nor a hub id", hint="hub ids are OWNER/NAME")


def _import_path(
    registry: Registry,
    path: Path,
    origin: dict[str, Any],
    options: ImportOptions,
    default_name: str | None = None,
) -> list[Artefact]:
    if path.is_dir() and any((path / folder).is_dir() for folder in FOLDERS.values()):
        _refuse_options(options, path.name)
        return import_registry(registry, path, replace=options.replace)
    if (path / MANIFEST).is_file():
        return [_import_one(registry, path, options)]
    name = options.name or default_name or path.stem
    common: dict[str, Any] = {
        "name": name,
        "source": origin,
        "licence": options.licence,
        "replace": options.replace,
    }
    if path.is_file():
        if not options.classes or options.encoder is None:
            raise UsageError(
                "a router file needs --classes and --encoder",
                where=path.name,
                hint="--classes forums,wiki,microblog --encoder all-MiniLM-L6-v2",
            )
        return [import_router(registry, path, adapters=options.classes, encoder=options.encoder, **common)]
    if options.classes or options.encoder is not None:
        raise UsageError(
            "--classes and --encoder are a router file's",
            where=path.name,
            hint="name the file, or leave them out",
        )
    if (path / CONFIG).is_file():
        if options.base is None:
            raise UsageError("an adapter needs --base NAME, the base it was trained on", where=name)
        return [import_adapter(registry, path, base=options.base, **common)]
    if (path / "config.json").is_file() and (path / "tokenizer.json").is_file():
        return [import_encoder(registry, path, **common)]
    raise UsageError(
        "not a PEFT adapter, an encoder, a router file or a registry",
        where=path.name,
        hint=f"an adapter folder holds {CONFIG}, an encoder config.json and tokenizer.json",
    )


def _refuse_options(options: ImportOptions, where: str, manifest: Manifest | None = None) -> None:
    """Artefacts of another registry keep what their manifests say of them: other wishes are refused."""
    wishes = {name: getattr(options, name) for name in ("name", "base", "classes", "encoder", "licence")}
    if named := [
        f"--{name}" for name, wish in wishes.items() if wish and wish != getattr(manifest, name, None)
    ]:
        raise UsageError(
            f"artefacts of a registry come in as they are, without {', '.join(named)}",
            where=where,
            hint="leave it out, or import the adapter from a folder without manifest.yaml",
        )


def _refuse_links(folder: Path) -> None:
    """A link in a foreign folder could pull a private file into an artefact that is shared later."""
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise RegistryError(
                "symbolic links are refused", where=str(path), hint="copy the folder with its links followed"
            )


def _import_one(registry: Registry, path: Path, options: ImportOptions) -> Artefact:
    """One artefact folder of another registry, whose root is known from its manifest."""
    manifest = load_manifest(path)
    _refuse_options(options, path.name, manifest)
    root = path.parents[2 if manifest.kind == "adapter" else 1]
    theirs = Registry(root)
    artefact = theirs.find(manifest.kind, manifest.name, manifest.base)
    if artefact.path != path:
        raise RegistryError("this folder is not where its manifest says", where=str(path))
    return import_artefact(registry, theirs, artefact, replace=options.replace)
