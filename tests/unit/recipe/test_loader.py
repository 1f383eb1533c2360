"""The strict loader: YAML 1.2, all mistakes at once with their places, extends, --set, variables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatex.errors import RecipeError
from hatex.recipe import Recipe, document, load_recipe, recipe_json_schema, shipped_names
from hatex.recipe.document import Place, merge, parse_document
from hatex.render.recipe import recipe_yaml

SOUND = """\
version: 1
name: mini
base:
  name: small
  source: {folder: models/small}
encoder:
  name: sentences
  source: {folder: "${MODELS:-models}/sentences"}
adapters: [one, two]
router: both
"""
TRAIN = """\
train:
  data: ${HATEX_DATA}/mini
  lr: 2e-4
  adapters:
    one: {platforms: [no]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sound.yaml").write_text(SOUND)
    (tmp_path / "mini.yaml").write_text(SOUND + TRAIN)
    return tmp_path


def problems_of(name: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides, environ={})
    assert caught.value.exit_code == 2
    return caught.value.problems


@pytest.mark.usefixtures("folder")
def test_numbers_and_booleans_are_those_of_yaml_1_2() -> None:
    train = load_recipe("mini.yaml", environ={"HATEX_DATA": "d"}).require("train")
    assert train.lr == 2e-4
    assert train.adapters["one"].platforms == ("no",)
    assert train.data == "d/mini"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 2e-4),
        ("1E5", 1e5),
        ("0o14", 12),
        ("0x1F", 31),
        ("0777", 777),
        ("no", "no"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("True", True),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("12:30:45", "12:30:45"),
        ("'7'", "7"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
    ],
)
def test_scalars(text: str, value: object) -> None:
    node, problems = parse_document(text, Place("x", 1, 1))
    assert problems == []
    assert node.plain() == value
    assert type(node.plain()) is type(value)


def test_a_yaml_1_1_header_does_not_turn_no_into_false() -> None:
    node, problems = parse_document("%YAML 1.1\n---\na: no\n", Place("x", 1, 1))
    assert (node.plain(), problems) == ({"a": "no"}, [])


# The machine may be busy: what is checked is the result, not the time it takes.
calm = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text("abcdef", min_size=1), below, max_size=4)
    ),
    max_leaves=12,
)


@calm
@given(json_values)
def test_json_is_read_as_json_reads_it(value: object) -> None:
    node, problems = parse_document(json.dumps(value), Place("x", 1, 1))
    assert problems == []
    assert node.plain() == value


@calm
@given(json_values, json_values)
def test_the_upper_leaf_wins_when_merging(a: object, b: object) -> None:
    below, above = (parse_document(json.dumps(value), Place("x", 1, 1))[0] for value in (a, b))
    merged = dict(merge(below, above).leaves())
    # A null that stands over a mapping takes it away, and leaves nothing.
    assert all(
        merged[path] is node for path, node in above.leaves() if node.value is not None or path in merged
    )
    assert merge(below, below).plain() == below.plain()


