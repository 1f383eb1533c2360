"""Kinds of artefacts, the names they may have, and where each lives under a registry root."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Final, Literal, get_args

from hatex.errors import RegistryError

Kind = Literal["base", "encoder", "adapter", "router"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
FOLDERS: Final[dict[Kind, str]] = {
    "base": "bases",
    "encoder": "encoders",
    "adapter": "adapters",
    "router": "routers",
}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


def check_name(name: str, *, what: str = "name") -> str:
    """Return `name` if it is one plain path component, else raise `RegistryError`."""
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise RegistryError(
            f"{name!r} is not a valid {what}",
            hint="names are letters, digits, '.', '_' and '-', begin with a letter or digit, at most 96 long",
        )
    return name


def artefact_path(kind: Kind, name: str, base: str | None) -> PurePosixPath:
    """Folder of an artefact relative to a registry root, e.g. `adapters/BASE/NAME`.

    Raises `RegistryError` for names that are not plain, and where `base` is missing or out of place.
    """
    check_name(name, what=f"{kind} name")
    if kind != "adapter":
        if base is not None:
            raise RegistryError(f"a {kind} does not belong to a base (got base {base!r})")
        return PurePosixPath(FOLDERS[kind], name)
    if base is None:
        raise RegistryError(f"adapter {name!r} needs the name of its base")
    return PurePosixPath(FOLDERS[kind], check_name(base, what="base name"), name)


def artefact_ref(kind: Kind, name: str, base: str | None) -> str:
    """How messages and lineage name an artefact: `adapter:BASE/NAME`, `router:NAME`."""
    return f"{kind}:{base}/{name}" if base else f"{kind}:{name}"


def check_inside(root: Path, folder: Path) -> Path:
    """Return `folder` if no component between `root` and it is a symbolic link, else raise
    `RegistryError`.
    """
    step = root
    for part in folder.relative_to(root).parts:
        step = step / part
        if step.is_symlink():
            raise RegistryError(
                "symbolic links are not followed inside a registry", where=str(step), hint="copy the folder"
            )
    return folder


def parse_ref(text: str) -> tuple[Kind | None, str | None, str]:
    """Kind, base and name out of `adapter:BASE/NAME`, `router:NAME`, `BASE/NAME` or `NAME`; None where not
    said.
    """
    kind, _, rest = text.rpartition(":")
    base, _, name = rest.rpartition("/")
    if kind and kind not in KINDS:
        raise RegistryError(f"{kind!r} is not a kind", where=text, hint=f"one of {', '.join(KINDS)}")
    found = next((each for each in KINDS if each == kind), None)
    if base and found is None:
        found = "adapter"
    return found, base or None, check_name(name)
