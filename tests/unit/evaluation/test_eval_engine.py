"""Evaluation over the real starter engine: shared passes are the engine's own answers."""

from __future__ import annotations

import numpy as np
import pytest

from hatex.evaluation.passes import PassCache
from hatex.evaluation.specs import parse_strategy
from hatex.registry import Registry
from hatex.routing.strategies import gate_weights
from hatex.types import Example, Rationale, Vote

pytestmark = pytest.mark.model

TEXTS = [
    "The match was lovely and the away fans sang until the end.",
    "That referee is a useless clown and so is your whole club.",
    "Please cite a source before you revert this edit again.",
]


def test_shared_passes_are_the_engines_answers(starter_engine):
    specs = [parse_strategy(s) for s in ("blend", "uniform", "top-1", "blend@probability", "blend@reference")]
    requests = [(starter_engine.gate(TEXTS, spec.strategy), spec.space) for spec in specs]
    cache = PassCache(starter_engine, TEXTS)
    cache.prepare(requests, lambda _done: None)
    for gates, space in requests:
        direct = starter_engine.score(TEXTS, gates, space=space)
        # Batches differ, so bf16 rounding does.
        np.testing.assert_allclose(cache.score(gates, space), direct, atol=0.01)


def test_top_k_follows_from_blend(starter_engine):
    routed = starter_engine.router.adapters
    columns = [starter_engine.adapters.index(name) for name in routed]
    blend = starter_engine.gate(TEXTS, "blend")
    for k in range(1, len(routed) + 1):
        derived = gate_weights(f"top-{k}", blend[:, columns], routed, starter_engine.adapters)
        np.testing.assert_array_equal(derived, starter_engine.gate(TEXTS, f"top-{k}"))


def test_a_whole_run_with_explanations(starter_engine, tmp_path):
    from hatex.data.examples import write_examples
    from hatex.recipe import load_recipe
    from hatex.workflows.evaluate import evaluate

    def row(number: int) -> Example:
        text = TEXTS[number % 3]
        rude = number % 3 == 1
        marks = (Rationale(text.index("useless"), text.index("clown") + 5),) if rude else ()
        votes = (Vote(("offensive",) if rude else ("neutral",)),)
        return Example(
            f"pub:{number}", "pub", "forums", text, votes, "report", f"pub:{number}", (), True, marks, True
        )

    write_examples(tmp_path / "data" / "examples.parquet", [row(number) for number in range(6)])
    section = "{data: %s, resamples: 100, baseline: false, suites: [], explained_posts: 1, strategies: [blend, full]}"
    recipe = load_recipe("starter", [f"eval={section % (tmp_path / 'data')}"])
    registry = Registry(tmp_path / "home", None)
    run = evaluate(recipe, registry, explanations=True, engine=starter_engine)
    assert run.model == starter_engine.fingerprint
    # One harmful post is explained; its quotes stand in it.
    assert run.explanations["pub"]["parse_rate"].value == 1.0
    assert run.explanations["pub"]["verbatim_rate"].value == 1.0
    assert run.passes_run == 12
    assert sum(run.gates["pub"]["blend"].values()) == pytest.approx(1.0, abs=1e-5)
