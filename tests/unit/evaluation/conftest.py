"""Invented posts for the metric tests: ids and votes matter, texts do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hatex.evaluation.gold import Gold, Scored, build_gold
from hatex.types import Example, Vote


def _post(number: int, votes: Sequence[Vote], **fields: object) -> Example:
    known: dict[str, object] = {
        "id": f"pub-{number}",
        "dataset": "pub",
        "platform": "forums",
        "text": f"post {number}",
        "split": "report",
        "group": f"g{number}",
    }
    return Example(votes=tuple(votes), **(known | fields))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def post() -> Callable[..., Example]:
    """Makes one post of the data set `pub` from a number and its votes."""
    return _post


@pytest.fixture(scope="session")
def gold_of() -> Callable[..., Gold]:
    """Makes gold from one string a post: `nnh` = two votes neutral, one hate; `T` toxic, `X` not hate, `A`
    any.
    """
    sets = {
        "n": ("neutral",),
        "o": ("offensive",),
        "h": ("hate",),
        "T": ("offensive", "hate"),
        "X": ("neutral", "offensive"),
        "A": ("neutral", "offensive", "hate"),
    }

    def build(*posts: str, **fields: Sequence[object]) -> Gold:
        examples = [
            _post(
                number,
                [Vote(sets[letter]) for letter in letters],
                **{name: values[number] for name, values in fields.items()},
            )
            for number, letters in enumerate(posts)
        ]
        return build_gold("pub", examples)

    return build


@pytest.fixture(scope="session")
def random_scored(gold_of: Callable[..., Gold]) -> Scored:
    """200 posts with three votes each and rounded (so tied) random probabilities."""
    rng = np.random.default_rng(7)
    letters = ["".join(rng.choice(list("noh"), size=3, p=[0.5, 0.3, 0.2])) for _ in range(200)]
    raw = np.round(rng.dirichlet([1, 1, 1], size=200), 1)
    raw[:, 0] = 1 - raw[:, 1] - raw[:, 2]
    return Scored(gold_of(*letters), np.clip(raw, 0, 1))


@pytest.fixture(scope="session")
def binary_scored(gold_of: Callable[..., Gold]) -> Scored:
    """150 single-vote posts, hate or not hate, with tied scores."""
    rng = np.random.default_rng(8)
    letters = ["h" if x else "X" for x in rng.random(150) < 0.3]
    hate = np.round(rng.random(150), 1)
    rest = (1 - hate) / 2
    return Scored(gold_of(*letters), np.stack([rest, rest, hate], axis=1))
