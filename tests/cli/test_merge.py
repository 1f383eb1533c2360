"""`hatex merge` around a small real engine: weights, methods, exports, and what is refused."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch

from hatex.cli import main
from hatex.data.examples import write_examples
from hatex.engine import load_engine
from hatex.errors import DataError
from hatex.recipe import load_recipe
from hatex.recipe.merge import MergeSection
from hatex.registry import Registry, open_registry
from hatex.registry.adapters import load_adapter
from hatex.types import Example, Vote
from hatex.workflows.merge_data import mean_gates

POSTS = ("the club lost again", "a lovely match", "what a daft referee", "see you on Sunday")
LABELS = ("neutral", "offensive", "hate")
WEIGHTS = ("-w", "one=0.75", "-w", "two=0.25")


@pytest.fixture
def options(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recipe and a registry of its own for every test."""
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(tiny.registry, tmp_path / "home")
    return ["--recipe", str(tiny.recipe), "--registry", str(tmp_path / "home")]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(tmp_path / "home")


def prepare(folder: Path, **labels: tuple[str, ...]) -> str:
    """Posts of two invented data sets; `labels` go round in each split that they name."""
    examples = [
        Example(
            id=f"{dataset}-{split}-{n}",
            dataset=dataset,
            platform="one",
            text=f"{POSTS[n % 4]}, {split} number {n}",
            votes=(Vote((given[n % len(given)],)),),
            split=split,
            group=str(n),
        )
        for dataset in ("games", "letters")
        for split, given in labels.items()
        for n in range(9)
    ]
    folder.mkdir(exist_ok=True)
    write_examples(folder / "examples.parquet", examples)
    return str(folder)


@pytest.fixture
def prepared(tmp_path: Path) -> str:
    """Tune and report posts with every label."""
    return prepare(tmp_path / "prepared", tune=LABELS, report=LABELS)


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict:
    assert main(["merge", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if ".lock" not in path.name}


def test_fixed_weights_make_an_adapter_with_its_lineage(options, registry, capsys):
    record = run(capsys, "--name", "mix", *WEIGHTS, *options)
    assert record["adapter"] == "adapter:tiny/mix"
    [row] = record["methods"]
    assert (row["method"], row["rank"], row["macro_f1"]) == ("cat", 8, None)
    assert row["relative_error"] < 1e-6
    found = registry.find("adapter", "mix", "tiny")
    parents = [registry.find("adapter", name, "tiny") for name in ("one", "two")]
    assert found.manifest.parents == {parent.ref: parent.manifest.digest for parent in parents}
    assert found.manifest.base_identity == parents[0].manifest.base_identity
    assert found.manifest.licence == "CC0-1.0"
    assert found.manifest.extra["votes_per_post"] == 3.0
    assert "| one | 0.7500 |" in (found.path / "README.md").read_text()
    one, two, mix = (load_adapter(artefact) for artefact in (*parents, found))
    for module, (A, B, scaling) in mix.modules.items():
        expected = sum(
            w * a.modules[module].scaling * (a.modules[module].B.double() @ a.modules[module].A.double())
            for w, a in ((0.75, one), (0.25, two))
        )
        torch.testing.assert_close(scaling * B.double() @ A.double(), expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "is_noted"),
    [(WEIGHTS, False), (("-w", "one=0.5", "-w", "two=0.2"), True), (("-w", "one=-1"), True)],
)
def test_weights_that_no_router_gives_are_noted(options, weights, is_noted, capsys):
    assert main(["merge", *options, "--name", "mix", *weights, "--json"]) == 0
    assert ("gate weights sum to 1" in capsys.readouterr().err) == is_noted


