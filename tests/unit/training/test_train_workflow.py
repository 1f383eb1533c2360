"""`workflows.train` on a small real base: artefacts, resuming, refusals, estimates."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hatex.data.examples import read_examples, write_examples
from hatex.engine import load_engine
from hatex.errors import HatexError, ModelError, RegistryError, TrainingError
from hatex.recipe import Recipe, load_recipe
from hatex.recipe.route import FallbackSection
from hatex.registry import Registry
from hatex.registry.adapters import load_adapter
from hatex.training.estimate import training_bytes
from hatex.training.refine import refine_router
from hatex.training.router import router_key
from hatex.types import NO_PROGRESS, Example, Vote
from hatex.workflows.train import train
from hatex.workflows.train_publish import card_accuracy

FORUMS = {"platforms": ["forums"], "fully_labelled_share": 0}
WIKI = {"platforms": ["wiki"], "fully_labelled_share": 0, "init": "forums"}
ROUTER = {"adapters": ["forums", "wiki"], "posts_per_platform": 40, "epochs": 5, "calibration_posts": 10}


def weights_of(registry: Registry, name: str) -> bytes:
    return (registry.find("adapter", name, base="tiny").path / "adapter_model.safetensors").read_bytes()


def test_adapters_and_router_become_an_engine(recipe_of, registry) -> None:
    recipe = recipe_of(
        {"forums": FORUMS, "wiki": WIKI},
        router=ROUTER | {"layers": [1, -1], "dropout": 0.3},
        report_posts=10,
        explanation_weight=0.2,
        licence="CC0-1.0",
    )
    report = train(recipe, registry)
    assert [a.name for a in report.adapters] == ["forums", "wiki"]
    assert report.adapters[0].rows == {"boards": 48}
    assert report.router is not None
    assert report.router["tune_accuracy"] >= 0
    for adapter in report.adapters:
        artefact = registry.find("adapter", adapter.name, base="tiny")
        lines = [json.loads(line) for line in (artefact.path / "losses.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == list(range(1, adapter.steps + 1))
        assert pytest.approx(adapter.best_tune_loss, abs=1e-4) in [line.get("tune_loss") for line in lines]
        assert (artefact.path / "losses.png").read_bytes().startswith(b"\x89PNG")
        card = (artefact.path / "README.md").read_text()
        assert f"{adapter.tokens:,} tokens, {adapter.steps} steps" in card
        assert f"| accuracy | {artefact.manifest.metrics['report_accuracy']:.4g} |" in card
        assert "Licence: CC0-1.0" in card
        assert artefact.manifest.metrics["report_posts"] == 10
        assert artefact.manifest.extra["votes_per_post"] > 2
    parents = registry.find("adapter", "wiki", base="tiny").manifest.parents
    assert set(parents) == {"base:tiny", "adapter:tiny/forums"}
    engine = load_engine(recipe, registry)
    probabilities = engine.score(["Lovely match", "You silly clowns"])
    assert probabilities.sum(1) == pytest.approx([1, 1])
    # The router's manifest says which layers it reads.
    assert engine.encoder.layers == (1, -1)
    assert engine.router.width == engine.encoder.width == 2 * 32
    kept = registry.find("router", recipe.router).manifest.extra
    encoder = {key: kept["encoder"][key] for key in ("name", "sha256")}
    fields = {"adapters": kept["adapters"], "encoder": encoder}
    with registry.publish("router", "layerless", manifest_fields=fields) as staged:
        engine.router.save(staged, {})
    with pytest.raises(ModelError, match="reads 64 numbers of a post, encoder:tiny gives 32"):
        load_engine(recipe.model_copy(update={"router": "layerless"}), registry)
    assert not (registry.root / ".training" / "tiny" / "forums").exists()


def test_a_router_is_another_where_its_calibration_goes_by_other_posts(recipe_of, registry) -> None:
    def key(**train_keys: Any) -> str:
        recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER, **train_keys)
        return router_key(recipe, registry, examples)

    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER)
    train(recipe, registry)
    examples = read_examples(Path(recipe.require("train").data))
    assert registry.find("router", recipe.router).manifest.extra["training_key"] == key()
    assert key(priors={"boards": {"hate": 0.4}}) != key() == key(threads=1)
    keys = {key()}
    for change in ({"platform": "wiki"}, {"text": "another text"}):
        examples = [replace(examples[0], **change), *examples[1:]]
        keys.add(key())
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER)
    section = recipe.route.model_copy(update={"fallback": FallbackSection()})
    keys.add(router_key(recipe.model_copy(update={"route": section}), registry, examples))
    assert len(keys) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from contextlib import contextmanager
from hatex.recipe import load_recipe
from hatex.registry import Registry
from hatex.workflows.train import train
from hatex.workflows.train_publish import card_accuracy
recipe, home, ground, when = sys.argv[1:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Deadly:
    @contextmanager
    def task(self, description, total=None, unit=""):
        done = [0]
        def advance(n):
            done[0] += n
            if when == "between steps" and description == "Training forums" and done[0] >= 5:
                die()
        yield advance
    def say(self, message): pass

if when == "inside a checkpoint":
    import hatex.training.checkpoint as checkpoint
    real, calls = checkpoint.flush_tree, []
    def flush(folder):
        calls.append(folder)
        if len(calls) == 2:
            die()
        real(folder)
    checkpoint.flush_tree = flush
train(load_recipe(recipe), Registry(Path(home), Path(ground)), progress=Deadly())
"""


