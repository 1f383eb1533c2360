"""Who voted what: the votes that carry a name, as arrays over all annotators at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hatex.evaluation.estimate import Array
from hatex.types import LABEL_SETS, LABELS, Vote

Key = Literal["annotator", "group"]
"""Whose errors: those of one annotator, or of one group of annotators."""


@dataclass(frozen=True)
class NamedVotes:
    """Votes that carry a name and tell labels apart; arrays have shape (votes,).

    `posts` holds rows, `voters` indices into `names`, `label_sets` indices into `types.LABEL_SETS`, `counts` how
    often the vote was cast.
    """

    names: tuple[str, ...]
    posts: npt.NDArray[np.int64]
    voters: npt.NDArray[np.int64]
    label_sets: npt.NDArray[np.int64]
    counts: Array
    n_posts: int

    @staticmethod
    def of(votes: Sequence[Sequence[Vote]], key: Key) -> NamedVotes:
        """The votes of all posts; those for all labels fit every answer, and are left out."""
        number = {labels: index for index, labels in enumerate(LABEL_SETS)}
        cast = [
            (post, name, number[vote.labels], vote.count)
            for post, given in enumerate(votes)
            for vote in given
            if len(vote.labels) < len(LABELS) and (name := getattr(vote, key))
        ]
        names = sorted({name for _, name, _, _ in cast})
        voter = {name: index for index, name in enumerate(names)}
        posts, voters, label_sets, counts = (
            np.array(
                [(post, voter[name], labels, count) for post, name, labels, count in cast], dtype=np.int64
            )
            .reshape(-1, 4)
            .T
        )
        return NamedVotes(tuple(names), posts, voters, label_sets, counts.astype(float), len(votes))

    def sums(self, weights: Array, values: Array) -> Array:
        """Weighted sums over posts of what each vote adds, shape (replicates, names).

        `weights` has shape (replicates, posts), `values` (votes,).
        """
        from scipy.sparse import csr_array

        shape = (self.n_posts, len(self.names))
        matrix: Any = csr_array((values, (self.posts, self.voters)), shape=shape)
        return np.asarray(weights @ matrix)
