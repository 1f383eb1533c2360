"""Gradient-free search for merge weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hatex.errors import UsageError
from hatex.types import NO_PROGRESS, Progress

BOUNDS = (-0.5, 1.5)
"""Smallest and largest weight tried; a little below 0, since subtracting an adapter may help."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One weighting and what it scored."""

    weights: dict[str, float]
    score: float


def optimise_weights(
    objective: Callable[[dict[str, float]], float],
    names: Sequence[str],
    *,
    start: Sequence[float] | None = None,
    steps: int = 40,
    seed: int = 4761,
    progress: Progress = NO_PROGRESS,
) -> list[Trial]:
    """Weights that make `objective` large: all trials, the best first, by CMA-ES (Hansen 2016) within
    `BOUNDS`.

    The start (default: equal weights) is tried as well, so the result is never worse. The same arguments give
    the same trials. Raises `UsageError` for fewer than two adapters.
    """
    import cma

    if len(names) < 2:
        raise UsageError("there is nothing to weigh with one adapter", hint="name two adapters or more")
    initial = list(start) if start is not None else [1 / len(names)] * len(names)
    trials = []
    with progress.task("Trying weights", total=steps, unit="weightings") as advance:

        def attempt(point: Sequence[float]) -> float:
            weights = dict(zip(names, map(float, point), strict=True))
            trials.append(Trial(weights, objective(weights)))
            advance(1)
            return -trials[-1].score

        attempt(initial)
        # A metric of decisions is flat in places: that is no reason to stop before the steps are used.
        flat = {"tolfun": 0, "tolfunhist": 0, "tolflatfitness": steps}
        options = {"bounds": list(BOUNDS), "seed": seed, "verbose": -9, **flat}
        search = cma.CMAEvolutionStrategy(initial, 0.3, options)
        while len(trials) < steps and not search.stop():
            points = search.ask()
            # The last generation may be cut: its points are tried, but teach the search nothing.
            values = [attempt(point) for point in points[: steps - len(trials)]]
            if len(values) == len(points):
                search.tell(points, values)
    return sorted(trials, key=lambda trial: -trial.score)