def test_gates_of_a_file_of_posts_become_the_weights(options, registry, tmp_path, capsys):
    lines = [json.dumps({"text": text}) for text in POSTS]
    (tmp_path / "posts.jsonl").write_text("\n".join(lines) + "\n")
    record = run(capsys, "--name", "mix", "--gates-from", str(tmp_path / "posts.jsonl"), *options)
    gates = load_engine(load_recipe(options[1]), registry).gate(POSTS).mean(axis=0)
    expected = {name: gate for name, gate in zip(("one", "two"), gates, strict=False) if gate > 0}
    assert record["weights"] == pytest.approx(expected)
    assert sum(record["weights"].values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def tiny_engine(tiny):
    return load_engine(load_recipe(str(tiny.recipe)), open_registry(tiny.registry))


def test_gates_are_read_from_the_files_that_route_reads(tiny_engine, tmp_path):
    lines = "".join(json.dumps({"text": text}) + "\n\n" for text in POSTS).encode()
    files = {"plain": lines, "bom": b"\xef\xbb\xbf" + lines, "gzip": gzip.compress(lines)}
    found = []
    for name, data in files.items():
        path = tmp_path / f"{name}.jsonl"
        path.write_bytes(data)
        found.append(mean_gates(tiny_engine, MergeSection(name="mix", gates_from=str(path))))
    assert found[0] == found[1] == found[2] != {}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "na\u00efve"}'.encode("latin-1"), "the line is not UTF-8 (byte 13)"),
        (b'{"text": "a club", "more": ' + b"[" * 100_000, "too deep or too large"),
        (b'{"text": "a club \\ud800"}', "`text` holds half of a surrogate pair"),
        (b'{"text": " "}', "`text` is empty"),
        (b'"a club"', "the line is not a JSON object"),
    ],
    ids=["latin-1", "deep", "surrogate", "blank", "text"],
)
def test_a_bad_line_of_a_file_of_gates_is_named(tiny_engine, tmp_path, line, message):
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'{"text": "the club lost"}\n\n' + line + b"\n")
    with pytest.raises(DataError) as caught:
        mean_gates(tiny_engine, MergeSection(name="mix", gates_from=str(path)))
    assert message in caught.value.message
    assert caught.value.where == f"{path}:3"


def test_a_damaged_or_blank_file_of_gates_is_named(tiny_engine, tmp_path):
    path = tmp_path / "posts.jsonl.gz"
    for data, message in ((gzip.compress(b'{"text": "a club"}')[:-9], "damaged"), (b"\n", "no posts")):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message) as caught:
            mean_gates(tiny_engine, MergeSection(name="mix", gates_from=str(path)))
        assert caught.value.where == str(path)


def test_gates_of_a_prepared_folder_are_those_of_its_tune_posts(options, tmp_path, capsys):
    folder = prepare(tmp_path / "prepared", tune=LABELS)
    record = run(capsys, "--name", "mix", "--gates-from", folder, *options)
    assert sum(record["weights"].values()) == pytest.approx(1)


def test_report_posts_measure_a_merge_and_choose_no_weights(options, tmp_path, capsys):
    search = ("--optimise", "macro_f1", "--data", str(tmp_path / "prepared"), "--set", "merge.steps=4")
    records = []
    for report in (("neutral",), ("hate",)):
        prepare(tmp_path / "prepared", tune=LABELS, report=report)
        records.append(run(capsys, "--name", "mix", *search, *options, "--replace"))
    first, second = records
    assert first["trials"] == second["trials"]
    assert first["exact_macro_f1"] != second["exact_macro_f1"]
    assert first["methods"][0]["macro_f1"] != second["methods"][0]["macro_f1"]


