"""What `hatex merge` reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hatex.merging.merge import MergeReport
from hatex.merging.optimise import Trial
from hatex.registry import Artefact

if TYPE_CHECKING:
    from hatex.merging.exports import ExportReport


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method's merge; `macro_f1` is that on report posts, None where no data were named."""

    report: MergeReport
    macro_f1: float | None
    is_registered: bool


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """`rows[0]` is what was registered; `exact_macro_f1` is that of the blend itself."""

    artefact: Artefact
    weights: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    """Weights of the modules that match a pattern, where they are not `weights`."""
    rows: tuple[MethodRow, ...]
    exact_macro_f1: float | None
    trials: tuple[Trial, ...]
    exports: tuple[ExportReport, ...]
