"""What the registry keeps of a merge: manifest fields and model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hatex.merging.merge import MergeReport
from hatex.merging.targets import CARD_BEGINS
from hatex.recipe.schema import Recipe
from hatex.registry import Artefact


def merge_fields(
    recipe: Recipe,
    parents: Sequence[Artefact],
    weights: Mapping[str, float],
    report: MergeReport,
    macro_f1: float | None,
) -> dict[str, Any]:
    """Manifest fields of a merged adapter."""
    metrics = {"relative_error": report.relative_error, "energy": report.energy}
    if macro_f1 is not None:
        metrics["macro_f1"] = macro_f1
    identities = [parent.manifest.base_identity for parent in parents if parent.manifest.base_identity]
    return {
        # Of parents that only name their base and one that is bound to it, the stricter binding counts.
        "base_identity": identities[0] if identities else None,
        "source": {
            "merge": recipe.name,
            "method": report.method,
            "rank": report.rank,
            "weights": dict(weights),
        },
        "licence": combined_licence([parent.manifest.licence for parent in parents]),
        "recipe": recipe.model_dump(mode="json", include={"version", "name", "merge"}, exclude_defaults=True),
        "data": {
            f"{parent.name} {key}": value for parent in parents for key, value in parent.manifest.data.items()
        },
        "metrics": metrics,
        "parents": {parent.ref: parent.manifest.digest for parent in parents},
        "votes_per_post": _votes_per_post(parents, weights),
    }


def build_card(name: str, fields: Mapping[str, Any]) -> str:
    """The README.md of a merged adapter: what it was made of, how, and under which licence."""
    source = fields["source"]
    weights = "\n".join(f"| {adapter} | {weight:.4f} |" for adapter, weight in source["weights"].items())
    parents = "\n".join(f"- {ref} (sha256 {digest[:12]})" for ref, digest in fields["parents"].items())
    return (
        f"---\nlicense: {fields['licence'] or 'unknown'}\n---\n# {name}\n\n"
        f"{CARD_BEGINS}`{source['method']}`, rank {source['rank']}; relative error to the exact "
        f"weighted sum: {fields['metrics']['relative_error']:.3g}.\n\n"
        f"| adapter | weight |\n|---|---|\n{weights}\n\nMade from\n\n{parents}\n\n"
        "It labels posts as neutral, offensive or hate; it needs the prompt that its parents were trained with.\n"
    )


def combined_licence(licences: Sequence[str | None]) -> str | None:
    """All licences together as an SPDX expression; None if one is not known."""
    return None if None in licences else " AND ".join(dict.fromkeys(str(licence) for licence in licences))


def _votes_per_post(parents: Sequence[Artefact], weights: Mapping[str, float]) -> float:
    """The parents' mean number of votes a post, by the size of their weights."""
    sizes = [abs(weights.get(parent.name, 0.0)) for parent in parents]
    votes = [float(parent.manifest.extra.get("votes_per_post", 1.0)) for parent in parents]
    total = sum(sizes)
    return round(sum(s * v for s, v in zip(sizes, votes, strict=True)) / total, 3) if total else 1.0
