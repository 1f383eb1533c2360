"""Other people's artefacts into the registry. Everything is checked before anything is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.errors import ModelError, RegistryError
from hatex.hashing import hash_file
from hatex.registry.adapters import load_adapter
from hatex.registry.hub import card_licence
from hatex.registry.names import KINDS, check_name
from hatex.registry.peft_config import CONFIG, WEIGHTS
from hatex.registry.router_file import ROUTER_WEIGHTS, load_router_tensors
from hatex.registry.shapes import check_shapes
from hatex.registry.store import Artefact, Registry
from hatex.registry.tensors import load_tensors, save_tensors

_ENCODER_FILES: Final = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_MAX_CARD_BYTES: Final = 1 << 20


def import_adapter(
    registry: Registry,
    folder: Path,
    *,
    name: str,
    base: str,
    source: Mapping[str, Any],
    licence: str | None = None,
    replace: bool = False,
) -> Artefact:
    """Take in a PEFT folder as adapter `name` of `base`.

    It only names its base, so it is bound by that name. Where the base is in the registry, shapes (and the
    hub name, if both sides have one) must agree. Raises `ModelError` or `RegistryError`; then the registry is
    as it was.
    """
    adapter = load_adapter(folder)
    known = [artefact for artefact in registry.list("base") if artefact.name == base]
    if known:
        _check_base_name(known[0], adapter.base_model)
        check_shapes(known[0], adapter)
    fields = {
        "source": dict(source),
        "licence": licence or card_licence(folder),
        "bound_by": "name",
        "base_model": adapter.base_model,
    }
    with registry.publish("adapter", name, base=base, manifest_fields=fields, replace=replace) as target:
        for file in (CONFIG, WEIGHTS):
            shutil.copyfile(folder / file, target / file)
        _copy_card(folder, target)
        load_adapter(target)
    return registry.find("adapter", name, base)


def import_router(
    registry: Registry,
    file: Path,
    *,
    name: str,
    adapters: Sequence[str],
    encoder: str,
    source: Mapping[str, Any],
    licence: str | None = None,
    replace: bool = False,
) -> Artefact:
    """Convert a router's state dict; `adapters` names its output classes in order.

    The encoder's hash is recorded where the registry has that encoder. Raises `ModelError` for weights that
    are not a router's or do not fit the encoder.
    """
    for adapter in adapters:
        check_name(adapter, what="adapter name")
    check_name(encoder, what="encoder name")
    if len(set(adapters)) != len(adapters):
        raise ModelError("an adapter is named for two classes", where=str(file))
    tensors = load_router_tensors(file)
    if len(adapters) != tensors["output.bias"].shape[0]:
        raise ModelError(
            f"the router has {tensors['output.bias'].shape[0]} classes, {len(adapters)} adapters are named",
            where=str(file),
            hint="name one adapter a class, in class order: --classes forums,wiki,microblog",
        )
    needed: dict[str, str] = {"name": encoder}
    known = [artefact for artefact in registry.list("encoder") if artefact.name == encoder]
    if known:
        _check_width(known[0], tensors["hidden.weight"].shape[1])
        needed["sha256"] = known[0].manifest.files["model.safetensors"]
    fields = {
        "source": {**source, "sha256": hash_file(file)},
        "licence": licence,
        "adapters": list(adapters),
        "encoder": needed,
    }
    with registry.publish("router", name, manifest_fields=fields, replace=replace) as target:
        save_tensors(target / ROUTER_WEIGHTS, tensors)
    return registry.find("router", name)


def import_encoder(
    registry: Registry,
    folder: Path,
    *,
    name: str,
    source: Mapping[str, Any],
    licence: str | None = None,
    replace: bool = False,
) -> Artefact:
    """Take in a sentence-transformers folder: a transformer with mean pooling, weights in safetensors.

    Raises ModelError for any other, and for weights that no encoder has.
    """
    config = _read_json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError("it needs remote code, which is never run", where=str(folder))
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file() and not _pools_by_mean(_read_json(pooling)):
        raise ModelError(
            "hatex embeds posts by mean pooling; this encoder pools otherwise", where=str(pooling)
        )
    load_tensors(folder / "model.safetensors", buffers=True)
    fields = {"source": dict(source), "licence": licence or card_licence(folder)}
    with registry.publish("encoder", name, manifest_fields=fields, replace=replace) as target:
        for file in _ENCODER_FILES:
            if (folder / file).is_file():
                shutil.copyfile(folder / file, target / file)
    return registry.find("encoder", name)


def import_artefact(
    registry: Registry, theirs: Registry, artefact: Artefact, *, replace: bool = False
) -> Artefact:
    """Copy an artefact of another registry; hashes are compared before and after, its manifest is kept."""
    manifest = theirs.check(artefact).manifest
    kept = ("base_identity", "source", "licence", "recipe", "data", "metrics", "parents")
    fields = {key: value for key in kept if (value := getattr(manifest, key))} | dict(manifest.extra)
    place = (artefact.kind, artefact.name)
    with registry.publish(*place, base=artefact.base, manifest_fields=fields, replace=replace) as target:
        for relative in manifest.files:
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artefact.path / relative, target / relative)
            if hash_file(target / relative) != manifest.files[relative]:
                raise RegistryError(f"{relative} changed while it was copied", where=artefact.ref)
    return registry.find(*place, artefact.base)


def import_registry(registry: Registry, root: Path, *, replace: bool = False) -> list[Artefact]:
    """Copy every artefact of the registry at `root`; all are verified before the first is copied."""
    theirs = Registry(root)
    found = []
    for _, state in theirs.scan():
        if isinstance(state, RegistryError):
            raise state
        found.append(theirs.check(state))
    if not found:
        raise RegistryError("there are no artefacts", where=str(root))
    found.sort(key=lambda artefact: KINDS.index(artefact.kind))
    return [import_artefact(registry, theirs, artefact, replace=replace) for artefact in found]


def _check_base_name(base: Artefact, named: str | None) -> None:
    hub = base.manifest.source.get("hub")
    if not isinstance(hub, str) or named in (None, base.name):
        return
    if hub.rpartition("/")[2].lower() != named.rstrip("/").rpartition("/")[2].lower():
        raise RegistryError(
            f"the adapter names base {named!r}, {base.name!r} is {hub!r}",
            hint="import it under the base it was trained on; if both are the same model, correct "
            f"base_model_name_or_path in {CONFIG}",
        )


def _check_width(encoder: Artefact, width: int) -> None:
    hidden = _read_json(encoder.path / "config.json").get("hidden_size")
    if hidden != width:
        raise ModelError(f"the router reads {width} numbers, encoder {encoder.name!r} gives {hidden}")


def _pools_by_mean(config: Mapping[str, Any]) -> bool:
    modes = {key for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    return modes == {"pooling_mode_mean_tokens"}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("no such file, or not valid JSON", where=str(path)) from error
    if not isinstance(record, dict):
        raise ModelError("not a JSON object", where=str(path))
    return record


def _copy_card(folder: Path, target: Path) -> None:
    card = folder / "README.md"
    if card.is_file() and card.stat().st_size <= _MAX_CARD_BYTES:
        shutil.copyfile(card, target / "README.md")
