"""Bases on disk: quantised from folders, read back with the same values in every compute policy, refused if unfit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from bitsandbytes import functional as bnb
from safetensors.torch import load_file
from tiny_bases import MIXED, SIZES, random_adapters, random_batch, write_base
from transformers import AutoModelForCausalLM, BertConfig, BertModel, PhiConfig

from hatex.errors import FetchError, ModelError, RegistryError, UsageError
from hatex.model import gatedlm, policy, quantizing, weights
from hatex.model.base import ensure_base, ensure_encoder
from hatex.model.gatedlm import GatedLM
from hatex.model.loading import iter_tensors
from hatex.model.policy import (
    cache_bytes,
    choose_compute,
    describe_compute,
    measured_packed_rows,
    resident_bytes,
)
from hatex.model.weights import (
    NF4_PARTS,
    Compute,
    Nf4Weight,
    ResidentWeight,
    build_weight,
    quant_state,
    quantize,
)
from hatex.recipe.models import BaseSection, EncoderSection
from hatex.registry import Artefact, Registry
from hatex.types import NO_PROGRESS

Bases = Callable[[str], Path]


def section(folder: Path, **fields: object) -> BaseSection:
    return BaseSection.model_validate({"name": "tiny", "source": {"folder": str(folder)}, **fields})


@pytest.fixture
def home(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home", None)


@pytest.fixture
def base(bases: Bases, home: Registry) -> Artefact:
    return ensure_base(section(bases("llama")), home)


@torch.no_grad()
def last_hidden(lm: GatedLM) -> torch.Tensor:
    lm.attach(random_adapters(lm, MIXED))
    batch = random_batch(3, 3)
    return lm.last_hidden(batch.ids, batch.lengths, batch.gates)


def test_resident_values_are_the_nf4_values_bit_for_bit(base: Artefact) -> None:
    stored = load_file(base.path / "model.safetensors")
    lm = GatedLM.load(base.path, "resident", torch.bfloat16, fast=False)
    for path, layer in lm.gated_layers().items():
        parts = {part: stored[f"{path}.weight.{part}"] for part in NF4_PARTS}
        values = bnb.dequantize_4bit(stored[f"{path}.weight"], quant_state(parts, torch.device("cpu")))
        assert values.dtype == torch.bfloat16
        assert isinstance(layer.base, ResidentWeight)
        assert torch.equal(layer.base.weight, values)
    fused = GatedLM.load(base.path, "resident", torch.float32)
    for path, layer in fused.gated_layers().items():
        assert torch.equal(layer.base.weight, lm.gated_layers()[path].base.weight.float())


@pytest.mark.parametrize("block_size", [64, 128, 256])
def test_nf4_values_are_near_the_original(block_size: int) -> None:
    original = torch.randn(256, 512, generator=torch.Generator().manual_seed(0))
    weight = build_weight(quantize(original, block_size), "resident", torch.float32)
    assert 0.08 < (weight(torch.eye(512)).T - original).norm() / original.norm() < 0.12


@pytest.mark.parametrize("compute", ["dequantize", "mixed"])
def test_policies_that_unpack_give_the_same_answers(base: Artefact, compute: Compute) -> None:
    resident = last_hidden(GatedLM.load(base.path, "resident", torch.float32))
    lm = GatedLM.load(base.path, compute, torch.float32)
    assert all(isinstance(layer.base, Nf4Weight) for layer in lm.gated_layers().values())
    torch.testing.assert_close(last_hidden(lm), resident, rtol=1e-5, atol=1e-5)


def test_packed_matmuls_differ_by_the_rounding_to_the_stored_dtype_alone(base: Artefact) -> None:
    resident = last_hidden(GatedLM.load(base.path, "resident", torch.float32))
    packed = last_hidden(GatedLM.load(base.path, "packed", torch.float32))
    torch.testing.assert_close(packed, resident, rtol=1e-2, atol=1e-2)
    tensors = quantize(torch.randn(96, 64, generator=torch.Generator().manual_seed(0)).bfloat16(), 64)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad():
        ours, theirs = (
            build_weight(tensors, compute, torch.bfloat16)(x) for compute in ("packed", "resident")
        )
    torch.testing.assert_close(ours, theirs)


def test_plain_transformers_and_bitsandbytes_load_the_base(base: Artefact) -> None:
    batch = random_batch(2, 3)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    assert type(model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    lm = GatedLM.load(base.path, "resident", torch.float32)
    with torch.no_grad():
        theirs = model.dequantize().float().base_model(input_ids=batch.ids).last_hidden_state
        ours = lm.last_hidden(batch.ids, batch.lengths, None)
    torch.testing.assert_close(ours, theirs[torch.arange(2), batch.lengths - 1], rtol=1e-5, atol=1e-5)


def test_a_sharded_source_gives_a_sharded_base_with_the_same_values(
    bases: Bases, base: Artefact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(bases("llama"), dtype=torch.float32)
    model.save_pretrained(tmp_path / "source", max_shard_size="20KB")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    monkeypatch.setattr(quantizing, "SHARD_BYTES", 6_000)
    target = tmp_path / "target"
    target.mkdir()
    quantizing.write_base(tmp_path / "source", target, 64, NO_PROGRESS)
    files = sorted(file.name for file in target.glob("*.safetensors"))
    assert len(files) > 2
    index = json.loads((target / "model.safetensors.index.json").read_text())
    assert sorted(set(index["weight_map"].values())) == files
    whole = dict(iter_tensors(base.path))
    for name, tensor in iter_tensors(target):
        assert torch.equal(tensor, whole.pop(name)), name
    assert whole == {}
    torch.testing.assert_close(
        last_hidden(GatedLM.load(target, "resident", torch.float32)),
        last_hidden(GatedLM.load(base.path, "resident", torch.float32)),
    )


def test_large_plain_weights_get_a_file_of_their_own(
    bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = load_file(bases("llama") / "model.safetensors")["model.embed_tokens.weight"]
    monkeypatch.setattr(quantizing, "ALONE_BYTES", embedding.to(torch.bfloat16).nbytes)
    quantizing.write_base(bases("llama"), tmp_path, 64, NO_PROGRESS)
    files = [list(load_file(file)) for file in sorted(tmp_path.glob("*.safetensors"))]
    assert ["model.embed_tokens.weight"] in files
    assert len(files) in (2, 3), "before it, behind it"


def test_architectures_with_older_names_on_disk_are_read(bases: Bases, home: Registry) -> None:
    names = {name for name, _ in iter_tensors(bases("gpt_neox"))}
    assert "embed_out.weight" in names
    base = ensure_base(section(bases("gpt_neox")), home)
    lm = GatedLM.load(base.path, "resident", torch.float32)
    original = load_file(bases("gpt_neox") / "model.safetensors")["embed_out.weight"]
    torch.testing.assert_close(lm.vocabulary, original, rtol=1e-2, atol=1e-3)


def test_a_base_is_fetched_once_and_another_source_of_its_name_is_refused(
    base: Artefact, bases: Bases, home: Registry
) -> None:
    assert ensure_base(section(bases("llama")), home).manifest.digest == base.manifest.digest
    for other in (section(bases("llama"), block_size=128), section(bases("qwen2"))):
        with pytest.raises(RegistryError, match="another base under this name"):
            ensure_base(other, home)


def test_a_base_is_known_by_its_weights_where_its_folder_has_moved(
    base: Artefact, bases: Bases, home: Registry, tmp_path: Path
) -> None:
    shutil.copytree(bases("llama"), tmp_path / "moved")
    assert ensure_base(section(tmp_path / "moved"), home).path == base.path
    assert ensure_base(section(tmp_path / "gone"), home).path == base.path


COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture
def hub(bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's own cache with one repository, whose branch `main` is at its first commit; no network."""
    from huggingface_hub import constants

    repository = tmp_path / "cache" / "models--club--tiny"
    for commit in COMMITS:
        shutil.copytree(bases("llama"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMITS[0])
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return repository


def hub_section(**source: str) -> BaseSection:
    return BaseSection.model_validate({"name": "tiny", "source": {"hub": "club/tiny", **source}})


@pytest.mark.usefixtures("hub")
def test_a_base_of_the_hub_is_its_commit_whatever_the_branch_is_called(home: Registry) -> None:
    base = ensure_base(hub_section(revision="main"), home)
    assert base.manifest.base_identity == f"hub:club/tiny@{COMMITS[0]}+nf4-double-64"
    assert base.manifest.source == {"hub": "club/tiny", "revision": COMMITS[0]}
    for same in (hub_section(revision="main"), hub_section(), hub_section(revision=COMMITS[0])):
        assert ensure_base(same, home).path == base.path
    others = (hub_section(revision=COMMITS[1]), hub_section(hub="rivals/tiny"))
    for other in others:
        with pytest.raises(RegistryError, match="another base under this name"):
            ensure_base(other, home)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("wrong", ["club/other", "no such id"])
def test_a_repository_that_cannot_be_had_is_a_fetch_error(home: Registry, wrong: str) -> None:
    with pytest.raises(FetchError, match=f"could not fetch {wrong}") as caught:
        ensure_base(hub_section(hub=wrong), home)
    assert caught.value.hint is not None


def test_a_folder_in_place_of_the_hub_is_known_by_its_weights(bases: Bases, home: Registry) -> None:
    base = ensure_base(hub_section(), home, given=bases("llama"))
    assert str(base.manifest.base_identity).startswith("sha256:")
    assert ensure_base(hub_section(), home).path == base.path


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder", 0)


def encoder_section(folder: Path) -> EncoderSection:
    return EncoderSection.model_validate({"name": "mini", "source": {"folder": str(folder)}})


def write_encoder(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=9,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def test_an_encoder_is_known_by_its_weights(encoder: Path, home: Registry, tmp_path: Path) -> None:
    found = ensure_encoder(encoder_section(encoder), home)
    shutil.copytree(encoder, tmp_path / "moved")
    assert ensure_encoder(encoder_section(tmp_path / "moved"), home).path == found.path
    with pytest.raises(RegistryError, match="another encoder under this name") as caught:
        ensure_encoder(encoder_section(write_encoder(tmp_path / "other", 1)), home)
    assert caught.value.hint == "give the encoder of your recipe another name, or remove the old one"


def test_an_encoder_that_cannot_be_used_is_refused(encoder: Path, home: Registry) -> None:
    (encoder / "1_Pooling").mkdir()
    (encoder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    with pytest.raises(ModelError, match="this encoder pools otherwise"):
        ensure_encoder(encoder_section(encoder), home)
    shutil.rmtree(encoder / "1_Pooling")
    (encoder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no such file"):
        ensure_encoder(encoder_section(encoder), home)
    assert not home.list("encoder")


def test_unfit_sources_are_refused(base: Artefact, tmp_path: Path, home: Registry) -> None:
    with pytest.raises(FetchError, match="no such folder"):
        ensure_base(section(tmp_path / "nowhere", name="a"), home)
    with pytest.raises(ModelError, match="quantised already"):
        ensure_base(section(base.path, name="b"), home)
    write_base("llama", tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickled" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match="no safetensors"):
        ensure_base(section(tmp_path / "pickled", name="c"), home)
    write_base("llama", tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        ensure_base(section(tmp_path / "cut", name="d"), home)
    assert [artefact.name for _, artefact in home.scan("base")] == ["tiny"]


def test_missing_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    write_base("llama", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    norm = tensors.pop("model.norm.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 weights are missing, first model\.norm\.weight"):
        GatedLM.load(tmp_path, "resident", torch.float32)
    path = "model.layers.0.mlp.up_proj.weight"
    save_file({**tensors, "model.norm.weight": norm, path: tensors[path][:3]}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="wrong shape"):
        GatedLM.load(tmp_path, "resident", torch.float32)


def test_a_head_with_a_bias_is_refused(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(
        PhiConfig(**SIZES, intermediate_size=48, partial_rotary_factor=0.5)
    )
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="more than a matrix"):
        GatedLM.load(tmp_path, "resident", torch.float32)


def test_weights_unpacked_one_after_the_other_into_a_wider_dtype_keep_their_values() -> None:
    found = []
    for shape in ((64, 32), (128, 96), (32, 64)):
        weight = build_weight(quantize(torch.randn(shape).bfloat16(), 64), "dequantize", torch.float32)
        assert isinstance(weight, Nf4Weight)
        expected = weight.dequantized()
        assert torch.equal(weight.unpacked(), expected)
        found.append((weight, expected))
    for weight, expected in found:
        x = torch.randn(3, expected.shape[1])
        with torch.inference_mode():
            torch.testing.assert_close(weight(x), x @ expected.t())
        x.requires_grad = True
        weight(x).sum().backward()
        torch.testing.assert_close(x.grad, expected.sum(0).expand(3, -1))


def test_few_rows_are_computed_packed_and_more_unpacked(
    base: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatedlm, "measured_packed_rows", lambda *_: 4)
    layers = GatedLM.load(base.path, "mixed", torch.bfloat16).gated_layers().values()
    assert {layer.base.packed_rows for layer in layers} == {4}
    seen = []
    monkeypatch.setattr(weights, "packed_matmul", lambda x, *_: seen.append(len(x)))
    weight = build_weight(quantize(torch.randn(96, 64), 64), "dequantize", torch.float32)
    assert isinstance(weight, Nf4Weight)
    weight.packed_rows = 4
    with torch.inference_mode():
        for count in (1, 4, 5):
            weight(torch.randn(count, 64))
    assert seen == [1, 4]


def test_auto_is_resident_where_it_fits_and_mixed_where_not(
    base: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = GatedLM.load(base.path, "resident", torch.float32)
    values = sum(layer.base.weight.numel() for layer in lm.gated_layers().values())
    plain = sum(p.numel() for p in lm.model.parameters() if p.requires_grad is False)
    needed = resident_bytes(base.path, torch.float32)
    assert needed == 4 * (values + plain)
    monkeypatch.setattr(policy, "available_bytes", lambda _: needed + policy.RESERVE_BYTES + 1)
    assert choose_compute("auto", base.path, torch.float32) == "resident"
    monkeypatch.setattr(policy, "available_bytes", lambda _: needed + policy.RESERVE_BYTES - 1)
    assert choose_compute("auto", base.path, torch.float32) == "mixed"
    assert choose_compute("packed", base.path, torch.float32) == "packed"
    monkeypatch.setattr(policy, "available_bytes", lambda _: needed + policy.RESERVE_BYTES + 101)
    assert choose_compute("auto", base.path, torch.float32, beside=100) == "resident"
    assert choose_compute("auto", base.path, torch.float32, beside=101) == "mixed"
    with pytest.raises(UsageError, match="unknown compute policy"):
        choose_compute("fast", base.path, torch.float32)


def test_what_attention_keeps_is_counted_before_it_is_there(base: Artefact) -> None:
    # Keys and values of two layers with two heads of 8 each, in float32.
    assert cache_bytes(base.path, torch.float32, 10) == 2 * 2 * (2 * 8) * 10 * 4


def test_what_is_shown_of_a_base_is_what_would_be_done(base: Artefact) -> None:
    shown = json.loads(json.dumps(describe_compute(base.path)))
    assert shown["policy"] == choose_compute("auto", base.path, torch.float32)
    assert shown["packed_bytes"] == (base.path / "model.safetensors").stat().st_size
    assert shown["available_bytes"] > 0
    assert shown["packed_up_to_rows"] in (0, *policy.TRIED_ROWS)
    assert describe_compute(base.path, "packed")["policy"] == "packed"


def test_no_crossover_is_shown_in_a_dtype_that_has_none(base: Artefact) -> None:
    state = next(iter(policy._packed_states(base.path).values()))
    other = "float32" if state["dtype"] == "bfloat16" else "bfloat16"
    assert describe_compute(base.path, dtype_name=other)["packed_up_to_rows"] == 0


def test_the_crossover_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured_packed_rows.cache_clear()
    # Two timings a number of rows: packed, then unpacked.
    timings = iter([1.0, 2.0, 1.0, 2.0, 2.0, 2.0])
    monkeypatch.setattr(policy, "_seconds", lambda *_: next(timings))
    assert measured_packed_rows(64, 64, torch.float32, 64) == 4
    assert measured_packed_rows(64, 64, torch.float32, 64) == 4
    measured_packed_rows.cache_clear()


@pytest.mark.model
def test_plain_transformers_loads_the_real_base(registry: Registry) -> None:
    from hatex.recipe import load_recipe

    recipe = load_recipe("starter")
    base = ensure_base(recipe.base, registry)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    lm = GatedLM.load(base.path, "resident", torch.float32)
    ids = torch.arange(100, 112).view(1, -1)
    with torch.no_grad():
        theirs = model.dequantize().float().base_model(input_ids=ids).last_hidden_state[0, -1]
        ours = lm.last_hidden(ids, torch.tensor([12]), None)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
