"""Are the fields of an explanation right: affected groups, quotes that stand in the post, a form that
parses?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hatex.evaluation.estimate import Array, Bootstrap, Estimate, proportion
from hatex.evaluation.gold import Ints
from hatex.evaluation.metric import ratio
from hatex.types import Explanation

_STREAM = "fields"


@dataclass(frozen=True)
class NamedGroups:
    """Groups of one post: annotated, and listed by the model."""

    gold: frozenset[str]
    predicted: frozenset[str]


def group_f1(posts: Sequence[NamedGroups], clusters: Ints, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """`target_group_f1` (micro: every naming counts the same) and `target_group_macro_f1` (every group does).

    The macro mean is over groups that some post is annotated with.
    """
    names = sorted(frozenset().union(*(post.gold for post in posts))) if posts else []
    if not names:
        missing = Estimate.missing("no post is annotated with a target group of the closed list", len(posts))
        return {"target_group_f1": missing, "target_group_macro_f1": missing}
    gold = np.array([[name in post.gold for name in names] for post in posts], dtype=float)
    predicted = np.array([[name in post.predicted for name in names] for post in posts], dtype=float)
    hits, sizes = gold * predicted, gold + predicted
    extra = np.array([float(len(post.predicted - set(names))) for post in posts])

    def micro(weights: Array) -> Array:
        total = weights @ (sizes.sum(axis=1) + extra)
        return ratio(2 * (weights @ hits.sum(axis=1)), total)

    def macro(weights: Array) -> Array:
        # Undefined where a group was not drawn: the mean of the others would leave out the rare ones, often the worst.
        f1 = np.where(weights @ gold > 0, ratio(2 * (weights @ hits), weights @ sizes), np.nan)
        return np.asarray(f1.mean(axis=1))

    return {
        "target_group_f1": bootstrap.estimate(micro, clusters, _STREAM),
        "target_group_macro_f1": bootstrap.estimate(macro, clusters, _STREAM),
    }


def field_rates(
    texts: Sequence[str], explanations: Sequence[Explanation | None], confidence: float
) -> dict[str, Estimate]:
    """Two shares of posts, with Wilson's intervals.

    `verbatim_rate`: of explanations that quote at all, those whose every quoted word stands in the post at
    its offsets, and every quotation in their sentences somewhere in the post; `parse_rate`: of all posts, those that
    got an explanation whose answer came to its end and whose fields are well formed.
    """
    quoting = [bool(e and (e.harmful_words or e.evidence)) for e in explanations]
    verbatim = [_is_verbatim(t, e) for t, e in zip(texts, explanations, strict=True)]
    kept = np.array(verbatim, dtype=bool)[np.array(quoting, dtype=bool)]
    parsed = np.array([_is_well_formed(e) for e in explanations], dtype=bool)
    return {
        "verbatim_rate": proportion(kept, confidence, "explanation quotes the post"),
        "parse_rate": proportion(parsed, confidence, "posts"),
    }


def _is_verbatim(text: str, explanation: Explanation | None) -> bool:
    if explanation is None:
        return False
    quotes = [(word.text, word.start, word.end) for word in explanation.harmful_words]
    quotes += [(word.text, word.start, word.end) for word in explanation.evidence]
    return all(text[start:end] == quote and end > start for quote, start, end in quotes) and all(
        quotations_stand(prose, text) for prose in (explanation.summary, explanation.reason)
    )


def quotations_stand(prose: str, text: str) -> bool:
    """Whether every “quotation” in `prose` stands in `text`, which may hold quotation marks itself."""
    position = 0
    while (start := prose.find("“", position)) >= 0:
        ends = [i for i in range(start + 1, len(prose)) if prose[i] == "”" and prose[start + 1 : i] in text]
        if not ends:
            return False
        position = ends[-1] + 1
    return True


def _is_well_formed(explanation: Explanation | None) -> bool:
    if explanation is None or not explanation.is_complete or not explanation.summary.strip():
        return False
    probabilities = [group.probability for group in explanation.affected_groups]
    weights = [word.weight for word in explanation.harmful_words]
    return all(0 <= value <= 1 for value in (*probabilities, *weights))
