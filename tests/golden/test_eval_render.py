"""`hatex eval` in a terminal of 80 columns, and as Markdown and HTML: an invented run, drawn."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hatex.evaluation.calibration import ReliabilityPoint
from hatex.evaluation.compare import compare_runs
from hatex.evaluation.document import Cell, Document, Table
from hatex.evaluation.estimate import Estimate
from hatex.evaluation.figures import Figure, draw_figures
from hatex.evaluation.functional import FunctionResult, SuiteResult
from hatex.evaluation.pictures import Picture
from hatex.evaluation.report import describe_run
from hatex.evaluation.report_compare import describe_comparison
from hatex.evaluation.report_html import html_report
from hatex.evaluation.report_markdown import markdown_report
from hatex.evaluation.requirements import Outcome
from hatex.evaluation.router import RouterQuality
from hatex.evaluation.run import DataInfo, EvalRun, SavedRun
from hatex.evaluation.selective import RiskPoint
from hatex.render.evaluate import render_document, split_columns

METRICS = ("macro_f1", "accuracy", "auroc", "soft_cross_entropy", "calibration_error", "aurc")
SETS = ("boards", "clubs_and_their_fans", "edits", "letters", "pubs", "terraces", "mean")
STRATEGIES = ("blend", "top-3", "uniform", "full", "oracle", "tf-idf")


def near(value: float, half: float = 0.03, n: int = 500) -> Estimate:
    return Estimate(value, value - half, value + half, n)


def cells(shift: float) -> dict[str, dict[str, Estimate]]:
    return {
        name: {metric: near(0.6 + shift + 0.02 * i + 0.01 * j) for j, metric in enumerate(METRICS)}
        | {f"bias_{side}_auc": near(0.7) for side in ("subgroup", "bpsn", "bnsp")}
        for i, name in enumerate(SETS)
    }


def build_run() -> EvalRun:
    results = {name: cells(-0.02 * i) for i, name in enumerate(STRATEGIES)}
    missing = Estimate.missing("no adapter for platform news")
    results["oracle"]["letters"] = dict.fromkeys(results["oracle"]["letters"], missing)
    results["oracle"]["mean"] = dict.fromkeys(
        results["oracle"]["mean"], Estimate.missing("undefined on 1 of 6")
    )
    differences = {
        name: {s: {m: near(-0.02 * i, 0.03) for m in METRICS} for s in SETS}
        for i, name in enumerate(STRATEGIES)
        if i
    }
    picture = Picture(
        tuple(ReliabilityPoint(x / 10, (x / 10) ** 1.3, 50) for x in range(11)),
        tuple(RiskPoint(x / 10, 0.02 * x) for x in range(1, 11)),
        ((300, 20), (40, 140)),
    )
    info = {
        name: DataInfo(
            name,
            "report",
            500,
            430,
            1200,
            3,
            0,
            ("neutral", "offensive|hate"),
            ("forums",),
            "0123456789abcdef",
        )
        for name in SETS[:-1]
    }
    functions = tuple(
        FunctionResult(name, side, near(value, 0.1, 8))
        for name, side, value in (("wish to harm", True, 0.75), ("club banter", False, 0.9))
    )
    return EvalRun(
        engine="starter",
        model="a1b2c3d4",
        seed=4761,
        resamples=1000,
        confidence=0.95,
        reference="blend",
        data=info,
        results=results,
        differences=differences,
        same_as={"uniform": "top-3"},
        gates={
            name: {"blend": {"microblog": 0.2, "forums": 0.7, "wiki": 0.1, "full": 0.0}} for name in SETS[:-1]
        },
        router=RouterQuality(
            near(0.9), near(0.05), Estimate.missing("every post comes from a known platform")
        ),
        regret={"boards": near(0.01)},
        pictures={name: dict.fromkeys(("blend", "full", "uniform", "tf-idf"), picture) for name in SETS[:2]},
        groups={
            "boards": {
                "Women": {"subgroup": near(0.8), "bpsn": near(0.7), "bnsp": Estimate.missing("one class")}
            }
        },
        annotator_groups={"boards": {"left": near(0.3), "right": near(0.4)}},
        suites=[SuiteResult("plain", "blend", functions, near(0.7, n=24), near(0.9, n=56), near(0.05, n=6))],
        explanations={"boards": {"token_f1": near(0.5, n=40), "parse_rate": near(0.97, n=40)}},
        outcomes=[
            Outcome("requirement", "macro_f1", "boards", "blend", "min", 0.5, near(0.6)),
            Outcome("requirement", "macro_f1", "letters", "oracle", "min", 0.5, missing),
            Outcome("regression", "aurc", "mean", "blend", "max", 0.7, near(0.77)),
        ],
        baseline="tf-idf",
        passes_run=11_000,
        passes_asked=30_000,
    )


@pytest.fixture(scope="module")
def run() -> EvalRun:
    return build_run()


@pytest.fixture(scope="module")
def page(run) -> str:
    return html_report(describe_run(run), draw_figures(run))


def shown(renderable, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(renderable)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def test_terminal(run, snapshot):
    text = shown(render_document(describe_run(run), 80))
    assert max(map(len, text.splitlines())) <= 80
    assert text == snapshot


def test_markdown(run, snapshot):
    assert markdown_report(describe_run(run)) == snapshot


def test_comparison(run, snapshot):
    later = SavedRun("b.json", "m2", 4761, {"boards": "other"}, {"blend": cells(0.05), "full": cells(-0.06)})
    comparison = compare_runs(SavedRun.of(run, "a.json"), later, ["macro_f1"])
    assert shown(render_document(describe_comparison(comparison, ["macro_f1"]), 80)) == snapshot


def test_wide_tables_are_cut_and_repeat_their_first_column():
    table = Table("t", tuple(Cell(f"column{i}") for i in range(9)), ((Cell("row"), *[Cell("1")] * 9),))
    parts = split_columns(table, 40)
    assert [index for part in parts for index in part] == list(range(9))
    assert len(parts) == 3
    assert split_columns(table, 10) == [[i] for i in range(9)]


def test_page_is_self_contained_and_repeatable(run, page):
    assert page == html_report(describe_run(run), draw_figures(build_run()))
    assert page.count("<svg") == 5
    assert not re.search(r"<(script|link|iframe|object)|\bsrc=|@import", page)
    # Only namespaces look like addresses.
    assert set(re.findall(r'https?://[^"<\s]+', page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_page_escapes_names(run):
    got = html_report(describe_run(replace(run, engine="<b>&")), [])
    assert "<b>" not in got
    assert "&lt;b&gt;&amp;" in got


def test_run_without_pictures_has_no_figures(run):
    assert draw_figures(replace(run, pictures={}, gates={}, suites=())) == []


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_page_opens_in_a_browser(page, tmp_path):
    from PIL import Image

    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    shot = screenshot(file, tmp_path)
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(maxcolors=2**20)
        assert image.size == (1200, 2400)
    # Tables, figures in blue and orange: not a blank page.
    assert colours is not None
    assert len(colours) > 200


def screenshot(page: Path, folder: Path, height: int = 2400) -> Path:
    target = folder / "shot.png"
    subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            f"--window-size=1200,{height}",
            f"--screenshot={target}",
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    return target


def test_every_text_of_a_report_is_escaped():
    odd = '<b>&"'
    table = Table(odd, (Cell(odd, detail=odd),), ((Cell(odd), Cell(odd, detail=odd)),), notes=(odd,))
    page = html_report(Document(odd, (odd,), (table,)), [Figure(odd, odd, "<svg></svg>")])
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;") >= 11