def test_all_mistakes_are_reported_at_once_with_their_places(folder: Path) -> None:
    (folder / "bad.yaml").write_text(
        SOUND
        + """\
nam: x
train:
  lrr: 1
  lr: -1
  lr: 3
  adapters: {one: {init: 2.5}}
route: {strategi: x, space: dleta}
"""
    )
    assert problems_of("bad.yaml") == [
        "bad.yaml:11:1: nam is not a known key; did you mean name?",
        "bad.yaml:12:1: train.data is missing",
        "bad.yaml:13:3: train.lrr is not a known key; did you mean train.lr?",
        "bad.yaml:14:3: train.lr must be > 0 (got -1)",
        "bad.yaml:15:3: train.lr is given twice (first at bad.yaml:14:3)",
        "bad.yaml:16:20: train.adapters.one.init must be text (got 2.5)",
        "bad.yaml:17:9: route.strategi is not a known key; did you mean route.strategy?",
        "bad.yaml:17:22: route.space must be 'delta', 'probability' or 'reference' (got 'dleta')",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "bad.yaml:1:1: a recipe is a mapping with `version: 1` first"),
        ("- a\n", "bad.yaml:1:1: a recipe is a mapping with `version: 1` first"),
        ("a: b: c\n", "bad.yaml:1:5: is not valid YAML: mapping values are not allowed here"),
        ("a: [1\n", "bad.yaml:2:1: is not valid YAML: while parsing a flow sequence expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", "bad.yaml:2:1: is not valid YAML: expected a single document"),
        ("a: \x01\n", "bad.yaml:1:1: is not valid YAML: unacceptable character"),
        ("extends: nowhere.yaml\n", "bad.yaml:1:1: extends: there is no recipe file nowhere.yaml"),
        ("extends: [a]\n", "bad.yaml:1:1: extends must name a recipe: a bare name or a file"),
        (
            "extends: startr\n",
            "bad.yaml:1:1: extends: hatex ships no recipe 'startr' (did you mean starter?)",
        ),
    ],
)
def test_a_file_that_tells_nothing(folder: Path, text: str, problem: str) -> None:
    (folder / "bad.yaml").write_text(text)
    assert problems_of("bad.yaml")[0].startswith(problem)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("5: a", "bad.yaml:11:1: key 5 must be text: write it in quotes"),
        ("no: a", "bad.yaml:11:1: no is not a known key"),
        ("<<: {name: a}", "bad.yaml:11:1: YAML 1.2 has no merge key `<<`: use `extends`"),
        ("prompt: !custom x", "bad.yaml:11:1: prompt has an unknown tag or value: !custom"),
        ("groups: &g [*g]", "bad.yaml:11:9: groups.0 refers to itself"),
        ('prompt: "\\uD800"', "bad.yaml:11:1: prompt holds half of a surrogate pair"),
        (
            "prompt: ${",
            "bad.yaml:11:1: prompt holds `${` without a name: write ${NAME}, or $${ for those two",
        ),
        ("route: {max_tokens: .inf}", "bad.yaml:11:9: route.max_tokens must be a whole number"),
        (
            "route: {policy: {flag_hate: '0.5'}}",
            "bad.yaml:11:18: route.policy.flag_hate must be a number (got '0.5')",
        ),
        ("kind: train", "bad.yaml:1:1: the recipe: kind is train, but there is no `train` section"),
        (
            "kind: trian",
            "bad.yaml:11:1: kind must be 'prepare', 'train', 'merge', 'route' or 'eval' (got 'trian')",
        ),
        ("route: null", "bad.yaml:11:1: route must be a mapping (got nothing)"),
    ],
)
def test_odd_values(folder: Path, line: str, problem: str) -> None:
    (folder / "bad.yaml").write_text(SOUND + line + "\n")
    assert problems_of("bad.yaml")[0].startswith(problem)


def test_a_file_that_is_not_utf_8(folder: Path) -> None:
    (folder / "bad.yaml").write_bytes(b"name: \xff\n")
    assert problems_of("bad.yaml") == ["bad.yaml:1:1: is not UTF-8 text (byte 6)"]


def test_repeated_aliases_do_not_exhaust_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_NODES", 1000)
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8))
    (folder / "bomb.yaml").write_text("a0: &a0 [x]\n" + levels)
    assert any(problem.endswith("is too large") for problem in problems_of("bomb.yaml"))


