"""What `hatex train` did, or would do, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def render_train(record: Mapping[str, Any]) -> RenderableType:
    """One row an adapter: rows by data set, steps, tokens, time, loss on tune; then the router's figures.

    record: what `hatex train --json` prints.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    is_dry_run = record["dry_run"]
    table = Table(box=box.SIMPLE_HEAD, title="would train" if is_dry_run else None, title_justify="left")
    table.add_column("adapter")
    table.add_column("rows")
    for heading in ("steps", "tokens", "minutes", "tune loss"):
        table.add_column(heading, justify="right")
    for adapter in record["adapters"]:
        rows = ", ".join(f"{dataset} {count:,}" for dataset, count in adapter["rows"].items())
        loss = adapter["best_tune_loss"]
        table.add_row(
            adapter["name"],
            rows,
            f"{adapter['steps']:,}",
            f"{adapter['tokens']:,}",
            "" if adapter["seconds"] is None else f"{adapter['seconds'] / 60:.1f}",
            "" if loss is None else f"{loss:.4f}",
        )
    parts: list[RenderableType] = [table] if record["adapters"] else []
    if record["router"] is not None:
        figures = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in record["router"].items()
            if isinstance(value, int | float | str)
        )
        parts.append(Text(f"router: {figures}"))
    if record.get("estimate"):
        parts.append(_estimate(record["estimate"]))
    if record.get("comparison"):
        parts.append(_comparison(record["comparison"]))
    return Group(*parts)


def _estimate(estimate: Mapping[str, Any]) -> RenderableType:
    from rich.text import Text

    sizes = {
        name: estimate[f"{key}_bytes"]
        for name, key in (
            ("base", "base"),
            ("adapter and optimizer", "adapter"),
            ("activations", "activation"),
        )
        if estimate[f"{key}_bytes"] is not None
    }
    lines = []
    if sizes:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in sizes.items())
        lines.append(f"memory: about {sum(sizes.values()) / 1e9:.2f} GB ({listed})")
        lines.append(f"speed: about {estimate['tokens_per_s']:,.0f} tokens/s")
    return Text("\n".join([*lines, f"estimate: {estimate['basis']}"]))


def _comparison(comparison: Mapping[str, Any]) -> RenderableType:
    from rich import box
    from rich.table import Table

    other, strategy = comparison["other"], comparison["strategy"]
    table = Table(box=box.SIMPLE_HEAD, title=f"{strategy}, beside {other}", title_justify="left")
    for heading in ("data set", "metric"):
        table.add_column(heading)
    for heading in ("posts", "trained", other):
        table.add_column(heading, justify="right")
    for dataset, metrics in comparison["ours"].items():
        for metric, ours in metrics.items():
            theirs = comparison["theirs"].get(dataset, {}).get(metric)
            table.add_row(dataset, metric, f"{ours['n']:,}", _figure(ours), _figure(theirs))
    return table


def _figure(fields: Mapping[str, Any] | None) -> str:
    """`0.712 .65–.77`: the value and its interval."""
    from hatex.evaluation.document import interval_text
    from hatex.evaluation.estimate import Estimate

    return (
        "" if fields is None else f"{fields['value']:.3f} {interval_text(Estimate.from_json(dict(fields)))}"
    )
