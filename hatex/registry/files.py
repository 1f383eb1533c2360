"""Files of an artefact: listing without following links, hashing, flushing to disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from hatex.errors import RegistryError
from hatex.hashing import hash_file

MANIFEST: Final = "manifest.yaml"
REFUSED_SUFFIXES: Final = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz"}
)
"""Formats that are, or may hold, pickles; they never become part of an artefact."""


def iter_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Relative POSIX path and path of every file below `folder`, sorted; the manifest is left out.

    Raises `RegistryError` for symbolic links, special files and formats that may hold pickles.
    """
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise RegistryError("symbolic links are refused", where=str(path), hint="copy the file instead")
        if path.is_dir() or relative == MANIFEST:
            continue
        if not path.is_file():
            raise RegistryError("not a regular file", where=str(path))
        if path.suffix.lower() in REFUSED_SUFFIXES:
            raise RegistryError("pickle files are refused", where=str(path), hint="convert it to safetensors")
        yield relative, path


def hash_folder(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder` but the manifest, by relative POSIX path."""
    return {relative: hash_file(path) for relative, path in iter_files(folder)}


def digest(files: Mapping[str, str]) -> str:
    """One sha256 over all files of an artefact, independent of their order."""
    lines = "".join(f"{sha256}  {path}\n" for path, sha256 in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def flush_tree(folder: Path) -> None:
    """Force every file and folder below `folder`, itself included, to disk.

    Whoever may enter the folder may read its files: safetensors creates its own for the owner alone.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            path.chmod(0o644)
        flush(path)
    flush(folder)


def flush(path: Path) -> None:
    """Force one file or folder to disk (folders only where the system allows it)."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
