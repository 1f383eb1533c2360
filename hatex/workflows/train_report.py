"""What `hatex train` answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hatex.evaluation.estimate import Estimate
    from hatex.training.job import Job, Trained


@dataclass(frozen=True)
class Comparison:
    """Metrics of the trained engine and of another one on the same report posts, by data set."""

    other: str
    strategy: str
    ours: dict[str, dict[str, Estimate]]
    theirs: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class AdapterReport:
    """How one adapter's training went; in a dry run `seconds` is an estimate, or None where it cannot be made."""

    name: str
    rows: dict[str, int]
    steps: int
    tokens: int
    seconds: float | None
    best_tune_loss: float | None


@dataclass(frozen=True)
class DryRun:
    """Estimates of a dry run; None where the shape of the base is not known."""

    base_bytes: int | None
    adapter_bytes: int | None
    activation_bytes: int | None
    tokens_per_s: float | None
    basis: str
    """How they were made, for a reader."""


@dataclass(frozen=True)
class TrainReport:
    adapters: tuple[AdapterReport, ...]
    router: dict[str, Any] | None
    comparison: Comparison | None = None
    estimate: DryRun | None = None
    is_main: bool = True
    """False in the further processes of `accelerate launch`, which have nothing to say."""


def report_of(job: Job, trained: Trained | None, seconds: float | None = None) -> AdapterReport:
    """The report of a job, finished or (in a dry run) only planned."""
    rows = Counter(row.dataset for row in job.rows)
    at = trained.progressed if trained else None
    return AdapterReport(
        job.name,
        dict(sorted(rows.items())),
        job.steps,
        job.tokens,
        at.seconds if at else seconds,
        at.best_loss if at else None,
    )
