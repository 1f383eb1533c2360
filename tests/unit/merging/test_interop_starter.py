"""The starter's adapters in plain transformers and PEFT, on the real base."""

from pathlib import Path

import pytest

from hatex.merging.merge import MergePlan, merge_adapters
from hatex.merging.verify import encode_probes, gated_probabilities, load_with_peft, plain_probabilities
from hatex.registry import open_registry
from hatex.registry.adapters import load_adapter, save_adapter

# PEFT asks transformers for a property that transformers has renamed.
pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
]


def test_a_starter_adapter_and_a_merge_answer_the_same_in_peft(starter_engine, tmp_path):
    base = Path(starter_engine.model.tokenizer.name_or_path)
    registry = open_registry(base.parent.parent)
    names = starter_engine.router.adapters
    adapters = [load_adapter(registry.find("adapter", name, base.name)) for name in names]
    probes = encode_probes(base, starter_engine.model.prompt)
    first = registry.find("adapter", names[0], base.name).path
    expected = gated_probabilities(base, adapters[:1], [1.0], probes)
    assert (plain_probabilities(load_with_peft(base, first), probes) - expected).abs().max() < 1e-4

    weights = {name: 1 / len(names) for name in names}
    save_adapter(
        tmp_path / "mix", merge_adapters(adapters, MergePlan("mix", weights)).adapter, dtype=expected.dtype
    )
    blend = gated_probabilities(base, adapters, list(weights.values()), probes)
    assert (plain_probabilities(load_with_peft(base, tmp_path / "mix"), probes) - blend).abs().max() < 1e-4
