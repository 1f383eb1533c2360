"""`hatex eval`: strategies x data sets to one `EvalRun`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hatex.errors import DataError, RecipeError, UsageError
from hatex.evaluation.baseline import NAME as BASELINE
from hatex.evaluation.bias import group_biases
from hatex.evaluation.catalogue import HEADLINE, METRICS
from hatex.evaluation.estimate import Bootstrap, Estimate, cluster_numbers
from hatex.evaluation.functional import Suite, SuiteResult, judge_suite, read_suite
from hatex.evaluation.gold import Scored
from hatex.evaluation.pictures import draw_data
from hatex.evaluation.requirements import (
    Evaluated,
    Outcome,
    check_requirements_known,
    data_to_explain,
    judge_regressions,
    judge_requirements,
    requirement_cells,
)
from hatex.evaluation.router import RouterQuality, mean_gates, router_quality
from hatex.evaluation.run import EvalRun, SavedRun, describe_data
from hatex.evaluation.sheet import Sheet, fill_sheet, has_other_means
from hatex.evaluation.soft_labels import annotator_errors
from hatex.evaluation.specs import ORACLE, check_reference, find_homes
from hatex.types import LABELS, NO_PROGRESS, Progress
from hatex.workflows.evaluation_answers import keep_answers
from hatex.workflows.evaluation_data import EvalData, load_data, load_training_rows
from hatex.workflows.evaluation_passes import EvalState, explain_sets, gate_sets, score_sets

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.evaluation.explained import ExplainedPosts
    from hatex.recipe import Recipe
    from hatex.recipe.evaluate import EvalSection
    from hatex.registry import Registry


@dataclass(frozen=True)
class Regression:
    """A saved run that no headline or required metric may fall behind by more than `tolerance`."""

    before: SavedRun
    tolerance: float


def evaluate(
    recipe: Recipe,
    registry: Registry,
    *,
    explanations: bool = False,
    against: Regression | None = None,
    answers: Path | None = None,
    engine: Engine | None = None,
    progress: Progress = NO_PROGRESS,
) -> EvalRun:
    """Run the recipe's `eval` section.

    Names that mean nothing (strategies, metrics, data sets) are found before the first pass of the engine.
    Explanations are judged where asked for, or where a requirement is about them. `answers` is the file that keeps the
    engine's answers, for a run that goes on where it was interrupted.
    Raises RecipeError without an `eval` section, UsageError for unknown names, DataError for unusable data.
    """
    section = require_section(recipe)
    check_reference(section.reference)
    suites = [read_suite(name) for name in section.suites]
    sets = load_data(section, progress)
    known = Evaluated(
        [each.gold.dataset for each in sets], None, section.reference, [suite.name for suite in suites]
    )
    check_requirements_known(section.requirements, known)
    explained = set(known.data) if explanations else data_to_explain(section.requirements)
    # Before the engine: the two would not fit into little memory together.
    baseline = _score_baseline(recipe, registry, sets, progress) if section.baseline else None
    if engine is None:
        from hatex.engine import load_engine

        engine = load_engine(recipe, registry, progress=progress)
    with keep_answers(engine, answers) as kept:
        state = EvalState.start(section, engine, sets, progress)
        _check_names(state, known)
        gate_sets(state)
        score_sets(state, kept)
    if baseline is not None:
        state.scored[BASELINE] = baseline
    bootstrap = Bootstrap(section.seed, section.resamples, section.confidence)
    sheet = _fill(state, bootstrap)
    reference = state.scored[section.reference]
    run = EvalRun(
        engine=recipe.name,
        model=engine.fingerprint,
        seed=section.seed,
        resamples=section.resamples,
        confidence=section.confidence,
        reference=section.reference,
        data={each.gold.dataset: describe_data(each.gold, each.examples, each.n_total) for each in sets},
        results=sheet.results,
        differences=sheet.differences,
        same_as=state.same_as,
        gates=_mean_gates(state),
        router=_judge_router(state, bootstrap),
        regret=_find_regret(sheet),
        pictures={name: draw_data(state.scored, name) for name in reference},
        groups={name: _bias(scored, bootstrap) for name, scored in reference.items()},
        annotators={name: _annotators(one, bootstrap, by_group=False) for name, one in reference.items()},
        annotator_groups={
            name: _annotators(one, bootstrap, by_group=True) for name, one in reference.items()
        },
        suites=[_run_suite(state, suite, bootstrap) for suite in suites],
        explanations=_explain(state, explained, bootstrap) if explained else {},
        baseline=BASELINE if section.baseline else None,
        passes_run=state.passes_run,
        passes_asked=state.passes_asked,
    )
    return replace(run, outcomes=_judge(run, section, against, progress))


def require_section(recipe: Recipe) -> EvalSection:
    """The recipe's `eval` section. Raises RecipeError without one."""
    if recipe.eval is None:
        hint = "add `eval:` with data or sources"
        raise RecipeError([f"recipe {recipe.name!r} has no section `eval`"], hint=hint)
    return recipe.eval


