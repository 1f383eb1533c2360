"""Every metric of strategies on data sets, by the name that recipes and reports use."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from hatex.errors import UsageError
from hatex.evaluation import bias, calibration, classification, selective, soft_labels
from hatex.evaluation.metric import Metric

METRICS: Final[dict[str, Metric]] = {
    metric.name: metric
    for family in (classification, soft_labels, calibration, selective, bias)
    for metric in family.METRICS
}

HEADLINE: Final = (
    "macro_f1",
    "accuracy",
    "auroc",
    "soft_cross_entropy",
    "calibration_error",
    "aurc",
)
"""What tables for people show; everything else is in the JSON and HTML reports."""


def find_metric(name: str, also: Sequence[str] = ()) -> Metric:
    """The metric of that name. Raises UsageError with a did-you-mean, over the names in `also` too."""
    if name in METRICS:
        return METRICS[name]
    known = (*METRICS, *also)
    close = get_close_matches(name, known, n=1)
    raise UsageError(
        f"there is no metric {name!r}",
        where="eval",
        hint=f"did you mean {close[0]!r}?" if close else f"metrics: {', '.join(known)}",
    )
