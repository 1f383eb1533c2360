"""What an artefact rests on: parents, bases and encoders, with their licences and whether they are still the
same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hatex.errors import RegistryError
from hatex.registry.manifest import Manifest
from hatex.registry.names import artefact_ref
from hatex.registry.store import Artefact, Registry

State = Literal["same", "changed", "missing"]


@dataclass(frozen=True, slots=True)
class Node:
    """One artefact in a lineage; `state` compares it with what its child recorded."""

    ref: str
    state: State
    artefact: Artefact | None
    parents: tuple[Node, ...] = ()
    declared: str | None = None
    """Licence that a recipe names, where there is no artefact yet that could."""

    @property
    def licence(self) -> str | None:
        return self.declared if self.artefact is None else self.artefact.manifest.licence

    def walk(self) -> Iterator[Node]:
        """The node itself and all below it."""
        yield self
        for parent in self.parents:
            yield from parent.walk()


def trace(registry: Registry, artefact: Artefact) -> Node:
    """The lineage of an artefact, down to bases and encoders; cycles in damaged manifests are cut."""
    return _trace(registry, artefact, "same", (artefact.ref,))


def trace_all(
    registry: Registry, refs: Sequence[str], declared: Mapping[str, str | None] | None = None
) -> tuple[Node, ...]:
    """The lineages of several references; those that are not in the registry are nodes of state `missing`, with
    the licence that is `declared` for them, if any.
    """
    nodes = []
    for ref in refs:
        try:
            nodes.append(trace(registry, registry.find_ref(ref)))
        except RegistryError:
            nodes.append(Node(ref, "missing", None, declared=(declared or {}).get(ref)))
    return tuple(nodes)


def licences(*nodes: Node) -> dict[str, str | None]:
    """Licence of everything that lineages hold, by reference; None where nobody recorded one."""
    found: dict[str, str | None] = {}
    for each in (each for node in nodes for each in node.walk()):
        found[each.ref] = each.licence or found.get(each.ref)
    return found


def _trace(registry: Registry, artefact: Artefact, state: State, path: tuple[str, ...]) -> Node:
    parents = []
    for ref, expected in _rests_on(artefact).items():
        if ref in path:
            continue
        try:
            parent = registry.find_ref(ref)
        except RegistryError:
            parents.append(Node(ref, "missing", None))
            continue
        is_same = expected is None or expected in _marks(parent.manifest)
        parents.append(_trace(registry, parent, "same" if is_same else "changed", (*path, ref)))
    return Node(artefact.ref, state, artefact, tuple(parents))


def _rests_on(artefact: Artefact) -> dict[str, str | None]:
    """Direct references, each with the mark (digest, identity or file hash) that was recorded, if any."""
    manifest = artefact.manifest
    needed: dict[str, str | None] = {}
    if artefact.kind == "adapter" and artefact.base is not None:
        needed[artefact_ref("base", artefact.base, None)] = manifest.base_identity
    encoder = manifest.extra.get("encoder")
    if artefact.kind == "router" and isinstance(encoder, dict) and isinstance(encoder.get("name"), str):
        needed[artefact_ref("encoder", encoder["name"], None)] = encoder.get("sha256")
    if artefact.kind == "router" and not any(ref.startswith("adapter:") for ref in manifest.parents):
        # A router names its adapters; it may serve several bases.
        needed |= {artefact_ref("adapter", name, None): None for name in manifest.extra.get("adapters", ())}
    return needed | dict(manifest.parents)


def _marks(manifest: Manifest) -> set[str | None]:
    return {manifest.digest, manifest.base_identity, *manifest.files.values()}
