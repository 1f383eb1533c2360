"""`hatex registry` as a person and as a script use it."""

import json
from pathlib import Path

import pytest
import torch

from hatex.cli import main
from hatex.hashing import hash_file
from hatex.registry.adapters import LoraAdapter, LoraUpdate, save_adapter


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HATEX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path / "home"


@pytest.fixture
def mine(tmp_path: Path) -> str:
    update = LoraUpdate(torch.ones(2, 4), torch.ones(4, 2), 0.5)
    save_adapter(tmp_path / "mine", LoraAdapter("mine", {"model.layers.0.q_proj": update}))
    return str(tmp_path / "mine")


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    assert main(["registry", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def own(record: dict) -> list[dict]:
    return [row for row in record["artefacts"] if row["state"] != "bundled"]


def test_import_list_show_verify_remove(home, mine, capsys):
    record = run_json(capsys, "import", mine, "--base", "tiny", "--licence", "MIT")
    assert [each["ref"] for each in record["imported"]] == ["adapter:tiny/mine"]

    [row] = own(run_json(capsys, "list"))
    assert (row["ref"], row["licence"], row["state"]) == ("adapter:tiny/mine", "MIT", "intact")
    assert row["bytes"] == sum(p.stat().st_size for p in (home / "adapters/tiny/mine").iterdir())
    assert own(run_json(capsys, "list", "--kind", "router")) == []

    shown = run_json(capsys, "show", "mine")
    assert shown["lineage"]["parents"] == [
        {"ref": "base:tiny", "state": "missing", "licence": None, "parents": []}
    ]
    assert set(shown["files"]) == {"adapter_config.json", "adapter_model.safetensors"}

    assert run_json(capsys, "verify", "mine") == {"intact": True, "artefacts": {"adapter:tiny/mine": []}}
    assert run_json(capsys, "remove", "mine") == {"removed": "adapter:tiny/mine"}
    assert own(run_json(capsys, "list")) == []
    assert run_json(capsys, "gc") == {"cleared": 0}


@pytest.mark.usefixtures("home")
def test_tables_say_the_same_to_a_person(mine, capsys):
    assert main(["registry", "import", mine, "--base", "tiny", "--licence", "MIT"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "adapter:tiny/mine\n"
    assert captured.err.startswith("base tiny is not here yet")
    assert main(["registry", "list"]) == 0
    assert "adapter:tiny/mine" in capsys.readouterr().out
    assert main(["registry", "show", "mine"]) == 0
    out = capsys.readouterr().out
    assert "base:tiny  licence unknown  missing" in out
    assert "MIT" in out
    assert max(map(len, out.splitlines())) <= 80
    assert main(["registry", "remove", "mine"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "removed adapter:tiny/mine" in captured.err


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("has_edge", [False, True])
def test_a_licence_with_brackets_is_shown_as_it_is(mine, capsys, monkeypatch, has_edge):
    licence = "mit [/x] [red]:fire:"
    if not has_edge:
        monkeypatch.delenv("COLUMNS")
    (Path(mine) / "README.md").write_text(f'---\nlicense: "{licence}"\n---\n')
    assert main(["registry", "import", mine, "--base", "tiny", "--quiet"]) == 0
    for command in (["list"], ["show", "mine"]):
        capsys.readouterr()
        assert main(["registry", *command]) == 0
        assert licence in capsys.readouterr().out


def test_damage_is_shown_and_exits_with_1(home, mine, capsys):
    main(["registry", "import", mine, "--base", "tiny", "--quiet"])
    (home / "adapters/tiny/mine/adapter_config.json").write_text("{}")
    capsys.readouterr()
    record = run_json(capsys, "verify", code=1)
    assert record["intact"] is False
    problem = "adapter_config.json: sha256 differs from the manifest"
    assert record["artefacts"]["adapter:tiny/mine"] == [problem]
    assert main(["registry", "verify", "mine"]) == 1
    assert "sha256 differs" in capsys.readouterr().out
    (home / "adapters/tiny/mine/adapter_model.safetensors").unlink()
    [row] = own(run_json(capsys, "list"))
    assert row["state"].startswith("damaged: missing files")


def test_a_half_copied_folder_says_what_to_do_and_a_file_is_no_registry(home, capsys):
    (home / "adapters" / "tiny" / "half").mkdir(parents=True)
    error = run_json(capsys, "show", "adapter:tiny/half", code=1)["error"]
    assert error["kind"] == "integrity"
    assert "delete the folder" in error["hint"]
    record = run_json(capsys, "verify", code=1)
    assert record["intact"] is False
    assert "not an artefact" in record["artefacts"]["half"][0]
    (home / "file").touch()
    error = run_json(capsys, "list", "--registry", str(home / "file"), code=1)["error"]
    assert "a registry is a folder" in error["message"]


def test_a_registry_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["registry", "list", "--registry", str(tmp_path / "typo")]) == 0
    assert f"there was no registry at {tmp_path / 'typo'}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["registry", "list", "--registry", str(tmp_path / "empty")]) == 0
    assert "there was no registry" not in capsys.readouterr().err


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "code", "kind"),
    [
        ([], 2, "usage"),
        (["show", "absent"], 1, "registry"),
        (["show", "shop:absent"], 1, "registry"),
        (["show", "../../etc"], 1, "registry"),
        (["list", "--kind", "shop"], 2, "usage"),
        (["import", "nowhere-to-be-found"], 2, "usage"),
        (["import", "--recipe", "starter", "--name", "mine", "--revision", "main"], 2, "usage"),
        (["import", "owner/tiny", "--set", "name=x"], 2, "usage"),
        (["import", ".", "--revision", "main"], 2, "usage"),
        (["remove", "adapter:tiny/absent"], 1, "registry"),
    ],
)
def test_failures_name_the_remedy(capsys, arguments, code, kind):
    record = run_json(capsys, *arguments, code=code)
    assert record["error"]["kind"] == kind
    assert main(["registry", *arguments]) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_options_of_another_kind_of_source_are_refused(home, mine, capsys):
    before = sorted(home.rglob("*"))
    error = run_json(capsys, "import", mine, "--base", "tiny", "--classes", "one,two", code=2)["error"]
    assert "--classes and --encoder are a router file's" in error["message"]
    error = run_json(capsys, "import", "-r", "starter", "--name", "mine", "--classes", "a", code=2)["error"]
    assert (error["where"], error["hint"]) == ("--name, --classes", "leave it out")
    assert error["message"] == "is for a SOURCE; a recipe says it in `imports`"
    assert sorted(home.rglob("*")) == before


@pytest.mark.usefixtures("home")
def test_a_name_is_taken_only_once(mine, capsys):
    main(["registry", "import", mine, "--base", "tiny"])
    capsys.readouterr()
    error = run_json(capsys, "import", mine, "--base", "tiny", code=1)["error"]
    assert "taken" in error["message"]
    assert "--replace" in error["hint"]
    assert run_json(capsys, "import", mine, "--base", "tiny", "--replace")["imported"]


RECIPE = """\
version: 1
name: foreign
base: {{name: tiny, source: {{hub: owner/tiny}}}}
encoder: {{name: mini, source: {{folder: nowhere}}}}
adapters: [mine, other]
router: theirs
imports:
  adapters: {{{adapter}: {{source: "{source}", licence: MIT}}}}
  router: {{file: "{router}", classes: [mine, other], sha256: "{sha256}"}}
"""


@pytest.fixture
def foreign(mine, tmp_path) -> dict[str, str]:
    """What fills RECIPE: an adapter folder and the state dict of a router."""
    shapes = {"hidden.weight": (8, 384), "hidden.bias": (8,), "output.weight": (2, 8), "output.bias": (2,)}
    torch.save({key: torch.randn(shape) for key, shape in shapes.items()}, tmp_path / "router.pth")
    router = tmp_path / "router.pth"
    return {"adapter": "mine", "source": mine, "router": str(router), "sha256": hash_file(router)}


def test_a_recipe_names_what_to_import(home, foreign, tmp_path, capsys):
    (tmp_path / "foreign.yaml").write_text(RECIPE.format(**foreign))
    record = run_json(capsys, "import", "--recipe", str(tmp_path / "foreign.yaml"))
    assert [each["ref"] for each in record["imported"]] == ["adapter:tiny/mine", "router:theirs"]
    assert run_json(capsys, "show", "router:theirs")["adapters"] == ["mine", "other"]
    assert (home / "routers" / "theirs" / "router.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ({"sha256": "0" * 64}, 1, "the recipe pins 000000000000"),
        ({"router": "nowhere.pth"}, 2, "no such file"),
        ({"adapter": "stranger"}, 2, "stranger, which `adapters` lacks"),
    ],
)
def test_imports_of_a_recipe_are_checked_before_the_first(
    home, foreign, tmp_path, capsys, change, code, reason
):
    (tmp_path / "foreign.yaml").write_text(RECIPE.format(**(foreign | change)))
    error = run_json(capsys, "import", "-r", str(tmp_path / "foreign.yaml"), code=code)["error"]
    assert reason in error["message"]
    assert not (home / "adapters").exists()


def test_import_takes_a_source_or_a_recipe(home, mine, capsys):
    assert run_json(capsys, "import", code=2)["error"]["kind"] == "usage"
    assert run_json(capsys, "import", mine, "-r", "starter", code=2)["error"]["kind"] == "usage"
    assert not home.exists()


def test_licences_of_an_engine(tiny, capsys):
    options = ("--recipe", str(tiny.recipe), "--registry", str(tiny.registry))
    record = run_json(capsys, "licences", *options)
    assert record["missing"] == []
    adapters = {f"adapter:tiny/{name}": "CC0-1.0" for name in ("one", "two", "full")}
    assert record["licences"] == adapters | {"base:tiny": None, "encoder:tiny": None, "router:tiny": None}
    assert main(["registry", "licences", *options, "--set", "router=absent"]) == 0
    assert "router:absent  not in the registry yet" in capsys.readouterr().out


@pytest.mark.usefixtures("home")
def test_before_models_are_fetched_their_licences_are_those_of_the_recipe(capsys):
    record = run_json(capsys, "licences")
    assert set(record["missing"]) == {"base:smollm2-135m-instruct", "encoder:all-minilm-l6-v2"}
    assert {record["licences"][ref] for ref in record["missing"]} == {"Apache-2.0"}
