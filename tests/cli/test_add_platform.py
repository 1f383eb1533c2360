"""`recipes/add-platform.yaml` and `recipes/own-data.yaml` in small: what becomes of somebody's own CSV."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from random import Random

import pytest

from hatex.cli import main
from hatex.recipe import load_recipe
from hatex.registry import open_registry

MARKS = {"neutral": "thanks", "offensive": "silly clowns", "hate": "<team> must leave"}
WORDS = """match referee goal keeper season ticket stadium whistle corner penalty bench coach training injury
transfer league cup final draw header tackle winger striker captain banner choir train journey weather rain sunshine
breakfast coffee newspaper radio commentary replay summer winter friday sunday neighbour cousin garden bicycle bridge
river market bakery library concert painting holiday mountain forest island harbour lighthouse"""


def write_csv(path: Path, manner: str, count: int = 75) -> None:
    """Invented rows that share few words, as near-copies would all land in one split."""
    rng = Random(path.stem)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "votes"])
        for n in range(count):
            label = list(MARKS)[n % 3]
            text = " ".join([*rng.sample(WORDS.split(), 9), MARKS[label]])
            writer.writerow([manner.format(text), f"{label};{label};neutral"])


def small_models(folder: Path) -> dict[str, object]:
    """The sections of the small base and encoder, in place of the starter's."""
    nothing = {"wheel": None, "member": None, "sha256": None, "member_sha256": None, "licence": None}
    sections = (("base", folder / "base"), ("encoder", folder / "encoder"))
    return {key: {"name": "tiny", "source": {"folder": str(path), **nothing}} for key, path in sections}


@pytest.fixture
def recipes(tiny, tmp_path: Path, monkeypatch) -> Path:
    """The shipped recipe on the small base, with tables in place of the public sets."""
    monkeypatch.setenv("HATEX_DATA", str(tmp_path))
    monkeypatch.setenv("PLATFORM_CSV", str(tmp_path / "mine.csv"))
    write_csv(tmp_path / "mine.csv", "{} over and out")
    write_csv(tmp_path / "one.csv", "thread: {}")
    write_csv(tmp_path / "two.csv", "== {} ==")
    shipped = load_recipe("add-platform").prepare.sources[0].model_dump(mode="json", exclude_defaults=True)
    table = {key: shipped[key] for key in ("source", "columns", "labels")}
    others = [{**table, "name": n, "platform": n, "path": str(tmp_path / f"{n}.csv")} for n in ("one", "two")]
    child = {
        "extends": "add-platform",
        **small_models(tiny.recipe.parent),
        "adapters": ["one", "two", "mine", "full"],
        "prepare": {"output": str(tmp_path / "build"), "sources": [shipped, *others]},
        "train": {
            "data": str(tmp_path / "build"),
            "threads": 1,
            "priors": None,
            "router": {"adapters": ["one", "two", "mine"], "posts_per_platform": 40, "epochs": 3},
            "compare_with": str(tiny.recipe),
        },
        "route": {"max_tokens": 96},
        "eval": {"data": str(tmp_path / "build"), "resamples": 100},
    }
    file = tmp_path / "child.yaml"
    file.write_text(json.dumps(child))
    return file


def test_a_csv_becomes_an_adapter_a_router_and_a_comparison(tiny, recipes, tmp_path, capsys) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny.registry, home)
    assert main(["train", str(recipes), "--registry", str(home), "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    (adapter,) = record["adapters"]
    assert adapter["name"] == "mine"
    assert adapter["rows"]["mine"] > 30
    comparison = record["comparison"]
    assert comparison["other"] == "tiny"
    assert {"mine", "one", "two"} <= set(comparison["ours"]) == set(comparison["theirs"])
    ours, theirs = (comparison[side]["mine"]["macro_f1"] for side in ("ours", "theirs"))
    assert ours["value"] != theirs["value"]
    assert ours["n"] == theirs["n"] > 5
    assert ours["low"] < ours["value"] < ours["high"]
    registry = open_registry(home)
    assert registry.find("router", "add-platform").manifest.extra["adapters"] == ["one", "two", "mine"]
    assert "adapter:tiny/full" in registry.find("adapter", "mine", base="tiny").manifest.parents
    options = ["--recipe", str(recipes), "--registry", str(home)]
    assert main(["explain", "You silly clowns", *options, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["gates"]) == {"one", "two", "mine", "full"}

    write_csv(tmp_path / "mine.csv", "{} over and over")
    for option in ("--replace", "--dry-run"):
        assert main(["train", str(recipes), "--registry", str(home), option, "--json", "--quiet"]) == 1
        error = json.loads(capsys.readouterr().out)["error"]
        assert "prepared from other files" in error["message"]
        assert "hatex prepare" in error["hint"]


def test_a_csv_alone_becomes_an_adapter_beside_the_starter(tiny, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("POSTS_CSV", str(tmp_path / "mine.csv"))
    write_csv(tmp_path / "mine.csv", "{} over and out")
    recipe, home, build = tmp_path / "own.yaml", tmp_path / "home", str(tmp_path / "build")
    shutil.copytree(tiny.registry, home)
    child = {
        "extends": "own-data",
        **small_models(tiny.recipe.parent),
        "adapters": ["one", "two", "full", "mine"],
        "router": "tiny",
        "prepare": {"output": build},
        "train": {"data": build, "threads": 1},
        "eval": {"data": build, "resamples": 100},
    }
    recipe.write_text(json.dumps(child))
    options = [str(recipe), "--registry", str(home), "--json", "--quiet"]
    assert main(["recipe", "check", str(recipe), "--json"]) == 0
    assert main(["train", *options]) == 0
    capsys.readouterr()
    assert main(["eval", *options]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert set(results) >= {"blend", "full", "single:mine"}
    loss = {name: results[name]["mine"]["soft_cross_entropy"]["value"] for name in ("single:mine", "full")}
    assert loss["single:mine"] != loss["full"]
    answer = ["explain", "You silly clowns", "--recipe", *options, "--strategy", "single:mine"]
    assert main(answer) == 0
    assert json.loads(capsys.readouterr().out)["gates"]["mine"] == 1
