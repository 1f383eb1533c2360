"""Adapters in PEFT's format: what PEFT writes is read, what hatex writes PEFT loads, the rest is refused."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hatex
from hatex.errors import IntegrityError, ModelError
from hatex.registry import Registry
from hatex.registry.adapters import LoraAdapter, LoraUpdate, load_adapter, save_adapter

# PEFT asks transformers for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def tiny_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
    )
    return LlamaForCausalLM(config).eval()


def peft_folder(folder: Path, **settings) -> torch.Tensor:
    """Write a random adapter with PEFT itself; return its logits on the tiny model."""
    from peft import LoraConfig, get_peft_model

    settings = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "init_lora_weights": False,
    } | settings
    model = get_peft_model(tiny_llama(), LoraConfig(task_type="CAUSAL_LM", **settings))
    model.save_pretrained(folder)
    with torch.no_grad():
        return model.eval()(IDS).logits


def peft_logits(folder: Path) -> torch.Tensor:
    from peft import PeftModel

    with torch.no_grad():
        return PeftModel.from_pretrained(tiny_llama(), folder).eval()(IDS).logits


def dense_logits(adapter: LoraAdapter) -> torch.Tensor:
    """The model with every update added to its weights."""
    model = tiny_llama()
    with torch.no_grad():
        for path, (A, B, scaling) in adapter.modules.items():
            model.get_submodule(path).weight += scaling * (B.float() @ A.float())
        return model(IDS).logits


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "lora_alpha": 5},
        {"rank_pattern": {"layers.1.mlp.up_proj": 6}, "alpha_pattern": {"q_proj": 3}},
        {"rank_pattern": {r".*\.0\.self_attn\.[qk]_proj": 2}, "use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    ],
)
def test_what_peft_writes_is_read_and_written_back_exactly(tmp_path, settings):
    expected = peft_folder(tmp_path / "peft", **settings)
    adapter = load_adapter(tmp_path / "peft")
    torch.testing.assert_close(dense_logits(adapter), expected, atol=1e-5, rtol=1e-4)
    save_adapter(tmp_path / "own", adapter, dtype=torch.float32)
    torch.testing.assert_close(peft_logits(tmp_path / "own"), expected, atol=1e-6, rtol=1e-5)
    again = load_adapter(tmp_path / "own")
    assert list(again.modules) == list(adapter.modules)
    for module, update in adapter.modules.items():
        assert again.modules[module].scaling == pytest.approx(update.scaling, rel=1e-12)


def test_adapters_are_stored_in_bf16_and_equal_adapters_give_equal_bytes(tmp_path):
    peft_folder(tmp_path / "peft")
    adapter = load_adapter(tmp_path / "peft")
    for name in ("one", "two"):
        save_adapter(tmp_path / name, adapter, base_model="tiny")
    stored = load_file(tmp_path / "one" / "adapter_model.safetensors")
    assert {t.dtype for t in stored.values()} == {torch.bfloat16}
    assert (
        json.loads((tmp_path / "one" / "adapter_config.json").read_text())["base_model_name_or_path"]
        == "tiny"
    )
    for file in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_folder_keeps_to_the_file_rules_of_vllm(tmp_path):
    """It reads r, lora_alpha, use_rslora, target_modules, and takes `base_model.model.` keys."""
    peft_folder(tmp_path / "peft", use_rslora=True)
    save_adapter(tmp_path / "own", load_adapter(tmp_path / "peft"))
    config = json.loads((tmp_path / "own" / "adapter_config.json").read_text())
    assert not config["rank_pattern"]
    assert not config["alpha_pattern"]
    assert config["bias"] == "none"
    assert config["modules_to_save"] is None
    assert config["use_dora"] is False
    leaves = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert set(config["target_modules"]) == leaves
    for key in load_file(tmp_path / "own" / "adapter_model.safetensors"):
        stem, side, last = key.rsplit(".", 2)
        assert stem.startswith("base_model.model.model.layers.")
        assert stem.rsplit(".", 1)[1] in leaves
        assert side in {"lora_A", "lora_B"}
        assert last == "weight"


def test_the_adapters_that_ship_keep_to_the_file_rules_of_vllm():
    """Its LoRA loader reads one rank and one alpha for all modules, and knows neither patterns nor whole modules."""
    folders = sorted((Path(hatex.__file__).parent / "starter" / "adapters").glob("*/*"))
    assert folders
    for folder in folders:
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["peft_type"], config["bias"], config["use_dora"]) == ("LORA", "none", False)
        refused = ("rank_pattern", "alpha_pattern", "modules_to_save")
        assert not any(config[key] for key in refused)
        assert isinstance(config["lora_alpha"], int)
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
            keys = set(file.keys())
            ranks = {file.get_slice(key).get_shape()[0] for key in keys if "lora_A" in key}
        assert ranks == {config["r"]}
        leaves = {key.rsplit(".", 3)[1] for key in keys}
        assert leaves == set(config["target_modules"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"alora_invocation_tokens": [1, 2]}, "activated LoRA"),
        ({"lora_bias": True}, "bias on B"),
        ({"bias": "all"}, "biases of the base"),
        ({"modules_to_save": ["lm_head"]}, "retrained modules"),
        ({"trainable_token_indices": [3]}, "token embeddings"),
        ({"target_parameters": ["experts.up"]}, "no linear layers"),
        ({"fan_in_fan_out": True}, "transposed"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "replicated"),
        ({"init_lora_weights": "pissa_niter_4"}, "weights were changed"),
        ({"use_qalora": True}, "use_qalora is set"),
        ({"some_future_switch": True}, "some_future_switch is set"),
        ({"peft_type": "IA3"}, "not LORA"),
        ({"peft_type": None}, "not LORA"),
        ({"r": 0}, "r must be"),
        ({"r": "4"}, "r must be"),
        ({"r": 5}, "do not have rank 5"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"alpha_pattern": {"(": 1}}, "not a valid pattern"),
    ],
)
def test_configurations_that_are_not_plain_lora_are_refused(tmp_path, change, reason):
    peft_folder(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=reason):
        load_adapter(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000])
def test_configurations_that_are_not_json_objects_are_refused(tmp_path, text):
    peft_folder(tmp_path)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(ModelError, match="JSON"):
        load_adapter(tmp_path)


def edit(folder: Path, change) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.update({"base_model.model.lm_head.weight": torch.ones(2)}), "unknown tensor"),
        (lambda t: t.update({KEY + "magnitude_vector.weight": torch.ones(2)}), "unknown tensor"),
        (lambda t: t.pop(KEY + "B.weight"), "has only lora_A"),
        (lambda t: t.update({KEY + "A.weight": torch.full((4, 32), torch.nan)}), "NaN"),
        (lambda t: t.update({KEY + "B.weight": torch.full((32, 4), torch.inf)}), "infinite"),
        (lambda t: t.update({KEY + "A.weight": torch.ones(32, 4)}), "do not have rank 4"),
        (lambda t: t.update({KEY + "A.weight": torch.ones(128)}), "do not have rank 4"),
        (
            lambda t: t.update({KEY + "A.weight": torch.ones(4, 32, dtype=torch.int8)}),
            "not as floating point",
        ),
        (lambda t: t.clear(), "no LoRA weights"),
    ],
)
def test_tensors_that_are_not_an_adapter_are_refused(tmp_path, change, reason):
    peft_folder(tmp_path)
    edit(tmp_path, change)
    with pytest.raises(ModelError, match=reason):
        load_adapter(tmp_path)


def header(claim: dict) -> bytes:
    text = json.dumps(claim).encode()
    return struct.pack("<Q", len(text)) + text


TERABYTES = {"x": {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}}
OVERLAP = {
    "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "y": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
}


@pytest.mark.parametrize(
    "content",
    [
        header(TERABYTES) + b"\0" * 64,
        header(OVERLAP) + b"\0" * 12,
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + b"\0" * 8,
        struct.pack("<Q", 1 << 62) + b"{}",
        b"",
        b"PK\x03\x04 a zip, as torch.save writes it",
        header({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
    ],
    ids=["terabytes", "overlap", "short", "huge-header", "empty", "zip", "cut"],
)
def test_broken_safetensors_are_refused_without_allocating(tmp_path, content):
    peft_folder(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match="not a valid safetensors file"):
        load_adapter(tmp_path)


def test_pickled_adapters_are_refused_unread(tmp_path):
    peft_folder(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(ModelError) as caught:
        load_adapter(tmp_path)
    assert "pickle" in caught.value.hint
    # From the hub nothing pickled is fetched, so that it may only be missing.
    (tmp_path / "adapter_model.bin").unlink()
    with pytest.raises(ModelError, match=r"no adapter_model\.safetensors") as caught:
        load_adapter(tmp_path)
    assert "adapter_model.bin" in caught.value.hint
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="not a PEFT adapter"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json"])
def test_an_adapter_from_the_registry_is_checked_against_its_manifest(tmp_path, file):
    registry = Registry(tmp_path / "home")
    update = LoraUpdate(torch.ones(2, 4), torch.ones(4, 2), 0.5)
    with registry.publish("adapter", "wiki", base="tiny", manifest_fields={}) as folder:
        save_adapter(folder, LoraAdapter("wiki", {"model.layers.0.q_proj": update}))
    found = registry.find("adapter", "wiki", "tiny")
    assert load_adapter(found).name == "wiki"
    if file.endswith(".json"):
        config = json.loads((found.path / file).read_text())
        (found.path / file).write_text(json.dumps(config | {"lora_alpha": 9}))
    else:
        edit(found.path, lambda t: next(iter(t.values())).mul_(2))
    with pytest.raises(IntegrityError, match=f"{file} is not the file that the manifest names"):
        load_adapter(found)
