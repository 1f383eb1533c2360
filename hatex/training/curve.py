"""The loss curve beside an adapter: losses.jsonl for programs, losses.png for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

SMOOTHING = 0.9
"""Weight of the past in the running mean that the figure draws over single steps."""


def write_curve(
    folder: Path, name: str, losses: Sequence[tuple[int, float]], tune_losses: Sequence[tuple[int, float]]
) -> None:
    """Write `losses.jsonl` (one step a line) and `losses.png`."""
    tune = dict(tune_losses)
    lines = [json.dumps(_line(step, loss, tune)) for step, loss in losses]
    (folder / "losses.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(folder / "losses.png", name, losses, tune_losses)


def _line(step: int, loss: float, tune: Mapping[int, float]) -> dict[str, float]:
    line: dict[str, float] = {"step": step, "loss": round(loss, 5)}
    return line | ({"tune_loss": round(tune[step], 5)} if step in tune else {})


def running_mean(losses: Sequence[float], keep: float = SMOOTHING) -> list[float]:
    """Exponential running mean with the start's bias taken out (Kingma and Ba, 2015)."""
    means, mean = [], 0.0
    for count, loss in enumerate(losses, 1):
        mean = keep * mean + (1 - keep) * loss
        means.append(mean / (1 - keep**count))
    return means


def _draw(
    path: Path, name: str, losses: Sequence[tuple[int, float]], tune_losses: Sequence[tuple[int, float]]
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps, values = [step for step, _ in losses], [loss for _, loss in losses]
    axes.plot(steps, values, color="0.8", linewidth=0.8, label="each step")
    axes.plot(steps, running_mean(values), color="tab:blue", label="running mean")
    if tune_losses:
        axes.plot(*zip(*tune_losses, strict=True), "o-", color="tab:orange", label="tune")
    axes.set(xlabel="optimizer step", ylabel="loss", title=name)
    axes.legend()
    figure.savefig(path, dpi=100)
