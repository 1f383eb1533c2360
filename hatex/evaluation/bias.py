"""Does the model treat posts that name a group like all others?

Subgroup, BPSN and BNSP AUC and their generalised mean: Borkan et al. 2019, "Nuanced Metrics for Measuring
Unintended Bias"; applied to target groups, as Mathew et al. 2021 (HateXplain) do, but to every group that anyone
named. Counterfactual flips: Garg et al. 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from hatex.evaluation.classification import ranked_auc
from hatex.evaluation.estimate import Array, Bootstrap, Estimate
from hatex.evaluation.gold import Bools, Gold, Scored
from hatex.evaluation.metric import Metric, decided_posts, ratio, why_one_side

Side = Literal["subgroup", "bpsn", "bnsp"]
SIDES: Final[tuple[Side, ...]] = ("subgroup", "bpsn", "bnsp")
POWER: Final = -5.0
"""Exponent of the generalised mean: the worst groups weigh most."""
SMALLEST_GROUP: Final = 10
"""Groups named by fewer posts are left out of the means: their AUC is noise."""


def is_about(gold: Gold, group: str) -> Bools:
    """Posts whose annotated targets hold the group, shape (n,)."""
    return np.array([targets is not None and group in targets for targets in gold.targets])


def _has_targets(gold: Gold) -> Bools:
    return np.array([targets is not None for targets in gold.targets]) & gold.is_decided


def bias_groups(gold: Gold, smallest: int = SMALLEST_GROUP) -> list[str]:
    """Groups named by at least `smallest` decided posts, the most named first."""
    counts: dict[str, int] = {}
    for targets, is_kept in zip(gold.targets, _has_targets(gold), strict=True):
        for name in (targets or ()) if is_kept else ():
            counts[name] = counts.get(name, 0) + 1
    return sorted((g for g, n in counts.items() if n >= smallest), key=lambda g: (-counts[g], g))


def _side_posts(gold: Gold, group: str, side: Side) -> Bools:
    inside = is_about(gold, group)
    if side == "subgroup":
        chosen = inside
    elif side == "bpsn":
        chosen = np.where(inside, ~gold.is_harmful, gold.is_harmful)
    else:
        chosen = np.where(inside, gold.is_harmful, ~gold.is_harmful)
    return np.asarray(chosen & _has_targets(gold))


def _has_both(gold: Gold, group: str, side: Side) -> bool:
    harmful = gold.is_harmful[_side_posts(gold, group, side)]
    return bool(harmful.any() and not harmful.all())


def bias_auc(scored: Scored, weights: Array, group: str, side: Side) -> Array:
    """AUC inside the group; or background harmful against group harmless (BPSN); or the reverse (BNSP)."""
    keep = _side_posts(scored.gold, group, side)
    if not keep.any():
        return np.full(len(weights), np.nan)
    return ranked_auc(scored.harm[keep], scored.gold.is_harmful[keep], weights[:, keep])


def generalised_mean(values: Array, power: float = POWER) -> Array:
    """(mean of v^p)^(1/p) down axis 0, over the defined values; a value of 0 pulls a negative power to 0."""
    with np.errstate(divide="ignore"):
        powers = np.power(values, power)
        count = np.isfinite(values).sum(axis=0).astype(float)
        mean = ratio(np.where(np.isfinite(values), powers, 0).sum(axis=0), count)
        return np.asarray(np.where(np.isinf(mean), 0.0, np.power(mean, 1 / power)))


@dataclass(frozen=True)
class GroupBias:
    """One target group of one data set; `n` posts name it."""

    group: str
    n: int
    aucs: dict[Side, Estimate]


def group_biases(scored: Scored, bootstrap: Bootstrap, smallest: int = SMALLEST_GROUP) -> list[GroupBias]:
    """The three AUCs of every group that enough posts name; empty where targets were not annotated."""
    out = []
    for group in bias_groups(scored.gold, smallest):
        aucs: dict[Side, Estimate] = {}
        for side in SIDES:
            n = int(_side_posts(scored.gold, group, side).sum())
            if not _has_both(scored.gold, group, side):
                aucs[side] = Estimate.missing("one class only", n)
                continue

            def statistic(weights: Array, group: str = group, side: Side = side) -> Array:
                return bias_auc(scored, weights, group, side)

            gold = scored.gold
            aucs[side] = bootstrap.estimate(statistic, gold.clusters, gold.dataset, n)
        out.append(
            GroupBias(group, int((is_about(scored.gold, group) & _has_targets(scored.gold)).sum()), aucs)
        )
    return out


def mean_bias_auc(side: Side) -> Callable[[Scored, Array], Array]:
    """Generalised mean of one of the AUCs over the groups that have both of its classes.

    NaN where a resample lacks one of these, since the mean of the others would be another one.
    """

    def compute(scored: Scored, weights: Array) -> Array:
        gold = scored.gold
        groups = [group for group in bias_groups(gold) if _has_both(gold, group, side)]
        aucs = np.stack([bias_auc(scored, weights, group, side) for group in groups])
        return np.where(np.isfinite(aucs).all(axis=0), generalised_mean(aucs), np.nan)

    return compute


def flip_rate(decisions: Sequence[Sequence[bool]]) -> list[float]:
    """For each template: the share of pairs of its variants whose decisions differ.

    `decisions[t]` holds one decision per variant (a group's name put in). Templates with one variant say
    nothing and are left out.
    """
    rates = []
    for variants in decisions:
        n, flagged = len(variants), sum(variants)
        if n > 1:
            rates.append(flagged * (n - flagged) / (n * (n - 1) / 2))
    return rates


def _why_no_groups(gold: Gold) -> str | None:
    if why := why_one_side(gold):
        return why
    if all(targets is None for targets in gold.targets):
        return "target groups were not annotated"
    if not bias_groups(gold):
        return f"no target group is named by {SMALLEST_GROUP} posts"
    return None


def _why_side_empty(side: Side) -> Callable[[Gold], str | None]:
    def why(gold: Gold) -> str | None:
        if reason := _why_no_groups(gold):
            return reason
        has_any = any(_has_both(gold, group, side) for group in bias_groups(gold))
        return None if has_any else "no target group has both classes"

    return why


METRICS = tuple(
    Metric(
        f"bias_{side}_auc",
        f"{side} AUC over target groups, generalised mean (p = {POWER:.0f})",
        "higher",
        mean_bias_auc(side),
        _why_side_empty(side),
        decided_posts,
    )
    for side in SIDES
)
