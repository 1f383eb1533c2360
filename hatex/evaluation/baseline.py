"""The yardstick: word and character TF-IDF with logistic regression, fitted on the adapters' training
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hatex.data.cleaning import clean
from hatex.data.votes import vote_shares
from hatex.errors import DataError
from hatex.evaluation.estimate import Array
from hatex.evaluation.gold import MEMBERSHIP
from hatex.types import LABELS, Example

NAME: Final = "tf-idf"
"""How tables call the baseline among the strategies."""
WORD_FEATURES: Final = 60_000
CHARACTER_FEATURES: Final = 120_000
STRENGTH: Final = 4.0
"""Inverse of the L2 penalty; not tuned on anything."""
_SMALLEST_WEIGHT: Final = 1e-3


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline. It reads posts as the engine does, cleaned."""

    features: Any
    classifier: Any

    def predict(self, texts: Sequence[str]) -> Array:
        """P(label), shape (texts, 3), columns in `types.LABELS` order; 0 for a label no training row had."""
        out = np.zeros((len(texts), len(LABELS)))
        if len(texts):
            out[:, self.classifier.classes_] = self.classifier.predict_proba(
                self.features.transform(_cleaned(texts))
            )
        return out


def soft_targets(examples: Sequence[Example]) -> Array:
    """P(label) of each row by its votes, shape (rows, 3).

    The share of a label set is split over its labels in the proportion of the fully labelled rows (evenly
    where they have none of its labels): a linear model cannot leave the split open as the vote loss does.
    """
    shares = np.array([vote_shares(example.votes) for example in examples])
    is_full = np.array([example.is_fully_labelled for example in examples])
    prior = (shares[is_full] @ MEMBERSHIP).sum(axis=0)
    inside = MEMBERSHIP * prior
    totals = inside.sum(axis=1, keepdims=True)
    even = MEMBERSHIP / MEMBERSHIP.sum(axis=1, keepdims=True)
    split = np.where(totals > 0, inside / np.where(totals > 0, totals, 1), even)
    return np.asarray(shares @ split)


def fit_baseline(examples: Sequence[Example], seed: int) -> Baseline:
    """Fit on every row, repeated once per label with that label's share as its weight.

    Raises DataError where the rows hold fewer than two labels.
    """
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    if not examples:
        raise DataError("no training rows for the TF-IDF baseline", hint="run with --no-baseline")
    targets = soft_targets(examples)
    features = _build_features()
    matrix = features.fit_transform(_cleaned([example.text for example in examples]))
    rows = [np.flatnonzero(targets[:, label] >= _SMALLEST_WEIGHT) for label in range(len(LABELS))]
    labels = np.concatenate([np.full(len(chosen), label) for label, chosen in enumerate(rows)])
    if len(np.unique(labels)) < 2:
        raise DataError("the TF-IDF baseline needs rows of two labels", hint="run with --no-baseline")
    weights = np.concatenate([targets[chosen, label] for label, chosen in enumerate(rows)])
    classifier = LogisticRegression(C=STRENGTH, max_iter=300, tol=1e-3, random_state=seed)
    classifier.fit(vstack([matrix[chosen] for chosen in rows]).tocsr(), labels, sample_weight=weights)
    return Baseline(features, classifier)


def _cleaned(texts: Sequence[str]) -> list[str]:
    # Prepared rows are clean already, unless their recipe left steps out; rows of `eval.sources` are raw.
    return [clean(text).text for text in texts]


def _build_features() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    words = TfidfVectorizer(
        ngram_range=(1, 2),
        min_df=2,
        max_features=WORD_FEATURES,
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b",
    )
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(2, 5), min_df=3, max_features=CHARACTER_FEATURES, sublinear_tf=True
    )
    return FeatureUnion([("words", words), ("characters", characters)])
