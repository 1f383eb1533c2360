"""Shapes of a base's weights, read from file headers alone, and whether an adapter fits them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from hatex.errors import RegistryError
from hatex.registry.adapters import LoraAdapter
from hatex.registry.store import Artefact

_QUANT_STATE: Final = ".quant_state.bitsandbytes__nf4"


def linear_shapes(folder: Path) -> dict[str, tuple[int, int]]:
    """Path and shape (out, in) of every matrix in a model folder, packed NF4 or plain."""
    from safetensors import safe_open

    shapes: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in names:
                if not name.endswith(".weight"):
                    continue
                if name + _QUANT_STATE in names:
                    state = json.loads(bytes(file.get_tensor(name + _QUANT_STATE).tolist()))
                    shape = state["shape"]
                else:
                    shape = file.get_slice(name).get_shape()
                if len(shape) == 2:
                    shapes[name.removesuffix(".weight")] = (shape[0], shape[1])
    return shapes


def check_shapes(base: Artefact, adapter: LoraAdapter) -> None:
    """Raise `RegistryError` unless every module of `adapter` is a matrix of that shape in `base`."""
    shapes = linear_shapes(base.path)
    for module, (A, B, _) in adapter.modules.items():
        found, expected = (B.shape[0], A.shape[1]), shapes.get(module)
        if found != expected:
            has = "has no such layer" if expected is None else f"has {expected[0]} x {expected[1]}"
            raise RegistryError(
                f"adapter {adapter.name!r} is of another base than {base.name!r}: "
                f"{module} is {found[0]} x {found[1]}, the base {has}",
                hint="import it under the base it was trained on",
            )