@pytest.mark.parametrize("when", ["between steps", "inside a checkpoint"])
def test_killed_and_resumed_gives_the_same_bytes(recipe_of, registry, ground, tmp_path, when: str) -> None:
    recipe = recipe_of(lora={"r": 2, "dropout": 0.1})
    train(recipe, registry)
    whole = weights_of(registry, "forums")
    file = tmp_path / "mine.yaml"
    file.write_text(recipe.model_dump_json(exclude_none=True))
    other = Registry(tmp_path / "other", ground.home)
    command = [sys.executable, "-c", KILLED, str(file), str(other.root), str(ground.home), when]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    left = sorted((other.root / ".training" / "tiny" / "forums").glob("step-*"))
    assert left
    resumed = train(load_recipe(str(file)), other, resume=True)
    assert weights_of(other, "forums") == whole
    assert resumed.adapters[0].steps > 5


def test_resume_skips_what_is_finished_and_nothing_else(recipe_of, registry) -> None:
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI})
    train(recipe, registry, only=("forums",))
    before = weights_of(registry, "forums")
    report = train(recipe, registry, resume=True)
    assert [a.name for a in report.adapters] == ["forums", "wiki"]
    assert weights_of(registry, "forums") == before
    with pytest.raises(RegistryError, match="exists already"):
        train(recipe, registry)
    with pytest.raises(RegistryError, match="exists already, from another recipe"):
        train(recipe_of({"forums": FORUMS}, seed=5), registry, resume=True)
    train(recipe_of({"forums": FORUMS}, seed=5), registry, replace=True)
    assert weights_of(registry, "forums") != before


def never(*_: object, **__: object) -> None:
    raise AssertionError("a step was made")


def test_resuming_looks_at_all_that_is_there_before_the_first_step(
    recipe_of, registry, ground, tmp_path, monkeypatch
) -> None:
    other = recipe_of({"wiki": WIKI | {"init": None}, "forums": FORUMS}, seed=5)
    train(other, registry, only=("wiki",))
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI | {"init": None}}, router=ROUTER)
    with monkeypatch.context() as patched:
        patched.setattr("hatex.training.loop.AdapterTrainer.run", never)
        with pytest.raises(RegistryError, match="adapter wiki exists already, from another recipe"):
            train(recipe, registry, resume=True)
    interrupted = Registry(tmp_path / "interrupted", ground.home)
    with monkeypatch.context() as patched:
        patched.setattr("hatex.workflows.train.publish_adapter", never)
        with pytest.raises(AssertionError):
            train(other, interrupted, only=("wiki",))
        patched.setattr("hatex.training.loop.AdapterTrainer.run", never)
        with pytest.raises(TrainingError, match="the checkpoint belongs to another recipe"):
            train(recipe, interrupted, resume=True)


