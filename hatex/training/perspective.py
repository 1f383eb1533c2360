"""Experimental: answering as one group of annotators would.

What a few people of a group said is not what the group thinks, and can point at persons: groups of fewer than
`MIN_ANNOTATORS` are refused, the card says what the adapter is, and it is neither merged nor exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from hatex.errors import TrainingError
from hatex.types import Example

MIN_ANNOTATORS: Final = 5


def group_examples(examples: Sequence[Example], group: str, adapter: str) -> list[Example]:
    """The examples that annotators of `group` voted on, with their votes alone.

    Raises TrainingError for a group that fewer than `MIN_ANNOTATORS` people of the training posts belong to.
    """
    found = [
        replace(example, votes=votes)
        for example in examples
        if (votes := tuple(vote for vote in example.votes if vote.group == group))
    ]
    known = sorted({vote.group for e in examples for vote in e.votes if vote.group})
    check_people([e for e in found if e.split == "train"], group, adapter, known)
    return found


def check_people(examples: Sequence[Example], group: str, adapter: str, known: Sequence[str] = ()) -> None:
    """Raise TrainingError where fewer than `MIN_ANNOTATORS` people of the group voted on the examples.

    Asked of all training posts first, then of those that the adapter is trained on. `known` are the groups in the data.
    """
    people = {(e.dataset, vote.annotator) for e in examples for vote in e.votes if vote.annotator}
    if len(people) < MIN_ANNOTATORS:
        raise TrainingError(
            f"adapter {adapter}: {len(people)} annotators of group {group} voted on its training posts; "
            f"a perspective needs {MIN_ANNOTATORS}",
            where=f"train.adapters.{adapter}.perspective",
            hint=f"groups in the data: {', '.join(known)}" if known else "take more posts, or more platforms",
        )