def test_gates_of_prepared_data_and_methods_side_by_side(options, registry, prepared, capsys):
    arguments = (
        "--name",
        "mix",
        "--gates-from",
        "data",
        "--data",
        prepared,
        "--method",
        "svd",
        "--rank",
        "3",
    )
    compare = ("--compare", "cat", "--compare", "linear", "--compare", "dare_ties", "--density", "1")
    record = run(capsys, *arguments, *compare, *options)
    rows = {row["method"]: row for row in record["methods"]}
    assert list(rows) == ["svd", "cat", "linear", "dare_ties"]
    assert rows["svd"]["registered"]
    assert rows["svd"]["rank"] == 3
    assert rows["svd"]["energy"] < 1
    stored = load_adapter(registry.find("adapter", "mix", "tiny")).modules.values()
    assert sum(x.nbytes for update in stored for x in (update.A, update.B)) == rows["svd"]["bytes"]
    assert rows["cat"]["relative_error"] < 1e-6 < rows["linear"]["relative_error"]
    assert rows["cat"]["macro_f1"] == pytest.approx(record["exact_macro_f1"])
    assert all(0 <= row["macro_f1"] <= 1 for row in rows.values())


def test_weights_are_found_on_tune_posts_and_the_search_repeats_itself(options, prepared, capsys):
    arguments = (
        "--name",
        "mix",
        "--optimise",
        "macro_f1",
        "--data",
        prepared,
        "--set",
        "merge.steps=12",
        *options,
    )
    first = run(capsys, *arguments)
    assert len(first["trials"]) == 12
    scores = [trial["macro_f1"] for trial in first["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert first["weights"] == first["trials"][0]["weights"]
    equal = {"one": 0.5, "two": 0.5}
    assert equal in [trial["weights"] for trial in first["trials"]], "the start counts as well"
    assert run(capsys, *arguments, "--replace")["trials"] == first["trials"]


def test_every_export_is_compared_and_loads_without_hatex(options, tmp_path, capsys):
    kinds = ("peft", "hf", "nf4", "gguf-lora")
    wanted = [argument for kind in kinds for argument in ("--export", kind)]
    record = run(capsys, "--name", "mix", *WEIGHTS, *wanted, "--output", str(tmp_path / "out"), *options)
    exports = {each["kind"]: each for each in record["exports"]}
    assert tuple(exports) == kinds
    assert exports["peft"]["max_difference"] < 1e-5
    assert exports["gguf-lora"]["max_difference"] < 1e-5
    assert 0 < exports["hf"]["max_difference"] < 0.05
    assert exports["nf4"]["max_difference"] > exports["hf"]["max_difference"]
    assert folders(tmp_path / "out") >= {"hf/model.safetensors", "hf/tokenizer.json", "hf/config.json"}

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out" / "hf")
    ids = torch.tensor([tokenizer("hello")["input_ids"]])
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "hf", dtype=torch.float32)
        plain_logits = plain(ids).logits
        packed = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "nf4", dtype=torch.float32)
        assert packed.is_loaded_in_4bit
        assert (packed(ids).logits.float() - plain_logits).abs().max() < 0.5
        merged, rounded = (
            model.model.layers[0].self_attn.q_proj(torch.eye(64)).float() for model in (plain, packed)
        )
    # The adapter is larger than the base's 4-bit grid reaches: directions are what can be held.
    assert (rounded.sign() == merged.sign()).float().mean() > 0.9