def test_starting_anew_over_an_unfinished_run_is_refused_unless_asked_for(
    recipe_of, registry, monkeypatch
) -> None:
    recipe = recipe_of({"forums": FORUMS})
    with monkeypatch.context() as patched:
        patched.setattr("hatex.workflows.train.publish_adapter", never)
        with pytest.raises(AssertionError):
            train(recipe, registry)
        with pytest.raises(TrainingError, match="an earlier run of this recipe stopped after step") as caught:
            train(recipe, registry)
        assert "--resume" in caught.value.hint
        assert "--replace" in caught.value.hint
        with pytest.raises(AssertionError):
            train(recipe_of({"forums": FORUMS}, seed=5), registry)
    train(recipe_of({"forums": FORUMS}, seed=5), registry, replace=True)


def test_replacing_goes_on_after_an_interruption(recipe_of, registry, monkeypatch) -> None:
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER, seed=5)
    train(recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER), registry)
    train(recipe, registry, only=("forums",), replace=True)
    first = registry.find("adapter", "forums", base="tiny").manifest.digest
    train(recipe, registry, replace=True, resume=True)
    assert registry.find("adapter", "forums", base="tiny").manifest.digest == first
    monkeypatch.setattr("hatex.training.loop.AdapterTrainer.run", never)
    again = train(recipe, registry, replace=True, resume=True)
    assert [each.name for each in again.adapters] == ["forums", "wiki"]


def rewrite(prepared: Path, target: Path, change) -> str:
    from hatex.data.examples import read_examples

    write_examples(target / "examples.parquet", [change(e) for e in read_examples(prepared)])
    return str(target)


@pytest.mark.parametrize(
    ("adapters", "settings", "message", "hint"),
    [
        ({"a": {"platforms": ["radio"]}}, {}, "no training rows of platform radio", "forums, wiki"),
        ({"a": WIKI | {"init": "b"}, "b": FORUMS}, {}, "trained after it", "above a"),
        ({"a": FORUMS | {"init": "nobody"}}, {}, "nobody", ""),
        (
            {"a": FORUMS},
            {"router": ROUTER | {"adapters": ["forums", "radio"]}},
            "platform radio",
            "forums, wiki",
        ),
        (
            {"forums": FORUMS, "wiki": WIKI},
            {"router": ROUTER | {"layers": [1, 3]}},
            "encoder tiny has no layer 3",
            "to 2",
        ),
        ({"a": FORUMS}, {"optimizer": "paged_adamw_8bit"}, "needs CUDA", "auto"),
        ({"a": FORUMS}, {"report_to": ["wandb"]}, "wandb is not installed", "hatex[wandb]"),
        ({"a": FORUMS}, {"lora": {"modules": ["qq_proj"]}}, "no linear layer qq_proj", "q_proj"),
        (
            {"a": FORUMS},
            {"priors": {"radio": {"hate": 0.4}}},
            "no training rows of data set radio",
            "boards, talk",
        ),
        (
            {"forums": FORUMS, "wiki": WIKI},
            {"router": ROUTER, "compare_with": "starter"},
            "eval",
            "",
        ),
    ],
)
def test_refused_before_the_first_step(
    recipe_of, registry, monkeypatch, adapters, settings, message, hint
) -> None:
    monkeypatch.setattr("hatex.training.loop.AdapterTrainer.run", never)
    with pytest.raises(HatexError, match=message) as caught:
        train(recipe_of(adapters, **settings), registry)
    assert hint in (caught.value.hint or "")


