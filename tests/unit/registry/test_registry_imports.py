"""Imports: what is taken in, what is refused, and that a refusal leaves the registry as it was."""

import json
import os
import pickle
import struct
from pathlib import Path

import pytest
import torch
from huggingface_hub import errors as hub_errors
from safetensors.torch import load_file, save_file

from hatex.errors import FetchError, HatexError, IntegrityError, ModelError, RegistryError, UsageError
from hatex.registry import Registry, base_identity, check_adapter_fits
from hatex.registry.adapters import LoraAdapter, LoraUpdate, load_adapter, save_adapter
from hatex.registry.lineage import licences, trace
from hatex.registry.sources import ImportOptions, import_source

SHAPES = {"model.layers.0.self_attn.q_proj": (16, 16), "model.layers.0.mlp.up_proj": (24, 16)}
CLASSES = ("forums", "wiki", "microblog")
CARD = "---\nlicense: cc-by-4.0\n---\nAn adapter.\n"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


def lora(name="a", shapes=SHAPES, r=2) -> LoraAdapter:
    updates = {m: LoraUpdate(torch.randn(r, i), torch.randn(o, r), 0.5) for m, (o, i) in shapes.items()}
    return LoraAdapter(name, updates)


def peft_folder(folder: Path, base_model="owner/Tiny-Llama", shapes=SHAPES) -> Path:
    save_adapter(folder, lora(shapes=shapes), base_model=base_model)
    (folder / "README.md").write_text(CARD)
    return folder


def publish_base(registry: Registry, name="tiny", hub="owner/tiny-llama") -> None:
    source = {"hub": hub, "revision": "f" * 40}
    fields = {"source": source, "licence": "llama2", "base_identity": base_identity(**source)}
    with registry.publish("base", name, manifest_fields=fields) as folder:
        tensors = {f"{m}.weight": torch.zeros(s, dtype=torch.bfloat16) for m, s in SHAPES.items()}
        save_file(tensors, folder / "model.safetensors")


def snapshot(root: Path) -> dict[str, bytes]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(root)): p.read_bytes() for p in files}


def router_state(h=8, width=384, k=3) -> dict[str, torch.Tensor]:
    shapes = {"hidden.weight": (h, width), "hidden.bias": (h,), "output.weight": (k, h), "output.bias": (k,)}
    return {key: torch.randn(shape) for key, shape in shapes.items()}


def encoder_folder(folder: Path, pooling="mean", config=None) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in ("mean_tokens", "cls_token")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 384, **modes}))
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "hidden_size": 384, **(config or {})})
    )
    (folder / "tokenizer.json").write_text("{}")
    save_file({"embeddings.weight": torch.randn(8, 384)}, folder / "model.safetensors")
    return folder


def test_a_peft_folder_is_bound_by_the_name_of_its_base(registry, tmp_path):
    publish_base(registry)
    [found] = import_source(registry, str(peft_folder(tmp_path / "mine")), ImportOptions(base="tiny"))
    assert found.ref == "adapter:tiny/mine"
    assert found.manifest.base_identity is None
    assert found.manifest.extra["bound_by"] == "name"
    assert found.manifest.licence == "cc-by-4.0"
    assert registry.verify(found) == ()
    check_adapter_fits(registry.find("base", "tiny").manifest, found.manifest)
    lineage = trace(registry, found)
    assert licences(lineage) == {"adapter:tiny/mine": "cc-by-4.0", "base:tiny": "llama2"}
    assert [node.state for node in lineage.walk()] == ["same", "same"]


def test_adapters_of_another_base_are_refused(registry, tmp_path):
    publish_base(registry)
    options = ImportOptions(base="tiny")
    other_name = peft_folder(tmp_path / "name", base_model="owner/other")
    with pytest.raises(RegistryError, match="names base 'owner/other'"):
        import_source(registry, str(other_name), options)
    wide = peft_folder(tmp_path / "wide", shapes={"model.layers.0.self_attn.q_proj": (16, 32)})
    with pytest.raises(RegistryError, match="is 16 x 32, the base has 16 x 16"):
        import_source(registry, str(wide), options)
    deep = peft_folder(tmp_path / "deep", shapes={"model.layers.1.self_attn.q_proj": (16, 16)})
    with pytest.raises(RegistryError, match="no such layer"):
        import_source(registry, str(deep), options)
    assert registry.list("adapter") == ()


def test_an_adapter_that_hatex_trained_names_its_base_as_the_registry_does(registry, tmp_path):
    publish_base(registry)
    folder = peft_folder(tmp_path / "mine", base_model="tiny")
    [found] = import_source(registry, str(folder), ImportOptions(base="tiny"))
    check_adapter_fits(registry.find("base", "tiny").manifest, found.manifest)


