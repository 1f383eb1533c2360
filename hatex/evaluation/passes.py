"""Each pass of the engine is run once: strategies that give a post the same gate weights share its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hatex.evaluation.estimate import Array
from hatex.types import LABELS, BlendSpace

Gates = npt.NDArray[np.floating[Any]]

_CHUNK_POSTS: Final = 128
"""Passes between two steps of the progress bar; the engine makes batches of its own inside."""
_DECIMALS: Final = 6
"""Gate weights that agree to this many decimals are the same."""


class Answers(Protocol):
    """What evaluation needs of the engine."""

    @property
    def adapters(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    def gate(self, texts: Sequence[str], strategy: str = ..., platforms: Sequence[str] | None = ...) -> Gates:
        """Gate weights, shape (texts, adapters)."""
        ...

    def score(self, texts: Sequence[str], gates: Gates | None = ..., space: BlendSpace = ...) -> Array:
        """P(label), shape (texts, labels)."""
        ...


@dataclass(frozen=True, slots=True)
class _Pass:
    row: int
    key: tuple[float, ...]
    space: BlendSpace
    gates: tuple[float, ...] = field(compare=False)


@dataclass
class PassCache:
    """Answers of one engine on one list of posts.

    A post wholly on one adapter has the same answer in every blend space, and the `probability` space is
    the mix of those answers, so neither costs passes beyond them.
    """

    engine: Answers
    texts: Sequence[str]
    n_run: int = 0
    n_asked: int = 0
    _known: dict[_Pass, Array] = field(default_factory=dict)

    def prepare(self, requests: Sequence[tuple[Gates, BlendSpace]], advance: Callable[[float], None]) -> None:
        """Run what is missing for all requests together; `advance` counts passes run."""
        missing: dict[_Pass, None] = {}
        for gates, space in requests:
            for needed in self._passes(gates, space):
                for one in needed:
                    if one not in self._known:
                        missing[one] = None
        by_space: dict[BlendSpace, list[_Pass]] = {}
        for one in missing:
            by_space.setdefault(one.space, []).append(one)
        for space, passes in by_space.items():
            for start in range(0, len(passes), _CHUNK_POSTS):
                chunk = passes[start : start + _CHUNK_POSTS]
                texts = [self.texts[one.row] for one in chunk]
                gates = np.array([one.gates for one in chunk], dtype=np.float32)
                self._known.update(zip(chunk, self.engine.score(texts, gates, space=space), strict=True))
                advance(len(chunk))
        self.n_run += len(missing)

    def count_missing(self, requests: Sequence[tuple[Gates, BlendSpace]]) -> int:
        """How many passes `prepare` would run."""
        needed = {one for gates, space in requests for row in self._passes(gates, space) for one in row}
        return len(needed - self._known.keys())

    def score(self, gates: Gates, space: BlendSpace) -> Array:
        """P(label), shape (posts, labels), from passes that `prepare` has run."""
        self.n_asked += len(self.texts)
        out = np.zeros((len(self.texts), len(LABELS)))
        for row, needed in enumerate(self._passes(gates, space)):
            for one in needed:
                weight = 1.0 if len(needed) == 1 else float(gates[row][np.argmax(one.key)])
                out[row] += weight * self._known[one]
        return out

    def _passes(self, gates: Gates, space: BlendSpace) -> list[list[_Pass]]:
        rounded = np.round(np.asarray(gates, dtype=np.float64), _DECIMALS)
        return [
            self._needed(row, tuple(key.tolist()), tuple(exact.tolist()), space)
            for row, (key, exact) in enumerate(zip(rounded, gates, strict=True))
        ]

    def _needed(
        self, row: int, key: tuple[float, ...], exact: tuple[float, ...], space: BlendSpace
    ) -> list[_Pass]:
        used = [index for index, weight in enumerate(key) if weight > 0]
        if len(used) > 1 and space != "probability":
            return [_Pass(row, key, space, exact)]
        one_hots = [tuple(float(i == index) for i in range(len(key))) for index in used]
        return [_Pass(row, one_hot, "delta", one_hot) for one_hot in one_hots]


def same_gates(first: Gates, second: Gates) -> bool:
    """Whether two strategies weigh every post alike."""
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=0, atol=10.0**-_DECIMALS))
