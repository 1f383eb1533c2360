"""`hatex prepare` from the command line, the data half, on a small table of one's own."""

import json
from pathlib import Path
from random import Random

import pytest

from hatex.cli import main
from hatex.data.examples import read_examples

RECIPE = """\
extends: starter
name: mine
prepare:
  output: {folder}/out
  sources:
    - source: table
      name: fans
      platform: forums
      path: ${{HATEX_TEST_TABLE}}
      columns: {{text: post, label: verdict}}
      labels: {{"yes": offensive|hate, "no": neutral}}
{more}"""
ANNOTATE = """\
  annotate: {url: "http://127.0.0.1:9/v1", model: m, max_requests: 5}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rng = Random(1)
    words = [f"word{i}" for i in range(200)]
    rows = [f"{' '.join(rng.sample(words, 9))},{rng.choice(('yes', 'no'))}" for _ in range(40)]
    table = tmp_path / "fans.csv"
    table.write_text("post,verdict\n" + "\n".join(rows) + "\n")
    monkeypatch.setenv("HATEX_TEST_TABLE", str(table))
    return write(tmp_path, "")


def write(folder: Path, more: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(RECIPE.format(folder=folder, more=more))
    return path


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    return code, *capfd.readouterr()


def test_prepare_writes_examples_and_says_so(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capfd, "prepare", str(recipe), "--only", "data")
    assert code == 0
    assert "40 examples in" in out
    assert "word1" not in out
    assert len(read_examples(tmp_path / "out")) == 40


def test_json_repeats_the_card(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capfd, "prepare", str(recipe), "--only", "data", "--json", "--quiet")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["data"]["card"] == json.loads((tmp_path / "out" / "card.json").read_text())
    assert str(tmp_path) not in json.dumps(record["data"]["card"])


def test_targets_that_no_explanation_will_name_are_told_on_stderr(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "fans.csv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{header},who", *(f"{row},women" for row in rows), ""]))
    recipe.write_text(recipe.read_text().replace("label: verdict}", "label: verdict, targets: who}"))
    code, out, err = run(capfd, "prepare", str(recipe), "--only", "data", "--json")
    assert code == 0
    assert json.loads(out)["data"]["card"]["unknown_targets"] == {"fans": {"women": 40}}
    assert "warning: fans: targets outside the list of groups" in err
    recipe.write_text(recipe.read_text() + "groups: [women]\n")
    code, out, err = run(capfd, "prepare", str(recipe), "--only", "data", "--json")
    assert (code, json.loads(out)["data"]["card"]["unknown_targets"]) == (0, {})
    assert "warning" not in err


def test_a_dry_run_writes_nothing(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capfd, "prepare", str(recipe), "--only", "data", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["plan"]["sources"][0]["files"] == ["fans.csv"]
    assert not (tmp_path / "out").exists()


def test_holdout_files_are_counted(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    held = tmp_path / "held.csv"
    held.write_text(
        "text\n" + (tmp_path / "fans.csv").read_text().splitlines()[1].partition(",")[0].upper() + "\n"
    )
    code, out, _ = run(capfd, "prepare", str(recipe), "--only", "data", "--json", "--holdout", str(held))
    assert code == 0
    card = json.loads(out)["data"]["card"]
    assert card["holdout"]["texts"] == 1
    split_of_first = {row.id: row.split for row in read_examples(tmp_path / "out")}.get(
        "fans:fans-1", "dropped"
    )
    assert split_of_first in ("dropped", "report")


def test_nothing_is_sent_without_yes(recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, ANNOTATE)
    code, _, err = run(capfd, "prepare", str(recipe), "--only", "data", "--quiet")
    assert code == 2
    assert "masked posts would be sent to http://127.0.0.1:9/v1 (m)" in err
    assert "hint: pass --yes" in err
    assert not (tmp_path / "out" / "examples.parquet").exists()


def test_a_missing_file_is_named(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HATEX_TEST_TABLE", "/nowhere/fans.csv")
    code, _, err = run(capfd, "prepare", str(recipe), "--only", "data", "--quiet")
    assert code == 1
    assert err.startswith("error: /nowhere/fans.csv: no table here")


def test_models_come_into_the_registry_once(tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    arguments = (
        "prepare",
        str(tiny.recipe),
        "--only",
        "models",
        "--registry",
        str(home),
        "--json",
        "--quiet",
    )

    def models(*more: str) -> list[dict[str, str | None]]:
        code, out, _ = run(capfd, *arguments, *more)
        assert code == 0
        return json.loads(out)["models"]

    assert models("--dry-run") == [
        {"kind": "base", "name": "tiny", "path": None},
        {"kind": "encoder", "name": "tiny", "path": None},
    ]
    assert list(home.iterdir()) == []
    made = models("--base-file", str(tiny.recipe.parent / "base"))
    assert all(Path(str(each["path"])).is_dir() for each in made)
    stamps = [path.stat().st_mtime_ns for path in sorted(home.rglob("manifest.yaml"))]
    assert models() == models("--dry-run") == made
    assert [path.stat().st_mtime_ns for path in sorted(home.rglob("manifest.yaml"))] == stamps


@pytest.mark.parametrize(
    ("only", "options"),
    [
        ("data", ["--base-file", "a.whl", "--encoder-file", "b.whl"]),
        ("models", ["--holdout", "test.csv", "--yes"]),
    ],
)
def test_options_of_the_other_half_are_refused(
    capfd: pytest.CaptureFixture[str], only: str, options: list[str]
) -> None:
    code, _, err = run(capfd, "prepare", "starter", "--only", only, *options)
    named = ", ".join(option for option in options if option.startswith("--"))
    assert (code, err.splitlines()[0]) == (2, f"error: {named}: --only {only} has no use for it")
