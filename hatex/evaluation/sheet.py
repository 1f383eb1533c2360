"""All metrics of all strategies on all data sets, and their paired differences to one reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hatex.evaluation.estimate import Bootstrap, Estimate, Sample
from hatex.evaluation.gold import Scored
from hatex.evaluation.metric import Metric, sample_metrics

MEAN: str = "mean"
"""The column with the unweighted mean over the data sets whose gold can carry the metric; requirements may
name it.
"""

Cells = dict[str, dict[str, dict[str, Estimate]]]
"""Estimates by strategy, data set and metric."""


_Samples = dict[str, dict[str, Sample | Estimate]]
"""Samples of one strategy by data set and metric; an estimate stands where there is none."""


@dataclass(frozen=True)
class Sheet:
    """`differences` are strategy minus reference, resampled together; the reference itself is not in them."""

    results: Cells
    differences: Cells


def shared_columns(first: Mapping[str, object], second: Mapping[str, object]) -> list[str]:
    """Columns that one strategy has in two runs, in the second's order; the mean only over the same data sets."""
    same = first.keys() == second.keys()
    return [name for name in second if name in first and (same or name != MEAN)]


def has_other_means(first: Cells, second: Cells) -> bool:
    """Whether two runs have means of a strategy that are over different data sets."""
    pairs = ((first[strategy], second[strategy]) for strategy in first if strategy in second)
    return any(MEAN in a and MEAN in b and MEAN not in shared_columns(a, b) for a, b in pairs)


def fill_sheet(
    scored: Mapping[str, Mapping[str, Scored]],
    absent: Mapping[str, Mapping[str, str]],
    reference: str,
    metrics: Sequence[Metric],
    bootstrap: Bootstrap,
    advance: Callable[[float], None],
) -> Sheet:
    """Compute every cell.

    `scored[strategy][data set]` holds predictions; `absent[strategy][data set]` says why there are none (no
    adapter for the oracle). `advance` counts strategy-by-set cells. With two data sets or more, `mean` is
    added.
    """
    samples = _sample(scored, absent, metrics, bootstrap, advance)
    results = {name: _estimates(by_set, bootstrap) for name, by_set in samples.items()}
    differences = {
        name: _estimates(_subtract(by_set, samples[reference]), bootstrap)
        for name, by_set in samples.items()
        if name != reference
    }
    return Sheet(results, differences)


def _sample(
    scored: Mapping[str, Mapping[str, Scored]],
    absent: Mapping[str, Mapping[str, str]],
    metrics: Sequence[Metric],
    bootstrap: Bootstrap,
    advance: Callable[[float], None],
) -> dict[str, _Samples]:
    """Samples by strategy, data set and metric, data sets in one order for all strategies."""
    datasets = list(dict.fromkeys(name for by_set in scored.values() for name in by_set))
    out: dict[str, _Samples] = {strategy: {} for strategy in scored}
    for dataset in datasets:
        present = [strategy for strategy in scored if dataset in scored[strategy]]
        rows = sample_metrics(metrics, [scored[strategy][dataset] for strategy in present], bootstrap)
        for strategy, cells in zip(present, rows, strict=True):
            out[strategy][dataset] = {metric.name: cell for metric, cell in zip(metrics, cells, strict=True)}
        for strategy in scored:
            if strategy not in present:
                why = absent[strategy][dataset]
                out[strategy][dataset] = {metric.name: Estimate.missing(why) for metric in metrics}
        advance(len(present))
    if len(datasets) > 1:
        for metric in metrics:
            carried = [
                name for name in datasets if any(_is_defined(by_set, name, metric) for by_set in out.values())
            ]
            for by_set in out.values():
                by_set.setdefault(MEAN, {})[metric.name] = _mean(by_set, carried, metric.name)
    return out


def _is_defined(samples: _Samples, dataset: str, metric: Metric) -> bool:
    return isinstance(samples[dataset][metric.name], Sample)


def _mean(samples: _Samples, datasets: Sequence[str], metric: str) -> Sample | Estimate:
    """The mean over the sets whose gold can carry the metric; a strategy that has no answer on one has no
    mean.
    """
    cells = [samples[dataset][metric] for dataset in datasets]
    defined = [cell for cell in cells if isinstance(cell, Sample)]
    if not cells:
        return Estimate.missing("undefined on every data set")
    if len(defined) < len(cells):
        return Estimate.missing(f"undefined on {len(cells) - len(defined)} of {len(cells)} data sets")
    return Sample.mean(defined)


def _subtract(
    samples: _Samples,
    base: _Samples,
) -> _Samples:
    out: _Samples = {}
    for dataset, by_metric in samples.items():
        out[dataset] = {}
        for metric, cell in by_metric.items():
            other = base[dataset][metric]
            if isinstance(cell, Estimate):
                out[dataset][metric] = cell
            else:
                out[dataset][metric] = other if isinstance(other, Estimate) else cell.minus(other)
    return out


def _estimates(samples: _Samples, bootstrap: Bootstrap) -> dict[str, dict[str, Estimate]]:
    return {
        dataset: {
            metric: cell if isinstance(cell, Estimate) else bootstrap.interval(cell)
            for metric, cell in by_metric.items()
        }
        for dataset, by_metric in samples.items()
    }
