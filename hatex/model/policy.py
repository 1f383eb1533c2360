"""How NF4 weights are computed with on this machine, from free memory and a short measurement."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Iterator
from functools import lru_cache
from math import prod
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from hatex.errors import UsageError
from hatex.memory import release_device_cache
from hatex.model.weights import NF4_PARTS, QUANT_STATE, Compute

if TYPE_CHECKING:
    import torch

RESERVE_BYTES = 1 << 30
"""Room beside the weights for activations, encoder and libraries."""
TRIED_ROWS = (1, 4, 16, 64)
MEASURED_WIDTH = 2048
"""Longer sides are measured at this length: the crossover moves little with it, the time to measure a lot."""


def compute_device(requested: str) -> torch.device:
    """The device for `auto | cpu | cuda` on this machine; raises UsageError for CUDA that torch does not see."""
    import torch

    if requested == "cuda" and not torch.cuda.is_available():
        raise UsageError("torch sees no CUDA device", where="base.device", hint="use `auto` or `cpu`")
    if requested == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def has_bf16_matmul(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware (AMX or AVX512-BF16; Ampere and later).

    Where it does not, torch emulates bf16 and float32 is several times faster.
    """
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def compute_dtype(requested: str, device: torch.device | None = None) -> torch.dtype:
    """The compute dtype for `auto | float32 | bfloat16` on this device, by default the processor."""
    import torch

    if requested == "auto":
        return torch.bfloat16 if has_bf16_matmul(device or torch.device("cpu")) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[requested]


def resident_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Memory that the weights of a base take once they are dequantised, from the headers of its files."""
    packed = _packed_states(folder)
    values: int = sum(prod(state["shape"]) for state in packed.values())
    return (values + sum(_plain_sizes(folder, packed))) * dtype.itemsize


def _packed_states(folder: Path) -> dict[str, dict[str, Any]]:
    """What is stored about the packing of every packed weight: `shape` (out, in), `dtype`, ..."""
    from safetensors import safe_open

    from hatex.model.loading import weight_files

    states = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                if name.endswith(f".{QUANT_STATE}"):
                    state = json.loads(bytes(tensors.get_tensor(name).tolist()))
                    states[name.removesuffix(f".{QUANT_STATE}")] = state
    return states


def _plain_sizes(folder: Path, packed: Container[str]) -> Iterator[int]:
    """Number of values of every tensor that is stored as it is."""
    from safetensors import safe_open

    from hatex.model.loading import weight_files

    for file in weight_files(folder):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                if name not in packed and not name.endswith(NF4_PARTS):
                    yield prod(tensors.get_slice(name).get_shape())


def available_bytes(device: torch.device | None = None) -> int:
    """Memory that can be taken: a CUDA device's own, else what is free without swapping, within the control group."""
    import psutil

    if device is not None and device.type == "cuda":
        import torch

        release_device_cache()
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        used = int((group / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        # No limit ("max"), or no control groups on this system.
        return free
    return min(free, max(0, limit - used))


def packed_shapes(folder: Path) -> list[tuple[int, int]]:
    """(out, in) of every linear layer that is stored packed."""
    return [(state["shape"][0], state["shape"][1]) for state in _packed_states(folder).values()]


def cache_bytes(folder: Path, dtype: torch.dtype, tokens: int) -> int:
    """What attention keeps of so many tokens while an answer is written: keys and values of every layer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    kept = 2 * config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * width
    return int(kept * tokens * dtype.itemsize)


def choose_compute(
    requested: str,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device | None = None,
    *,
    beside: int = 0,
) -> Compute:
    """What is requested; for `auto`, `resident` wherever the dequantised weights fit into free memory, else `mixed`.

    `beside` are bytes that the work itself takes: adapters, and what they compute.
    Resident is the fastest at every number of rows that was measured (tests/bench); `mixed` stays as small as
    `packed` and takes the faster of `packed` and `dequantize` for every number of rows.
    """
    if requested == "auto":
        fits = resident_bytes(folder, dtype) + beside + RESERVE_BYTES < available_bytes(device)
        return "resident" if fits else "mixed"
    if requested not in ("resident", "dequantize", "packed", "mixed"):
        raise UsageError(
            f"unknown compute policy {requested}", hint="auto, resident, dequantize, packed or mixed"
        )
    return cast(Compute, requested)


@lru_cache(maxsize=16)
def measured_packed_rows(
    out_features: int,
    in_features: int,
    dtype: torch.dtype,
    block_size: int,
    device: torch.device | None = None,
) -> int:
    """The most rows of `TRIED_ROWS` for which bitsandbytes' packed matmul beats unpacking by a tenth; 0 if none.

    Takes well under a second, once a process for each shape.
    """
    import torch

    from hatex.model.weights import Nf4Weight, build_weight, packed_matmul, quantize

    device = device or torch.device("cpu")
    generator = torch.Generator().manual_seed(0)
    shape = (min(out_features, MEASURED_WIDTH), min(in_features, MEASURED_WIDTH))
    values = torch.randn(shape, generator=generator).to(torch.bfloat16)
    weight = build_weight(quantize(values, block_size), "dequantize", dtype, device)
    assert isinstance(weight, Nf4Weight)
    best = 0
    with torch.inference_mode():
        for rows in TRIED_ROWS:
            x = torch.randn(rows, shape[1], generator=generator).to(device, dtype)
            packed_s = _seconds(lambda x=x: packed_matmul(x, weight.packed, weight.state), device)  # type: ignore[misc]
            if packed_s > 0.9 * _seconds(lambda x=x: weight(x), device):  # type: ignore[misc]
                break
            best = rows
    return best


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    """Median of five runs after one to warm up."""
    import torch

    run()
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
    return median(taken)


def describe_compute(folder: Path, requested: str = "auto", dtype_name: str = "auto") -> dict[str, Any]:
    """How the base in `folder` would be computed with here, and what that rests on; plain values for JSON.

    `packed_up_to_rows` is what `mixed` would compute packed, measured on the largest layer; nothing in another dtype
    than the stored one (see `GatedLM`).
    """
    device = compute_device("auto")
    dtype = compute_dtype(dtype_name, device)
    name = str(dtype).removeprefix("torch.")
    alike = [state for state in _packed_states(folder).values() if state["dtype"] == name]
    largest = max(alike, key=lambda state: prod(state["shape"]), default=None)
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {
        "policy": choose_compute(requested, folder, dtype, device),
        "device": str(device),
        "dtype": name,
        "resident_bytes": resident_bytes(folder, dtype),
        "packed_bytes": stored,
        "available_bytes": available_bytes(device),
        "packed_up_to_rows": 0
        if largest is None
        else measured_packed_rows(*largest["shape"], dtype, largest["blocksize"], device),
    }
