"""An evaluation as a document: which tables there are and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hatex.evaluation.catalogue import HEADLINE, METRICS
from hatex.evaluation.document import Cell, Document, Gaps, Table
from hatex.evaluation.estimate import Estimate
from hatex.evaluation.functional import SuiteResult
from hatex.evaluation.requirements import Outcome
from hatex.evaluation.run import EvalRun
from hatex.evaluation.sheet import MEAN
from hatex.evaluation.specs import ORACLE


def describe_run(run: EvalRun, metrics: Sequence[str] = ("macro_f1",)) -> Document:
    """The document of a run; each of `metrics` gets a table of strategies x data sets."""
    tables = [*(strategy_table(run, metric) for metric in metrics), _headline_table(run)]
    if run.gates:
        tables.append(gate_table(run))
    if run.router is not None:
        tables.append(_router_table(run))
    tables += [_bias_table(run, dataset) for dataset, groups in run.groups.items() if groups]
    tables += [_annotator_table(run, name) for name, errors in run.annotator_groups.items() if errors]
    tables += [suite_table(suite) for suite in run.suites]
    if run.explanations:
        tables.append(_explanation_table(run))
    tables.append(_data_table(run))
    if run.outcomes:
        tables.append(outcome_table(run.outcomes))
    return Document(f"hatex eval: {run.engine}", _facts(run), tuple(tables))


def _facts(run: EvalRun) -> tuple[str, ...]:
    intervals = f"{run.confidence:.0%} intervals from {run.resamples:,} resamples"
    facts = [f"model {run.model}, seed {run.seed}, {intervals}"]
    if run.passes_asked:
        facts.append(f"{run.passes_run:,} engine passes answered {run.passes_asked:,} questions")
    return tuple(facts)


def strategy_table(run: EvalRun, metric: str) -> Table:
    """Rows strategies, columns data sets, then how far the mean is from the reference's.

    `*` is the best of a column (the oracle, which nobody can use, is out of that contest); `+` and `-` are
    better and worse than the reference with a paired interval that leaves out 0.
    """
    gaps = Gaps()
    has_mean = MEAN in run.columns and len(run.strategies) > 1
    best = {column: _best(run, metric, column) for column in run.columns}
    rows = []
    for strategy in run.strategies:
        differences = run.differences.get(strategy, {})
        cells = [Cell(strategy, f"= {run.same_as[strategy]}" if strategy in run.same_as else "")]
        for column in run.columns:
            cell = gaps.cell(run.results[strategy][column][metric], f"{strategy} on {column}")
            difference = differences.get(column, {}).get(metric)
            cells.append(_mark(cell, metric, difference, is_best=strategy in best[column]))
        if has_mean:
            cells.append(difference_cell(differences.get(MEAN, {}).get(metric)))
        rows.append(tuple(cells))
    legend = f"* best; + better, - worse than {run.reference} (paired bootstrap)"
    if run.same_as:
        legend += "; = weighs every post like the one named"
    about = METRICS[metric]
    title = f"{metric}: {about.meaning} ({about.better} is better)"
    columns = _columns(run, metric) + ((Cell(f"{MEAN} minus {run.reference}'s"),) if has_mean else ())
    return Table(title, columns, tuple(rows), (legend, *gaps.notes()), "strategy")


def difference_cell(difference: Estimate | None) -> Cell:
    """A paired difference with its interval; nothing for the reference itself, or where it is not defined."""
    if difference is None or difference.value is None or difference.low is None or difference.high is None:
        return Cell("")
    return Cell(f"{difference.value:+.3f}", f"{difference.low:+.3f} to {difference.high:+.3f}")


def _columns(run: EvalRun, metric: str) -> tuple[Cell, ...]:
    shown = []
    for column in run.columns:
        n = run.results[run.reference][column][metric].n
        shown.append(Cell(column, f"n={n:,}"))
    return tuple(shown)


def _best(run: EvalRun, metric: str, column: str) -> set[str]:
    values = {
        strategy: value
        for strategy in run.strategies
        if strategy.partition("@")[0] != ORACLE
        and (value := run.results[strategy][column][metric].value) is not None
    }
    if not values:
        return set()
    top = max(values.values()) if METRICS[metric].better == "higher" else min(values.values())
    return {strategy for strategy, value in values.items() if value == top}


def _mark(cell: Cell, metric: str, difference: Estimate | None, *, is_best: bool) -> Cell:
    if cell.tone == "missing":
        return cell
    text = cell.text + _compare(metric, difference)
    return replace(cell, text=f"*{text}", tone="best") if is_best else replace(cell, text=text)


def _compare(metric: str, difference: Estimate | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return ""
    if difference.low <= 0 <= difference.high:
        return ""
    return "+" if (difference.low > 0) == (METRICS[metric].better == "higher") else "-"


def _headline_table(run: EvalRun) -> Table:
    """The reference strategy's headline metrics."""
    gaps = Gaps()
    rows = []
    for metric in HEADLINE:
        cells = [gaps.cell(run.results[run.reference][c][metric], f"{metric} on {c}") for c in run.columns]
        rows.append((Cell(metric, f"{METRICS[metric].better} is better"), *cells))
    columns = tuple(Cell(name) for name in run.columns)
    return Table(f"{run.reference}: main metrics", columns, tuple(rows), gaps.notes(), "metric")


