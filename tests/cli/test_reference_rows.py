"""The research system, row by row: every part of it works here. One test a row, named after it.

The engine is the small real one of `conftest.py`; figures of the rows (ranks, rates, shapes) are the research system's.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hatex.cli import main
from hatex.data.examples import write_examples
from hatex.data.prompts import load_prompt
from hatex.engine import load_engine
from hatex.merging.verify import encode_probes, load_plain, load_with_peft, plain_probabilities
from hatex.model.gatedlm import GatedLM
from hatex.recipe import load_recipe
from hatex.recipe.train import LoraSection
from hatex.registry import open_registry
from hatex.registry.adapters import load_adapter
from hatex.training.encoding import encode_rows
from hatex.training.initial import fresh_adapter
from hatex.types import Example, Rationale, Vote

# PEFT asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

REFERENCE = "reference-llama2-7b"
POSTS = ["the club lost again", "what a daft referee", "see you on Sunday", "a lovely match, truly"]
PLATFORMS = {"hatexplain": "one", "stormfront": "two", "jigsaw_balanced": "two"}


@pytest.fixture
def options(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Recipe and a registry of its own; computing in float32, where the arithmetic can be compared."""
    monkeypatch.setenv("HATEX_DATA", str(tmp_path))
    monkeypatch.setenv("HATEX_REFERENCE_ROUTER", str(tmp_path / "router.pth"))
    shutil.copytree(tiny.registry, tmp_path / "home")
    return ["--recipe", str(tiny.recipe), "--registry", str(tmp_path / "home"), "--set", "base.dtype=float32"]


