"""What is refused before the first step: votes that cannot teach the labels apart."""

from __future__ import annotations

from collections.abc import Container, Sequence

from hatex.data.votes import parse_label_set, vote_shares
from hatex.errors import TrainingError
from hatex.recipe.train import TrainSection
from hatex.training.rows import TrainingRow
from hatex.types import LABEL_SETS, LABELS, Example


def check_votes(name: str, rows: Sequence[TrainingRow], own: Container[str]) -> None:
    """Raise TrainingError where all votes of an adapter's rows say the same, or none of them touches a label.

    `own` are the example ids of its own platforms, which have to teach something without the fully labelled rows that
    were added to them.
    """
    where = f"train.adapters.{name}"
    present = _voted([row for row in rows if row.example_id in own])
    if len(present) < 2:
        only = " or ".join(present[0]) if present else "anything"
        raise TrainingError(
            f"adapter {name}: every vote on its own posts says {only}, so there is nothing to tell apart",
            where=where,
            hint="add posts of another class to its platform",
        )
    present = _voted(rows)
    if untouched := [label for label in LABELS if not any(label in labels for labels in present)]:
        raise TrainingError(
            f"adapter {name}: no vote of its {len(rows)} rows touches {' or '.join(untouched)}",
            where=where,
            hint="add rows that do, raise fully_labelled_share, or map labels of your table to the sets they are "
            "compatible with, such as `offensive|hate`",
        )


def _voted(rows: Sequence[TrainingRow]) -> list[tuple[str, ...]]:
    """The label sets that votes name, without the one that holds every label."""
    totals = [sum(row.shares[i] for row in rows) for i in range(len(LABEL_SETS))]
    return [s for s, total in zip(LABEL_SETS, totals, strict=True) if total > 0 and len(s) < len(LABELS)]


def check_weights(train: TrainSection, examples: Sequence[Example]) -> None:
    """Raise TrainingError for a prior or a weight of a data set that was not prepared, or a prior of an unused set."""
    datasets = {example.dataset for example in examples}
    named = [("train.priors", train.priors.keys())] + [
        (f"train.adapters.{name}.dataset_weights", section.dataset_weights.keys())
        for name, section in train.adapters.items()
    ]
    for where, names in named:
        if unknown := sorted(names - datasets):
            raise TrainingError(
                f"no training rows of data set {', '.join(unknown)}",
                where=where,
                hint=f"prepared data sets: {', '.join(sorted(datasets))}; what another recipe says goes with `null`",
            )
    for dataset, shares in train.priors.items():
        votes = [vote_shares(example.votes) for example in examples if example.dataset == dataset]
        for name in shares:
            at = LABEL_SETS.index(parse_label_set(name))
            if not any(row[at] > 0 for row in votes):
                raise TrainingError(
                    f"no vote on {dataset} says {name}, so it cannot be weighed",
                    where=f"train.priors.{dataset}",
                    hint="name label sets as the data set's votes have them",
                )
