"""Evidence by deletion: how much P(label) falls when a part of the post is taken out, and what would turn the
label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hatex.data.prompts import PostView
from hatex.errors import UsageError
from hatex.explanation.protocol import ExplainEngine, ExplainOptions, GradientEngine
from hatex.types import LABELS, Change, Evidence, EvidenceMethod, HarmfulWord

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Deletion:
    """One variant of a post: word ranges that are left out, and the characters of the post they stand for."""

    words: tuple[range, ...]
    spans: tuple[tuple[int, int], ...]

    def apply(self, view: PostView) -> PostView:
        return view.without({i for words in self.words for i in words})


@dataclass(frozen=True, slots=True)
class Finding:
    """Evidence for one post, how it was found, and the change that comes closest to turning the post's label."""

    evidence: tuple[Evidence, ...]
    change: Change | None
    method: EvidenceMethod


def single_deletions(view: PostView, max_variants: int) -> list[Deletion]:
    """Leave-one-word-out, or leave-one-span-out in `max_variants` spans of nearly equal length for longer
    posts.
    """
    count = len(view.words)
    parts = np.array_split(np.arange(count), min(count, max_variants)) if count else []
    ranges = [range(int(part[0]), int(part[-1]) + 1) for part in parts]
    return [Deletion((words,), (_characters(view, words),)) for words in ranges]


def find_evidence(
    engine: ExplainEngine,
    texts: Sequence[str],
    views: Sequence[PostView],
    gates: NDArray[np.float32],
    probabilities: Floats,
    harmful: Sequence[Sequence[HarmfulWord]],
    options: ExplainOptions,
) -> list[Finding]:
    """Evidence for many posts: all variants of all posts in one call, each under its own post's gates.

    `views` hold the words that the model reads; `probabilities` are those of the posts as they are, shape (posts,
    labels); `harmful` holds the words that each post's answer marked, which are also taken out together.
    """
    if options.evidence == "none":
        return [Finding((), None, "none") for _ in texts]
    if options.evidence == "gradient":
        return _by_gradient(engine, texts, views, gates, probabilities, options)
    singles = [single_deletions(view, options.max_variants) for view in views]
    together = [_all_marked(view, words) for view, words in zip(views, harmful, strict=True)]
    variants: list[PostView] = []
    owners: list[int] = []
    for post, view in enumerate(views):
        for deletion in (*singles[post], *together[post]):
            variants.append(deletion.apply(view))
            owners.append(post)
    scores = engine.score_variants(texts, variants, owners, gates, options)
    findings, position = [], 0
    for post, text in enumerate(texts):
        count = len(singles[post]) + len(together[post])
        block = scores[position : position + count]
        position += count
        findings.append(_weigh(text, singles[post], together[post], probabilities[post], block))
    return findings


def weigh_words(
    view: PostView, inclusion: Sequence[float], evidence: Sequence[Evidence]
) -> tuple[float, ...]:
    """How much each shown word carries the label, 0 to 1: what the answer says and what deletion shows, in equal parts.

    `inclusion` holds P(the answer marks the word), shape (words,); deletion counts as the share of the strongest
    word's evidence. On 240 tune posts of HateXplain, the area under precision-recall against people's marks is .75 by
    the answer alone, .78 by deletion alone and .83 by both.
    """
    strongest = max((each.weight for each in evidence), default=0.0)
    if strongest <= 0 or not inclusion:
        return tuple(inclusion)
    shares = np.zeros(len(inclusion))
    for each in evidence:
        words = view.words_within(each.start, each.end)
        shares[words.start : words.stop] = max(0.0, each.weight) / strongest
    return tuple(((np.array(inclusion) + shares) / 2).tolist())


def _weigh(
    text: str, singles: list[Deletion], together: list[Deletion], before: Floats, after: Floats
) -> Finding:
    label = int(np.argmax(before))
    evidence = tuple(
        Evidence(text[start:end], start, end, float(before[label] - row[label]))
        for deletion, row in zip(singles, after, strict=False)
        for start, end in deletion.spans
    )
    turned = [(row, d) for d, row in zip(singles, after, strict=False) if int(np.argmax(row)) != label]
    if turned:
        row, deletion = min(turned, key=lambda pair: float(pair[0][label]))
    elif together:
        row, deletion = after[-1], together[0]
    else:
        return Finding(evidence, None, "leave-out")
    winner = int(np.argmax(row))
    return Finding(evidence, Change(deletion.spans, LABELS[winner], float(row[winner])), "leave-out")


def _all_marked(view: PostView, words: Sequence[HarmfulWord]) -> list[Deletion]:
    ranges = tuple(view.words_within(word.start, word.end) for word in words)
    return [Deletion(ranges, tuple(_characters(view, r) for r in ranges))] if ranges else []


def _characters(view: PostView, words: range) -> tuple[int, int]:
    return view.spans[words[0]][0], view.spans[words[-1]][1]


def _by_gradient(
    engine: ExplainEngine,
    texts: Sequence[str],
    views: Sequence[PostView],
    gates: NDArray[np.float32],
    probabilities: Floats,
    options: ExplainOptions,
) -> list[Finding]:
    """Integrated gradients, summed over the tokens of each word."""
    if not isinstance(engine, GradientEngine):
        raise UsageError("this engine has no gradients", hint="use --evidence leave-out")
    if options.space != "delta":
        raise UsageError(
            f"gradients are those of the blend space delta, not {options.space}",
            hint="use --evidence leave-out",
        )
    labels = [int(np.argmax(row)) for row in probabilities]
    attributions = engine.integrated_gradients(texts, gates, labels, steps=options.gradient_steps)
    findings = []
    for text, view, tokens in zip(texts, views, attributions, strict=True):
        weights = np.zeros(len(view.words))
        ends = np.cumsum([len(word) + 1 for word in view.words])
        for _, end, weight in tokens:
            # A token may start with the space before its word: its last character says where it belongs.
            place = int(np.searchsorted(ends, end - 1, side="right"))
            if place < len(weights):
                weights[place] += weight
        evidence = tuple(
            Evidence(text[start:end], start, end, float(weight))
            for (start, end), weight in zip(view.spans, weights, strict=True)
        )
        findings.append(Finding(evidence, None, "gradient"))
    return findings