@pytest.fixture
def engine(tiny):
    return load_engine(load_recipe(str(tiny.recipe), ["base.dtype=float32"]), open_registry(tiny.registry))


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Invented posts in the shape of the data sets that the research system names."""
    labels = ("neutral", "offensive", "hate")
    examples = [
        Example(
            id=f"{dataset}-{split}-{n}",
            dataset=dataset,
            platform=platform,
            text=f"{POSTS[n % 4]}, number {n}",
            votes=(Vote((labels[n % 3],), 2), Vote((labels[(n + 1) % 3],))),
            split=split,
            group=str(n),
        )
        for dataset, platform in PLATFORMS.items()
        for split in ("train", "tune", "report")
        for n in range(8)
    ]
    (tmp_path / "prepared").mkdir()
    write_examples(tmp_path / "prepared" / "examples.parquet", examples)
    return tmp_path / "prepared"


def reference_recipe(monkeypatch, tmp_path):
    monkeypatch.setenv("HATEX_DATA", str(tmp_path))
    monkeypatch.setenv("HATEX_REFERENCE_ROUTER", str(tmp_path / "router.pth"))
    return load_recipe(REFERENCE)


def test_base(tiny, monkeypatch, tmp_path):
    """NF4 with double quantisation on disk; computed with in bf16 or fp32; the recipe names Llama-2-7B."""
    assert reference_recipe(monkeypatch, tmp_path).base.source.hub == "meta-llama/Llama-2-7b-hf"
    base = open_registry(tiny.registry).find("base", "tiny")
    stored = load_file(base.path / "model.safetensors")
    weight = "model.layers.0.mlp.up_proj.weight"
    assert stored[weight].dtype == torch.uint8
    assert stored[weight].numel() == 128 * 64 // 2, "two values a byte"
    assert f"{weight}.nested_absmax" in stored, "the scales are quantised as well"
    bf16 = load_engine(load_recipe(str(tiny.recipe), ["base.dtype=bfloat16"]), open_registry(tiny.registry))
    assert bf16.model.lm.dtype == torch.bfloat16


def test_adapters(tiny, monkeypatch, tmp_path):
    """LoRA r=64, alpha=16, dropout 0.1, no bias, on every linear layer but the output head."""
    lora = reference_recipe(monkeypatch, tmp_path).train.lora
    assert lora == LoraSection(r=64, alpha=16, dropout=0.1, rslora=False, modules=None)
    base = open_registry(tiny.registry).find("base", "tiny")
    adapter = fresh_adapter(GatedLM.load(base.path, "resident", torch.float32), "new", lora, seed=4761)
    leaves = [f"self_attn.{x}_proj" for x in "qkvo"] + [f"mlp.{x}_proj" for x in ("gate", "up", "down")]
    assert set(adapter.modules) == {f"model.layers.{n}.{leaf}" for n in range(2) for leaf in leaves}
    assert adapter.r == 64
    assert {update.scaling for update in adapter.modules.values()} == {16 / 64}


def test_training(options, prepared, tmp_path, monkeypatch, capsys):
    """Its settings train an adapter here; the result loads in plain PEFT."""
    train = reference_recipe(monkeypatch, tmp_path).train
    settings = (
        train.max_tokens,
        train.lr,
        train.warmup_share,
        train.optimizer,
        train.max_grad_norm,
        train.seed,
    )
    assert settings == (2048, 4e-4, 0.03, "auto", 0.3, 4761)
    assert (train.group_rows, train.groups_per_step) == (8, 1)
    assert train.checkpoint_every == 25
    assert {section.epochs for section in train.adapters.values()} == {1.0}
    section = {
        "data": str(prepared),
        "adapters": {"one": {"platforms": ["one"]}},
        "lora": {"r": 64, "alpha": 16, "dropout": 0.1},
        **{key: getattr(train, key) for key in ("lr", "warmup_share", "optimizer", "max_grad_norm", "seed")},
    }
    recipe, home = options[1], options[3]
    (tmp_path / "train.yaml").write_text(json.dumps({"extends": recipe, "train": section}))
    assert main(["train", str(tmp_path / "train.yaml"), "--registry", home, "--replace", "--quiet"]) == 0
    capsys.readouterr()
    registry = open_registry(Path(home))
    found = registry.find("adapter", "one", "tiny")
    assert load_adapter(found).r == 64
    base = registry.find("base", "tiny")
    probes = encode_probes(base.path, load_prompt("compact"), POSTS)
    assert plain_probabilities(load_with_peft(base.path, found.path), probes).isfinite().all()


def test_platforms(monkeypatch, tmp_path):
    """Forums, microblog, wiki, each from its own data sets, and `full` on all of them."""
    recipe = reference_recipe(monkeypatch, tmp_path)
    sources = {source.source: source.platform for source in recipe.prepare.sources}
    microblog, wiki = dict.fromkeys(("davidson", "hatexplain"), "microblog"), {"wiki_jigsaw": "wiki"}
    assert sources == microblog | wiki | {"stormfront": "forums"}
    platforms = {name: section.platforms for name, section in recipe.train.adapters.items()}
    assert platforms == {"forums": ("forums",), "wiki": ("wiki",), "microblog": ("microblog",), "full": ()}


def test_published_weights(options, tmp_path, monkeypatch):
    """A router state dict with its keys, class order by recipe, comes in and routes; adapters come by hub id."""
    imports = reference_recipe(monkeypatch, tmp_path).imports
    expected = {name: f"huli-4761/llama2_7B_{name}" for name in ("full", "forums", "microblog", "wiki")}
    assert {name: adapter.source for name, adapter in imports.adapters.items()} == expected
    assert imports.router.classes == ("forums", "wiki", "microblog")
    assert imports.router.sha256.startswith("27dc488a")
    shapes = {"hidden.weight": (8, 64), "hidden.bias": (8,), "output.weight": (2, 8), "output.bias": (2,)}
    generator = torch.Generator().manual_seed(0)
    state = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    torch.save(state, tmp_path / "router.pth")
    home = options[3]
    arguments = ["--name", "research", "--classes", "two,one", "--encoder", "tiny", "--registry", home]
    assert main(["registry", "import", str(tmp_path / "router.pth"), *arguments]) == 0
    recipe = load_recipe(options[1], ["router=research"])
    engine = load_engine(recipe, open_registry(Path(home)))
    x = torch.tensor(engine.encoder.embed(POSTS))
    hidden = torch.relu(x @ state["hidden.weight"].T + state["hidden.bias"])
    two, one = (hidden @ state["output.weight"].T + state["output.bias"]).softmax(-1).T
    gates = engine.gate(POSTS)
    np.testing.assert_allclose(gates[:, engine.adapters.index("one")], one, atol=1e-5)
    np.testing.assert_allclose(gates[:, engine.adapters.index("two")], two, atol=1e-5)


def test_router(engine):
    """Embedding -> Linear -> ReLU -> Linear -> softmax, hidden size 8."""
    w = {name: torch.tensor(value) for name, value in engine.router.weights.items()}
    assert w["hidden.bias"].shape == (8,)
    x = torch.tensor(engine.encoder.embed(POSTS))
    hidden = torch.relu(torch.nn.functional.linear(x, w["hidden.weight"], w["hidden.bias"]))
    expected = torch.nn.functional.linear(hidden, w["output.weight"], w["output.bias"]).softmax(-1)
    np.testing.assert_allclose(engine.router.probabilities(x.numpy()), expected, atol=1e-5)
    assert len(np.unique(expected.numpy().round(6), axis=0)) == len(POSTS), "gates differ between posts"


def test_strategies(engine):
    """Blend, top-k, all at equal weight, one adapter by hand, full: gate vectors over all named adapters."""
    blend = engine.gate(POSTS, "blend")
    np.testing.assert_allclose(blend.sum(axis=1), 1)
    assert (blend[:, 2] == 0).all(), "`full` takes no part in the blend"
    np.testing.assert_array_equal(engine.gate(POSTS, "top-2"), [[0.5, 0.5, 0]] * 4)
    np.testing.assert_array_equal(engine.gate(POSTS, "uniform"), engine.gate(POSTS, "top-2"))
    top = engine.gate(POSTS, "top-1")
    np.testing.assert_array_equal(top.argmax(axis=1), blend.argmax(axis=1))
    np.testing.assert_array_equal(engine.gate(POSTS, "single:two"), [[0, 1, 0]] * 4)
    np.testing.assert_array_equal(engine.gate(POSTS, "full"), [[0, 0, 1]] * 4)


def test_its_figure(engine, tiny):
    """The sum W x + sum_k g_k LoRA_k(x), per post, against PEFT with every adapter active and gates as scalings."""
    from peft import PeftModel

    registry = open_registry(tiny.registry)
    base = registry.find("base", "tiny")
    folders = {name: registry.find("adapter", name, "tiny").path for name in engine.adapters}
    model = PeftModel.from_pretrained(load_plain(base.path), folders["one"], adapter_name="one")
    for name in ("two", "full"):
        model.load_adapter(folders[name], adapter_name=name)
    model.base_model.set_adapter(list(engine.adapters))
    gates = np.random.default_rng(0).dirichlet(np.ones(3), size=len(POSTS))
    probes = encode_probes(base.path, engine.model.prompt, POSTS, max_tokens=engine.model.max_tokens)
    scalings = {name: load_adapter(path).modules for name, path in folders.items()}
    expected = []
    for row, ids in zip(gates, probes.ids, strict=True):
        for path, module in model.base_model.model.named_modules():
            if hasattr(module, "lora_A"):
                for gate, name in zip(row, engine.adapters, strict=True):
                    module.scaling[name] = scalings[name][path].scaling * float(gate)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1, list(probes.labels)]
        expected.append(logits.softmax(-1).numpy())
    np.testing.assert_allclose(engine.score(POSTS, gates, calibrated=False), expected, atol=1e-4)


def test_answer(options, capsys):
    """Sampled answers in a fixed form: explanation, classification, groups, harmful words, reason."""
    sampling = ["--temperature", "0.7", "--top-p", "0.9", "--max-new-tokens", "200"]
    arguments = ["explain", POSTS[1], "--json", "--num-return-sequences", "2", *sampling, *options]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["label"] in ("neutral", "offensive", "hate")
    explanations = [record["explanation"], *record["samples"]]
    assert len(explanations) == 2
    for explanation in explanations:
        assert {"summary", "affected_groups", "harmful_words", "reason"} <= explanation.keys()
        for word in explanation["harmful_words"]:
            assert POSTS[1][word["start"] : word["end"]] == word["text"]
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == record, "a seed makes sampling repeat itself"


def test_training_targets(engine):
    """Posts with people's targets and rationales are trained on in the answer's form, behind the label."""
    text = "what a daft referee"
    example = Example(
        id="1",
        dataset="hatexplain",
        platform="one",
        text=text,
        votes=(Vote(("offensive",), 3),),
        split="train",
        group="1",
        targets=(engine.groups[0],),
        has_targets=True,
        rationales=(Rationale(7, 11),),
        has_rationales=True,
    )
    settings = {"max_tokens": 512, "groups": engine.groups}
    [row] = encode_rows([example], engine.model.prompt, engine.model.tokenizer, with_answers=True, **settings)
    written = engine.model.tokenizer.decode(row.ids)
    assert written.startswith(engine.model.prompt.render(text) + " offensive")
    assert engine.model.prompt.render_answer([engine.groups[0]], ["daft"]) in written
    assert row.answer_at
    assert min(row.answer_at) > row.label_at


def test_evaluation(options, prepared, tmp_path, capsys):
    """`hatex eval` gives figures on the data sets that the research system names."""
    section = {"data": str(prepared), "strategies": ["blend", "single:one"]}
    (tmp_path / "eval.yaml").write_text(json.dumps({"extends": options[1], "eval": section}))
    arguments = ["eval", str(tmp_path / "eval.yaml"), "--registry", options[3], "--no-baseline", "--json"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    for dataset in PLATFORMS:
        assert dataset in out
    assert "macro_f1" in out


def test_an_adapter_answers_the_same_in_plain_transformers_and_peft(engine, tiny):
    """The interoperation proof of the README: label probabilities within 1e-4 in float32."""
    registry = open_registry(tiny.registry)
    base, adapter = registry.find("base", "tiny"), registry.find("adapter", "one", "tiny")
    probes = encode_probes(base.path, engine.model.prompt, max_tokens=engine.model.max_tokens)
    plain = plain_probabilities(load_with_peft(base.path, adapter.path), probes)
    from hatex.merging.probes import PROBES

    ours = engine.score(PROBES, np.tile([1.0, 0.0, 0.0], (len(PROBES), 1)), calibrated=False)
    assert np.abs(ours - plain.numpy()).max() < 1e-4
