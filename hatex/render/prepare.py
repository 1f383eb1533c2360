"""What `hatex prepare` did, or would do: models, splits per data set with small bars, and what was dropped."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LABEL_STYLES: Final = {"neutral": ("░", "green"), "offensive": ("▒", "yellow"), "hate": ("█", "red")}
"""Character and colour of a label's part of the bar: either one tells it apart."""
MIXED_STYLE: Final = ("╌", "blue")
BAR_WIDTH: Final = 24


def render_prepare(record: dict[str, Any]) -> RenderableType:
    """The record of a `Preparation`, for a person."""
    parts: list[RenderableType] = [_models(record["models"])] if record["models"] else []
    if record["dry_run"] and "plan" in record:
        parts += _plan(record["plan"])
    if "data" in record:
        parts += _data(record["data"])
    return Group(*_spaced(parts))


def _spaced(parts: list[RenderableType]) -> list[RenderableType]:
    spaced: list[RenderableType] = []
    for part in parts:
        spaced += [part] if not spaced else [Text(), part]
    return spaced


def _models(models: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "name", "where"):
        table.add_column(heading, overflow="fold")
    for model in models:
        where = Text(model["path"]) if model["path"] else Text("would be fetched", style="yellow")
        table.add_row(model["kind"], model["name"], where)
    return table


def _plan(plan: dict[str, Any]) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False)
    for heading in ("would read", "platform", "files", "licence", ""):
        table.add_column(heading, overflow="fold")
    for source in plan["sources"]:
        files = ", ".join(source["files"]) or source["hub"] or ""
        state = "read already" if source["done"] else ""
        table.add_row(source["name"], source["platform"], files, source["licence"], state)
    asked = plan.get("annotate")
    sending = f", then ask {asked['url']} in at most {asked['max_requests']:,} requests" if asked else ""
    return [table, Text(f"would write {plan['output']}{sending}")]


def _data(data: dict[str, Any]) -> list[RenderableType]:
    card = data["card"]
    parts: list[RenderableType] = [_splits(card), _legend(), _fate(card)]
    if data["resumed"]:
        parts.append(Text(f"went on from an interrupted run: {', '.join(data['resumed'])}", style="dim"))
    parts.append(
        Text(f"{card['examples']['rows']:,} examples in {data['folder']}; see card.md", style="bold")
    )
    return parts


def _splits(card: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("data set", overflow="fold")
    for split in card["splits"]:
        table.add_column(split, justify="right")
    table.add_column("alpha", justify="right")
    table.add_column("labels with most votes")
    for name, data in card["datasets"].items():
        counts = [f"{data['splits'].get(split, 0):,}" for split in card["splits"]]
        alpha = "" if data["agreement"] is None else f"{data['agreement']:.2f}"
        table.add_row(name, *counts, alpha, _bar(data["labels"]))
    return table


def _bar(labels_by_split: dict[str, dict[str, int]]) -> Text:
    """Shares of the three labels; posts whose votes name or tie between several are one more part."""
    counts = dict.fromkeys((*LABEL_STYLES, "mixed"), 0)
    for labels in labels_by_split.values():
        for name, count in labels.items():
            counts[name if name in LABEL_STYLES else "mixed"] += count
    total = sum(counts.values())
    bar = Text()
    done = drawn = 0
    for name, count in counts.items():
        done += count
        # Rounding the running sum keeps every bar equally long.
        width = round(BAR_WIDTH * done / total) - drawn
        drawn += width
        character, style = LABEL_STYLES.get(name, MIXED_STYLE)
        bar.append(character * width, style)
    return bar


def _legend() -> Text:
    legend = Text()
    for name, (character, style) in (
        *LABEL_STYLES.items(),
        ("a set of several labels, or a tie", MIXED_STYLE),
    ):
        legend.append(character * 2, style).append(f" {name}  ")
    return legend


def _fate(card: dict[str, Any]) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for source in card["sources"]:
        for reason, count in source["left_out"].items():
            table.add_row(f"{count:,}", f"{source['name']}: left out: {reason}")
        for kind, count in source["problems"]["kinds"].items():
            table.add_row(f"{count:,}", Text(f"{source['name']}: problem: {kind}", style="yellow"))
    for reason, by_set in card["dropped"].items():
        table.add_row(f"{sum(by_set.values()):,}", f"dropped: {reason}")
    for kind, count in card["repeats"].items():
        table.add_row(f"{count:,}", f"posts with the {kind}, kept in one split")
    for warning in card["warnings"]:
        table.add_row("", Text(f"warning: {warning}", style="yellow"))
    return table
