"""Bases and encoders in the registry: fetched once, checked, and bases quantised to NF4.

A base's identity is its source plus the quantisation settings (`registry.base_identity`); its NF4 bytes may differ
between library versions, its identity does not.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hatex.errors import ModelError, RegistryError
from hatex.model.fetch import obtain
from hatex.model.policy import compute_dtype as compute_dtype
from hatex.model.quantizing import TOKENIZER_FILES, write_base
from hatex.recipe.models import BaseSection, EncoderSection, ModelSource
from hatex.registry import Artefact, Kind, Registry, base_identity
from hatex.registry.files import digest, hash_file
from hatex.types import NO_PROGRESS, Progress

ENCODER_FILES = (*TOKENIZER_FILES, "config.json", "model.safetensors")


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
        _check_source(artefact, section)
        return artefact
    with tempfile.TemporaryDirectory(prefix="hatex-") as scratch:
        found = obtain(section.source, given, Path(scratch), progress)
        identity = _identity(section, found)
        fields = {
            "source": section.source.model_dump(exclude_none=True),
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
    """The encoder of a recipe: from the registry, or fetched and published."""
    try:
        return registry.find("encoder", section.name)
    except RegistryError:
        pass
    with tempfile.TemporaryDirectory(prefix="hatex-") as scratch:
        found = obtain(section.source, given, Path(scratch), progress)
        fields = {
            "source": section.source.model_dump(exclude_none=True),
            "licence": section.source.licence,
        }
        with (
            _unless_published(registry, "encoder", section.name),
            registry.publish("encoder", section.name, manifest_fields=fields) as folder,
        ):
            for name in ENCODER_FILES:
                if (found / name).is_file():
                    shutil.copyfile(found / name, folder / name)
            if not (folder / "model.safetensors").is_file():
                raise ModelError("the encoder has no safetensors weights", where=section.name)
    return registry.find("encoder", section.name)


def _identity(section: BaseSection, found: Path) -> str:
    source = section.source
    if source.hub is not None:
        # A snapshot folder is named after the commit it holds.
        return base_identity(hub=source.hub, revision=found.name, block_size=section.block_size)
    if found.is_file():
        sha256 = hash_file(found)
    else:
        sha256 = digest({file.name: hash_file(file) for file in sorted(found.glob("*.safetensors"))})
    return base_identity(sha256=sha256, block_size=section.block_size)


def _check_source(artefact: Artefact, section: BaseSection) -> None:
    source: ModelSource = section.source
    pinned = source.member_sha256 or source.revision
    identity = artefact.manifest.base_identity or ""
    if (pinned is not None and pinned not in identity) or not identity.endswith(f"-{section.block_size}"):
        raise RegistryError(
            "the registry holds another base under this name",
            where=artefact.ref,
            hint="give the base of your recipe another name, or remove the old one",
        )
