"""Safetensors files of unknown origin: every way they can be wrong becomes a `ModelError`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hatex.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


def load_tensors(path: Path, *, buffers: bool = False) -> dict[str, Tensor]:
    """All tensors of a safetensors file, in fp16, bf16 or fp32 as stored; with `buffers` also 64-bit integers,
    which older sentence encoders hold (`embeddings.position_ids`).

    Raises `ModelError` for a missing file, a header that does not fit the file (offsets past its end, claimed
    sizes), other element types, and NaN or infinite values.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ModelError("no such file", where=str(path))
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"not a valid safetensors file ({error})", where=str(path)) from error
    for key, tensor in tensors.items():
        if buffers and tensor.dtype == torch.int64:
            continue
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            raise ModelError(f"{key} is stored as {tensor.dtype}, not as floating point", where=str(path))
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{key} holds NaN or infinite values", where=str(path))
    return tensors


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors (made contiguous, on the CPU) as safetensors, in sorted order: same tensors, same
    bytes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)}
    try:
        save_file(plain, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise ModelError(
            f"could not write weights ({error})", where=str(path), hint="see whether the disk is full"
        ) from error
