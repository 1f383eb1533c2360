"""All explanation metrics of one data set, from its posts, their explanations and the engine that gave
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from hatex.evaluation.estimate import Array, Bootstrap, Estimate, cluster_numbers
from hatex.evaluation.faithfulness import AlteredTexts, LabelMasses, alter_text, faithfulness
from hatex.evaluation.fields import NamedGroups, field_rates, group_f1
from hatex.evaluation.gold import Ints
from hatex.evaluation.metric import weighted_mean
from hatex.evaluation.passes import Gates
from hatex.evaluation.rationales import (
    MarkedPost,
    find_words,
    iou_f1,
    majority_mask,
    mark_words,
    rationale_auprc,
    span_matches,
    token_f1,
    word_weights,
)
from hatex.types import LABELS, Example, Explanation, Verdict

_STREAM: Final = "rationales"
Score = Callable[[Sequence[str], Gates], Array]
"""Texts and gate weights to P(label), shapes (n,), (n, adapters), (n, labels)."""


@dataclass(frozen=True)
class ExplainedPosts:
    """Posts with the verdicts of one strategy and the gate weights, shape (n, adapters), behind them."""

    examples: Sequence[Example]
    verdicts: Sequence[Verdict]
    gates: Gates
    groups: tuple[str, ...]
    """The closed list that `affected_groups` come from."""


def explanation_metrics(posts: ExplainedPosts, score: Score, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """Every explanation metric by name; `score` is called once, on all altered texts together."""
    texts = [example.text for example in posts.examples]
    explanations = [verdict.explanation for verdict in posts.verdicts]
    return (
        _agreement(posts, bootstrap)
        | _faithfulness(posts, score, bootstrap)
        | _groups(posts, bootstrap)
        | field_rates(texts, explanations, bootstrap.confidence)
    )


def _agreement(posts: ExplainedPosts, bootstrap: Bootstrap) -> dict[str, Estimate]:
    chosen = [i for i, example in enumerate(posts.examples) if example.has_rationales and example.rationales]
    if not chosen:
        why = Estimate.missing("no post has words that people marked")
        return dict.fromkeys(("token_f1", "iou_f1", "rationale_auprc"), why)
    marked = [_mark(posts.examples[i], posts.verdicts[i]) for i in chosen]
    clusters = cluster_numbers([posts.examples[i].group for i in chosen])
    matches = np.array([span_matches(post) for post in marked])
    areas = [rationale_auprc(post) for post in marked]
    ranked = [i for i, area in enumerate(areas) if area is not None]
    return {
        "token_f1": _mean([token_f1(post) for post in marked], clusters, bootstrap),
        "iou_f1": bootstrap.estimate(partial(iou_f1, matches), clusters, _STREAM),
        "rationale_auprc": _mean([areas[i] or 0.0 for i in ranked], clusters[ranked], bootstrap)
        if ranked
        else Estimate.missing("no explanation weighs words"),
    }


def _mean(values: Sequence[float], clusters: Ints, bootstrap: Bootstrap) -> Estimate:
    array = np.array(values)
    compact = cluster_numbers([str(cluster) for cluster in clusters])
    return bootstrap.estimate(lambda weights: weighted_mean(array, weights), compact, _STREAM)


def _mark(example: Example, verdict: Verdict) -> MarkedPost:
    return mark_post(example, verdict.explanation, is_neutral=verdict.label == "neutral")


def mark_post(example: Example, explanation: Explanation | None, *, is_neutral: bool = False) -> MarkedPost:
    """Words as people and the explanation marked them.

    The order of words is that of the model's own word weights where it has them, else of its evidence: what
    speaks for a harmful label, or against a neutral one.
    """
    words = find_words(example.text)
    gold = majority_mask(words, example.rationales)
    if explanation is None:
        return MarkedPost(gold, np.zeros(len(words), dtype=bool))
    spans = [(word.start, word.end) for word in explanation.harmful_words]
    sign = -1 if is_neutral else 1
    weighed = [(e.start, e.end, max(0.0, sign * e.weight)) for e in explanation.evidence]
    if explanation.word_weights:
        shown = zip(explanation.word_spans, explanation.word_weights, strict=True)
        weighed = [(*span, weight) for span, weight in shown]
    weights = word_weights(words, weighed) if weighed else None
    return MarkedPost(gold, mark_words(words, spans), weights)


def _faithfulness(posts: ExplainedPosts, score: Score, bootstrap: Bootstrap) -> dict[str, Estimate]:
    rng = np.random.default_rng(bootstrap.seed)
    chosen: list[int] = []
    altered: list[AlteredTexts] = []
    for index, (example, verdict) in enumerate(zip(posts.examples, posts.verdicts, strict=True)):
        words = find_words(example.text)
        spans = [(w.start, w.end) for w in verdict.explanation.harmful_words] if verdict.explanation else []
        mask = mark_words(words, spans)
        if mask.any():
            chosen.append(index)
            altered.append(alter_text(example.text, words, mask, rng))
    variants = [
        [posts.examples[i].text for i in chosen],
        [""] * len(chosen),
        [each.without for each in altered],
        [each.only for each in altered],
        [each.random_without for each in altered],
        [each.random_only for each in altered],
    ]
    column = [LABELS.index(posts.verdicts[i].label) for i in chosen]
    masses = np.zeros((len(variants), len(chosen)))
    if chosen:
        gates = np.tile(posts.gates[chosen], (len(variants), 1))
        scores = score([text for texts in variants for text in texts], gates)
        masses = scores.reshape(len(variants), len(chosen), -1)[:, np.arange(len(chosen)), column]
    clusters = cluster_numbers([posts.examples[i].group for i in chosen])
    return faithfulness(LabelMasses(*masses), clusters, bootstrap)


def _groups(posts: ExplainedPosts, bootstrap: Bootstrap) -> dict[str, Estimate]:
    chosen = [i for i, example in enumerate(posts.examples) if example.has_targets]
    if not chosen:
        why = Estimate.missing("target groups were not annotated")
        return {"target_group_f1": why, "target_group_macro_f1": why}
    closed = frozenset(posts.groups)
    named = []
    for i in chosen:
        explanation = posts.verdicts[i].explanation
        groups = explanation.affected_groups if explanation else ()
        predicted = frozenset(group.name for group in groups)
        named.append(NamedGroups(frozenset(posts.examples[i].targets) & closed, predicted))
    return group_f1(named, cluster_numbers([posts.examples[i].group for i in chosen]), bootstrap)
