"""Passes are run once, and answers shared between strategies are the engine's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from hatex.errors import UsageError
from hatex.evaluation.passes import PassCache, same_gates
from hatex.evaluation.specs import StrategySpec, expand_strategies, parse_strategy


@dataclass(frozen=True)
class LinearEngine:
    """Blends in closed form: `delta` mixes logits, `probability` mixes answers; counts what it is asked."""

    adapters: tuple[str, ...] = ("forums", "wiki", "full")
    fingerprint: str = "linear"
    asked: list[tuple[str, str]] = field(default_factory=list)

    def gate(self, texts, strategy="blend", platforms=None):
        raise NotImplementedError

    def score(self, texts: Sequence[str], gates=None, space="delta"):
        self.asked.extend((text, space) for text in texts)
        logits = np.array([[[len(t), k, 0.5 * k * len(t)] for k in range(3)] for t in texts], dtype=float)

        def soften(x):
            e = np.exp(x - x.max(axis=-1, keepdims=True))
            return e / e.sum(axis=-1, keepdims=True)

        if space == "probability":
            return np.einsum("nk,nkl->nl", gates, soften(logits))
        if space == "reference":
            gates = np.sqrt(gates)
        return soften(np.einsum("nk,nkl->nl", gates, logits))


TEXTS = ["a", "bbb", "cc"]
BLEND = np.array([[0.2, 0.8, 0], [1.0, 0, 0], [0.5, 0.5, 0]])
SINGLE = [np.tile(np.eye(3)[k], (3, 1)) for k in range(3)]


def test_answers_equal_the_engine_and_each_pass_runs_once():
    engine = LinearEngine()
    cache = PassCache(engine, TEXTS)
    requests = [(BLEND, "delta"), *((one, "delta") for one in SINGLE[:2]), (BLEND, "probability")]
    requests.append((BLEND, "reference"))
    counted: list[float] = []
    expected = cache.count_missing(requests)
    cache.prepare(requests, counted.append)
    # Blend: rows 0 and 2 mixed, row 1 is single:forums. Singles: 6. Probability: nothing new. Reference:
    # rows 0, 2.
    assert expected == cache.n_run == sum(counted) == len(engine.asked) == 2 + 6 + 2
    for gates, space in requests:
        np.testing.assert_allclose(
            cache.score(gates, space), LinearEngine().score(TEXTS, gates, space), atol=1e-6
        )
    assert cache.n_asked == 15
    cache.prepare(requests, counted.append)
    assert len(engine.asked) == 10


def test_gates_reach_the_engine_exactly():
    seen = []

    class Recording(LinearEngine):
        def score(self, texts, gates=None, space="delta"):
            seen.append(gates)
            return super().score(texts, gates, space)

    thirds = np.full((1, 3), 1 / 3, dtype=np.float32)
    PassCache(Recording(), ["a"]).prepare([(thirds, "delta")], lambda _done: None)
    np.testing.assert_array_equal(seen[0], thirds)


def test_same_gates():
    assert same_gates(np.full((2, 3), 1 / 3), np.full((2, 3), np.float32(1 / 3)))
    assert not same_gates(BLEND, SINGLE[0])


def test_specs():
    assert parse_strategy("blend") == StrategySpec("blend")
    assert parse_strategy("blend@reference").name == "blend@reference"
    names = [s.name for s in expand_strategies(["blend", "single:*", "single:wiki"], ["forums", "wiki"])]
    assert names == ["blend", "single:forums", "single:wiki"]
    assert [s.name for s in expand_strategies(["top-*@probability", "top-2"], ["forums", "wiki"])] == [
        "top-1@probability",
        "top-2@probability",
        "top-2",
    ]
    with pytest.raises(UsageError, match="unknown blend space"):
        parse_strategy("blend@logits")
    with pytest.raises(UsageError, match="no name"):
        parse_strategy("@delta")
