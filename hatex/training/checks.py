"""What is refused before the first step: votes that cannot teach the labels apart."""

from __future__ import annotations

from collections.abc import Sequence

from hatex.errors import TrainingError
from hatex.training.rows import TrainingRow
from hatex.types import LABEL_SETS, LABELS


def check_votes(name: str, rows: Sequence[TrainingRow]) -> None:
    """Raise TrainingError where all votes of an adapter's rows say the same, or none of them touches a label."""
    where = f"train.adapters.{name}"
    totals = [sum(row.shares[i] for row in rows) for i in range(len(LABEL_SETS))]
    present = [s for s, total in zip(LABEL_SETS, totals, strict=True) if total > 0 and len(s) < len(LABELS)]
    if len(present) < 2:
        only = " or ".join(present[0]) if present else "anything"
        raise TrainingError(
            f"adapter {name}: every vote of its {len(rows)} rows says {only}, so there is nothing to tell apart",
            where=where,
            hint="add rows of another class, or raise fully_labelled_share and prepare a fully labelled set",
        )
    if untouched := [label for label in LABELS if not any(label in labels for labels in present)]:
        raise TrainingError(
            f"adapter {name}: no vote of its {len(rows)} rows touches {' or '.join(untouched)}",
            where=where,
            hint="add rows that do, raise fully_labelled_share, or map labels of your table to the sets they are "
            "compatible with, such as `offensive|hate`",
        )
