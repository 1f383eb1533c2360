"""Strategies as eval names them: `blend`, `top-2`, `single:forums`, `blend@probability`, `top-*`, `single:*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

import numpy as np
import numpy.typing as npt

from hatex.errors import UsageError
from hatex.evaluation.estimate import Array
from hatex.routing.strategies import FULL
from hatex.types import BlendSpace

SPACES: Final[tuple[BlendSpace, ...]] = get_args(BlendSpace)
ORACLE: Final = "oracle"
"""Each post to the adapter of its own platform: what a router without mistakes would do."""
EVERY_TOP: Final = "top-*"
EVERY_SINGLE: Final = "single:*"


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy and the space the blend happens in; `name` is how tables and requirements call it."""

    strategy: str
    space: BlendSpace = "delta"

    @property
    def name(self) -> str:
        return self.strategy if self.space == "delta" else f"{self.strategy}@{self.space}"


def find_homes(platforms: Sequence[str], adapters: Sequence[str]) -> npt.NDArray[np.int64]:
    """Column of the adapter named after each post's platform, shape (posts,), -1 where there is none."""
    columns = {name: index for index, name in enumerate(adapters)}
    return np.array([columns.get(platform, -1) for platform in platforms], dtype=np.int64)


def oracle_gates(platforms: Sequence[str], adapters: Sequence[str]) -> Array:
    """Every post wholly on the adapter of its platform, shape (posts, adapters). Raises ValueError without
    one.
    """
    homes = find_homes(platforms, adapters)
    if (homes < 0).any():
        raise ValueError("a post comes from a platform without an adapter")
    return np.eye(len(adapters))[homes]


def parse_strategy(text: str) -> StrategySpec:
    """`STRATEGY` or `STRATEGY@SPACE`. Raises UsageError for an unknown space; the engine knows strategies."""
    strategy, _, space = text.partition("@")
    if "@" in text and space not in SPACES:
        raise UsageError(
            f"unknown blend space {space!r}", where=f"strategy {text!r}", hint=f"spaces: {', '.join(SPACES)}"
        )
    if not strategy:
        raise UsageError("a strategy has no name", where=f"strategy {text!r}")
    return StrategySpec(strategy, cast(BlendSpace, space or "delta"))


def check_reference(text: str) -> None:
    """Raise UsageError for what differences cannot be taken to: the oracle, and a name of several strategies."""
    if parse_strategy(text).strategy in (ORACLE, EVERY_SINGLE, EVERY_TOP):
        hint = "name one strategy that needs no platform, such as blend"
        raise UsageError(f"{text!r} cannot be the reference", where="eval.reference", hint=hint)


def every_strategy(adapters: Sequence[str]) -> list[str]:
    """All that an engine with these adapters can be asked for."""
    return [
        "blend",
        EVERY_TOP,
        EVERY_SINGLE,
        "uniform",
        *([FULL] if FULL in adapters else []),
        ORACLE,
        *(f"blend@{space}" for space in SPACES[1:]),
    ]


def expand_strategies(texts: Sequence[str], routed: Sequence[str]) -> list[StrategySpec]:
    """Parsed specs in order, repeats dropped; `single:*` and `top-*` as one for each adapter that the router weighs."""
    every = {
        EVERY_TOP: [f"top-{k + 1}" for k in range(len(routed))],
        EVERY_SINGLE: [f"single:{name}" for name in routed],
    }
    parsed = map(parse_strategy, texts)
    specs = [StrategySpec(name, s.space) for s in parsed for name in every.get(s.strategy, [s.strategy])]
    return list(dict.fromkeys(specs))
