"""`hatex recipe check`: names in one section that no other section knows, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatex.errors import RecipeError
from hatex.recipe import load_recipe, shipped_names
from hatex.workflows.recipe_check import check_recipe

SOUND = """\
version: 1
name: mini
base: {name: small, source: {folder: models/small}}
encoder: {name: sentences, source: {folder: models/sentences}}
adapters: [boards, wiki, full]
router: both
prepare:
  output: out
  sources:
    - source: table
      platform: boards
      path: posts.csv
      columns: {text: text, label: label}
      labels: {rude: offensive|hate}
    - source: table
      name: counted
      platform: wiki
      path: counted.csv
      columns: {text: text, counts: {hate: n_hate, neutral: n_neutral}}
train:
  data: out
  adapters:
    full: {}
    boards: {init: full, partners: [full]}
    wiki: {}
  router: {adapters: [boards, wiki]}
merge: {name: mix, weights: {boards: 0.5, wiki: 0.5}}
route: {strategy: top-2, fallback: {to: full}}
eval:
  data: out
  strategies: [blend, oracle, "single:*", single:wiki, blend@probability, "top-*"]
  requirements:
    - {metric: macro_f1, data: counted, min: 0.5}
    - {metric: token_f1, data: counted, min: 0.1}
"""
MISTAKES = {
    (
        "rude: offensive|hate",
        "rude: offensive|hat",
    ): "14:16: prepare.sources.0.labels.rude: unknown label 'hat'",
    ("{hate: n_hate,", "{hat: n_hate,"): "counts.hat: unknown label 'hat'",
    ("{init: full,", "{init: ful,"): "24:14: train.adapters.boards.init: there is no adapter 'ful'",
    (
        "partners: [full]",
        "partners: [fulll]",
    ): "train.adapters.boards.partners.0: there is no adapter 'fulll'",
    (
        "router: {adapters: [boards, wiki]}",
        "router: {adapters: [boards, wikis]}",
    ): "no adapter of this recipe 'wikis'",
    ("weights: {boards: 0.5,", "weights: {board: 0.5,"): "merge.weights.board: there is no adapter 'board'",
    ("strategy: top-2", "strategy: top-3"): "route.strategy: top-3: the router weighs 2 adapters",
    (
        "fallback: {to: full}}",
        "policy: {languages: [en, EN]}}",
    ): "28:51: route.policy.languages.1: 'EN' is no language that posts are told to be in (did you mean 'en'?)",
    (
        "  output: out\n",
        "  output: out\n  languages: {keep: [und, zxx, de, nb]}\n",
    ): "keep.3: 'nb' is no language",
    ("single:wiki", "single:wikis"): "eval.strategies.3: strategy single:wikis: there is no adapter wikis",
    ("blend@probability", "blend@space"): "eval.strategies.4: unknown blend space 'space'",
    ("metric: macro_f1", "metric: macro_f2"): "there is no metric 'macro_f2' (did you mean 'macro_f1'?)",
    ("eval:\n", "eval:\n  suites: [plane]\n"): "eval.suites.0: ",
    ("eval:\n", "eval:\n  reference: single:*\n"): "eval.reference: 'single:*' cannot be the reference",
    ("eval:\n", "eval:\n  reference: top-9\n"): "eval.reference: top-9: the router weighs 2 adapters",
    ("name: mini\n", "name: mini\nprompt: compct\n"): "prompt: ",
}


def problems_of(folder: Path, text: str) -> list[str]:
    (folder / "mini.yaml").write_text(text)
    try:
        check_recipe(load_recipe(str(folder / "mini.yaml"), environ={}))
    except RecipeError as error:
        return error.problems
    return []


def test_a_sound_recipe_says_which_sections_it_has(tmp_path: Path) -> None:
    (tmp_path / "mini.yaml").write_text(SOUND)
    found = check_recipe(load_recipe(str(tmp_path / "mini.yaml"), environ={}))
    assert found == ["prepare", "train", "merge", "eval"]


@pytest.mark.parametrize(("old", "new"), MISTAKES)
def test_a_name_that_means_nothing_is_told_with_its_place(tmp_path: Path, old: str, new: str) -> None:
    assert old in SOUND
    [problem] = problems_of(tmp_path, SOUND.replace(old, new))
    assert MISTAKES[old, new] in problem
    assert "mini.yaml:" in problem


def test_keys_that_only_a_table_reads_are_told_with_their_place(tmp_path: Path) -> None:
    text = SOUND.replace("- source: table\n      platform", "- source: davidson\n      platform", 1)
    first, second = problems_of(tmp_path, text)
    assert first.endswith("prepare.sources.0.columns: only a table reads it; davidson knows its own")
    assert second.endswith("prepare.sources.0.labels: only a table reads it; davidson knows its own")


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        SOUND.replace("init: full", "init: ful")
        .replace("top-2", "top-7")
        .replace("source: table", "source: tabel")
    )
    assert len(problems_of(tmp_path, text)) == 4


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_recipes_name_nothing_unknown(name: str) -> None:
    environ = dict.fromkeys(("HATEX_DATA", "PLATFORM_CSV", "POSTS_CSV", "HATEX_REFERENCE_ROUTER"), "x")
    assert check_recipe(load_recipe(name, environ=environ))
