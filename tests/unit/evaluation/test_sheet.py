"""Sheets, requirements, regressions and comparisons of runs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from hatex.errors import DataError, UsageError
from hatex.evaluation.catalogue import METRICS, find_metric
from hatex.evaluation.compare import compare_runs, subtract_independent
from hatex.evaluation.estimate import Bootstrap, Estimate
from hatex.evaluation.gold import Scored, build_gold
from hatex.evaluation.report_compare import describe_comparison
from hatex.evaluation.requirements import (
    Evaluated,
    check_requirements_known,
    judge_regressions,
    judge_requirements,
)
from hatex.evaluation.run import DataInfo, EvalRun, SavedRun, describe_data, load_run
from hatex.evaluation.sheet import MEAN, fill_sheet
from hatex.recipe.evaluate import RequirementSection
from hatex.types import Vote

FEW = Bootstrap(2, 200)
CHOSEN = [METRICS["macro_f1"], METRICS["auroc"]]


@pytest.fixture(scope="module")
def golds(post):
    rng = np.random.default_rng(6)

    def build(name, n, labels):
        votes = [[Vote((labels[i],))] for i in rng.integers(len(labels), size=n)]
        return build_gold(name, [post(i, v, dataset=name, id=f"{name}:{i}") for i, v in enumerate(votes)])

    return {
        "pub": build("pub", 60, ["neutral", "offensive", "hate"]),
        "club": build("club", 40, ["neutral", "hate"]),
    }


@pytest.fixture(scope="module")
def sheet(golds):
    rng = np.random.default_rng(7)

    def scores(gold, skill):
        raw = rng.dirichlet([1, 1, 1], size=len(gold)) + skill * gold.cells
        return Scored(gold, raw / raw.sum(axis=1, keepdims=True))

    scored = {
        "full": {name: scores(gold, 0.1) for name, gold in golds.items()},
        "blend": {name: scores(gold, 0.6) for name, gold in golds.items()},
        "oracle": {"pub": scores(golds["pub"], 0.6)},
    }
    done: list[float] = []
    sheet = fill_sheet(scored, {"oracle": {"club": "no adapter"}}, "blend", CHOSEN, FEW, done.append)
    assert sum(done) == 5
    return scored, sheet


def test_cells_equal_single_metrics_and_keep_the_order(sheet):
    scored, filled = sheet
    assert list(filled.results) == ["full", "blend", "oracle"]
    for strategy in ("full", "blend"):
        for dataset in ("pub", "club"):
            for metric in CHOSEN:
                cell = filled.results[strategy][dataset][metric.name]
                assert cell == metric.estimate(scored[strategy][dataset], FEW)
    difference = METRICS["macro_f1"].difference(scored["full"]["pub"], scored["blend"]["pub"], FEW)
    assert filled.differences["full"]["pub"]["macro_f1"] == difference
    assert "blend" not in filled.differences


def test_mean_over_data_sets(sheet):
    _, filled = sheet
    values = [filled.results["blend"][name]["macro_f1"].value for name in ("pub", "club")]
    mean = filled.results["blend"][MEAN]["macro_f1"]
    assert mean.value == pytest.approx(np.mean(values), abs=1e-12)
    assert mean.low < mean.value < mean.high
    assert filled.results["oracle"]["club"]["macro_f1"].why_missing == "no adapter"
    assert "1 of 2 data sets" in str(filled.results["oracle"][MEAN]["macro_f1"])
    assert filled.differences["oracle"][MEAN]["macro_f1"].value is None


def test_mean_leaves_out_sets_whose_gold_cannot_carry_the_metric(golds, post):
    votes = [[Vote(("offensive", "hate"))]] * 5
    golds = golds | {"rude": build_gold("rude", [post(i, v, id=f"r{i}") for i, v in enumerate(votes)])}
    scored = {"blend": {name: Scored(gold, np.full((len(gold), 3), 1 / 3)) for name, gold in golds.items()}}
    filled = fill_sheet(
        scored, {}, "blend", [METRICS["auroc"], METRICS["bias_bpsn_auc"]], FEW, lambda _done: None
    )
    assert filled.results["blend"][MEAN]["auroc"].value == pytest.approx(0.5)
    assert "every data set" in str(filled.results["blend"][MEAN]["bias_bpsn_auc"])


def test_requirements(sheet):
    _, filled = sheet
    value = filled.results["blend"]["pub"]["macro_f1"].value
    asked = [
        RequirementSection(metric="macro_f1", data="pub", min=value - 0.01, max=value - 0.02),
        RequirementSection(metric="auroc", data="club", strategy="oracle", min=0.0),
        RequirementSection(metric="macro_f1", data=MEAN, min=0.0),
    ]
    got = judge_requirements(asked, filled.results)
    assert [(o.bound, o.holds) for o in got] == [("min", True), ("max", False), ("min", False), ("min", True)]
    assert got[1].margin == pytest.approx(-0.02)
    assert got[2].margin is None  # n/a satisfies no bound


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "makro_f1", "data": "pub"}, "no metric 'makro_f1'"),
        ({"metric": "macro_f1", "data": "bar"}, "data set 'bar'"),
        ({"metric": "macro_f1", "data": "pub", "strategy": "top-9"}, "strategy 'top-9'"),
        ({"metric": "suite_hateful", "data": "pub"}, "suite 'pub'"),
        ({"metric": "suite_hateful", "data": "plain", "strategy": "uniform"}, "strategy 'uniform'"),
        ({"metric": "suite_flip_rate", "data": MEAN}, "suite 'mean'"),
        ({"metric": "token_f1", "data": MEAN}, "data set 'mean'"),
    ],
)
def test_requirements_on_nothing_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        check_requirements_known([RequirementSection(min=0.1, **fields)], EVALUATED)


EVALUATED = Evaluated(["pub"], ["blend", "uniform"], "blend", ["plain"])


def test_requirements_on_suites_and_explanations_are_known():
    fields = [{"metric": "suite_hateful", "data": "plain"}, {"metric": "iou_f1", "data": "pub"}]
    asked = [RequirementSection(min=0.1, **each) for each in fields]
    check_requirements_known(asked, EVALUATED)
    with pytest.raises(UsageError, match="this run has none"):
        check_requirements_known(asked[1:], replace(EVALUATED, has_explanations=False))
    with pytest.raises(UsageError) as caught:
        check_requirements_known([RequirementSection(metric="tokn_f1", data="pub", min=0.1)], EVALUATED)
    assert caught.value.hint == "did you mean 'token_f1'?"


def test_metric_names_are_suggested():
    with pytest.raises(UsageError) as caught:
        find_metric("makro_f1")
    assert caught.value.hint == "did you mean 'macro_f1'?"


def cell(value, half=0.01):
    return Estimate(value, value - half, value + half, 100)


def test_regressions_know_which_way_is_worse():
    before = {"blend": {"pub": {"macro_f1": cell(0.7), "brier": cell(0.2), "auroc": Estimate.missing("x")}}}
    now = {"blend": {"pub": {"macro_f1": cell(0.67), "brier": cell(0.17), "auroc": cell(0.1)}}}
    got = judge_regressions(before, now, ["macro_f1", "brier", "auroc"], tolerance=0.02)
    assert [(o.metric, o.holds) for o in got] == [("macro_f1", False), ("brier", True)]
    assert got[0].limit == pytest.approx(0.68)
    assert judge_regressions(before, now, ["macro_f1"], tolerance=0.05)[0].holds
    gone = {"blend": {"pub": {"macro_f1": Estimate.missing("one class only")}}}
    assert not judge_regressions(before, gone, ["macro_f1"], tolerance=1)[0].holds


def saved(name, value, half=0.01, fingerprint="f", strategy="blend", metric="macro_f1"):
    return SavedRun(name, "m", 1, {"pub": fingerprint}, {strategy: {"pub": {metric: cell(value, half)}}})


def test_comparison_by_hand():
    got = compare_runs(saved("a", 0.7), saved("b", 0.73, fingerprint="g"), ["macro_f1"])
    [only] = got.cells
    assert only.change.value == pytest.approx(0.03)
    assert only.change.low == pytest.approx(0.03 - np.hypot(0.01, 0.01))
    assert only.direction == "better"
    assert got.other_posts == ("pub",)
    assert compare_runs(saved("a", 0.7), saved("b", 0.705), ["macro_f1"]).cells[0].direction == "open"
    worse = compare_runs(saved("a", 0.1, metric="brier"), saved("b", 0.2, metric="brier"), ["brier"])
    assert worse.cells[0].direction == "worse"
    other = compare_runs(saved("a", 0.7), saved("b", 0.7, strategy="full"), ["macro_f1"])
    assert other.cells == ()
    assert other.only_first == ("strategy blend",)
    assert json.dumps(got.to_json())


def test_a_mean_over_other_data_sets_is_compared_with_nothing():
    def run(*names):
        cells = {name: {"macro_f1": cell(0.1 * len(name))} for name in (*names, MEAN)}
        return SavedRun("r", "m", 1, dict.fromkeys(names, "f"), {"blend": cells})

    same = compare_runs(run("pub", "boards"), run("boards", "pub"), ["macro_f1"])
    assert [each.data for each in same.cells] == ["pub", "boards", "mean"]
    assert not same.without_mean
    other = compare_runs(run("pub", "boards"), run("pub", "letters"), ["macro_f1"])
    assert [each.data for each in other.cells] == ["pub"]
    assert other.to_json()["without_mean"]
    assert "the mean is left out" in describe_comparison(other, ["macro_f1"]).facts[-1]
    before, now = run("pub", "boards").results, run("pub", "letters").results
    assert [o.data for o in judge_regressions(before, now, ["macro_f1"], 0.0)] == ["pub"]
    assert [o.data for o in judge_regressions(before, before, ["macro_f1"], 0.0)] == ["pub", "boards", "mean"]


def test_change_without_intervals_is_explicit():
    assert subtract_independent(Estimate.missing("x"), cell(0.5)).value is None
    assert subtract_independent(Estimate(0.5, None, None, 1, "few"), cell(0.5)).low is None


@pytest.fixture
def run(sheet):
    _, filled = sheet
    info = DataInfo("pub", "report", 60, 45, 70, 0, 0, ("neutral", "offensive", "hate"), ("forums",), "abc")
    return EvalRun("starter", "m1", 1, 200, 0.95, "blend", {"pub": info}, filled.results, filled.differences)


def test_saved_run_round_trip(run, tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(run.to_json()))
    assert load_run(path) == SavedRun.of(run, "run.json")


def test_a_run_saved_before_groups_were_counted_is_read(run, tmp_path):
    record = run.to_json()
    assert record["data"]["pub"].pop("n_groups") == 45
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert load_run(tmp_path / "run.json") == SavedRun.of(run, "run.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"kind": "eval", "schema": 99}', '{"kind": "eval", "schema": 1}']
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_run(path)
    assert caught.value.where == str(path)
    with pytest.raises(DataError, match="no such file"):
        load_run(tmp_path / "absent.json")


def test_groups_of_posts_are_counted(post):
    rows = [post(i, [Vote(("hate",))], group=f"g{i // 2}") for i in range(5)]
    info = describe_data(build_gold("pub", rows), rows, 9)
    assert (info.n, info.n_groups) == (5, 3)


def test_fingerprint_follows_posts_and_votes(post):
    examples = [post(0, [Vote(("hate",))]), post(1, [Vote(("neutral",))])]
    other = [post(0, [Vote(("hate",))]), post(1, [Vote(("neutral",), 2)])]

    def info(rows):
        return describe_data(build_gold("pub", rows), rows, 9)

    assert info(examples) == info(examples)
    assert info(examples).fingerprint != info(other).fingerprint
    assert (info(examples).n, info(examples).n_total, info(examples).platforms) == (2, 9, ("forums",))
