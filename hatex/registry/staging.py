"""One registry's lock and staging folders: written beside the artefacts, renamed into place, cleaned up after a kill.

Layout of `ROOT/.staging`: `TOKEN.lock` (held by its process while it lives), `TOKEN.new/` (being written),
`TOKEN.old/` (the artefact being replaced, between two renames).
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hatex.errors import HatexError, RegistryError
from hatex.locks import hold
from hatex.registry.files import flush
from hatex.registry.manifest import Manifest, load_manifest

STAGING: Final = ".staging"
LOCK_TIMEOUT_S: Final = 60.0


@contextmanager
def lock_registry(root: Path) -> Iterator[None]:
    """The registry at `root` to oneself; RegistryError where another process keeps it for `LOCK_TIMEOUT_S`."""
    busy = RegistryError(
        f"another process holds the registry, still after {LOCK_TIMEOUT_S:.0f} s",
        where=str(root),
        hint="try again when the other command has ended that imports, trains or removes there",
    )
    with hold(root / ".lock", busy, timeout_s=LOCK_TIMEOUT_S):
        yield


@contextmanager
def stage(root: Path) -> Iterator[Path]:
    """A fresh staging folder on the registry's file system; nothing of it remains afterwards.

    Entered under the registry's lock, so that `recover` never sees a folder whose lock is not held yet.
    """
    from filelock import FileLock

    staging = root / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex
    lock, folder = staging / f"{token}.lock", staging / f"{token}.new"
    with FileLock(lock):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def move_into_place(folder: Path, target: Path) -> None:
    """Rename `folder` to `target`, whose former content (if any) is deleted afterwards.

    Readers see the old artefact or the new one. After a kill between the two renames `recover` restores the
    old one.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_suffix(".old")
    if target.exists():
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
    else:
        folder.rename(target)
    flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(root: Path, place: Callable[[Manifest], Path]) -> int:
    """Clear away what killed processes left in the staging folder; return how many folders that were.

    A replaced artefact whose successor never arrived goes back to `place(manifest)`. The caller holds the
    registry's lock; folders of living processes are known by their locks and left alone.
    """
    from filelock import FileLock, Timeout

    staging, removed = root / STAGING, 0
    for lock in sorted(staging.glob("*.lock")):
        try:
            with FileLock(lock, timeout=0):
                for folder in (lock.with_suffix(".old"), lock.with_suffix(".new")):
                    removed += folder.is_dir()
                    _put_back(folder, place)
                    shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
        except Timeout:
            continue
    return removed


def _put_back(folder: Path, place: Callable[[Manifest], Path]) -> None:
    if folder.suffix != ".old" or not folder.is_dir():
        return
    try:
        target = place(load_manifest(folder))
    except HatexError:
        return
    if not target.exists():
        folder.rename(target)
