"""Does the answer rest on the words that the explanation points at?  (ERASER, DeYoung et al. 2020, section
4.)

Comprehensiveness: how much P(label) falls without the marked words. Sufficiency: how much it falls when only
they are left. Both depend on how much there is to lose at all, so they are also given as shares of the fall
when every word is taken out, and beside the same figures for equally many random words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hatex.evaluation.estimate import Array, Bootstrap, Estimate
from hatex.evaluation.gold import Bools, Ints
from hatex.evaluation.metric import ratio, weighted_mean
from hatex.evaluation.rationales import Span

_STREAM = "faithfulness"


@dataclass(frozen=True)
class AlteredTexts:
    """The variants of one post whose P(label) has to be scored."""

    without: str
    only: str
    random_without: str
    random_only: str


def alter_text(text: str, words: Sequence[Span], marked: Bools, rng: np.random.Generator) -> AlteredTexts:
    """Words taken out, words left, and the same with as many random words. Words are joined by one space."""
    random = np.zeros(len(words), dtype=bool)
    random[rng.choice(len(words), size=int(marked.sum()), replace=False)] = True

    def keep(mask: Bools) -> str:
        return " ".join(text[start:end] for (start, end), kept in zip(words, mask, strict=True) if kept)

    return AlteredTexts(keep(~marked), keep(marked), keep(~random), keep(random))


@dataclass(frozen=True)
class LabelMasses:
    """P(label decided on the whole post) of n posts under each variant, each of shape (n,)."""

    whole: Array
    empty: Array
    without: Array
    only: Array
    random_without: Array
    random_only: Array


def faithfulness(masses: LabelMasses, clusters: Ints, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """All faithfulness figures by name; shares are ratios of sums over posts, so a post that has nothing to
    lose does not blow them up.
    """
    if not len(masses.whole):
        return {name: Estimate.missing("no post has marked words") for name in NAMES}
    falls = {
        "comprehensiveness": masses.whole - masses.without,
        "sufficiency": masses.whole - masses.only,
        "random_comprehensiveness": masses.whole - masses.random_without,
        "random_sufficiency": masses.whole - masses.random_only,
    }
    full = masses.whole - masses.empty
    out: dict[str, Estimate] = {}
    for name, fall in falls.items():

        def mean(weights: Array, fall: Array = fall) -> Array:
            return weighted_mean(fall, weights)

        def share(weights: Array, fall: Array = fall) -> Array:
            return ratio(weights @ fall, weights @ full)

        out[name] = bootstrap.estimate(mean, clusters, _STREAM)
        out[f"{name}_share"] = (
            bootstrap.estimate(share, clusters, _STREAM)
            if full.sum() > 0
            else Estimate.missing("taking every word out does not lower P(label)", len(full))
        )
    return out


NAMES = tuple(
    f"{prefix}{name}{suffix}"
    for prefix in ("", "random_")
    for name in ("comprehensiveness", "sufficiency")
    for suffix in ("", "_share")
)
