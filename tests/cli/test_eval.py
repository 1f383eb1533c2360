"""`hatex eval` as a process: what it prints, writes and leaves with, on answers in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hatex.cli import main
from hatex.data.examples import write_examples
from hatex.types import LABELS, Example, Vote


def rows() -> list[Example]:
    def row(name: str, number: int) -> Example:
        votes = (Vote((LABELS[number % 3],), 2), Vote(("neutral",)))
        return Example(
            f"{name}:{number}", name, "forums", f"match {number}", votes, "report", f"{name}:{number}"
        )

    return [row(name, number) for name in ("boards", "clubs") for number in range(30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prepared posts, a recipe and answers (mostly right) for all of them."""
    path = tmp_path_factory.mktemp("eval")
    write_examples(path / "data" / "examples.parquet", rows())
    rng = np.random.default_rng(3)
    with (path / "answers.jsonl").open("w") as file:
        for row in rows():
            p = rng.dirichlet(np.ones(3)) * 0.4
            p[LABELS.index(row.votes[0].labels[0])] += 0.6
            answer = {"id": row.id, "probabilities": dict(zip(LABELS, p.tolist(), strict=True))}
            file.write(json.dumps(answer | {"strategy": "blend", "model": "m1"}) + "\n")
    source = "source: {folder: nowhere}"
    (path / "mine.yaml").write_text(
        f"version: 1\nname: mine\nbase: {{name: b, {source}}}\nencoder: {{name: e, {source}}}\n"
        f"adapters: [forums]\nrouter: r\neval:\n  data: {path / 'data'}\n  resamples: 100\n"
        "  requirements:\n    - {metric: macro_f1, data: boards, min: 0.5}\n"
    )
    return path


@pytest.fixture
def hatex_eval(folder, capfd):
    def call(*arguments: str, predictions: bool = True) -> tuple[int, str, str]:
        answers = ["--predictions", str(folder / "answers.jsonl")] if predictions else []
        code = main(["eval", str(folder / "mine.yaml"), *answers, *arguments])
        return code, *capfd.readouterr()

    return call


def test_tables_on_stdout_and_nothing_else(hatex_eval):
    code, out, err = hatex_eval("--quiet")
    assert code == 0
    assert err == ""
    assert "macro_f1" in out
    assert "boards" in out
    assert "all 1 hold" in out


def test_json_is_versioned_repeatable_and_never_a_bare_number(hatex_eval):
    code, out, _ = hatex_eval("--json", "--quiet")
    run = json.loads(out)
    assert code == 0
    assert (run["schema"], run["kind"], run["model"]) == (1, "eval", "m1")
    assert run["data"]["boards"]["n"] == 30
    for by_metric in run["results"]["blend"].values():
        for cell in by_metric.values():
            assert cell["value"] is None or cell["low"] is not None or cell["why_missing"]
            assert cell["value"] is not None or cell["why_missing"]
    assert hatex_eval("--json", "--quiet")[1] == out


def test_broken_requirement_leaves_with_3(hatex_eval):
    code, out, _ = hatex_eval("--set", "eval.requirements=[{metric: accuracy, data: clubs, max: 0.5}]")
    assert code == 3
    assert "1 of 1 fell" in out
    assert "FELL" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "makro_f1"], "did you mean 'macro_f1'?"),
        (["--data", "pubs"], "there are boards, clubs"),
        (["--all", "--posts", "3"], "give one of them"),
        (["--set", "eval.requirements=[{metric: nonsense, data: boards, min: 1}]"], "metrics:"),
        (["--set", "eval.requirements=[{metric: accuracy, data: boards}]"], "min or max"),
        (["--explanations"], "--compare"),
    ],
)
def test_usage_errors_name_the_remedy(hatex_eval, arguments, message):
    code, out, err = hatex_eval(*arguments)
    assert code == 2
    assert out == ""
    assert message in err


def test_missing_answers_are_an_error(hatex_eval, folder, tmp_path):
    lines = (folder / "answers.jsonl").read_text().splitlines()[:-1]
    (tmp_path / "some.jsonl").write_text("\n".join(lines))
    code, _, err = hatex_eval("--predictions", str(tmp_path / "some.jsonl"), predictions=False)
    assert code == 1
    assert "1 of 30 posts of clubs have no answer" in err