def test_extends_merges_deeply_and_errors_stay_with_their_file(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "child.yaml").write_text(
        "extends: ../mini.yaml\nname: child\ntrain:\n  adapters:\n    two: {}\n  seed: -1\n  lrr: 1\n"
    )
    assert problems_of("below/child.yaml", "train.warmup_share=2", "train.lora.r=x") == [
        "--set train.lora.r: train.lora.r must be a whole number (got 'x')",
        "--set train.warmup_share: train.warmup_share must be < 1 (got 2)",
        "below/child.yaml:7:3: train.lrr is not a known key; did you mean train.lr?",
    ]
    (folder / "broken.yaml").write_text(SOUND + "train: {data: x, adapters: {one: {}}, lr: 0}\n")
    (folder / "below" / "child.yaml").write_text("extends: ../broken.yaml\nroute: {max_tokens: 1}\n")
    assert problems_of("below/child.yaml") == [
        "below/child.yaml:2:9: route.max_tokens must be > 8 (got 1)",
        "broken.yaml:11:39: train.lr must be > 0 (got 0)",
    ]


def test_extends_takes_the_upper_value_and_keeps_the_rest(folder: Path) -> None:
    (folder / "child.yaml").write_text(
        "extends: mini.yaml\nname: child\nadapters: [three]\ntrain: {adapters: {two: {epochs: 5}}, seed: 3}\n"
    )
    recipe = load_recipe("child.yaml", environ={"HATEX_DATA": "d"})
    train = recipe.require("train")
    assert (recipe.name, recipe.router, recipe.adapters) == ("child", "both", ("three",))
    assert (list(train.adapters), train.adapters["two"].epochs, train.seed, train.lr) == (
        ["one", "two"],
        5,
        3,
        2e-4,
    )


def test_extends_in_a_circle(folder: Path) -> None:
    (folder / "a.yaml").write_text("extends: b.yaml\n")
    (folder / "b.yaml").write_text("extends: ./a.yaml\n")
    assert problems_of("a.yaml") == ["b.yaml:1:1: extends goes round in a circle: a.yaml -> b.yaml -> a.yaml"]


@pytest.mark.usefixtures("folder")
def test_set_takes_yaml_values_and_reaches_into_lists_and_mappings() -> None:
    recipe = load_recipe(
        "mini.yaml",
        [
            "train.lr=1e-4",
            "adapters.1=zwei",
            "train.adapters.one.platforms=[wiki, forums]",
            "route.strategy=top-2",
        ],
        environ={"HATEX_DATA": "d"},
    )
    assert recipe.require("train").lr == 1e-4
    assert recipe.adapters == ("one", "zwei")
    assert recipe.require("train").adapters["one"].platforms == ("wiki", "forums")
    assert recipe.route.strategy == "top-2"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ("Terms of service, clause #7", "Terms of service, clause #7"),
        ("#7", "#7"),
        ('"clause #7" ', "clause #7"),
        ("'clause #7\ue000'", "clause #7\ue000"),
    ],
)
def test_set_keeps_a_hash_sign(value: str, reference: str) -> None:
    """A shell has taken its comments away before."""
    recipe = load_recipe("sound.yaml", [f"explain.statement.reference={value}"], environ={})
    assert recipe.explain.statement.reference == reference


@pytest.mark.usefixtures("folder")
def test_set_keeps_a_hash_sign_inside_of_values_too() -> None:
    overrides = ["adapters=[one #1, two]", "explain.statement={reference: clause #7}"]
    recipe = load_recipe("sound.yaml", overrides, environ={})
    assert recipe.adapters == ("one #1", "two")
    assert recipe.explain.statement.reference == "clause #7"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "route.strategi=x",
            "--set route.strategi: route.strategi is not a known key; did you mean route.strategy?",
        ),
        ("rotue.strategy=x", "--set rotue.strategy: rotue is not a known key; did you mean route?"),
        ("hidden=3", "--set hidden: hidden is not a known key; did you mean train.router.hidden?"),
        ("train.lr", "--set train.lr: must look like train.lr=1e-4 (got 'train.lr')"),
        ("=3", "--set : must look like train.lr=1e-4 (got '=3')"),
        ("adapters.7=x", "--set adapters.7: adapters is a list: name an item from 0 to 1"),
        ("name.x=1", "--set name.x: name is a single value, so name.x cannot be set"),
        ("route.strategy=[a", "--set route.strategy: is not valid YAML: while parsing a flow sequence"),
        ("route.strategy=[a #", "--set route.strategy: is not valid YAML: while parsing a flow sequence"),
        ("route.a#b=x", "--set route.a#b: route.a#b is not a known key"),
        ("route={a#b: x}", "--set route: route.a#b is not a known key"),
        (
            "route.max_tokens=64 # few",
            "--set route.max_tokens: route.max_tokens must be a whole number (got '64 # few')",
        ),
        ("route.strategy=5", "--set route.strategy: route.strategy must be text (got 5)"),
    ],
)
def test_a_bad_override_says_which(override: str, problem: str) -> None:
    assert problems_of("sound.yaml", override)[0].startswith(problem)


