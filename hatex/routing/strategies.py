"""How router output becomes gate weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hatex.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatex.recipe import Recipe
    from hatex.registry import Registry

FULL = "full"


def chosen_strategy(recipe: Recipe, registry: Registry, asked: str | None = None) -> str:
    """`asked`, else the recipe's strategy, checked as `check_strategy` does before anything is loaded.

    Raises RegistryError where the router is not there: its manifest says which adapters it weighs.
    """
    strategy = asked or recipe.route.strategy
    routed = registry.find("router", recipe.router).manifest.extra["adapters"]
    check_strategy(strategy, recipe.adapters, routed)
    return strategy


def check_strategy(strategy: str, adapters: Sequence[str], routed: Sequence[str]) -> None:
    """Raise UsageError unless `strategy` is known and every adapter it names is there.

    adapters: all that the engine holds; routed: those that the router weighs.
    """
    if strategy in {"blend", "uniform"}:
        return
    if strategy == FULL:
        if FULL not in adapters:
            raise UsageError("strategy `full` needs an adapter named full", hint=_known(adapters))
        return
    if match := re.fullmatch(r"top-(\d+)", strategy):
        if not 1 <= int(match[1]) <= len(routed):
            raise UsageError(
                f"top-{match[1]}: the router weighs {len(routed)} adapters", hint=_known(adapters)
            )
        return
    if match := re.fullmatch(r"single:(.+)", strategy):
        if match[1] not in adapters:
            raise UsageError(f"strategy {strategy}: there is no adapter {match[1]}", hint=_known(adapters))
        return
    raise UsageError(f"unknown strategy {strategy}", hint=_known(adapters))


def _known(adapters: Sequence[str]) -> str:
    singles = ", ".join(f"single:{name}" for name in adapters)
    return f"strategies: blend, top-1, top-2, ..., uniform, full, {singles}"


def gate_weights(
    strategy: str, probabilities: NDArray[np.float64], routed: Sequence[str], adapters: Sequence[str]
) -> NDArray[np.float64]:
    """Gate weights, shape (posts, adapters), rows sum to 1; adapters that take no part weigh 0.

    probabilities: the router's, shape (posts, routed); columns of the result follow `adapters`.
    """
    check_strategy(strategy, adapters, routed)
    gates = np.zeros((len(probabilities), len(adapters)))
    columns = [adapters.index(name) for name in routed]
    if strategy == "blend":
        gates[:, columns] = probabilities
    elif strategy == "uniform":
        gates[:, columns] = 1 / len(routed)
    elif strategy.startswith("top-"):
        k = int(strategy.removeprefix("top-"))
        # A stable sort: equal probabilities keep the router's order, so the answer never changes between runs.
        likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        for rank in range(k):
            gates[np.arange(len(gates)), np.array(columns)[likeliest[:, rank]]] = 1 / k
    else:
        gates[:, adapters.index(strategy.removeprefix("single:"))] = 1
    return gates


def fall_back(
    gates: NDArray[np.float64], to: NDArray[np.float64], below: float, routed: int
) -> NDArray[np.float64]:
    """Blends of posts that the router cannot place move towards the gates `to`, shape (posts, adapters).

    The largest weight w of a blend says how sure the router is (Hendrycks and Gimpel, 2017). From `below` on nothing
    changes; at the least w that there is, 1/routed for that many adapters, `to` takes all; in between its share grows
    evenly. gates (posts, adapters) of `blend`; to (adapters,) or (posts, adapters).
    """
    least = 1 / routed
    share = np.clip((below - gates.max(1, initial=0)) / max(below - least, 1e-9), 0, 1)[:, None]
    fallen: NDArray[np.float64] = gates * (1 - share) + to * share
    return fallen
