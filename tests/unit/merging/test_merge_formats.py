"""PEFT's linear merge, llama.cpp's row order and sharded safetensors, each against the library that defines it."""

import json

import pytest
import torch
from safetensors import safe_open

from hatex.errors import ModelError
from hatex.merging.gguf_lora import read_gguf_lora, write_gguf_lora
from hatex.merging.merge import MergePlan, merge_adapters
from hatex.merging.requantize import requantize
from hatex.merging.stream import ShardWriter, iter_merged
from hatex.model.weights import ResidentWeight, build_weight, quantize
from hatex.registry.adapters import LoraAdapter, LoraUpdate, load_adapter

# PEFT asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


def tiny_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {key: value for key, value in CONFIG.items() if key != "model_type"}
    return LlamaForCausalLM(LlamaConfig(hidden_size=32, intermediate_size=64, vocab_size=64, **shape)).eval()


def random_adapter(seed: int = 0) -> LoraAdapter:
    generator = torch.Generator().manual_seed(seed)
    updates = {
        path: LoraUpdate(
            torch.randn(4, layer.in_features, generator=generator),
            torch.randn(layer.out_features, 4, generator=generator),
            0.5,
        )
        for path, layer in tiny_llama().named_modules()
        if isinstance(layer, torch.nn.Linear) and path != "lm_head"
    }
    return LoraAdapter("random", updates)


@pytest.mark.parametrize("method", ["linear", "cat"])
def test_linear_and_cat_are_those_of_peft(tmp_path, method):
    from peft import LoraConfig, get_peft_model

    weights = {"one": 0.5, "two": 0.3, "three": 0.2}
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(tiny_llama(), config, adapter_name="one")
    for name in ("two", "three"):
        model.add_adapter(name, config)
    model.save_pretrained(tmp_path)
    model.add_weighted_adapter(list(weights), list(weights.values()), "mix", combination_type=method)
    adapters = [load_adapter(tmp_path / name) for name in weights]
    merged = merge_adapters(adapters, MergePlan("mix", weights, method)).adapter
    for path, (A, B, scaling) in merged.modules.items():
        layer = model.base_model.model.get_submodule(path)
        torch.testing.assert_close(scaling * (B @ A), layer.get_delta_weight("mix"), atol=1e-5, rtol=1e-4)


def test_gguf_rows_are_in_the_order_that_transformers_undoes(tmp_path):
    import gguf
    from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

    adapter = random_adapter()
    write_gguf_lora(tmp_path / "a.gguf", adapter, CONFIG)
    stored = {
        tensor.name: torch.from_numpy(tensor.data.copy())
        for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors
    }
    processor = LlamaTensorProcessor(config=CONFIG)
    for leaf, name, heads in (("q_proj", "attn_q", (4, 4)), ("k_proj", "attn_k", (4, 2))):
        A, B, scaling = adapter.modules[f"model.layers.1.self_attn.{leaf}"]
        ours = stored[f"blk.1.{name}.weight.lora_b"] @ stored[f"blk.1.{name}.weight.lora_a"]
        undone = processor._reverse_permute_weights(ours, *heads)
        torch.testing.assert_close(undone, scaling * (B @ A))
    back = read_gguf_lora(tmp_path / "a.gguf", CONFIG)
    for path, update in adapter.modules.items():
        torch.testing.assert_close(
            back.modules[path].B * back.modules[path].scaling, update.B * update.scaling
        )
        torch.testing.assert_close(back.modules[path].A, update.A)


def test_gguf_refuses_what_llama_cpp_would_not_know(tmp_path):
    with pytest.raises(ModelError, match="Llama bases only"):
        write_gguf_lora(tmp_path / "a.gguf", random_adapter(), {**CONFIG, "model_type": "gpt2"})
    odd = LoraAdapter("odd", {"model.layers.0.adapter": LoraUpdate(torch.ones(1, 2), torch.ones(2, 1), 1.0)})
    with pytest.raises(ModelError, match="no name for"):
        write_gguf_lora(tmp_path / "b.gguf", odd, CONFIG)


def test_a_merged_model_in_shards_loads_with_transformers(tmp_path):
    from transformers import AutoModelForCausalLM

    model, adapter = tiny_llama(), random_adapter()
    model.save_pretrained(tmp_path / "base")
    (tmp_path / "merged").mkdir()
    writer = ShardWriter(tmp_path / "merged", max_bytes=20_000)
    for name, tensor, parts in iter_merged(tmp_path / "base", adapter):
        assert not parts
        writer.add(name, tensor.bfloat16())
    total = writer.close()
    shards = sorted(tmp_path.glob("merged/model-*.safetensors"))
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert len(shards) > 1
    assert {path.name for path in shards} == set(index["weight_map"].values())
    assert index["metadata"]["total_size"] == total
    for path in shards:
        with safe_open(path, framework="pt") as file:
            assert dict.fromkeys(file.keys(), path.name).items() <= index["weight_map"].items()
    model.config.save_pretrained(tmp_path / "merged")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    for path, (A, B, scaling) in adapter.modules.items():
        expected = model.get_submodule(path).weight + scaling * (B @ A)
        torch.testing.assert_close(loaded.get_submodule(path).weight, expected.bfloat16().float())


def nf4_values(stored):
    weight = build_weight(stored, "resident", torch.float32)
    assert isinstance(weight, ResidentWeight)
    return weight.weight


def test_requantising_what_is_on_the_grid_changes_nothing():
    stored = quantize(torch.randn(64, 128, generator=torch.Generator().manual_seed(0)), 64)
    parts = {key: value for key, value in stored.items() if key}
    values = nf4_values(stored)
    again = requantize(values, parts, torch.Generator().manual_seed(0))
    assert (nf4_values(again) != values).float().mean() < 1e-3
    assert again[""].shape == stored[""].shape


def test_small_updates_survive_requantising_in_the_mean():
    generator = torch.Generator().manual_seed(0)
    stored = quantize(torch.randn(256, 256, generator=generator), 64)
    parts, values = {key: value for key, value in stored.items() if key}, nf4_values(stored)
    direction = torch.randn(256, generator=generator) / 16
    update = 0.02 * torch.outer(torch.randn(256, generator=generator), direction)
    nearest = nf4_values(quantize(values + update, 64)) - values
    rounded = nf4_values(requantize(values + update, parts, generator)) - values
    wanted = update @ direction
    assert torch.corrcoef(torch.stack([rounded @ direction, wanted]))[0, 1] > 0.5
    assert torch.corrcoef(torch.stack([nearest @ direction, wanted]))[0, 1] < 0.3


def test_gguf_says_what_it_is_and_carries_mixed_ranks(tmp_path):
    import gguf

    adapter = random_adapter()
    path = "model.layers.0.mlp.up_proj"
    wide = LoraUpdate(torch.randn(8, 32), torch.randn(64, 8), 0.5)
    adapter = LoraAdapter("random", {**adapter.modules, path: wide})
    write_gguf_lora(tmp_path / "a.gguf", adapter, CONFIG)
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    said = {
        k: reader.get_field(k).contents() for k in ("general.type", "general.architecture", "adapter.type")
    }
    assert said == {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
    back = read_gguf_lora(tmp_path / "a.gguf", CONFIG)
    for p, u in adapter.modules.items():
        torch.testing.assert_close(back.modules[p].B * back.modules[p].scaling, u.B * u.scaling)