@pytest.mark.usefixtures("folder")
def test_variables_are_filled_where_they_are_set() -> None:
    assert load_recipe("sound.yaml", environ={}).encoder.source.folder == "models/sentences"
    assert load_recipe("sound.yaml", environ={"MODELS": ""}).encoder.source.folder == "models/sentences"
    assert load_recipe("sound.yaml", environ={"MODELS": "/m"}).encoder.source.folder == "/m/sentences"
    recipe = load_recipe("sound.yaml", ["name=$${A} $B a$ ${C:-}"], environ={"A": "1", "B": "2"})
    assert recipe.name == "${A} $B a$ "


@pytest.mark.usefixtures("folder")
def test_an_unset_variable_matters_only_to_the_verb_that_needs_it() -> None:
    recipe = load_recipe("mini.yaml", environ={})
    assert recipe.route.strategy == "blend"
    for ask in (lambda: recipe.train, lambda: recipe.require("train"), recipe.check):
        with pytest.raises(RecipeError) as caught:
            ask()
        assert caught.value.problems == [
            "mini.yaml:12:3: train.data needs the environment variable HATEX_DATA, which is not set"
        ]
        assert caught.value.hint is not None
        assert "HATEX_DATA" in caught.value.hint
    assert problems_of("mini.yaml", "base.source.folder=${BASES}/b") == [
        "--set base.source.folder: base.source.folder needs the environment variable BASES, which is not set"
    ]


@pytest.mark.usefixtures("folder")
def test_a_missing_section_names_the_recipe_and_the_remedy() -> None:
    with pytest.raises(RecipeError, match=r"sound\.yaml: the recipe has no `merge` section") as caught:
        load_recipe("sound.yaml").require("merge")
    assert "hatex recipe schema" in (caught.value.hint or "")


def test_resolved_keeps_variables_by_name_and_loads_again(folder: Path) -> None:
    recipe = load_recipe("mini.yaml", ["train.seed=5"], environ={"HATEX_DATA": "/secret/place"})
    resolved = recipe.resolved()
    assert resolved["train"]["data"] == "${HATEX_DATA}/mini"
    assert resolved["train"]["seed"] == 5
    (folder / "again.yaml").write_text(recipe_yaml(resolved))
    again = load_recipe("again.yaml", environ={"HATEX_DATA": "/secret/place"})
    assert again.model_dump() == recipe.model_dump()
    assert again.resolved() == resolved


def test_a_prompt_file_lies_beside_the_recipe_that_names_it(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "parent.yaml").write_text(SOUND + "prompt: ./mine.yaml\n")
    (folder / "child.yaml").write_text("extends: below/parent.yaml\n")
    recipe = load_recipe("child.yaml")
    assert Path(recipe.prompt) == folder / "below" / "mine.yaml"
    assert recipe.resolved()["prompt"] == "./mine.yaml"
    assert load_recipe("sound.yaml", ["prompt=compact"]).prompt == "compact"