def test_identity_binds_adapters_to_source_and_quantisation(registry):
    publish_base(registry)
    base = registry.find("base", "tiny").manifest
    bound = {
        "same": base.base_identity,
        "revision": base_identity(hub="owner/tiny-llama", revision="0" * 40),
        "blocks": base_identity(hub="owner/tiny-llama", revision="f" * 40, block_size=128),
    }
    for name, identity in bound.items():
        with registry.publish(
            "adapter", name, base="tiny", manifest_fields={"base_identity": identity}
        ) as folder:
            save_adapter(folder, lora())
    check_adapter_fits(base, registry.find("adapter", "same").manifest)
    for name in ("revision", "blocks"):
        with pytest.raises(RegistryError, match="does not fit base 'tiny'"):
            check_adapter_fits(base, registry.find("adapter", name).manifest)


def nan(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, folder / "adapter_model.safetensors")


def unknown_key(folder: Path) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {**tensors, "base_model.model.lm_head.weight": torch.ones(2)}, folder / "adapter_model.safetensors"
    )


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def dora(folder: Path) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"use_dora": True}))


def terabytes(folder: Path) -> None:
    claim = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(claim)) + claim)


def half_copied(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def linked(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")


@pytest.mark.parametrize("damage", [nan, unknown_key, pickled, dora, terabytes, half_copied, linked])
def test_bad_adapters_are_refused_and_the_registry_is_unchanged(registry, tmp_path, damage):
    publish_base(registry)
    import_source(registry, str(peft_folder(tmp_path / "good")), ImportOptions(base="tiny"))
    before = snapshot(registry.root)
    bad = peft_folder(tmp_path / "bad")
    damage(bad)
    for options in (ImportOptions(base="tiny"), ImportOptions(base="tiny", name="good", replace=True)):
        with pytest.raises((ModelError, RegistryError)) as caught:
            import_source(registry, str(bad), options)
        assert caught.value.where, "the message names the place"
        assert snapshot(registry.root) == before


@pytest.mark.parametrize(("name", "base"), [("../../evil", "tiny"), ("ok", "../tiny"), (".staging", "tiny")])
def test_names_that_leave_the_registry_are_refused(registry, tmp_path, name, base):
    source = str(peft_folder(tmp_path / "mine"))
    with pytest.raises(RegistryError, match="not a valid"):
        import_source(registry, source, ImportOptions(name=name, base=base))
    assert not registry.root.exists()


def test_the_research_adapters_come_in_by_hub_id(registry, tmp_path, monkeypatch):
    """One layer of the research system's adapters (r=64, alpha=16) in the hub's own cache layout, offline."""
    from huggingface_hub import constants

    revision, hub = "0123456789abcdef0123456789abcdef01234567", "huli-4761/llama2_7B_wiki"
    cached = tmp_path / "hub" / "models--huli-4761--llama2_7B_wiki"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(revision)
    attention = {f"model.layers.0.self_attn.{x}_proj": (4096, 4096) for x in "qkvo"}
    mlp = {f"model.layers.0.mlp.{x}_proj": (11008, 4096) for x in ("gate", "up")}
    shapes = attention | mlp | {"model.layers.0.mlp.down_proj": (4096, 11008)}
    updates = {m: LoraUpdate(torch.randn(64, i), torch.randn(o, 64), 16 / 64) for m, (o, i) in shapes.items()}
    folder = cached / "snapshots" / revision
    save_adapter(folder, LoraAdapter("wiki", updates), base_model="meta-llama/Llama-2-7b-hf", dropout=0.1)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [found] = import_source(registry, hub, ImportOptions(name="wiki", base="llama-2-7b"))
    assert found.manifest.source == {"hub": hub, "revision": revision}
    adapter = load_adapter(found)
    assert adapter.r == 64
    assert {update.scaling for update in adapter.modules.values()} == {0.25}
    with pytest.raises(FetchError, match="could not fetch") as caught:
        import_source(registry, "huli-4761/absent", ImportOptions(base="llama-2-7b"))
    assert "network" in caught.value.hint

    def break_off(*_: object, **__: object) -> None:
        raise hub_errors.HTTPError("the connection broke")

    monkeypatch.setattr("huggingface_hub.snapshot_download", break_off)
    with pytest.raises(FetchError, match="could not fetch huli-4761/absent: HTTPError"):
        import_source(registry, "huli-4761/absent", ImportOptions(base="llama-2-7b"))


def test_a_state_dict_becomes_a_router(registry, tmp_path):
    state = router_state()
    torch.save(state, tmp_path / "research.pth")
    [encoder] = import_source(
        registry, str(encoder_folder(tmp_path / "mini")), ImportOptions(licence="Apache-2.0")
    )
    options = ImportOptions(name="research", classes=CLASSES, encoder="mini", licence="CC-BY-4.0")
    [found] = import_source(registry, str(tmp_path / "research.pth"), options)
    stored = load_file(found.path / "router.safetensors")
    assert {key: value.equal(state[key]) for key, value in stored.items()} == dict.fromkeys(state, True)
    assert tuple(found.manifest.extra["adapters"]) == CLASSES
    needed = {"name": "mini", "sha256": encoder.manifest.files["model.safetensors"]}
    assert found.manifest.extra["encoder"] == needed
    rests_on = licences(trace(registry, found))
    assert rests_on.pop("router:research") == "CC-BY-4.0"
    assert rests_on.pop("encoder:mini") == "Apache-2.0"
    assert rests_on == {f"adapter:{name}": None for name in CLASSES}, "adapters that are not here are named"
    with pytest.raises(RegistryError, match="needed by router:research"):
        registry.remove(encoder)


class Exploit:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_hostile_pickles_are_refused_and_do_not_run(registry, tmp_path):
    marks = [tmp_path / "ran-zip", tmp_path / "ran-raw"]
    torch.save({**router_state(), "x": Exploit(marks[0])}, tmp_path / "zip.pth")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Exploit(marks[1]), protocol=2))
    for file in ("zip.pth", "raw.pth"):
        with pytest.raises(ModelError, match="not a plain state dict"):
            import_source(registry, str(tmp_path / file), ImportOptions(classes=CLASSES, encoder="mini"))
    assert not any(mark.exists() for mark in marks)
    assert registry.list() == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extra.weight": torch.ones(2)}, "unknown keys"),
        ({"output.bias": torch.full((3,), torch.nan)}, "NaN"),
        ({"output.bias": torch.ones(4)}, "do not fit each other"),
        ({"hidden.weight": torch.ones(8, 384, 1)}, "do not fit each other"),
        ({"hidden.weight": torch.ones(8, 384, dtype=torch.int64)}, "integer"),
        ({"hidden.weight": [1, 2]}, "state dict of tensors"),
    ],
)
def test_state_dicts_of_another_shape_are_refused(registry, tmp_path, change, reason):
    torch.save(router_state() | change, tmp_path / "r.pth")
    with pytest.raises(ModelError, match=reason):
        import_source(registry, str(tmp_path / "r.pth"), ImportOptions(classes=CLASSES, encoder="mini"))