def test_a_router_over_adapters_that_the_recipe_leaves_out_is_refused(
    recipe_of, registry, monkeypatch
) -> None:
    monkeypatch.setattr("hatex.training.loop.AdapterTrainer.run", never)
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER)
    with pytest.raises(TrainingError, match="weighs wiki"):
        train(recipe.model_copy(update={"adapters": ("forums",)}), registry)


def test_one_class_and_a_label_nobody_names_are_refused(recipe_of, registry, prepared, tmp_path) -> None:
    from hatex.types import Vote

    def toxic(example):
        return replace(example, votes=(Vote(("offensive", "hate"), 2),))

    def mild(example):
        return replace(example, votes=(Vote(("neutral",) if int(example.id[-1]) % 2 else ("offensive",)),))

    for change, message in ((toxic, "nothing to tell apart"), (mild, "touches hate")):
        data = rewrite(prepared, tmp_path / change.__name__, change)
        with pytest.raises(TrainingError, match=message):
            train(recipe_of(data=data), registry)


def test_the_base_of_a_checkpoint_may_not_change(recipe_of, registry) -> None:
    from hatex.types import NO_PROGRESS
    from hatex.workflows.train_plan import build_job, make_plan

    plan = make_plan(recipe_of(), registry, (), resume=False, replace=False, progress=NO_PROGRESS)
    keys = {build_job(plan, "forums", None, identity).key for identity in ("one", "one", "two")}
    assert len(keys) == 2
    other = plan.recipe.model_copy(update={"base": plan.recipe.base.model_copy(update={"dtype": "bfloat16"})})
    for changed in (replace(plan, recipe=other), replace(plan, processes=2)):
        assert build_job(changed, "forums", None, "one").key not in keys


def test_an_engine_without_all_its_adapters_is_refused(recipe_of, registry, monkeypatch) -> None:
    monkeypatch.setattr("hatex.training.loop.AdapterTrainer.run", never)
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER)
    with pytest.raises(RegistryError, match="nobody"):
        train(recipe.model_copy(update={"adapters": ("forums", "wiki", "nobody")}), registry)


def test_losses_reach_tensorboard(recipe_of, registry, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    report = train(recipe_of(report_to=["tensorboard"], report_folder=str(tmp_path / "runs")), registry)
    (folder,) = {file.parent for file in (tmp_path / "runs" / "mine-forums").glob("events*")}
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, report.adapters[0].steps + 1))
    assert len(events.Scalars("tune_loss")) == 2


def test_dry_run_says_what_it_takes_and_writes_nothing(recipe_of, registry) -> None:
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER)
    report = train(recipe, registry, dry_run=True)
    real = train(recipe, registry)
    assert report.router == {"adapters": "forums, wiki", "posts": real.router["posts"]}
    assert [(a.steps, a.tokens, a.rows) for a in report.adapters] == [
        (a.steps, a.tokens, a.rows) for a in real.adapters
    ]
    estimate = report.estimate
    assert estimate is not None
    # Two blocks of q, o (32x32), k, v (16x32) and three times 64x32 in fp32, and 261 tied or untied embeddings.
    linear = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)
    assert estimate.base_bytes in {4 * (linear + n * 261 * 32) for n in (1, 2)}
    assert estimate.adapter_bytes == 5 * 4 * sum(
        update.A.numel() + update.B.numel()
        for update in load_adapter(registry.find("adapter", "forums", base="tiny")).modules.values()
    )
    assert estimate.activation_bytes > 400 * 32 * 4
    seconds = [a.seconds for a in report.adapters]
    assert seconds == pytest.approx([a.tokens / estimate.tokens_per_s for a in report.adapters])
    # What decides whether the base is unpacked is counted without a block, and about the same.
    base = registry.find("base", "tiny").path
    counted = training_bytes(base, recipe.train, torch.float32)
    assert counted == pytest.approx(estimate.adapter_bytes + estimate.activation_bytes, rel=0.5)
    less = training_bytes(base, recipe.train.model_copy(update={"checkpointing": True}), torch.float32)
    assert less < counted