@pytest.mark.usefixtures("folder")
def test_bare_names_are_shipped_recipes_and_files_need_a_suffix() -> None:
    assert "starter" in shipped_names()
    with pytest.raises(RecipeError) as caught:
        load_recipe("startr")
    assert caught.value.hint == "did you mean starter?"
    with pytest.raises(RecipeError) as caught:
        load_recipe("sound")
    assert caught.value.hint == "a bare name means a shipped recipe; for the file write ./sound.yaml"


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_loads_without_any_variable(name: str) -> None:
    assert isinstance(load_recipe(name, environ={}), Recipe)


def test_json_schema_describes_every_key_and_lets_extends_leave_keys_out() -> None:
    schema = recipe_json_schema()
    assert schema["properties"]["extends"]["type"] == "string"
    assert {"required": ["extends"]} in schema["anyOf"]
    assert schema["additionalProperties"] is False
    assert "required" not in schema
    assert schema["$defs"]["TrainSection"]["properties"]["lr"]["exclusiveMinimum"] == 0
    json.dumps(schema)


def test_recipe_names_load_no_heavy_library() -> None:
    code = "import sys, hatex.recipe; sys.exit(bool({'torch', 'rich', 'typer'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


CHILD = """\
extends: mini.yaml
name: child
train:
  adapters: {one: null, two: {platforms: [no]}}
"""


@pytest.mark.parametrize("overrides", [[], ["train.adapters.one=null"]])
def test_null_takes_a_mapping_away(folder: Path, overrides: list[str]) -> None:
    text = CHILD if not overrides else CHILD.replace("one: null, ", "")
    (folder / "child.yaml").write_text(text)
    train = load_recipe("child.yaml", overrides, environ={"HATEX_DATA": "d"}).require("train")
    assert list(train.adapters) == ["two"]
    assert train.lr == 2e-4


@pytest.mark.usefixtures("folder")
def test_null_over_a_single_value_is_a_value() -> None:
    overrides = ["eval={data: d, posts_per_set: 7}", "eval.posts_per_set=null"]
    assert load_recipe("sound.yaml", overrides, environ={}).require("eval").posts_per_set is None


def test_a_list_with_one_mistaken_item_is_not_called_empty(folder: Path) -> None:
    source = "{source: table, platform: forums, path: a.csv, colums: {text: a, label: b}}"
    (folder / "bad.yaml").write_text(SOUND + f"prepare:\n  output: out\n  sources: [{source}]\n")
    [problem] = problems_of("bad.yaml")
    assert problem.endswith("is not a known key; did you mean prepare.sources.0.columns?")
    assert "must not be empty" in problems_of("bad.yaml", "prepare.sources=[]")[0]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("adapters: [one, one]", "adapters must be unique"),
        ("kind: merge", "kind is merge, but there is no `merge` section"),
        ("eval: {strategies: [blend]}", "name a prepared folder (data) or sources"),
        ("imports: {adapters: {}}", "name adapters or a router"),
        (
            "prepare: {output: o, tune_share: 0.6, report_share: 0.5, sources: [{source: contrast, platform: p}]}",
            "tune_share and report_share leave nothing to train on",
        ),
        (
            "prepare: {output: o, sources: [{source: davidson, platform: p}]}",
            "name exactly one of path and hub",
        ),
        (
            "train: {data: d, weight_decay: 0.1, adapters: {one: {}, two: {partners: [one]}}}",
            "partners stay as they are: train.weight_decay must be 0",
        ),
    ],
)
def test_sections_that_contradict_themselves(folder: Path, section: str, problem: str) -> None:
    key = section.partition(":")[0]
    lines = [line for line in SOUND.splitlines() if not line.startswith(f"{key}:")]
    (folder / "odd.yaml").write_text("\n".join([*lines, section, ""]))
    assert any(found.endswith(problem) for found in problems_of("odd.yaml")), problems_of("odd.yaml")


def test_a_recipe_that_cannot_be_read_is_told(folder: Path) -> None:
    (folder / "sub.yaml").mkdir()
    (folder / "child.yaml").write_text("extends: sub.yaml\nname: child\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("child.yaml", environ={})
    assert "sub.yaml" in str(caught.value)