def test_router_imports_need_classes_that_match(registry, tmp_path):
    torch.save(router_state(), tmp_path / "r.pth")
    with pytest.raises(UsageError, match="--classes"):
        import_source(registry, str(tmp_path / "r.pth"), ImportOptions())
    for classes, encoder, reason in (
        (("a", "b"), "mini", "3 classes, 2 adapters"),
        (("a", "b", "b"), "mini", "named for two classes"),
        (("a", "../b", "c"), "mini", "not a valid adapter name"),
        (("a", "b", "c"), "../mini", "not a valid encoder name"),
    ):
        with pytest.raises(HatexError, match=reason):
            import_source(registry, str(tmp_path / "r.pth"), ImportOptions(classes=classes, encoder=encoder))
    assert registry.list() == ()


def test_a_router_that_reads_another_width_than_its_encoder_gives_is_refused(registry, tmp_path):
    import_source(registry, str(encoder_folder(tmp_path / "mini")), ImportOptions())
    torch.save(router_state(width=16), tmp_path / "r.pth")
    with pytest.raises(ModelError, match="the router reads 16 numbers, encoder 'mini' gives 384"):
        import_source(registry, str(tmp_path / "r.pth"), ImportOptions(classes=CLASSES, encoder="mini"))
    assert registry.list("router") == ()


def test_lineage_says_what_has_changed_since(registry, tmp_path):
    import_source(registry, str(encoder_folder(tmp_path / "mini")), ImportOptions())
    torch.save(router_state(), tmp_path / "r.pth")
    [router] = import_source(
        registry, str(tmp_path / "r.pth"), ImportOptions(classes=CLASSES, encoder="mini")
    )
    states = {node.ref: node.state for node in trace(registry, router).walk()}
    assert states["encoder:mini"] == "same"
    other = encoder_folder(tmp_path / "other")
    import_source(registry, str(other), ImportOptions(name="mini", replace=True))
    states = {node.ref: node.state for node in trace(registry, router).walk()}
    assert states["encoder:mini"] == "changed"
    assert states["router:r"] == "same"