def test_a_table_for_a_person(options, tmp_path, capsys):
    arguments = ["merge", "--name", "mix", *WEIGHTS, "--export", "peft", "--output", str(tmp_path / "out")]
    assert main([*arguments, *options]) == 0
    out = capsys.readouterr().out
    assert "cat (registered)" in out
    assert "weights: one 0.750, two 0.250" in out
    assert "largest difference" in out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 2, "no section merge"),
        (("--name", "mix", "-w", "one"), 2, "is not NAME=WEIGHT"),
        (("--name", "mix", "-w", "one=much"), 2, "is not NAME=WEIGHT"),
        (("--name", "mix", "-w", "one=1", "-w", "one=2"), 2, "one has two weights"),
        (("--name", "mix", "-w", "one=nan"), 2, "it should be a finite number"),
        (("--name", "mix", "-w", "absent=1"), 1, "no adapter:tiny/absent"),
        (("--name", "one", *WEIGHTS), 2, "is an adapter of this recipe"),
        (("--name", "../mix", *WEIGHTS), 1, "not a valid"),
        (("--name", "mix"), 2, "name weights, gates_from or optimise"),
        (("--name", "mix", *WEIGHTS, "--gates-from", "x"), 2, "excludes"),
        (("--name", "mix", "--gates-from", "nowhere"), 2, "no such file"),
        (("--name", "mix", "--optimise", "macro_f1"), 2, "need data"),
        (("--name", "mix", *WEIGHTS, "--method", "average"), 2, "it should be"),
        (("--name", "mix", *WEIGHTS, "--rank", "2"), 2, "no choice of rank"),
        (("--name", "mix", *WEIGHTS, "--export", "peft"), 2, "needs output"),
        (("--name", "mix", *WEIGHTS, "--data", "nowhere"), 1, "no prepared examples"),
    ],
)
def test_refusals_leave_the_registry_as_it_was(options, registry, capsys, arguments, code, reason):
    before = folders(registry.root / "adapters")
    record = run(capsys, *arguments, *options, code=code)
    assert reason in record["error"]["message"]
    assert folders(registry.root / "adapters") == before


@pytest.mark.parametrize("name", ["my mix", "../x", "", "mix."])
def test_a_name_that_cannot_be_is_refused_before_the_work(options, registry, capsys, name):
    shutil.rmtree(registry.root / "routers")  # would be missed once the engine is loaded
    error = run(capsys, "--name", name, "--gates-from", "posts.jsonl", *options, code=1)["error"]
    assert error["message"] == f"{name!r} is not a valid adapter name"
    assert error["hint"].startswith("names are letters, digits")


def test_taken_names_and_folders_are_refused_before_the_work(options, tmp_path, capsys):
    arguments = ("--name", "mix", *WEIGHTS, *options)
    run(capsys, *arguments)
    assert "exists already" in run(capsys, *arguments, code=1)["error"]["message"]
    (tmp_path / "out" / "peft").mkdir(parents=True)
    export = ("--export", "peft", "--output", str(tmp_path / "out"))
    assert "exists" in run(capsys, "--name", "other", *WEIGHTS, *export, *options, code=2)["error"]["message"]
    assert run(capsys, *arguments, *export, "--replace")["exports"]


def test_replace_removes_no_folder_that_hatex_did_not_write(options, registry, tmp_path, capsys):
    arguments = ("--name", "mix", *WEIGHTS, "--replace", "--output", str(tmp_path / "out"), *options)
    kinds = ("peft", "hf", "nf4", "gguf-lora")
    wanted = [argument for kind in kinds for argument in ("--export", kind)]
    for _ in range(2):
        assert len(run(capsys, *arguments, *wanted)["exports"]) == 4

    peft = tmp_path / "out" / "peft"
    shutil.copytree(peft, tmp_path / "mine")
    (tmp_path / "mine" / "README.md").write_text("# An adapter of ours")
    before = folders(registry.root / "adapters"), registry.find("adapter", "mix", "tiny").manifest.digest

    def refusal(kind: str) -> str:
        error = run(capsys, *arguments, "--export", kind, code=2)["error"]
        assert error["hint"] == "name another --output, or move it away"
        return error["message"]

    (peft / "notes.txt").write_text("kept")
    assert "(it holds notes.txt)" in refusal("peft")
    (peft / "notes.txt").unlink()
    (peft / "model.gguf").mkdir()
    assert "(it holds model.gguf)" in refusal("peft")
    (peft / "model.gguf").rmdir()
    (peft / "README.md").unlink()
    assert "(it has no README.md)" in refusal("peft")
    shutil.rmtree(peft)
    shutil.copytree(tmp_path / "mine", peft)
    assert "(its README.md is not that of a merge)" in refusal("peft")
    assert folders(peft) == folders(tmp_path / "mine")
    shutil.rmtree(tmp_path / "out" / "hf")
    (tmp_path / "out" / "hf").symlink_to(tmp_path / "out" / "nf4")
    assert "(it is no folder)" in refusal("hf")
    shutil.rmtree(tmp_path / "out" / "gguf-lora")
    (tmp_path / "out" / "gguf-lora").write_text("kept")
    assert "(it is no folder)" in refusal("gguf-lora")
    after = folders(registry.root / "adapters"), registry.find("adapter", "mix", "tiny").manifest.digest
    assert after == before


