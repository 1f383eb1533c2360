"""Tables and trees of what the registry holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from hatex.errors import RegistryError
from hatex.registry.lineage import Node, licences
from hatex.registry.store import Artefact, Registry
from hatex.render.terminal import shown

_UNITS = ("B", "kB", "MB", "GB", "TB")


def list_record(registry: Registry, found: Sequence[tuple[Path, Artefact | RegistryError]]) -> dict[str, Any]:
    """What `hatex registry list --json` prints."""
    return {"registry": str(registry.root), "artefacts": [_row(registry, *each) for each in found]}


def render_list(registry: Registry, found: Sequence[tuple[Path, Artefact | RegistryError]]) -> RenderableType:
    """One line an artefact; damaged folders say what is wrong."""
    table = Table(box=None, pad_edge=False)
    for heading in ("artefact", "size", "licence", "created", "state"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    total = 0
    for row in (_row(registry, *each) for each in found):
        own = 0 if row["state"] == "bundled" else row["bytes"]
        total += own
        table.add_row(
            shown(row["ref"]),
            format_bytes(row["bytes"]),
            shown(row["licence"] or "unknown"),
            shown(row["created"][:10]),
            Text(shown(row["state"]), style="" if row["state"] in ("intact", "bundled") else "bold red"),
        )
    return Group(table, "", Text(f"{format_bytes(total)} in {registry.root}", style="dim"))


def show_record(
    registry: Registry, artefact: Artefact, lineage: Node, compute: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `hatex registry show --json` prints; `compute` is what `model.policy.describe_compute` says of a base."""
    manifest = artefact.manifest
    return {
        "ref": artefact.ref,
        "path": str(artefact.path),
        "bytes": registry.disk_use(artefact),
        "digest": manifest.digest,
        "created": manifest.created,
        "licence": manifest.licence,
        "source": manifest.source,
        "base_identity": manifest.base_identity,
        "data": manifest.data,
        "metrics": manifest.metrics,
        "recipe": manifest.recipe,
        "files": manifest.files,
        **{key: value for key, value in manifest.extra.items() if key != "bytes"},
        **({} if compute is None else {"compute": dict(compute)}),
        "lineage": _node_record(lineage),
        "needed_by": [other.ref for other in registry.dependents(artefact)],
    }


def render_show(
    registry: Registry, artefact: Artefact, lineage: Node, compute: Mapping[str, Any] | None = None
) -> RenderableType:
    """Facts, files, and the tree of what it rests on with every licence."""
    manifest = artefact.manifest
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    rows: dict[str, Any] = {
        "artefact": artefact.ref,
        "folder": artefact.path,
        "size": format_bytes(registry.disk_use(artefact)),
        "created": manifest.created,
        "licence": manifest.licence or "unknown",
        "source": _flat(manifest.source),
        "base identity": manifest.base_identity,
        "recipe": (manifest.recipe or {}).get("name"),
        "data": ", ".join(manifest.data),
        "metrics": _flat(manifest.metrics),
        **{key.replace("_", " "): _text(value) for key, value in manifest.extra.items()},
        "computed here": _compute_text(compute) if compute else None,
        "needed by": ", ".join(other.ref for other in registry.dependents(artefact)),
    }
    for heading, value in rows.items():
        if value:
            facts.add_row(shown(heading), Text(shown(str(value))))
    files = Table("file", "sha256", box=None, pad_edge=False, title="Files", title_justify="left")
    for path, sha256 in manifest.files.items():
        files.add_row(shown(path), f"{sha256[:16]}…")
    return Group(facts, "", files, "", Text("Rests on", style="italic"), _tree(lineage))


def _compute_text(compute: Mapping[str, Any]) -> str:
    rows = compute["packed_up_to_rows"]
    return (
        f"{compute['policy']} in {compute['dtype']}: {format_bytes(compute['resident_bytes'])} resident or "
        f"{format_bytes(compute['packed_bytes'])} packed, {format_bytes(compute['available_bytes'])} free; "
        + (f"up to {rows} rows are faster packed" if rows else "no rows are faster packed")
    )


def licences_record(nodes: Sequence[Node]) -> dict[str, Any]:
    """What `hatex registry licences --json` prints."""
    return {"licences": licences(*nodes), "missing": _missing(nodes)}


def render_licences(nodes: Sequence[Node]) -> RenderableType:
    """One line an artefact, sorted by licence."""
    table = Table("licence", "artefact", box=None, pad_edge=False)
    missing = _missing(nodes)
    for ref, licence in sorted(licences(*nodes).items(), key=lambda item: (item[1] or "~", item[0])):
        note = "  not in the registry yet" if ref in missing else ""
        table.add_row(shown(licence or "unknown"), Text(shown(ref)).append(note, style="dim"))
    return table


def verify_record(results: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What `hatex registry verify --json` prints."""
    return {
        "intact": not any(results.values()),
        "artefacts": {ref: list(problems) for ref, problems in results.items()},
    }


def render_verify(results: Mapping[str, Sequence[str]]) -> RenderableType:
    """One line an artefact, one line a problem."""
    table = Table("artefact", "files", box=None, pad_edge=False)
    for ref, problems in results.items():
        table.add_row(
            shown(ref), Text(shown("\n".join(problems)), style="bold red") if problems else Text("intact")
        )
    return table


def format_bytes(count: float) -> str:
    """`98 MB`: three digits, powers of 1,000."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if count >= 100 or unit == "B" else f"{count:,.1f} {unit}"


def _row(registry: Registry, folder: Path, found: Artefact | RegistryError) -> dict[str, Any]:
    if isinstance(found, RegistryError):
        size = sum(
            path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
        )
        row = {"ref": folder.name, "kind": None, "name": folder.name, "base": None, "bytes": size}
        return row | {"licence": None, "created": "", "state": f"damaged: {found.message}"}
    return {
        "ref": found.ref,
        "kind": found.kind,
        "name": found.name,
        "base": found.base,
        "bytes": registry.disk_use(found),
        "licence": found.manifest.licence,
        "created": found.manifest.created,
        "state": "bundled" if found.is_bundled else "intact",
    }


def _missing(nodes: Sequence[Node]) -> list[str]:
    return sorted({each.ref for node in nodes for each in node.walk() if each.state == "missing"})


def _tree(node: Node) -> Tree:
    tree = Tree(_label(node))
    for parent in node.parents:
        tree.children.append(_tree(parent))
    return tree


def _label(node: Node) -> Text:
    label = Text(shown(node.ref))
    label.append(f"  {shown(node.licence or 'licence unknown')}", style="dim")
    if node.state != "same":
        label.append(f"  {node.state}", style="bold red")
    return label


def _node_record(node: Node) -> dict[str, Any]:
    parents = [_node_record(parent) for parent in node.parents]
    return {"ref": node.ref, "state": node.state, "licence": node.licence, "parents": parents}


def _flat(mapping: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_text(value)}" for key, value in mapping.items())


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return _flat(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
