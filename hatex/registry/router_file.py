"""Router weights: hatex's safetensors file, and the research system's pickled state dict converted into
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hatex.errors import ModelError
from hatex.registry.tensors import load_tensors

if TYPE_CHECKING:
    from torch import Tensor

ROUTER_WEIGHTS: Final = "router.safetensors"
KEYS: Final = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")
"""Shapes (h, width), (h,), (k, h), (k,): encoder width to h hidden units to k adapters."""
_MAX_BYTES: Final = 64 << 20


def load_router_tensors(path: Path) -> dict[str, Tensor]:
    """The four tensors of a router in float32, from safetensors or from a state dict (`.pth`, `.pt`, `.bin`).

    A state dict is read with `weights_only=True`, which builds tensors and containers and nothing else.
    Raises `ModelError` for anything but exactly these keys with shapes that fit each other, and for NaN and
    infinite values.
    """
    if not path.is_file() or path.stat().st_size > _MAX_BYTES:
        raise ModelError("no such file, or too large for a router", where=str(path))
    found = load_tensors(path) if path.suffix == ".safetensors" else _load_state_dict(path)
    return check_router_tensors(found, str(path))


def check_router_tensors(found: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors in float32, if they are a router's; else `ModelError`."""
    import torch

    unknown, missing = sorted(set(found) - set(KEYS)), sorted(set(KEYS) - set(found))
    if unknown or missing:
        raise ModelError(
            f"not a router: unknown keys {unknown}, missing keys {missing}",
            where=where,
            hint=f"a router has exactly {', '.join(KEYS)}",
        )
    shapes = {key: tuple(found[key].shape) for key in KEYS}
    width = shapes["hidden.weight"][-1] if len(shapes["hidden.weight"]) == 2 else 0
    h, k = (shapes[key][0] if len(shapes[key]) == 1 else 0 for key in ("hidden.bias", "output.bias"))
    expected = {
        "hidden.weight": (h, width),
        "hidden.bias": (h,),
        "output.weight": (k, h),
        "output.bias": (k,),
    }
    if shapes != expected or 0 in (h, k, width):
        raise ModelError(f"shapes do not fit each other: {shapes}", where=where)
    for key in KEYS:
        if not found[key].is_floating_point() or not bool(torch.isfinite(found[key]).all()):
            raise ModelError(f"{key} holds NaN, infinite or integer values", where=where)
    return {key: found[key].detach().float().contiguous() for key in KEYS}


def _load_state_dict(path: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(
            "not a plain state dict", where=str(path), hint="pickles that hold more than tensors are refused"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ModelError("not a state dict of tensors", where=str(path))
    return dict(state)