REFERENCE = {
    "lora.r": 64,
    "lora.alpha": 16,
    "lora.dropout": 0.1,
    "lora.rslora": False,
    "lora.modules": None,
    "lr": 4e-4,
    "warmup_share": 0.03,
    "max_grad_norm": 0.3,
    "optimizer": "auto",  # paged_adamw_32bit on CUDA
    "batch_rows": 8,
    "max_tokens": 2048,
    "seed": 4761,
    "checkpoint_every": 25,
}


@pytest.fixture
def reference(prepared, tmp_path, monkeypatch):
    """The shipped recipe on invented posts; overrides as on the command line."""
    monkeypatch.setenv("HATEX_DATA", str(tmp_path))
    monkeypatch.setenv("HATEX_REFERENCE_ROUTER", str(tmp_path / "router.pth"))

    def build(*overrides: str) -> Recipe:
        return load_recipe("reference-llama2-7b", [f"train.data={prepared}", *overrides])

    return build


def test_the_reference_recipe_holds_every_hyperparameter(reference) -> None:
    recipe = reference()
    assert recipe.base.source.hub == "meta-llama/Llama-2-7b-hf"
    assert recipe.base.quantization == "nf4"
    assert recipe.base.dtype == "bfloat16"
    settings = recipe.train.model_dump()
    flat = settings | {f"lora.{key}": value for key, value in settings["lora"].items()}
    assert {key: flat[key] for key in REFERENCE} == REFERENCE
    assert settings["batch_tokens"] >= 8 * 2048
    assert {section.epochs for section in recipe.train.adapters.values()} == {1.0}
    assert recipe.train.router.adapters == ("forums", "wiki", "microblog")
    assert recipe.train.router.hidden == 8
    sources = {name: each.source for name, each in recipe.imports.adapters.items()}
    assert sources == {
        name: f"huli-4761/llama2_7B_{name}" for name in ("forums", "wiki", "microblog", "full")
    }