def gate_table(run: EvalRun) -> Table:
    """Mean gate weights of the reference strategy: does the router do what its name says?"""
    adapters = list(next(iter(next(iter(run.gates.values())).values())))
    rows = []
    for dataset, by_strategy in run.gates.items():
        weights = by_strategy[run.reference]
        top = max(weights.values())
        cells = [Cell(f"{weights[a]:.2f}", tone="best" if weights[a] == top else "plain") for a in adapters]
        rows.append((Cell(dataset, ", ".join(run.data[dataset].platforms)), *cells))
    title = f"Mean gate weights of {run.reference}"
    return Table(title, tuple(Cell(name) for name in adapters), tuple(rows), (), "data set")


def _router_table(run: EvalRun) -> Table:
    gaps = Gaps()
    assert run.router is not None
    quality = {
        "accuracy": (run.router.accuracy, "the likeliest adapter is that of the post's platform"),
        "calibration_error": (run.router.calibration_error, "of the largest weight"),
        "ood_auroc": (run.router.ood_auroc, "largest weight, known against unknown platforms"),
    }
    quality |= {
        f"regret, {name}": (estimate, "soft cross-entropy above the oracle platform's")
        for name, estimate in run.regret.items()
    }
    rows = [
        (Cell(name, meaning), gaps.cell(estimate, name), Cell(f"{estimate.n:,}"))
        for name, (estimate, meaning) in quality.items()
    ]
    return Table("Router", (Cell("value"), Cell("posts")), tuple(rows), gaps.notes(), "metric")


def _bias_table(run: EvalRun, dataset: str) -> Table:
    gaps = Gaps()
    groups = run.groups[dataset]
    sides = list(next(iter(groups.values())))
    rows = [
        (Cell(group), *(gaps.cell(aucs[side], f"{side} of {group}") for side in sides))
        for group, aucs in groups.items()
    ]
    cells = run.results[run.reference][dataset]
    means = [gaps.cell(cells[f"bias_{side}_auc"], f"mean {side}") for side in sides]
    rows.append((Cell("generalised mean", "p = -5"), *means))
    title = f"Bias of {run.reference} on {dataset}: AUC where a target group is named"
    return Table(title, tuple(Cell(side) for side in sides), tuple(rows), gaps.notes(), "group")