def test_adapters_of_different_bases_do_not_merge(options, registry, capsys):
    stray = registry.find("adapter", "two", "tiny")
    text = (stray.path / "manifest.yaml").read_text()
    identity = stray.manifest.base_identity
    (stray.path / "manifest.yaml").write_text(text.replace(identity, "sha256:" + "0" * 64 + "+nf4-double-64"))
    error = run(capsys, "--name", "mix", *WEIGHTS, *options, code=1)["error"]
    assert "does not fit base 'tiny'" in error["message"]


def test_adapters_that_answer_as_one_group_would_are_not_merged(options, registry, capsys):
    path = registry.find("adapter", "two", "tiny").path / "manifest.yaml"
    path.write_text(f"{path.read_text()}perspective: home fans\n")
    before = folders(registry.root / "adapters")
    error = run(capsys, "--name", "mix", *WEIGHTS, *options, code=1)["error"]
    assert error["message"].startswith("two answers as one group of annotators would")
    assert folders(registry.root / "adapters") == before


@pytest.mark.parametrize(
    ("licence", "merged", "card"),
    [("licence: MIT\n", "CC0-1.0 AND MIT", "CC0-1.0 AND MIT"), ("", None, "unknown")],
    ids=["known", "unknown"],
)
def test_a_merge_is_under_the_licences_of_all_its_parents(options, registry, capsys, licence, merged, card):
    path = registry.find("adapter", "two", "tiny").path / "manifest.yaml"
    path.write_text(path.read_text().replace("licence: CC0-1.0\n", licence))
    run(capsys, "--name", "mix", *WEIGHTS, *options)
    found = registry.find("adapter", "mix", "tiny")
    assert found.manifest.licence == merged
    assert f"license: {card}\n" in (found.path / "README.md").read_text()


def test_an_imported_adapter_merges_with_one_that_was_trained_here(options, registry, tmp_path, capsys):
    one = registry.find("adapter", "one", "tiny")
    (tmp_path / "foreign").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(one.path / file, tmp_path / "foreign")
    home = ("--registry", str(registry.root))
    assert main(["registry", "import", str(tmp_path / "foreign"), "--base", "tiny", *home]) == 0
    capsys.readouterr()
    run(capsys, "--name", "mix", "-w", "foreign=0.5", "-w", "two=0.5", *options)
    # Of two bindings the stricter one counts.
    assert registry.find("adapter", "mix", "tiny").manifest.base_identity == one.manifest.base_identity


@pytest.mark.parametrize("kind", ["peft", "hf", "gguf-lora"])
def test_an_export_that_answers_otherwise_is_not_announced(tiny, tmp_path, kind):
    from hatex.data.prompts import load_prompt
    from hatex.errors import ModelError
    from hatex.merging.exports import ExportJob, export
    from hatex.merging.verify import encode_probes

    registry = open_registry(tiny.registry)
    base = registry.find("base", "tiny")
    adapter = load_adapter(registry.find("adapter", "one", "tiny"))
    probes = encode_probes(base.path, load_prompt("compact"))
    assert len(probes.ids) == 50
    wrong = torch.tensor([[1.0, 0.0, 0.0]] * 50)
    job = ExportJob(base, adapter, probes, wrong, "card", "tiny")
    with pytest.raises(ModelError, match="differs by"):
        export(job, kind, tmp_path / "out" / kind)
    assert list((tmp_path / "out").iterdir()) == []