def test_the_reference_recipe_dry_runs_without_its_base(reference, registry) -> None:
    small = ["base.shape.hidden_size=256", "base.shape.intermediate_size=512", "base.dtype=float32"]
    recipe = reference(*small, "train.optimizer=paged_adamw_32bit")
    report = train(recipe, registry, only=("forums", "wiki"), dry_run=True)
    assert [a.steps for a in report.adapters] == [-(-sum(a.rows.values()) // 8) for a in report.adapters]
    assert all(a.seconds > 0 for a in report.adapters)
    assert "4 bytes each" in report.estimate.basis
    assert "needs CUDA" in report.estimate.basis
    assert not registry.root.exists() or not list(registry.root.rglob("*.safetensors"))


def test_the_reference_recipe_trains_two_steps_on_a_small_llama(reference, registry, ground) -> None:
    source = f"base.source={{folder: {ground.base}, licence: null}}"
    rows = "train.adapters.forums={platforms: [forums], rows: {boards: 16}, fully_labelled_share: 0}"
    recipe = reference("base.name=tiny", source, rows)
    said: list[str] = []
    progress = SimpleNamespace(task=NO_PROGRESS.task, say=said.append)
    report = train(recipe, registry, only=("forums",), progress=progress)
    assert report.adapters[0].steps == 2
    artefact = registry.find("adapter", "forums", base="tiny")
    # The template explains first, and nobody wrote explanations: that is told, and the card claims no accuracy.
    assert any(line.startswith("forums: no training post has a written explanation") for line in said)
    assert not any(name.startswith("report") for name in artefact.manifest.metrics)
    config = json.loads((artefact.path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["bias"]) == (
        64,
        16,
        0.1,
        "none",
    )
    adapter = load_adapter(artefact)
    leaves = {path.rsplit(".", 1)[-1] for path in adapter.modules}
    assert leaves == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert all(update.B.abs().sum() > 0 for update in adapter.modules.values())
    shutil.rmtree(registry.root)


def test_an_adapter_trained_beside_a_partner_names_it_as_a_parent(recipe_of, registry) -> None:
    wiki = {"platforms": ["wiki"], "fully_labelled_share": 0, "partners": ["forums"]}
    train(recipe_of({"forums": FORUMS, "wiki": wiki}), registry)
    parents = registry.find("adapter", "wiki", base="tiny").manifest.parents
    assert set(parents) == {"base:tiny", "adapter:tiny/forums"}
    assert load_adapter(registry.find("adapter", "wiki", base="tiny")).modules
    with pytest.raises(TrainingError, match="needs forums, which is trained after it"):
        train(recipe_of({"wiki": wiki, "forums": FORUMS}), registry, replace=True)


def test_a_base_that_does_not_fit_is_trained_on_unpacked_layer_by_layer(recipe_of, registry) -> None:
    fits, small = recipe_of({"a": FORUMS}), recipe_of({"a": FORUMS})
    small = small.model_copy(update={"base": small.base.model_copy(update={"compute": "mixed"})})
    first, second = (train(recipe, registry, replace=True).adapters[0] for recipe in (fits, small))
    assert second.best_tune_loss == pytest.approx(first.best_tune_loss, rel=1e-2)


def test_majority_votes_teach_another_adapter(recipe_of, registry) -> None:
    train(recipe_of({"forums": FORUMS}), registry)
    soft = weights_of(registry, "forums")
    train(recipe_of({"forums": FORUMS}, votes="majority"), registry, replace=True)
    assert weights_of(registry, "forums") != soft
    # Its disagreement is the model's own: it never saw how people split.
    assert registry.find("adapter", "forums", base="tiny").manifest.extra["votes_per_post"] == 1


def test_a_refined_router_blends_better_answers(recipe_of, registry) -> None:
    refine = {"posts": 30, "steps": 40, "lr": 0.02, "platform_weight": 0.1}
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router={**ROUTER, "refine": refine})
    report = train(recipe, registry)
    assert report.router is not None
    assert report.router["mixture_loss"] < report.router["mixture_loss_before"]
    assert (
        registry.find("router", recipe.router).manifest.metrics["mixture_loss"]
        == report.router["mixture_loss"]
    )
    engine, section = load_engine(recipe, registry), recipe.require("train").router.refine
    examples = read_examples(Path(recipe.require("train").data), splits=("train",))
    with pytest.MonkeyPatch.context() as patch:
        # Adapters that call everything hateful suit votes of which nine in ten are weighed to be.
        sure = np.tile([0.1, 0.1, 0.8], (len(examples), 2, 1))
        patch.setattr("hatex.training.refine._answers", lambda *_: sure)
        plain, weighed = (
            refine_router(engine, section, examples, priors, NO_PROGRESS)[1]["mixture_loss_before"]
            for priors in ({}, {"boards": {"hate": 0.9}})
        )
    assert weighed < plain - 0.1
    gates = engine.gate(["Lovely match number 3, thanks", "You silly clowns lost match 4"])
    assert gates.sum(1) == pytest.approx([1, 1])


def test_a_card_decides_as_eval_does() -> None:
    """Two sides are compared at .5 and ties are left out, however the labels of a side share its mass."""

    def post(number: int, *labels: str) -> Example:
        votes = tuple(Vote(tuple(label.split("|")), 1) for label in labels)
        return Example(f"s:{number}", "s", "forums", f"post {number}", votes, "report", f"s:{number}")

    examples = (
        post(0, "neutral|offensive"),
        post(1, "hate"),
        post(2, "hate"),
        post(3, "hate", "neutral|offensive"),
    )
    probabilities = np.array([[0.3, 0.3, 0.4], [0.3, 0.3, 0.4], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]])
    plan: Any = SimpleNamespace(examples=examples)
    assert card_accuracy(plan, [e.id for e in examples], probabilities) == pytest.approx(2 / 3)
    silent = (post(0, "neutral|offensive|hate"),)
    plan.examples = silent
    assert card_accuracy(plan, ["s:0"], probabilities[:1]) is None
