"""The engine's part of an evaluation: gate every post, run each pass once, explain a sample."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from hatex.evaluation.gold import Scored
from hatex.evaluation.passes import Answers, Gates, PassCache, same_gates
from hatex.evaluation.specs import (
    ORACLE,
    StrategySpec,
    every_strategy,
    expand_strategies,
    find_homes,
    oracle_gates,
    parse_strategy,
)
from hatex.routing.strategies import gate_weights
from hatex.types import Progress, Verdict
from hatex.workflows.evaluation_data import EvalData

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.evaluation.explained import ExplainedPosts
    from hatex.recipe.evaluate import EvalSection

EXPLAINED_AT_ONCE: Final = 64
"""Posts explained in one call: each has some twenty variants, and memory grows with all of them."""
_ROUTER = "blend"


@dataclass
class EvalState:
    """What the steps of one evaluation share. `scored` and `absent` are by strategy, then data set; `gates`
    by data set, then strategy; `absent` says why a strategy has no answer on a set.
    """

    section: EvalSection
    engine: Engine
    sets: Sequence[EvalData]
    progress: Progress
    specs: Sequence[StrategySpec]
    routed: tuple[str, ...]
    gates: dict[str, dict[str, Gates]] = field(default_factory=dict)
    blends: dict[str, Gates] = field(default_factory=dict)
    scored: dict[str, dict[str, Scored]] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    same_as: dict[str, str] = field(default_factory=dict)
    passes_run: int = 0
    passes_asked: int = 0

    @staticmethod
    def start(
        section: EvalSection, engine: Engine, sets: Sequence[EvalData], progress: Progress
    ) -> EvalState:
        """A state whose strategies are spelled out; `single:*` and `top-*` go by the adapters that the router weighs.

        Raises UsageError for an unknown blend space.
        """
        uniform = engine.gate([sets[0].examples[0].text], "uniform")[0]
        routed = tuple(name for name, weight in zip(engine.adapters, uniform, strict=True) if weight > 0)
        specs = expand_strategies(section.strategies or every_strategy(engine.adapters), routed)
        return EvalState(section, engine, sets, progress, specs, routed)

    @property
    def reference_spec(self) -> StrategySpec:
        return parse_strategy(self.section.reference)

    def router_gates(self, data: EvalData) -> Gates:
        """The router's own weights for a set's posts before any fallback, shape (posts, adapters); posts are embedded
        once.
        """
        name = data.gold.dataset
        if name not in self.blends:
            self.blends[name] = replace(self.engine, fallback=None).gate(data.texts, _ROUTER)
        return self.blends[name]


def gate_sets(state: EvalState) -> None:
    """Gate weights of every strategy on every set, and which strategies weigh every post alike."""
    with state.progress.task("Gating", len(state.sets) * len(state.specs), "strategies") as advance:
        for data in state.sets:
            by_strategy = state.gates.setdefault(data.gold.dataset, {})
            known: dict[str, Gates | None] = {}
            for spec in state.specs:
                if spec.strategy not in known:
                    known[spec.strategy] = _gate(state, data, spec)
                gates = known[spec.strategy]
                if gates is None:
                    platforms = ", ".join(sorted(set(data.platforms)))
                    why = f"no adapter for platform {platforms}"
                    state.absent.setdefault(spec.name, {})[data.gold.dataset] = why
                else:
                    by_strategy[spec.name] = gates
                advance(1)
    state.same_as.update(_find_same(state))


def _gate(state: EvalState, data: EvalData, spec: StrategySpec) -> Gates | None:
    adapters = state.engine.adapters
    if spec.strategy == _ROUTER and state.engine.fallback is None:
        return state.router_gates(data)
    if spec.strategy == ORACLE:
        homeless = (find_homes(data.platforms, adapters) < 0).any()
        return None if homeless else oracle_gates(data.platforms, adapters)
    if spec.strategy.startswith("top-"):
        # The engine's own rule, on router weights that are known already: posts are embedded once.
        columns = [adapters.index(name) for name in state.routed]
        return gate_weights(
            spec.strategy, state.router_gates(data)[:, columns].astype(np.float64), state.routed, adapters
        )
    return state.engine.gate(data.texts, spec.strategy)


def _find_same(state: EvalState) -> dict[str, str]:
    """Strategy to the earliest one that gives the same answers: the same gates in the same blend space."""
    same: dict[str, str] = {}
    for index, spec in enumerate(state.specs):
        for earlier in state.specs[:index]:
            alike = [_alike(state, data, spec, earlier) for data in state.sets]
            if earlier.name not in same and all(alike):
                same[spec.name] = earlier.name
                break
    return same


def _alike(state: EvalState, data: EvalData, first: StrategySpec, second: StrategySpec) -> bool:
    by_strategy = state.gates[data.gold.dataset]
    a, b = by_strategy.get(first.name), by_strategy.get(second.name)
    if a is None or b is None or not same_gates(a, b):
        return False
    # A post wholly on one adapter has the same answer in every space.
    return first.space == second.space or bool((np.count_nonzero(a, axis=1) == 1).all())


def score_sets(state: EvalState, answers: Answers) -> None:
    """P(label) of every strategy on every set; each distinct pass is asked of `answers` once."""
    caches = [PassCache(answers, data.texts) for data in state.sets]
    requests = [
        [(state.gates[data.gold.dataset][spec.name], spec.space) for spec in _present(state, data)]
        for data in state.sets
    ]
    total = sum(cache.count_missing(asked) for cache, asked in zip(caches, requests, strict=True))
    with state.progress.task("Scoring", total, "passes") as advance:
        for cache, asked in zip(caches, requests, strict=True):
            cache.prepare(asked, advance)
    for data, cache in zip(state.sets, caches, strict=True):
        for spec in _present(state, data):
            probabilities = cache.score(state.gates[data.gold.dataset][spec.name], spec.space)
            state.scored.setdefault(spec.name, {})[data.gold.dataset] = Scored(data.gold, probabilities)
        state.passes_run += cache.n_run
        state.passes_asked += cache.n_asked


def _present(state: EvalState, data: EvalData) -> list[StrategySpec]:
    return [spec for spec in state.specs if spec.name in state.gates[data.gold.dataset]]


def explain_sets(state: EvalState, names: Collection[str]) -> dict[str, ExplainedPosts]:
    """Verdicts with explanations for the first harmful posts of each set in `names`; sets without harmful
    posts are left out.
    """
    from hatex.evaluation.explained import ExplainedPosts

    spec = state.reference_spec
    sets = [data for data in state.sets if data.gold.dataset in names]
    chosen = {data.gold.dataset: _harmful_posts(state, data) for data in sets}
    out = {}
    with state.progress.task("Explaining", sum(map(len, chosen.values())), "posts") as advance:
        for data in sets:
            rows = chosen[data.gold.dataset]
            if not rows:
                continue
            examples = [data.examples[row] for row in rows]
            verdicts: list[Verdict] = []
            for start in range(0, len(rows), EXPLAINED_AT_ONCE):
                texts = [example.text for example in examples[start : start + EXPLAINED_AT_ONCE]]
                verdicts += state.engine.verdicts(
                    texts, strategy=spec.strategy, space=spec.space, explain=True
                )
                advance(len(texts))
            # Posts are explained as they are written, whatever form their labels are taken in: so are these gates.
            gates = np.array([[v.gates[name] for name in state.engine.adapters] for v in verdicts])
            out[data.gold.dataset] = ExplainedPosts(examples, verdicts, gates, state.engine.groups)
    return out


def _harmful_posts(state: EvalState, data: EvalData) -> list[int]:
    """Posts that people found harmful, those with marked words first."""
    harmful = np.flatnonzero(data.gold.is_harmful).tolist()
    ranked = sorted(harmful, key=lambda row: not data.examples[row].rationales)
    return sorted(ranked[: state.section.explained_posts])
