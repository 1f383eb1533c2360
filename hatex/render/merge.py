"""What a merge came to: a table of methods, the weights, the exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hatex.render.registry import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hatex.merging.outcome import MergeOutcome, MethodRow


NOTABLE_DIFFERENCE: Final = 0.05
"""A label probability that moves further than this deserves a sentence."""
_NOTE: Final = (
    "An export answers noticeably otherwise: four bits hold a merged update only roughly. Ship peft or hf where "
    "answers must stay."
)


def merge_record(outcome: MergeOutcome) -> dict[str, Any]:
    """What `hatex merge --json` prints."""
    return {
        "adapter": outcome.artefact.ref,
        "path": str(outcome.artefact.path),
        "weights": dict(outcome.weights),
        "layers": {pattern: dict(weights) for pattern, weights in outcome.layers.items()},
        "exact_macro_f1": outcome.exact_macro_f1,
        "methods": [_method_record(row) for row in outcome.rows],
        "trials": [{"weights": trial.weights, "macro_f1": trial.score} for trial in outcome.trials],
        "exports": [
            {
                "kind": report.kind,
                "path": str(report.path),
                "bytes": report.size_bytes,
                "max_difference": report.max_difference,
                "mean_difference": report.mean_difference,
            }
            for report in outcome.exports
        ],
    }


def render_merge(outcome: MergeOutcome) -> RenderableType:
    """The registered adapter, its weights, the methods side by side, and the exports with their
    differences.
    """
    parts: list[RenderableType] = [Text(outcome.artefact.ref, style="bold")]
    parts.append(Text(f"weights: {_weights(outcome.weights)}"))
    parts += [Text(f"  in {pattern}: {_weights(weights)}") for pattern, weights in outcome.layers.items()]
    if outcome.trials:
        best, worst = outcome.trials[0].score, outcome.trials[-1].score
        spread = f"macro-F1 on tune from {worst:.3f} to {best:.3f}"
        parts.append(Text(f"best of {len(outcome.trials)} weightings, {spread}"))
    parts += ["", _method_table(outcome)]
    if outcome.exports:
        parts += ["", _export_table(outcome)]
    if any(report.max_difference > NOTABLE_DIFFERENCE for report in outcome.exports):
        parts += ["", Text(_NOTE)]
    return Group(*parts)


def _method_table(outcome: MergeOutcome) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("method", "rank", "size", "relative error", "energy kept", "macro-F1 (report)")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "method" else "right")
    if outcome.exact_macro_f1 is not None:
        table.add_row("the blend itself", "", "", "0", "", _figure(outcome.exact_macro_f1))
    for row in outcome.rows:
        report = row.report
        table.add_row(
            Text(f"{report.method}{' (registered)' if row.is_registered else ''}"),
            str(report.rank),
            format_bytes(report.size_bytes),
            f"{report.relative_error:.2g}",
            f"{report.energy:.1%}",
            _figure(row.macro_f1),
        )
    return table


def _export_table(outcome: MergeOutcome) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("export")
    table.add_column("size", justify="right")
    table.add_column("largest difference", justify="right")
    table.add_column("mean", justify="right")
    table.add_column("folder", overflow="fold")
    for report in outcome.exports:
        table.add_row(
            report.kind,
            format_bytes(report.size_bytes),
            f"{report.max_difference:.2g}",
            f"{report.mean_difference:.2g}",
            str(report.path),
        )
    return table


def _method_record(row: MethodRow) -> dict[str, Any]:
    report = row.report
    return {
        "method": report.method,
        "registered": row.is_registered,
        "rank": report.rank,
        "bytes": report.size_bytes,
        "relative_error": report.relative_error,
        "energy": report.energy,
        "macro_f1": row.macro_f1,
    }


def _weights(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {weight:.3f}" for name, weight in weights.items())


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
