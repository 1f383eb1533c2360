"""What people said of the posts of one data set, and what a model says of the same posts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from hatex.data.votes import vote_shares
from hatex.errors import DataError
from hatex.evaluation.annotators import NamedVotes
from hatex.evaluation.estimate import Array, cluster_numbers
from hatex.types import LABEL_SETS, LABELS, Example, LabelSet, Vote

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

MEMBERSHIP: Final[Array] = np.array([[float(label in labels) for label in LABELS] for labels in LABEL_SETS])
"""Shape (label sets, labels): 1 where the set holds the label."""


@dataclass(frozen=True, slots=True)
class Question:
    """The finest question about the labels that every vote of a data set answers.

    `cells` split the labels such that each vote's label set lies inside one cell: {hate} against {neutral,
    offensive} for Stormfront, the three labels themselves for Davidson. A prediction answers by the mass of
    each cell; with two cells that is a comparison at .5, never the argmax over labels.
    """

    cells: tuple[LabelSet, ...]

    @property
    def is_binary(self) -> bool:
        return len(self.cells) == 2

    @property
    def names(self) -> tuple[str, ...]:
        """`neutral`, `offensive|hate`: the cells as a reader sees them."""
        return tuple("|".join(cell) for cell in self.cells)

    @property
    def membership(self) -> Array:
        """Shape (labels, cells): 1 where the cell holds the label."""
        return np.array([[float(label in cell) for cell in self.cells] for label in LABELS])

    @property
    def harmful(self) -> Bools:
        """Shape (cells,): the cells without `neutral`; what counts as harmful where a metric asks yes or
        no.
        """
        return np.array(["neutral" not in cell for cell in self.cells])

    def cell_of(self, labels: LabelSet) -> int | None:
        """The cell that holds a vote's set; None for a vote that straddles cells (it answers nothing)."""
        for index, cell in enumerate(self.cells):
            if set(labels) <= set(cell):
                return index
        return None


def find_question(votes: Sequence[Sequence[Vote]]) -> Question:
    """The question of a data set: label sets that overlap are joined; votes for all labels say nothing."""
    cells: list[set[str]] = [{label} for label in LABELS]
    for labels in {vote.labels for post in votes for vote in post if len(vote.labels) < len(LABELS)}:
        touched = [cell for cell in cells if cell & set(labels)]
        cells = [cell for cell in cells if not cell & set(labels)] + [set().union(*touched)]
    ordered = [tuple(label for label in LABELS if label in cell) for cell in cells]
    return Question(tuple(sorted(ordered, key=lambda cell: LABELS.index(cell[0]))))


@dataclass(frozen=True)
class Gold:
    """Votes of n posts of one data set as arrays; rows follow `ids`.

    `shares` (n, 7) over `types.LABEL_SETS`; `cells` (n, cells) over the question, rows sum to 1; `label` (n,)
    the cell that most votes name, -1 for a tie; `n_votes` (n,) votes that answer; `clusters` (n,) what is
    resampled together. `n_silent` counts posts left out because none of their votes answers the question.
    """

    dataset: str
    question: Question
    ids: tuple[str, ...]
    shares: Array
    cells: Array
    label: Ints
    n_votes: Ints
    clusters: Ints
    votes: tuple[tuple[Vote, ...], ...]
    targets: tuple[frozenset[str] | None, ...]
    n_silent: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def is_decided(self) -> Bools:
        """Posts with a most-named cell; metrics of hard decisions are about these."""
        return self.label >= 0

    @cached_property
    def is_harmful(self) -> Bools:
        """Decided posts whose cell is harmful; meaningless where not `is_decided`."""
        return np.asarray(self.question.harmful[self.label] & self.is_decided)

    @cached_property
    def is_contested(self) -> Bools:
        """Posts whose votes name more than one cell."""
        return np.asarray((self.cells > 0).sum(axis=1) > 1)

    @cached_property
    def is_unanimous(self) -> Bools:
        """Posts with two votes or more, all for one cell (a single vote agrees with itself trivially)."""
        return ~self.is_contested & (self.n_votes >= 2)

    @cached_property
    def by_annotator(self) -> NamedVotes:
        """Votes of annotators with an id."""
        return NamedVotes.of(self.votes, "annotator")

    @cached_property
    def by_group(self) -> NamedVotes:
        """Votes of annotators whose group is known."""
        return NamedVotes.of(self.votes, "group")


