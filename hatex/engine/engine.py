"""The one object that turns texts into verdicts: `route`, `explain` and `eval` all use it, so they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.engine.prompted import PromptedModel
from hatex.engine.verdict import build_verdict
from hatex.explanation.protocol import ExplainOptions
from hatex.routing.identity import Settings, fingerprint, model_id
from hatex.routing.strategies import check_strategy, fall_back, gate_weights
from hatex.types import (
    LABELS,
    NO_PROGRESS,
    BlendSpace,
    Explanation,
    Label,
    Policy,
    Progress,
    Verdict,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatex.routing.encoder import Encoder
    from hatex.routing.router import Router


@dataclass(frozen=True)
class Engine:
    """A base with its adapters, a router with its encoder, and a prompt. Build one with `hatex.engine.load_engine`."""

    name: str
    adapters: tuple[str, ...]
    model: PromptedModel
    encoder: Encoder
    router: Router
    policy: Policy
    votes_per_post: Mapping[str, float]
    artefacts: Mapping[str, str]
    explain_options: ExplainOptions
    fallback: tuple[str, float] | None = None
    """Strategy that `blend` moves towards, and the largest gate weight below which it does."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Columns of every probability array."""
        return LABELS

    @property
    def groups(self) -> tuple[str, ...]:
        """The closed list that affected groups come from."""
        return self.model.groups

    @property
    def fingerprint(self) -> str:
        """Short digest of base, adapters, router, encoder, prompt and whatever else decides an answer."""
        settings = Settings(
            prompt=self.model.prompt,
            policy=self.policy,
            fallback=self.fallback,
            groups=self.groups,
            max_tokens=self.model.max_tokens,
            encoder_tokens=self.encoder.max_tokens,
            explain=self.explain_options,
        )
        return fingerprint(self.artefacts, settings)

    def model_id(self, strategy: str, space: BlendSpace = "delta") -> str:
        """What a verdict's `model` says: fingerprint and strategy (and the blend space, if not `delta`)."""
        return model_id(self.fingerprint, strategy, space)

    def gate(
        self, texts: Sequence[str], strategy: str = "blend", platforms: Sequence[str] | None = None
    ) -> NDArray[np.float64]:
        """Gate weights, shape (posts, adapters), rows sum to 1.

        With `platforms`, the platform each post is from, the weights are those of an oracle that knows it; a
        platform without an adapter gets the router's own weights. Raises UsageError for an unknown strategy.
        """
        check_strategy(strategy, self.adapters, self.router.adapters)
        if strategy.startswith(("blend", "top-")):
            probabilities = self.router.probabilities(self.encoder.embed(texts))
        else:
            probabilities = np.full((len(texts), len(self.router.adapters)), 1 / len(self.router.adapters))
        gates = gate_weights(strategy, probabilities, self.router.adapters, self.adapters)
        if strategy == "blend" and self.fallback is not None:
            to, below = self.fallback
            towards = gate_weights(to, probabilities, self.router.adapters, self.adapters)
            gates = fall_back(gates, towards, below, len(self.router.adapters))
        for i, platform in enumerate(platforms or ()):
            if platform in self.router.adapters:
                gates[i] = 0
                gates[i, self.adapters.index(platform)] = 1
        return gates

    def score(
        self,
        texts: Sequence[str],
        gates: NDArray[np.floating[Any]] | None = None,
        space: BlendSpace = "delta",
        *,
        calibrated: bool = True,
        progress: Progress = NO_PROGRESS,
    ) -> NDArray[np.float64]:
        """Label probabilities, shape (posts, labels), columns as in `labels`, rows sum to 1.

        gates, shape (posts, adapters): the router's `blend` if absent. Raises UsageError for an unknown space.
        """
        if gates is None:
            gates = self.gate(texts)
        rows = np.asarray(gates, float)
        prompts = [p.ids for p in self.model.encode(texts, rows, self.explain_options)]
        return self.model.score(prompts, rows, space, calibrated=calibrated, progress=progress)

    def explain(
        self,
        texts: Sequence[str],
        gates: NDArray[np.floating[Any]] | None = None,
        probabilities: NDArray[np.float64] | None = None,
        options: ExplainOptions | None = None,
    ) -> list[Explanation]:
        """One explanation a post, of the answer that `gates` and `probabilities` gave (computed if absent)."""
        options = options or self.explain_options
        if gates is None:
            gates = self.gate(texts)
        if probabilities is None:
            probabilities = self.score(texts, gates, options.space)
        explainer = self.model.reading(options.space).explainer
        return explainer.explain(texts, np.asarray(gates, np.float32), probabilities, options)

    def verdicts(
        self,
        texts: Sequence[str],
        strategy: str = "blend",
        space: BlendSpace = "delta",
        *,
        explain: bool = False,
        options: ExplainOptions | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> list[Verdict]:
        """One verdict a post, in order."""
        explained = self.explained(
            texts,
            strategy,
            space,
            sequences=int(explain),
            options=options,
            progress=progress,
        )
        return [verdict for verdict, _ in explained]

    def explained(
        self,
        texts: Sequence[str],
        strategy: str = "blend",
        space: BlendSpace = "delta",
        *,
        sequences: int = 1,
        options: ExplainOptions | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> list[tuple[Verdict, tuple[Explanation, ...]]]:
        """One verdict a post, in order, and `sequences` explanations of each, the first of which the verdict holds."""
        if not texts:
            return []
        options = replace(options or self.explain_options, space=space)
        model = self.model.reading(space) if sequences else self.model
        gates = self.gate(texts, strategy)
        encoded = model.encode(texts, gates, options)
        probabilities = model.score([p.ids for p in encoded], gates, space, progress=progress)
        samples: list[tuple[Explanation, ...]] = [()] * len(texts)
        if sequences:
            rows = gates.astype(np.float32)
            samples = model.explainer.sample(texts, rows, probabilities, options, sequences)
        verdicts = (
            build_verdict(
                text,
                probabilities[i],
                dict(zip(self.adapters, gates[i].tolist(), strict=True)),
                votes_per_post=self.votes_per_post,
                policy=self.policy,
                strategy=strategy,
                model=self.model_id(strategy, space),
                truncated=encoded[i].truncated,
                explanation=samples[i][0] if sequences else None,
            )
            for i, text in enumerate(texts)
        )
        return list(zip(verdicts, samples, strict=True))