@pytest.mark.data
def test_the_real_research_router_is_read(registry):
    path = os.environ.get("HATEX_REFERENCE_ROUTER")
    if not path or not Path(path).is_file():
        pytest.skip("HATEX_REFERENCE_ROUTER does not name the file")
    [found] = import_source(registry, path, ImportOptions(name="reference", classes=CLASSES, encoder="mini"))
    shapes = {key: tuple(t.shape) for key, t in load_file(found.path / "router.safetensors").items()}
    expected = {"hidden.weight": (8, 384), "hidden.bias": (8,), "output.weight": (3, 8), "output.bias": (3,)}
    assert shapes == expected
    assert found.manifest.source["sha256"].startswith("27dc488a")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"pooling": "cls"}, "mean pooling"), ({"config": {"auto_map": {"AutoModel": "x.py"}}}, "remote code")],
)
def test_encoders_that_hatex_would_compute_wrongly_are_refused(registry, tmp_path, settings, reason):
    with pytest.raises(ModelError, match=reason):
        import_source(registry, str(encoder_folder(tmp_path / "e", **settings)), ImportOptions())
    assert registry.list() == ()


def test_an_encoder_may_hold_positions_as_integers_but_no_nan(registry, tmp_path):
    folder = encoder_folder(tmp_path / "e")
    weights = {"embeddings.weight": torch.randn(8, 384), "embeddings.position_ids": torch.arange(512)}
    save_file(weights, folder / "model.safetensors")
    [found] = import_source(registry, str(folder), ImportOptions(name="mini"))
    assert found.ref == "encoder:mini"
    weights["embeddings.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelError, match="NaN"):
        import_source(registry, str(folder), ImportOptions(name="other"))


def test_artefacts_of_another_registry_keep_their_names(registry, tmp_path):
    theirs = Registry(tmp_path / "theirs")
    import_source(theirs, str(peft_folder(tmp_path / "mine")), ImportOptions(base="tiny"))
    for source in (theirs.root, theirs.find("adapter", "mine").path):
        with pytest.raises(UsageError, match="without --name"):
            import_source(registry, str(source), ImportOptions(name="other"))
    assert registry.list() == ()
    own = ImportOptions(name="mine", base="tiny")
    [found] = import_source(registry, str(theirs.find("adapter", "mine").path), own)
    assert found.ref == "adapter:tiny/mine"


def test_another_registry_comes_in_whole_or_not_at_all(registry, tmp_path):
    theirs = Registry(tmp_path / "theirs")
    publish_base(theirs)
    import_source(theirs, str(peft_folder(tmp_path / "mine")), ImportOptions(base="tiny"))
    copied = import_source(registry, str(theirs.root), ImportOptions())
    assert [each.ref for each in copied] == ["base:tiny", "adapter:tiny/mine"]
    for each in copied:
        original = theirs.find(each.kind, each.name, each.base).manifest
        assert each.manifest.files == original.files
        assert each.manifest.source == original.source
    [one] = import_source(registry, str(theirs.find("adapter", "mine").path), ImportOptions(replace=True))
    assert one.ref == "adapter:tiny/mine"

    (theirs.find("adapter", "mine").path / "README.md").write_text("changed")
    fresh = Registry(tmp_path / "fresh")
    with pytest.raises(IntegrityError, match="sha256 differs"):
        import_source(fresh, str(theirs.root), ImportOptions())
    assert fresh.list() == ()


@pytest.mark.parametrize(
    ("file", "reason"),
    [("README.md", "sha256 differs from the manifest"), ("stray.txt", "not in the manifest")],
)
def test_an_artefact_that_is_damaged_where_it_lies_stays_there(registry, tmp_path, file, reason):
    theirs = Registry(tmp_path / "theirs")
    [found] = import_source(theirs, str(peft_folder(tmp_path / "mine")), ImportOptions(base="tiny"))
    (found.path / file).write_text("changed")
    with pytest.raises(IntegrityError, match=f"{file}: {reason}"):
        import_source(registry, str(found.path), ImportOptions())
    assert registry.list() == ()


@pytest.mark.parametrize("source", ["no/such/path", "absent", "", "https://example.org/a"])
def test_sources_that_are_nothing_are_a_usage_error(registry, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for each in (source, "empty"):
        with pytest.raises(HatexError):
            import_source(registry, each, ImportOptions())
    assert registry.list() == ()