def build_gold(dataset: str, examples: Sequence[Example], question: Question | None = None) -> Gold:
    """Gold arrays of a data set. `question` defaults to the one of these examples.

    Raises DataError where there are no posts or ids repeat.
    """
    if not examples:
        raise DataError("no posts to evaluate", where=dataset, hint="look at the splits in the data card")
    question = question or find_question([example.votes for example in examples])
    kept, rows, counts = [], [], []
    for example in examples:
        row = np.zeros(len(question.cells))
        for vote in example.votes:
            cell = question.cell_of(vote.labels)
            if cell is not None:
                row[cell] += vote.count
        if row.sum() > 0:
            kept.append(example)
            rows.append(row / row.sum())
            counts.append(int(row.sum()))
    if not kept:
        raise DataError("no post has a vote that tells labels apart", where=dataset)
    ids = tuple(example.id for example in kept)
    if len(set(ids)) < len(ids):
        raise DataError("ids repeat", where=dataset, hint="give every row an id of its own")
    cells = np.stack(rows)
    is_top = np.isclose(cells, cells.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    return Gold(
        dataset=dataset,
        question=question,
        ids=ids,
        shares=np.array([vote_shares(example.votes) for example in kept]),
        cells=cells,
        label=np.where(is_top.sum(axis=1) == 1, is_top.argmax(axis=1), -1).astype(np.int64),
        n_votes=np.array(counts, dtype=np.int64),
        clusters=cluster_numbers([example.group for example in kept]),
        votes=tuple(example.votes for example in kept),
        targets=tuple(frozenset(e.targets) if e.has_targets else None for e in kept),
        n_silent=len(examples) - len(kept),
    )


@dataclass(frozen=True)
class Scored:
    """Gold and a model's probabilities, shape (n, 3), columns in `types.LABELS` order, for the same posts."""

    gold: Gold
    probabilities: Array

    def __post_init__(self) -> None:
        shape = (len(self.gold), len(LABELS))
        if self.probabilities.shape != shape:
            raise ValueError(f"probabilities have shape {self.probabilities.shape}, the posts need {shape}")
        if not np.isfinite(self.probabilities).all() or (self.probabilities < 0).any():
            raise ValueError("probabilities must be finite and not negative")
        if not np.allclose(self.probabilities.sum(axis=1), 1, atol=1e-3):
            raise ValueError("probabilities of a post must sum to 1")

    @cached_property
    def cells(self) -> Array:
        """Mass of each cell, shape (n, cells)."""
        return self.probabilities @ self.gold.question.membership

    @cached_property
    def set_masses(self) -> Array:
        """Mass of each label set, shape (n, 7)."""
        return self.probabilities @ MEMBERSHIP.T

    @cached_property
    def harm(self) -> Array:
        """Mass of the harmful cells, shape (n,)."""
        return np.asarray(self.cells[:, self.gold.question.harmful].sum(axis=1))

    @cached_property
    def decision(self) -> Ints:
        """The cell decided for, shape (n,): the harmful one from .5 on if there are two, else the largest."""
        if self.gold.question.is_binary:
            harmful = int(self.gold.question.harmful.argmax())
            return np.where(self.harm >= 0.5, harmful, 1 - harmful).astype(np.int64)
        return np.asarray(self.cells.argmax(axis=1), dtype=np.int64)

    @cached_property
    def is_correct(self) -> Bools:
        """Whether the decision is the gold cell; False where not decided."""
        return np.asarray(self.decision == self.gold.label)

    @cached_property
    def confidence(self) -> Array:
        """Mass of the cell decided for, shape (n,)."""
        return self.cells[np.arange(len(self.cells)), self.decision]
