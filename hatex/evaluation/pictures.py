"""The numbers that figures are drawn from: curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hatex.evaluation.calibration import ReliabilityPoint, reliability_curve
from hatex.evaluation.classification import confusion
from hatex.evaluation.gold import Scored
from hatex.evaluation.selective import RiskPoint, risk_coverage_curve

_CURVE_POINTS: Final = 100
"""A risk-coverage curve has a point a post; a figure needs no more than this."""


@dataclass(frozen=True)
class Picture:
    """What one strategy's figures on one data set are drawn from. `confusion` has rows gold, columns
    decided.
    """

    reliability: tuple[ReliabilityPoint, ...]
    risk: tuple[RiskPoint, ...]
    confusion: tuple[tuple[int, ...], ...]


def draw_data(scored: Mapping[str, Mapping[str, Scored]], dataset: str) -> dict[str, Picture]:
    """Pictures of every strategy that has predictions on the data set."""
    return {name: _draw(sets[dataset]) for name, sets in scored.items() if dataset in sets}


def _draw(scored: Scored) -> Picture:
    counts = confusion(scored, np.ones((1, len(scored.gold))))[0]
    return Picture(
        tuple(reliability_curve(scored)),
        tuple(_thin(risk_coverage_curve(scored))),
        tuple(tuple(int(count) for count in row) for row in counts),
    )


def _thin(points: list[RiskPoint]) -> list[RiskPoint]:
    if len(points) <= _CURVE_POINTS:
        return points
    chosen = np.unique(np.linspace(0, len(points) - 1, _CURVE_POINTS).round().astype(int))
    return [points[index] for index in chosen]
