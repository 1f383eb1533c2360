"""What a recipe says of training reaches the rows, the factors, the router and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatex.data.examples import read_examples
from hatex.data.votes import vote_shares
from hatex.engine import load_engine
from hatex.model.gatedlm import GatedLM
from hatex.recipe.train import LoraSection
from hatex.registry.adapters import load_adapter
from hatex.routing.router import Router, load_calibration
from hatex.training.initial import fresh_adapter
from hatex.training.losses import vote_loss
from hatex.types import NO_PROGRESS
from hatex.workflows.train import train
from hatex.workflows.train_plan import build_job, make_plan, report_rows

FORUMS = {"platforms": ["forums"], "fully_labelled_share": 0}
WIKI = {"platforms": ["wiki"], "fully_labelled_share": 0}
ROUTER = {"adapters": ["forums", "wiki"], "posts_per_platform": 40, "epochs": 5, "calibration_posts": 10}


def factors(registry: Any, name: str) -> torch.Tensor:
    """All factors of a published adapter, flattened."""
    modules = load_adapter(registry.find("adapter", name, base="tiny")).modules
    return torch.cat([f.flatten() for _, u in sorted(modules.items()) for f in (u.A, u.B)])


def test_rows_are_weighed_and_varied_as_the_recipe_says(recipe_of, registry, tokenizer) -> None:
    def rows_of(**settings: Any) -> dict[str, Any]:
        adapter = FORUMS | settings.pop("adapter", {})
        recipe = recipe_of({"forums": adapter}, **settings)
        plan = make_plan(recipe, registry, (), resume=False, replace=False, progress=NO_PROGRESS)
        job = build_job(plan, "forums", tokenizer, None)
        return {row.example_id: row for row in (*job.rows, *job.tune_rows)}

    plain, varied = rows_of(formatting_noise=0.0), rows_of(formatting_noise=1.0)
    tune = {e.id for e in read_examples(Path(recipe_of().require("train").data), splits=("tune",))}
    changed = {name for name, row in varied.items() if row.ids != plain[name].ids}
    assert len(changed) > len(plain) / 3
    assert not changed & tune
    weighed = rows_of(adapter={"dataset_weights": {"boards": 2.5}})
    assert {row.weight for row in weighed.values()} == {2.5}
    assert {row.weight for row in plain.values()} == {1.0}


def test_rslora_divides_by_the_root_of_the_rank(ground) -> None:
    lm = GatedLM.load(ground.base, "resident", torch.float32)
    scalings = [
        next(iter(fresh_adapter(lm, "a", LoraSection(r=4, alpha=8, rslora=rs), 0).modules.values())).scaling
        for rs in (False, True)
    ]
    assert scalings == [2.0, 4.0]


def test_an_adapter_starts_from_the_one_that_init_names(recipe_of, registry) -> None:
    still = WIKI | {"lr": 1e-9}
    train(recipe_of({"forums": FORUMS, "wiki": still | {"init": "forums"}}), registry)
    started = factors(registry, "wiki")
    torch.testing.assert_close(started, factors(registry, "forums"), rtol=0, atol=1e-4)
    train(recipe_of({"wiki": still}), registry, replace=True)
    assert (factors(registry, "wiki") - started).abs().max() > 1e-2


def test_dropout_reaches_the_adapters_input(recipe_of, registry) -> None:
    train(recipe_of({"forums": FORUMS}, lora={"r": 2}), registry)
    plain = factors(registry, "forums")
    train(recipe_of({"forums": FORUMS}, lora={"r": 2, "dropout": 0.5}), registry, replace=True)
    assert not torch.equal(factors(registry, "forums"), plain)


@pytest.mark.parametrize(("policy", "used"), [("resident", "resident"), ("mixed", "dequantize")])
def test_a_base_that_is_not_resident_is_unpacked_layer_by_layer(
    recipe_of, registry, monkeypatch, policy: str, used: str
) -> None:
    seen, load = [], GatedLM.load

    def watched(folder: Path, compute: Any, *arguments: Any, **options: Any) -> GatedLM:
        seen.append(compute)
        return load(folder, compute, *arguments, **options)

    monkeypatch.setattr(GatedLM, "load", watched)
    recipe = recipe_of({"forums": FORUMS})
    train(recipe.model_copy(update={"base": recipe.base.model_copy(update={"compute": policy})}), registry)
    assert seen == [used]


def test_the_router_is_varied_and_keeps_its_temperature_and_calibration(recipe_of, registry) -> None:
    def router_of(**settings: Any) -> tuple[Router, dict[str, Any], dict[str, Any]]:
        recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER | settings)
        train(recipe, registry, replace=True)
        artefact = registry.find("router", recipe.router)
        router = Router.load(artefact.path, artefact.manifest.extra["adapters"])
        return router, load_calibration(artefact.path), artefact.manifest.metrics

    router, calibration, metrics = router_of(formatting_noise=0.3)
    assert router.temperature != 1
    assert router.temperature == pytest.approx(metrics["temperature"], abs=1e-4)
    assert any(abs(each["scale"] - 1) > 1e-4 for each in calibration["adapters"].values())
    other, *_ = router_of(formatting_noise=0.0)
    assert not np.array_equal(other.weights["output.weight"], router.weights["output.weight"])


def test_the_card_measures_the_adapter_on_report_posts(recipe_of, registry, tokenizer) -> None:
    recipe = recipe_of({"forums": FORUMS, "wiki": WIKI}, router=ROUTER, report_posts=8)
    train(recipe, registry)
    plan = make_plan(recipe, registry, (), resume=True, replace=False, progress=NO_PROGRESS)
    ids = {row.example_id for row in report_rows(plan, build_job(plan, "forums", tokenizer, None), tokenizer)}
    posts = [e for e in read_examples(Path(recipe.require("train").data), splits=("report",)) if e.id in ids]
    assert len(posts) == 8
    engine = load_engine(recipe, registry)
    texts = [post.text for post in posts]
    answers = engine.score(texts, engine.gate(texts, "single:forums"), calibrated=False)
    prompts = [p.ids for p in engine.model.encode(texts, np.zeros((8, 2)), engine.explain_options)]
    bare = engine.model.score(prompts, np.zeros((8, 2)), "delta", calibrated=False)
    shares = torch.tensor(np.array([vote_shares(post.votes) for post in posts]), dtype=torch.float32)
    own, of_base = (vote_loss(torch.tensor(p).log(), shares).mean().item() for p in (answers, bare))
    metrics = registry.find("adapter", "forums", base="tiny").manifest.metrics
    assert metrics["report_vote_loss"] == pytest.approx(own, abs=1e-3)
    assert abs(own - of_base) > 1e-2