def test_posts_for_another_model_come_back_as_predictions(hatex_eval, folder, tmp_path):
    posts = tmp_path / "posts.jsonl"
    code, out, err = hatex_eval("--posts-to", str(posts), "--posts", "9", predictions=False)
    assert (code, out) == (0, "")
    assert "wrote 18 posts of boards, clubs" in err
    lines = [json.loads(line) for line in posts.read_text().splitlines()]
    texts = {row.id: row.text for row in rows()}
    assert [set(line) for line in lines] == 18 * [{"id", "text", "dataset"}]
    assert all(line["text"] == texts[line["id"]] for line in lines)
    given = {line["id"] for line in lines}
    answers = [a for a in (folder / "answers.jsonl").read_text().splitlines() if json.loads(a)["id"] in given]
    (tmp_path / "answers.jsonl").write_text("\n".join(answers))
    code, out, _ = hatex_eval(
        "--predictions", str(tmp_path / "answers.jsonl"), "--posts", "9", "--json", predictions=False
    )
    assert code == 0
    assert [each["n"] for each in json.loads(out)["data"].values()] == [9, 9]
    # In the form that the recipe asks about.
    shout = ("--set", "eval.form=upper", "--data", "clubs")
    code, out, _ = hatex_eval("--posts-to", str(posts), *shout, "--json", predictions=False)
    assert (code, json.loads(out)["posts"]) == (0, {"clubs": 30})
    assert json.loads(posts.read_text().splitlines()[0])["text"].isupper()


def test_posts_to_goes_with_nothing_that_evaluates(hatex_eval, tmp_path):
    for option in (
        "--explanations",
        "--html=a.html",
        "--predictions=a.jsonl",
        "--strategy=full",
        "--no-baseline",
    ):
        code, out, err = hatex_eval("--posts-to", str(tmp_path / "p"), option, predictions=False)
        assert (code, out) == (2, "")
        assert "evaluates nothing" in err
    assert not (tmp_path / "p").exists()


def test_reports_are_written(hatex_eval, tmp_path):
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    code, _, err = hatex_eval("--html", str(page), "--markdown", str(text), "--metric", "brier")
    assert code == 0
    assert "wrote" in err
    assert page.read_text().count("<svg") == 3
    assert "brier" in text.read_text()


@pytest.mark.parametrize("option", ["--html", "--markdown"])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_read(hatex_eval, tmp_path, option):
    # The saved run that does not exist would be told first if it were looked for.
    compare = ("--compare", str(tmp_path / "none.json"), str(tmp_path / "none.json"))
    for arguments in ((), compare):
        code, out, err = hatex_eval(*arguments, option, str(tmp_path / "out" / "report"))
        assert (code, out) == (2, "")
        assert "the folder of the output file does not exist" in err
        code, out, err = hatex_eval(*arguments, option, str(tmp_path))
        assert (code, out) == (2, "")
        assert "the output file is a folder" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_figures_are_printed_even_if_a_report_fails(hatex_eval, tmp_path):
    first = tmp_path / "a.json"
    first.write_text(hatex_eval("--json", "--quiet")[1])

    for arguments in ((), ("--compare", str(first), str(first))):
        code, out, err = hatex_eval(*arguments, "--markdown", "/dev/full", predictions=not arguments)
        assert code == 1
        assert "boards" in out
        assert "No space left" in err


def test_compare_two_saved_runs(hatex_eval, folder, tmp_path, capfd):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(hatex_eval("--json", "--quiet")[1])
    second.write_text(hatex_eval("--json", "--quiet", "--posts", "20")[1])
    assert main(["eval", "--compare", str(first), str(second)]) == 0
    out = capfd.readouterr().out
    assert "other posts in the second run: boards, clubs" in out
    assert main(["eval", "--compare", str(first), str(second), "--json"]) == 0
    record = json.loads(capfd.readouterr().out)
    assert record["kind"] == "eval-comparison"
    assert {cell["metric"] for cell in record["cells"]} == {"macro_f1"}
    assert main(["eval", "--compare", str(first), str(folder / "answers.jsonl")]) == 1


def test_gate_needs_requirements(hatex_eval):
    assert hatex_eval("--gate")[0] == 0
    code, _, err = hatex_eval("--gate", "--set", "eval.requirements=[]")
    assert code == 2
    assert "add eval.requirements" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tolerance", ".1"], "--tolerance: is how much worse than --against a metric may be"),
        (
            ["--predictions", "a.jsonl", "--explanations"],
            "--predictions goes without --explanations, --against and",
        ),
        (["--compare", "a.json", "b.json", "--answers", "c.jsonl"], "--compare is about two saved runs"),
        (["--all", "--posts", "9"], "--all and --posts exclude one another"),
    ],
)
def test_options_that_say_nothing_together_are_refused(hatex_eval, options, message):
    code, out, err = hatex_eval(*options, predictions=False)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert "\nhint: " in err
