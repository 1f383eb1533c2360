"""Two saved runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import Any, Literal

from hatex.evaluation.catalogue import METRICS
from hatex.evaluation.estimate import Estimate
from hatex.evaluation.run import SavedRun
from hatex.evaluation.sheet import has_other_means, shared_columns
from hatex.types import OUTPUT_SCHEMA

Direction = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class ComparedCell:
    """One metric of one strategy on one data set in both runs.

    `change` is second minus first. Its interval treats the runs as independent (the posts behind two files
    cannot be resampled together), which is wider than a paired one where they share posts.
    """

    strategy: str
    data: str
    metric: str
    first: Estimate
    second: Estimate
    change: Estimate
    direction: Direction


@dataclass(frozen=True)
class Comparison:
    """`other_posts` names data sets whose posts differ between the runs: their changes mix model and data.

    `without_mean` says that both runs have a mean, but over other data sets, so that it has no cells.
    """

    first: SavedRun
    second: SavedRun
    cells: tuple[ComparedCell, ...]
    other_posts: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    without_mean: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": OUTPUT_SCHEMA,
            "kind": "eval-comparison",
            "first": {"name": self.first.name, "model": self.first.model, "seed": self.first.seed},
            "second": {"name": self.second.name, "model": self.second.model, "seed": self.second.seed},
            "other_posts": list(self.other_posts),
            "only_first": list(self.only_first),
            "only_second": list(self.only_second),
            "without_mean": self.without_mean,
            "cells": [
                {
                    "strategy": cell.strategy,
                    "data": cell.data,
                    "metric": cell.metric,
                    "first": cell.first.to_json(),
                    "second": cell.second.to_json(),
                    "change": cell.change.to_json(),
                    "direction": cell.direction,
                }
                for cell in self.cells
            ],
        }


def compare_runs(first: SavedRun, second: SavedRun, metrics: Sequence[str]) -> Comparison:
    """Every cell of `metrics` that both runs have, in the first run's order; the mean only over the same data sets."""
    cells = []
    for strategy, by_dataset in first.results.items():
        others = second.results.get(strategy, {})
        for dataset in shared_columns(others, by_dataset):
            one, other = by_dataset[dataset], others[dataset]
            cells += [
                _compare(strategy, dataset, metric, one[metric], other[metric])
                for metric in metrics
                if metric in one and metric in other
            ]
    shared = [name for name in first.data if name in second.data]
    return Comparison(
        first,
        second,
        tuple(cells),
        tuple(name for name in shared if first.data[name] != second.data[name]),
        _parts(first, second),
        _parts(second, first),
        has_other_means(first.results, second.results),
    )


def _compare(strategy: str, dataset: str, metric: str, a: Estimate, b: Estimate) -> ComparedCell:
    change = subtract_independent(b, a)
    direction: Direction = "open"
    if change.low is not None and change.high is not None and (change.low > 0 or change.high < 0):
        rose = change.low > 0
        direction = "better" if rose == (METRICS[metric].better == "higher") else "worse"
    return ComparedCell(strategy, dataset, metric, a, b, change, direction)


def subtract_independent(b: Estimate, a: Estimate) -> Estimate:
    """B - a with the half-widths of both intervals added in quadrature."""
    if a.value is None or b.value is None:
        return Estimate.missing("n/a in one of the runs")
    value, n = b.value - a.value, min(a.n, b.n)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Estimate(value, None, None, n, "one of the runs has no interval")
    below = hypot(b.value - b.low, a.high - a.value)
    above = hypot(b.high - b.value, a.value - a.low)
    return Estimate(value, value - below, value + above, n)


def _parts(one: SavedRun, other: SavedRun) -> tuple[str, ...]:
    data = [name for name in one.data if name not in other.data]
    strategies = [name for name in one.results if name not in other.results]
    return tuple([f"data set {name}" for name in data] + [f"strategy {name}" for name in strategies])
