"""Annotator votes: each names the set of labels it is compatible with; nothing is majority-voted away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from hatex.types import LABEL_SETS, LABELS, Label, LabelSet, Vote

NEUTRAL: Final[LabelSet] = ("neutral",)
OFFENSIVE: Final[LabelSet] = ("offensive",)
HATE: Final[LabelSet] = ("hate",)
NOT_HATE: Final[LabelSet] = ("neutral", "offensive")
TOXIC: Final[LabelSet] = ("offensive", "hate")
ANY: Final[LabelSet] = ("neutral", "offensive", "hate")
"""The annotator answered, but the answer says nothing about the label: no loss, and counted in the card."""

_INDEX = {labels: i for i, labels in enumerate(LABEL_SETS)}


def vote_shares(votes: Iterable[Vote]) -> tuple[float, ...]:
    """Normalised shares of the seven label sets, in the order of `types.LABEL_SETS`; they sum to 1.

    Raises:
        ValueError: no votes, or none with a positive count.
    """
    counts = [0] * len(LABEL_SETS)
    for vote in votes:
        counts[_INDEX[vote.labels]] += vote.count
    total = sum(counts)
    if total <= 0:
        raise ValueError("a post needs at least one vote")
    return tuple(count / total for count in counts)


def counted(counts: Mapping[LabelSet, int]) -> tuple[Vote, ...]:
    """Votes without annotators, one per label set that anyone chose, in the order of `LABEL_SETS`."""
    return tuple(Vote(labels, counts[labels]) for labels in LABEL_SETS if counts.get(labels, 0) > 0)


def tally(choices: Iterable[LabelSet]) -> tuple[Vote, ...]:
    """Votes without annotators from one label set each."""
    return counted(Counter(choices))


def parse_label_set(text: str) -> LabelSet:
    """`hate`, `offensive|hate`, ... in any order.

    Raises:
        ValueError: an unknown label.
    """
    names = {name.strip() for name in text.split("|")}
    if unknown := names - set(LABELS):
        raise ValueError(f"unknown label {', '.join(sorted(unknown))!r}; known: {', '.join(LABELS)}")
    return tuple(label for label in LABELS if label in names)


def plurality(votes: Sequence[Vote]) -> tuple[LabelSet, ...]:
    """The label sets with most votes; more than one where there is a tie."""
    shares = vote_shares(votes)
    top = max(shares)
    return tuple(labels for labels, share in zip(LABEL_SETS, shares, strict=True) if share == top)


def is_tied(votes: Sequence[Vote]) -> bool:
    return len(plurality(votes)) > 1


def mass(votes: Sequence[Vote], labels: Sequence[Label]) -> float:
    """Share of votes whose set lies wholly inside `labels`."""
    inside = set(labels)
    shares = vote_shares(votes)
    return sum(share for names, share in zip(LABEL_SETS, shares, strict=True) if inside.issuperset(names))