def _annotator_table(run: EvalRun, dataset: str) -> Table:
    gaps = Gaps()
    rows = [
        (Cell(name), gaps.cell(error, name), Cell(f"{error.n:,}"))
        for name, error in run.annotator_groups[dataset].items()
    ]
    title = f"Error of {run.reference} per annotator group on {dataset}: 1 - P(their vote)"
    return Table(title, (Cell("error"), Cell("votes")), tuple(rows), gaps.notes(), "annotators")


def suite_table(suite: SuiteResult) -> Table:
    """Accuracy per functionality, hateful side first, then both sides and the flip rate."""
    gaps = Gaps()
    rows = [
        (
            Cell(one.functionality, "hateful" if one.is_hateful else "non-hateful"),
            gaps.cell(one.accuracy, one.functionality),
            Cell(f"{one.accuracy.n:,}"),
        )
        for one in suite.functions
    ]
    for name, estimate in (
        ("all hateful", suite.hateful),
        ("all non-hateful", suite.non_hateful),
        ("flip rate", suite.flip_rate),
    ):
        rows.append((Cell(name), gaps.cell(estimate, name), Cell(f"{estimate.n:,}")))
    notes = ("flip rate: share of pairs of a case that differ only in the group named, yet in the answer",)
    title = f"Functional suite {suite.suite}, {suite.strategy}: share of right answers"
    return Table(title, (Cell("value"), Cell("cases")), tuple(rows), (*notes, *gaps.notes()), "functionality")


def _explanation_table(run: EvalRun) -> Table:
    gaps = Gaps()
    names = list(next(iter(run.explanations.values())))
    rows = [
        (
            Cell(name),
            *(gaps.cell(cells[name], f"{name} on {dataset}") for dataset, cells in run.explanations.items()),
        )
        for name in names
    ]
    columns = tuple(Cell(dataset, f"n={c['parse_rate'].n}") for dataset, c in run.explanations.items())
    return Table(f"Explanations of {run.reference}", columns, tuple(rows), gaps.notes(), "metric")


def _data_table(run: EvalRun) -> Table:
    columns = tuple(map(Cell, ("posts", "of", "groups", "ties", "platforms", "question", "fingerprint")))
    rows = [
        (
            Cell(info.name, info.split),
            Cell(f"{info.n:,}"),
            Cell(f"{info.n_total:,}"),
            Cell(f"{info.n_groups:,}"),
            Cell(f"{info.n_ties:,}"),
            Cell(", ".join(info.platforms)),
            Cell(" / ".join(info.question)),
            Cell(info.fingerprint[:8]),
        )
        for info in run.data.values()
    ]
    notes = (
        "groups: posts of one thread, or near-copies, are resampled together; intervals are over groups",
        "ties have no gold class: metrics of hard decisions leave them out",
    )
    return Table("Data", columns, tuple(rows), notes, "data set")


def outcome_table(outcomes: Sequence[Outcome]) -> Table:
    """Requirements and regressions: which fell, and by how much."""
    gaps = Gaps()
    rows = []
    for outcome in sorted(outcomes, key=lambda each: each.holds):
        where = f"{outcome.metric}, {outcome.strategy}, {outcome.data}"
        margin = "" if outcome.margin is None else f"{outcome.margin:+.3f}"
        state = Cell("holds", tone="good") if outcome.holds else Cell("FELL", tone="bad")
        rows.append(
            (
                Cell(outcome.metric, f"{outcome.strategy} on {outcome.data}"),
                state,
                gaps.cell(outcome.estimate, where),
                Cell(f"{outcome.bound} {outcome.limit:.3f}", outcome.origin),
                Cell(margin),
            )
        )
    columns = tuple(map(Cell, ("state", "value", "bound", "margin")))
    fell = sum(not outcome.holds for outcome in outcomes)
    title = (
        f"Requirements: {fell} of {len(outcomes)} fell" if fell else f"Requirements: all {len(outcomes)} hold"
    )
    return Table(title, columns, tuple(rows), gaps.notes(), "metric")
