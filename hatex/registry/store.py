"""The registry: one folder of bases, encoders, adapters and routers that all commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from hatex.errors import IntegrityError, RegistryError
from hatex.hashing import hash_file
from hatex.registry.files import MANIFEST, flush_tree, hash_folder, iter_files
from hatex.registry.manifest import Manifest, dump_manifest, load_manifest
from hatex.registry.names import FOLDERS, KINDS, Kind, artefact_path, artefact_ref, check_inside, parse_ref
from hatex.registry.staging import STAGING, lock_registry, move_into_place, recover, stage

_BUNDLED: Final = Path(__file__).resolve().parent.parent / "starter"


@dataclass(frozen=True, slots=True)
class Artefact:
    """One base, encoder, adapter or router on disk."""

    kind: Kind
    name: str
    base: str | None
    path: Path
    manifest: Manifest
    is_bundled: bool = False

    @property
    def ref(self) -> str:
        """`adapter:BASE/NAME`, `router:NAME`."""
        return artefact_ref(self.kind, self.name, self.base)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Registry:
    """Artefacts below `root`; those shipped with the package (`bundled`, read-only) are looked up second."""

    root: Path
    bundled: Path | None = None
    clock: Callable[[], datetime] = _now

    def find(self, kind: Kind, name: str, base: str | None = None) -> Artefact:
        """The artefact of that name; an adapter may leave `base` out where only one base has it.

        Raises `RegistryError` if it is missing or ambiguous, `IntegrityError` if it is damaged.
        """
        if kind == "adapter" and base is None:
            base = self._only_base(name)
        relative = artefact_path(kind, name, base)
        for root in self._roots():
            folder = check_inside(root, root / relative)
            if folder.is_dir():
                return self._load(root, folder)
        known = ", ".join(artefact.name for artefact in self.list(kind) if artefact.base == base)
        raise RegistryError(
            f"there is no {artefact_ref(kind, name, base)}",
            where=str(self.root),
            hint=f"known: {known}"
            if known
            else f"no {kind} is there yet; see `hatex registry import --help`",
        )

    def find_ref(self, ref: str) -> Artefact:
        """The artefact that a person names: `adapter:BASE/NAME`, `router:NAME`, or a bare name only one
        has.
        """
        kind, base, name = parse_ref(ref)
        if kind is not None:
            return self.find(kind, name, base)
        found = [artefact for artefact in self.list() if artefact.name == name]
        if len(found) == 1:
            return found[0]
        if not found:
            raise RegistryError(
                f"there is no {name!r}", where=str(self.root), hint="see `hatex registry list`"
            )
        raise RegistryError(
            f"{name!r} is {' and '.join(each.ref for each in found)}", hint="name the kind as well"
        )

    def list(self, kind: Kind | None = None) -> tuple[Artefact, ...]:
        """All intact artefacts, sorted by kind, base and name; own ones hide bundled ones of the same
        name.
        """
        return tuple(found for _, found in self.scan(kind) if isinstance(found, Artefact))

    def scan(self, kind: Kind | None = None) -> Iterator[tuple[Path, Artefact | RegistryError]]:
        """Every folder that should be an artefact, with the artefact or the reason why it is none."""
        for each in KINDS if kind is None else (kind,):
            depth = "*/*" if each == "adapter" else "*"
            seen: dict[Path, Path] = {}
            for root in self._roots():
                for folder in (root / FOLDERS[each]).glob(depth):
                    if not folder.name.startswith(".") and (folder.is_dir() or folder.is_symlink()):
                        seen.setdefault(folder.relative_to(root), root)
            for relative, root in sorted(seen.items()):
                try:
                    yield root / relative, self._load(root, root / relative)
                except RegistryError as error:
                    yield root / relative, error

    @contextmanager
    def publish(
        self,
        kind: Kind,
        name: str,
        *,
        base: str | None = None,
        manifest_fields: Mapping[str, Any],
        replace: bool = False,
    ) -> Iterator[Path]:
        """Yield an empty folder to write the files into; leaving the block makes it the artefact.

        `manifest_fields` are those of `Manifest`, any other key goes to `extra`; a mapping that is filled
        inside the block is read at its end. On leaving, files are hashed, the manifest is written, everything
        is flushed and the folder renamed into place under the registry's lock. On an exception nothing
        remains. Raises `RegistryError` if the name is taken and `replace` is False.
        """
        target = self.root / artefact_path(kind, name, base)
        self._check_free(target, kind, name, base, replace)
        with self._staged() as folder:
            yield folder
            manifest = self._manifest(folder, kind, name, base, manifest_fields)
            (folder / MANIFEST).write_text(dump_manifest(manifest), encoding="utf-8")
            load_manifest(folder)
            flush_tree(folder)
            with lock_registry(self.root):
                self._check_free(target, kind, name, base, replace)
                move_into_place(folder, target)

    def verify(self, artefact: Artefact) -> tuple[str, ...]:
        """Problems of an artefact, empty if every file is what the manifest says and no other file is
        there.
        """
        try:
            present = dict(iter_files(check_inside(self._root_of(artefact), artefact.path)))
        except RegistryError as error:
            return (str(error),)
        problems = []
        for relative, sha256 in artefact.manifest.files.items():
            path = present.pop(relative, None)
            if path is None:
                problems.append(f"{relative}: missing")
            elif hash_file(path) != sha256:
                problems.append(f"{relative}: sha256 differs from the manifest")
        return (*problems, *(f"{relative}: not in the manifest" for relative in present))

    def check(self, artefact: Artefact) -> Artefact:
        """Return `artefact` if `verify` finds nothing, else raise `IntegrityError`."""
        if problems := self.verify(artefact):
            raise IntegrityError(
                "; ".join(problems), where=artefact.ref, hint="import or train it again with --replace"
            )
        return artefact

    def remove(self, artefact: Artefact) -> None:
        """Delete an artefact; raises `RegistryError` for bundled ones and those that others depend on."""
        if artefact.is_bundled:
            raise RegistryError("it is shipped with hatex and cannot be removed", where=artefact.ref)
        with lock_registry(self.root):
            if dependents := self.dependents(artefact):
                raise RegistryError(
                    f"needed by {', '.join(other.ref for other in dependents)}",
                    where=artefact.ref,
                    hint="remove those first",
                )
            with stage(self.root) as folder:
                artefact.path.rename(folder / artefact.name)

    def dependents(self, artefact: Artefact) -> tuple[Artefact, ...]:
        """Own artefacts that cannot work without this one: adapters of a base, routers of an adapter or
        encoder.

        What ships with hatex does not count: its base and encoder are fetched again when they are needed.
        """
        return tuple(other for other in self.list() if not other.is_bundled and _needs(other, artefact))

    def gc(self) -> int:
        """Delete what killed processes left behind; return how many folders that were."""
        if not (self.root / STAGING).is_dir():
            return 0
        with lock_registry(self.root):
            return recover(self.root, self._place)

    def disk_use(self, artefact: Artefact) -> int:
        """Bytes of all files of an artefact."""
        return sum(path.stat().st_size for path in artefact.path.rglob("*") if path.is_file())

    def _roots(self) -> tuple[Path, ...]:
        return (self.root,) if self.bundled is None else (self.root, self.bundled)

    def _root_of(self, artefact: Artefact) -> Path:
        return self.bundled if artefact.is_bundled and self.bundled is not None else self.root

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with lock_registry(self.root):
                recover(self.root, self._place)
                folder = stack.enter_context(stage(self.root))
            yield folder

    def _place(self, manifest: Manifest) -> Path:
        return self.root / artefact_path(manifest.kind, manifest.name, manifest.base)

    def _only_base(self, name: str) -> str:
        bases = sorted({found.base for found in self.list("adapter") if found.name == name and found.base})
        if len(bases) == 1:
            return bases[0]
        if not bases:
            raise RegistryError(f"there is no adapter {name!r}", where=str(self.root))
        raise RegistryError(f"adapter {name!r} exists for {', '.join(bases)}", hint="name the base as well")

    def _check_free(self, target: Path, kind: Kind, name: str, base: str | None, replace: bool) -> None:
        check_inside(self.root, target)
        if target.exists() and not replace:
            raise RegistryError(
                "that name is taken; artefacts never change",
                where=artefact_ref(kind, name, base),
                hint="choose a new name, or pass --replace",
            )

    def _load(self, root: Path, folder: Path) -> Artefact:
        check_inside(root, folder)
        manifest = load_manifest(folder)
        if Path(artefact_path(manifest.kind, manifest.name, manifest.base)) != folder.relative_to(root):
            raise IntegrityError(f"the manifest is that of {manifest.ref}", where=str(folder))
        missing = [path for path in manifest.files if not (folder / path).is_file()]
        if missing:
            raise IntegrityError(
                f"missing files: {', '.join(missing)}", where=str(folder), hint="copy it again"
            )
        return Artefact(
            manifest.kind, manifest.name, manifest.base, folder, manifest, is_bundled=root == self.bundled
        )

    def _manifest(
        self, folder: Path, kind: Kind, name: str, base: str | None, fields: Mapping[str, Any]
    ) -> Manifest:
        reserved = {"schema", "kind", "name", "base", "files", "created"} & set(fields)
        if reserved:
            raise ValueError(f"manifest_fields may not set {', '.join(sorted(reserved))}")
        known = ("base_identity", "source", "licence", "recipe", "data", "metrics", "parents")
        return Manifest(
            kind=kind,
            name=name,
            base=base,
            created=self.clock().isoformat(timespec="seconds"),
            files=hash_folder(folder),
            **{key: fields[key] for key in known if key in fields},
            extra={key: value for key, value in fields.items() if key not in known},
        )


def checked_file(artefact: Artefact, relative: str) -> Path:
    """Path of one file of an artefact, after its hash was compared with the manifest.

    Raises `IntegrityError` if the manifest does not name the file, or if it is not what the manifest says.
    """
    path, expected = artefact.path / relative, artefact.manifest.files.get(relative)
    if expected is None or path.is_symlink() or not path.is_file() or hash_file(path) != expected:
        raise IntegrityError(
            f"{relative} is not the file that the manifest names",
            where=artefact.ref,
            hint="import or train it again with --replace",
        )
    return path


def _needs(other: Artefact, artefact: Artefact) -> bool:
    if artefact.kind == "base":
        return other.kind == "adapter" and other.base == artefact.name
    if other.kind != "router":
        return False
    if artefact.kind == "encoder":
        encoder = other.manifest.extra.get("encoder")
        return isinstance(encoder, Mapping) and encoder.get("name") == artefact.name
    return artefact.kind == "adapter" and artefact.name in other.manifest.extra.get("adapters", ())


def open_registry(directory: Path | None = None) -> Registry:
    """The registry at `directory`, else `$HATEX_HOME`, else the platform's user data folder; need not exist
    yet.

    Raises `RegistryError` where something else than a folder is there.
    """
    if directory is None:
        if home := os.environ.get("HATEX_HOME"):
            directory = Path(home)
        else:
            from platformdirs import user_data_path

            directory = user_data_path("hatex")
    if directory.exists() and not directory.is_dir():
        raise RegistryError("a registry is a folder, this is none", where=str(directory))
    return Registry(directory.expanduser().resolve(), _BUNDLED)
