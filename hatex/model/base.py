"""Bases and encoders in the registry: fetched once, checked, and bases quantised to NF4.

A base's identity is its source plus the quantisation settings (`registry.base_identity`); its NF4 bytes may differ
between library versions, its identity does not.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hatex.errors import RegistryError
from hatex.hashing import hash_file
from hatex.model.fetch import obtain
from hatex.model.policy import compute_dtype as compute_dtype
from hatex.model.quantizing import write_base
from hatex.recipe.models import BaseSection, EncoderSection, ModelSource
from hatex.registry import Artefact, Kind, Registry, base_identity
from hatex.registry.files import digest
from hatex.registry.imports import import_encoder
from hatex.types import NO_PROGRESS, Progress

_COMMIT: Final = re.compile("[0-9a-f]{40}")


def ensure_base(
    section: BaseSection, registry: Registry, *, given: Path | None = None, progress: Progress = NO_PROGRESS
) -> Artefact:
    """The base of a recipe: from the registry, or fetched (from `given`, if named), quantised and published.

    Raises FetchError, IntegrityError, or RegistryError where the name stands for another base.
    """
    try:
        artefact = registry.find("base", section.name)
    except RegistryError:
        pass
    else:
        _check_base(artefact, section)
        return artefact
    with tempfile.TemporaryDirectory(prefix="hatex-") as scratch:
        found = obtain(section.source, given, Path(scratch), progress)
        identity = _identity(section, found)
        fields = {
            "source": _origin(section.source, found),
            "licence": section.source.licence,
            "base_identity": identity,
        }
        with (
            _unless_published(registry, "base", section.name),
            registry.publish("base", section.name, manifest_fields=fields) as folder,
        ):
            write_base(found, folder, section.block_size, progress)
    return registry.find("base", section.name)


@contextmanager
def _unless_published(registry: Registry, kind: Kind, name: str) -> Iterator[None]:
    """Two processes may fetch the same artefact at once: the one that ends second takes the other's."""
    try:
        yield
    except RegistryError:
        try:
            registry.find(kind, name)
        except RegistryError:
            pass
        else:
            return
        raise


def ensure_encoder(
    section: EncoderSection,
    registry: Registry,
    *,
    given: Path | None = None,
    progress: Progress = NO_PROGRESS,
) -> Artefact:
    """The encoder of a recipe: from the registry, or fetched (from `given`, if named), checked and published.

    Raises as `ensure_base`, and ModelError for an encoder that cannot be used.
    """
    try:
        artefact = registry.find("encoder", section.name)
    except RegistryError:
        pass
    else:
        _check_encoder(artefact, section.source)
        return artefact
    with tempfile.TemporaryDirectory(prefix="hatex-") as scratch:
        found = obtain(section.source, given, Path(scratch), progress)
        with _unless_published(registry, "encoder", section.name):
            import_encoder(
                registry,
                found,
                name=section.name,
                source=_origin(section.source, found),
                licence=section.source.licence,
            )
    return registry.find("encoder", section.name)


def _identity(section: BaseSection, found: Path) -> str:
    source = section.source
    if source.hub is not None and (commit := _commit_of(found)):
        return base_identity(hub=source.hub, revision=commit, block_size=section.block_size)
    if found.is_file():
        sha256 = hash_file(found)
    else:
        sha256 = digest({file.name: hash_file(file) for file in sorted(found.glob("*.safetensors"))})
    return base_identity(sha256=sha256, block_size=section.block_size)


def _commit_of(found: Path) -> str | None:
    """The commit that a snapshot of the hub is of, after which its folder is named; None of any other folder."""
    return found.name if _COMMIT.fullmatch(found.name) else None


def _origin(source: ModelSource, found: Path) -> dict[str, Any]:
    """The source as manifests record it: of the hub, with the commit that a branch or tag stood for."""
    record = source.model_dump(exclude_none=True)
    if source.hub is not None and (commit := _commit_of(found)):
        record["revision"] = commit
    return record


def _check_base(artefact: Artefact, section: BaseSection) -> None:
    identity, source = artefact.manifest.base_identity or "", section.source
    if source.member_sha256 is not None:
        is_other = source.member_sha256 not in identity
    elif (folder := _other_folder(artefact, source)) is not None:
        is_other = _identity(section, folder) != identity
    else:
        is_other = _contradicts(artefact, source)
    if is_other or not identity.endswith(f"-{section.block_size}"):
        raise _taken(artefact)


def _check_encoder(artefact: Artefact, source: ModelSource) -> None:
    weights = "model.safetensors"
    if (folder := _other_folder(artefact, source)) is not None and (folder / weights).is_file():
        is_other = hash_file(folder / weights) != artefact.manifest.files.get(weights)
    else:
        is_other = _contradicts(artefact, source)
    if is_other:
        raise _taken(artefact)


def _contradicts(artefact: Artefact, source: ModelSource) -> bool:
    """Whether the recipe pins otherwise what the manifest records; branches and tags move, and pin nothing."""
    pinned = source.model_dump(include={"sha256", "member", "hub", "revision"}, exclude_none=True)
    if _COMMIT.fullmatch(pinned.get("revision", "")) is None:
        pinned.pop("revision", None)
    made_from = artefact.manifest.source
    return any(made_from.get(name, value) != value for name, value in pinned.items())


def _other_folder(artefact: Artefact, source: ModelSource) -> Path | None:
    """The recipe's folder, if it is here and not the one that the artefact was made from: its weights will tell."""
    if source.folder is None or artefact.manifest.source.get("folder") == source.folder:
        return None
    folder = Path(source.folder).expanduser()
    return folder if folder.is_dir() else None


def _taken(artefact: Artefact) -> RegistryError:
    return RegistryError(
        f"the registry holds another {artefact.kind} under this name",
        where=artefact.ref,
        hint=f"give the {artefact.kind} of your recipe another name, or remove the old one",
    )
