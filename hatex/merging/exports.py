"""Merged adapters out to other programs, each compared with hatex's own answers before it is announced."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from hatex.errors import ModelError
from hatex.merging.gguf_lora import read_gguf_lora, write_gguf_lora
from hatex.merging.requantize import requantize
from hatex.merging.stream import ShardWriter, copy_frame, iter_merged
from hatex.merging.targets import CARD, Export, check_free
from hatex.merging.verify import (
    ProbeTokens,
    gated_probabilities,
    load_plain,
    load_with_peft,
    plain_probabilities,
)
from hatex.registry.adapters import LoraAdapter, save_adapter
from hatex.registry.store import Artefact
from hatex.types import NO_PROGRESS, Progress

TOLERANCES: Final[dict[Export, float | None]] = {"peft": 1e-4, "hf": 0.05, "nf4": None, "gguf-lora": 1e-4}
"""Largest difference in a label probability that an export may have; None: reported, not bounded.

`hf` rounds merged weights to bf16, `nf4` quantises them anew; the other two carry the update itself.
"""


@dataclass(frozen=True, slots=True)
class ExportJob:
    """What every export needs: the base, the merged adapter, what to compare with, and a text for the
    card.
    """

    base: Artefact
    adapter: LoraAdapter
    probes: ProbeTokens
    expected: Tensor
    """Label probabilities of the blend itself, shape (probes, labels)."""
    card: str
    base_name: str
    """What an adapter's configuration calls the base: a hub id, or the name in the registry."""
    seed: int = 4761
    """Of the stochastic rounding of `nf4`."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    kind: Export
    path: Path
    size_bytes: int
    max_difference: float
    """Largest difference of any label probability on any probe."""
    mean_difference: float


def export(
    job: ExportJob, kind: Export, target: Path, *, replace: bool = False, progress: Progress = NO_PROGRESS
) -> ExportReport:
    """Write one export beside `target`, compare it, then move it there.

    Raises `UsageError` as `check_free` does, `ModelError` if the export answers otherwise; then nothing
    remains.
    """
    check_free(kind, target, replace=replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.with_name(f".{target.name}.new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        with progress.task(f"Writing {kind}"):
            found = _WRITERS[kind](job, staging)
            (staging / CARD).write_text(job.card, encoding="utf-8")
        difference = (found - job.expected).abs()
        worst, tolerance = float(difference.max()), TOLERANCES[kind]
        if not worst <= (1.0 if tolerance is None else tolerance):
            raise ModelError(
                f"the {kind} export differs by {worst:.2g} in a label probability (at most {tolerance:g})",
                where=str(target),
            )
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return ExportReport(kind, target, size, worst, float(difference.mean()))


def _write_peft(job: ExportJob, folder: Path) -> Tensor:
    save_adapter(folder, job.adapter, base_model=job.base_name, dtype=torch.float32)
    return plain_probabilities(load_with_peft(job.base.path, folder), job.probes)


def _write_hf(job: ExportJob, folder: Path) -> Tensor:
    writer = ShardWriter(folder)
    for name, tensor, _ in iter_merged(job.base.path, job.adapter):
        writer.add(name, tensor.to(torch.bfloat16))
    writer.close()
    copy_frame(job.base.path, folder, quantised=False)
    return plain_probabilities(load_plain(folder), job.probes)


def _write_nf4(job: ExportJob, folder: Path) -> Tensor:
    writer = ShardWriter(folder)
    generator = torch.Generator().manual_seed(job.seed)
    for name, tensor, parts in iter_merged(job.base.path, job.adapter):
        if not parts:
            writer.add(name, tensor.to(torch.bfloat16))
            continue
        for part, value in requantize(tensor, parts, generator).items():
            writer.add(f"{name}.{part}" if part else name, value)
    writer.close()
    copy_frame(job.base.path, folder, quantised=True)
    return plain_probabilities(load_plain(folder), job.probes)


def _write_gguf_lora(job: ExportJob, folder: Path) -> Tensor:
    config = json.loads((job.base.path / "config.json").read_text(encoding="utf-8"))
    path = folder / f"{job.adapter.name}.gguf"
    write_gguf_lora(path, job.adapter, config)
    back = read_gguf_lora(path, config)
    return gated_probabilities(job.base.path, [back], [1.0], job.probes)


_WRITERS: Final[dict[Export, Callable[[ExportJob, Path], Tensor]]] = {
    "peft": _write_peft,
    "hf": _write_hf,
    "nf4": _write_nf4,
    "gguf-lora": _write_gguf_lora,
}
