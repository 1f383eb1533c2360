"""The integrity check of `hatex registry verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hatex.errors import RegistryError
from hatex.registry.store import Artefact, Registry
from hatex.types import NO_PROGRESS, Progress


def verify_artefacts(
    registry: Registry, refs: Sequence[str], *, progress: Progress = NO_PROGRESS
) -> dict[str, tuple[str, ...]]:
    """Problems of each named artefact (none named: of everything on disk), by reference; empty: intact."""
    results: dict[str, tuple[str, ...]] = {}
    found: list[tuple[Path, Artefact | RegistryError]] = []
    for ref in refs:
        artefact = registry.find_ref(ref)
        found.append((artefact.path, artefact))
    if not refs:
        found.extend(registry.scan())
    with progress.task("Hashing", total=len(found), unit="artefacts") as advance:
        for folder, state in found:
            if isinstance(state, RegistryError):
                results[folder.name] = (state.message,)
            else:
                results[state.ref] = registry.verify(state)
            advance(1)
    return results
