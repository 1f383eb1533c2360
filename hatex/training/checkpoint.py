"""Checkpoints of one adapter's training: enough to go on with the same bytes, written atomically, the last two kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hatex.errors import TrainingError
from hatex.locks import hold
from hatex.registry.files import flush_tree

KEPT = 2


@dataclass(frozen=True)
class Progressed:
    """Where a run stands. `key` is a digest of all that decides its result; another run's checkpoint is refused."""

    key: str
    step: int
    best_step: int | None
    best_loss: float | None
    losses: tuple[tuple[int, float], ...]
    tune_losses: tuple[tuple[int, float], ...]
    seconds: float
    best_rows: tuple[float, ...] = ()
    """The loss of each tune row at `best_step`."""


def save_checkpoint(
    folder: Path,
    progressed: Progressed,
    weights: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    best: dict[str, Tensor] | None,
) -> None:
    """Write `folder`/step-N and delete older ones; a killed process leaves the previous checkpoint whole.

    Raises TrainingError where the disk is full.
    """
    target = folder / f"step-{progressed.step:06d}"
    scratch = folder / f".{target.name}.{os.getpid()}"
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        save_file(weights, scratch / "weights.safetensors")
        save_file(optimizer, scratch / "optimizer.safetensors")
        if best is not None:
            save_file(best, scratch / "best.safetensors")
        (scratch / "state.json").write_text(json.dumps(asdict(progressed)), encoding="utf-8")
        flush_tree(scratch)
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise TrainingError(
            f"could not write the checkpoint of step {progressed.step}: {getattr(error, 'strerror', None) or error}",
            where=str(folder),
            hint="free some disk space and run the same command with --resume; earlier checkpoints are whole",
        ) from error
    for old in checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Keep other runs away from an adapter's checkpoints, which they would prune and overwrite.

    Raises TrainingError where one is at work there; what a killed run held is free.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    busy = TrainingError(
        f"another run is training {folder.name} in this registry",
        where=str(folder),
        hint="wait for it, name the adapter otherwise, or use another --registry",
    )
    with hold(folder.with_name(f"{folder.name}.lock"), busy):
        yield


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(folder.glob("step-*"))


@dataclass(frozen=True)
class Checkpoint:
    progressed: Progressed
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    best: dict[str, Tensor] | None


def read_progress(folder: Path, key: str) -> tuple[Path, Progressed] | None:
    """The newest checkpoint and where it stands, or None if there is none.

    Raises TrainingError if it belongs to another recipe, base, data or version of the rows.
    """
    found = _newest(folder)
    if found is None:
        return None
    newest, state = found
    if state["key"] != key:
        raise TrainingError(
            "the checkpoint belongs to another recipe, base or data",
            where=str(newest),
            hint="run without --resume to start anew, or restore the recipe it was made with",
        )
    for name in ("losses", "tune_losses"):
        state[name] = tuple((int(step), float(loss)) for step, loss in state[name])
    state["best_rows"] = tuple(state.get("best_rows", ()))
    return newest, Progressed(**state)


def _newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint and its state."""
    if not (found := checkpoints(folder)):
        return None
    return found[-1], json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))


def refuse_unfinished(folder: Path, key: str) -> None:
    """Raise TrainingError where an earlier run of the same recipe could go on: starting anew would lose its steps."""
    found = _newest(folder)
    if found is None:
        return
    newest, state = found
    if state["key"] == key:
        raise TrainingError(
            f"an earlier run of this recipe stopped after step {state['step']}",
            where=str(newest),
            hint="go on with --resume, or start anew with --replace",
        )


def load_checkpoint(folder: Path, key: str) -> Checkpoint | None:
    """The newest checkpoint with its weights; as `read_progress`."""
    found = read_progress(folder, key)
    if found is None:
        return None
    newest, progressed = found
    optimizer = load_file(newest / "optimizer.safetensors")
    best = newest / "best.safetensors"
    return Checkpoint(
        progressed,
        load_file(newest / "weights.safetensors"),
        optimizer,
        load_file(best) if best.is_file() else None,
    )
