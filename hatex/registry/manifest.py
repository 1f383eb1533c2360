"""What `manifest.yaml` says about an artefact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

from hatex.errors import IntegrityError
from hatex.registry.files import MANIFEST, digest
from hatex.registry.names import KINDS, Kind, artefact_ref

SCHEMA: Final = 1
_MAX_BYTES: Final = 8 << 20
_SHA256: Final = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record beside the files of an artefact; see "Registry" in the README for each field.

    Keys that only one kind of artefact has (a router's `adapters` and `encoder`) are in `extra` and stand at
    the top level of the YAML file.
    """

    kind: Kind
    name: str
    created: str
    """ISO 8601, UTC."""
    files: Mapping[str, str]
    """sha256 of every file, by relative POSIX path."""
    base: str | None = None
    """Adapters: name of their base."""
    base_identity: str | None = None
    """Bases: what they are (`binding.base_identity`). Adapters: what they are bound to; None: the name
    alone.
    """
    source: Mapping[str, Any] = field(default_factory=dict)
    """Where it came from: wheel, hub id and revision, folder, `train`, `merge`."""
    licence: str | None = None
    """SPDX expression."""
    recipe: Mapping[str, Any] | None = None
    """The resolved recipe that made it."""
    data: Mapping[str, str] = field(default_factory=dict)
    """sha256 of the data card of each data set it was trained on."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    """Artefacts it was made from or needs: reference (`adapter:BASE/NAME`) to digest."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def ref(self) -> str:
        return artefact_ref(self.kind, self.name, self.base)

    @property
    def digest(self) -> str:
        """One sha256 over all files."""
        return digest(self.files)


_KNOWN: Final = tuple(item.name for item in fields(Manifest) if item.name != "extra")
_TEXT: Final = ("kind", "name", "created")
_OPTIONAL_TEXT: Final = ("base", "base_identity", "licence")
_MAPPINGS: Final = ("files", "source", "data", "metrics", "parents")


def dump_manifest(manifest: Manifest) -> str:
    """The manifest as YAML, fields in declared order, empty optional fields left out."""
    from ruamel.yaml import YAML

    record = {"schema": manifest.schema}
    for key in _KNOWN:
        value = getattr(manifest, key)
        if key != "schema" and (value or key == "files"):
            record[key] = _plain(value)
    record.update({key: _plain(value) for key, value in manifest.extra.items()})
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    out = StringIO()
    yaml.dump(record, out)
    return out.getvalue()


def parse_manifest(text: str, *, where: str) -> Manifest:
    """Read a manifest strictly; raises `IntegrityError` naming `where` for anything it must not be."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        record = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise IntegrityError("the manifest is not valid YAML", where=where) from error
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        raise IntegrityError("the manifest is not a mapping", where=where)
    if record.get("schema") != SCHEMA:
        raise IntegrityError(
            f"manifest schema {record.get('schema')!r} is not {SCHEMA}",
            where=where,
            hint="it was written by another version of hatex",
        )
    _check(record, where)
    extra = {key: value for key, value in record.items() if key not in _KNOWN}
    return Manifest(**{key: record[key] for key in _KNOWN if key in record}, extra=extra)


def load_manifest(folder: Path) -> Manifest:
    """Read `folder`/manifest.yaml; raises `IntegrityError` where it is absent or broken."""
    path = folder / MANIFEST
    if path.is_symlink() or not path.is_file():
        raise IntegrityError(
            f"no {MANIFEST}: not an artefact, or one that was copied half",
            where=str(folder),
            hint="copy it again whole, or delete the folder",
        )
    if path.stat().st_size > _MAX_BYTES:
        raise IntegrityError("the manifest is too large to be one", where=str(path))
    return parse_manifest(path.read_text(encoding="utf-8", errors="replace"), where=str(path))


def _check(record: Mapping[str, Any], where: str) -> None:
    problem = None
    if record.get("kind") not in KINDS:
        problem = f"kind {record.get('kind')!r} is not one of {', '.join(KINDS)}"
    for key in _TEXT:
        if not isinstance(record.get(key), str):
            problem = f"{key} must be a string"
    for key in _OPTIONAL_TEXT:
        if not isinstance(record.get(key, ""), str):
            problem = f"{key} must be a string"
    for key in _MAPPINGS:
        if not isinstance(record.get(key, {}), dict):
            problem = f"{key} must be a mapping"
    if problem is None and "files" not in record:
        problem = "files is missing"
    if problem is not None:
        raise IntegrityError(f"manifest: {problem}", where=where)
    for path, sha256 in record["files"].items():
        if not isinstance(path, str) or not _is_plain(path):
            raise IntegrityError(f"manifest: file path {path!r} leaves the folder", where=where)
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise IntegrityError(f"manifest: {path} has no valid sha256", where=where)


def _is_plain(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\\" not in path


def _plain(value: Any) -> Any:
    """Containers as plain dicts and lists, so that YAML carries no Python types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