def _check_names(state: EvalState, known: Evaluated) -> None:
    names = [spec.name for spec in state.specs]
    section = state.section
    if section.reference not in names:
        hint = f"this run has {', '.join(names)}"
        raise UsageError(f"{section.reference!r} is not evaluated", where="eval.reference", hint=hint)
    strategies = [*names, BASELINE] if section.baseline else names
    check_requirements_known(section.requirements, replace(known, strategies=strategies))


def _score_baseline(
    recipe: Recipe, registry: Registry, sets: Sequence[EvalData], progress: Progress
) -> dict[str, Scored]:
    from hatex.evaluation.baseline import fit_baseline

    section = require_section(recipe)
    rows = load_training_rows(section, recipe, registry, progress)
    with progress.task(f"Fitting TF-IDF on {len(rows):,} rows"):
        fitted = fit_baseline(rows, section.seed)
    return {each.gold.dataset: Scored(each.gold, fitted.predict(each.texts)) for each in sets}


def _fill(state: EvalState, bootstrap: Bootstrap) -> Sheet:
    total = sum(len(by_set) for by_set in state.scored.values())
    with state.progress.task("Resampling", total, "cells") as advance:
        return fill_sheet(
            state.scored,
            state.absent,
            state.section.reference,
            list(METRICS.values()),
            bootstrap,
            advance,
        )


def _mean_gates(state: EvalState) -> dict[str, dict[str, dict[str, float]]]:
    adapters = state.engine.adapters
    return {
        dataset: {
            name: dict(zip(adapters, mean_gates(gates), strict=True)) for name, gates in by_strategy.items()
        }
        for dataset, by_strategy in state.gates.items()
    }


def _judge_router(state: EvalState, bootstrap: Bootstrap) -> RouterQuality:
    """Quality of the router itself, whatever strategies are evaluated, over all posts of all sets."""
    posts = [example for each in state.sets for example in each.examples]
    gates = np.concatenate([state.router_gates(each) for each in state.sets])
    home = find_homes([post.platform for post in posts], state.engine.adapters)
    return router_quality(gates, home, cluster_numbers([post.group for post in posts]), bootstrap)


def _find_regret(sheet: Sheet) -> dict[str, Estimate]:
    """What the reference loses to the oracle platform in soft cross-entropy (positive: the oracle is
    better).
    """
    if ORACLE not in sheet.differences:
        return {}
    cells = {name: by_metric["soft_cross_entropy"] for name, by_metric in sheet.differences[ORACLE].items()}
    return {name: _negate(cell) for name, cell in cells.items()}


def _negate(cell: Estimate) -> Estimate:
    value, low, high = (None if each is None else -each for each in (cell.value, cell.high, cell.low))
    return replace(cell, value=value, low=low, high=high)


def _bias(scored: Scored, bootstrap: Bootstrap) -> dict[str, dict[str, Estimate]]:
    return {
        one.group: {str(side): auc for side, auc in one.aucs.items()}
        for one in group_biases(scored, bootstrap)
    }


def _annotators(scored: Scored, bootstrap: Bootstrap, *, by_group: bool) -> dict[str, Estimate]:
    return {one.name: one.error for one in annotator_errors(scored, bootstrap, by_group=by_group)}


def _run_suite(state: EvalState, suite: Suite, bootstrap: Bootstrap) -> SuiteResult:
    spec = state.reference_spec
    texts = [case.text for case in suite.cases]
    with state.progress.task(f"Suite {suite.name}", len(texts), "cases") as advance:
        gates = state.engine.gate(texts, spec.strategy)
        probabilities = state.engine.score(texts, gates, space=spec.space)
        advance(len(texts))
    return judge_suite(suite, spec.name, probabilities[:, LABELS.index("hate")], bootstrap)


def _explain(
    state: EvalState, names: Collection[str], bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    from hatex.evaluation.explained import explanation_metrics

    space = state.reference_spec.space
    sets: dict[str, ExplainedPosts] = explain_sets(state, names)
    with state.progress.task("Judging explanations", len(sets), "sets") as advance:
        out = {}
        for dataset, posts in sets.items():
            out[dataset] = explanation_metrics(
                posts, lambda texts, gates: state.engine.score(texts, gates, space=space), bootstrap
            )
            advance(1)
    return out


def _judge(
    run: EvalRun, section: EvalSection, against: Regression | None, progress: Progress
) -> list[Outcome]:
    cells = requirement_cells(run.results, run.reference, run.suites, run.explanations)
    outcomes = judge_requirements(section.requirements, cells)
    if against is not None:
        now, before = SavedRun.of(run, "this run"), against.before
        for name in (name for name in now.data if before.data.get(name, now.data[name]) != now.data[name]):
            progress.say(f"{name}: other posts than in {before.name}, so a change may come from them")
        required = [each.metric for each in section.requirements if each.metric in METRICS]
        metrics = list(dict.fromkeys([*HEADLINE, *required]))
        if has_other_means(before.results, run.results):
            progress.say(
                f"the mean is not held: {before.name} has other data sets ({', '.join(before.data)})"
            )
        regressions = judge_regressions(before.results, run.results, metrics, against.tolerance)
        if not regressions:
            hint = "save a run of the same strategies and data sets"
            raise DataError("it shares no strategy and data set with this run", where=before.name, hint=hint)
        outcomes += regressions
    return outcomes
