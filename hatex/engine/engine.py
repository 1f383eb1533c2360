"""The one object that turns texts into verdicts: `route`, `explain` and `eval` all use it, so they agree."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.data.prompts import Prompt, PromptTokens
from hatex.engine.verdict import build_verdict
from hatex.errors import UsageError
from hatex.explanation.protocol import ExplainOptions
from hatex.routing.calibration import Calibration
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
    from transformers import PreTrainedTokenizerBase

    from hatex.explanation.explain import Explainer
    from hatex.explanation.protocol import TokenConstraint
    from hatex.model.gatedlm import GatedLM
    from hatex.model.reading import PromptReader
    from hatex.routing.encoder import Encoder
    from hatex.routing.router import Router

SPACES: tuple[BlendSpace, ...] = ("delta", "probability", "reference")


@dataclass(frozen=True)
class Engine:
    """A base with its adapters, a router with its encoder, and a prompt. Build one with `hatex.engine.load_engine`."""

    name: str
    adapters: tuple[str, ...]
    lm: GatedLM
    tokenizer: PreTrainedTokenizerBase
    prompt: Prompt
    encoder: Encoder
    router: Router
    calibration: Calibration
    policy: Policy
    groups: tuple[str, ...]
    votes_per_post: Mapping[str, float]
    artefacts: Mapping[str, str]
    max_tokens: int
    batch_tokens: int
    explain_options: ExplainOptions
    fallback: tuple[str, float] | None = None
    """Strategy that `blend` moves towards, and the largest gate weight below which it does."""
    reader: PromptReader | None = None
    """Prompts that are read once in a call that scores and explains; absent outside of one."""

    @property
    def labels(self) -> tuple[Label, ...]:
        """Columns of every probability array."""
        return LABELS

    @property
    def vocabulary_size(self) -> int:
        """Columns of the logits that `generate` hands to its constraint."""
        return self.lm.vocabulary.shape[0]

    @property
    def fingerprint(self) -> str:
        """Short digest of base, adapters, router and prompt."""
        text = "\n".join(f"{ref} {digest}" for ref, digest in sorted(self.artefacts.items()))
        also = "" if self.fallback is None else f"\n{self.fallback}"
        return hashlib.sha256(f"{text}\n{self.prompt}{also}".encode()).hexdigest()[:12]

    def model_id(self, strategy: str, space: BlendSpace = "delta") -> str:
        """What a verdict's `model` says: fingerprint and strategy (and the blend space, if not `delta`)."""
        return "-".join([self.fingerprint, strategy, *([] if space == "delta" else [space])])

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
        prompts = [p.ids for p in self._encode(texts, gates, self.explain_options)]
        return self._score_prompts(prompts, np.asarray(gates, float), space, calibrated, progress)

    def _encode(
        self, texts: Sequence[str], gates: NDArray[np.floating[Any]], options: ExplainOptions
    ) -> list[PromptTokens]:
        """Tokens up to the label position; a template that explains first has its explanation written now."""
        encoded = self.prompt.encode(self.tokenizer, texts, self.max_tokens)
        if not self.prompt.preface:
            return encoded
        prefaces = self.explainer.write_prefaces(texts, np.asarray(gates, np.float32), options)
        tails = self.tokenizer(prefaces, add_special_tokens=False)["input_ids"]
        return [
            replace(prompt, ids=(*prompt.ids, *tail)) for prompt, tail in zip(encoded, tails, strict=True)
        ]

    def count_shown_words(self, texts: Sequence[str]) -> list[int]:
        """How many words of each post, as `PostView` splits it, fit into the context."""
        return [prompt.words for prompt in self.prompt.encode(self.tokenizer, texts, self.max_tokens)]

    def _score_prompts(
        self,
        prompts: Sequence[Sequence[int]],
        gates: NDArray[np.float64],
        space: BlendSpace,
        calibrated: bool,
        progress: Progress,
        reader: PromptReader | None = None,
    ) -> NDArray[np.float64]:
        if space not in SPACES:
            raise UsageError(f"unknown blend space {space}", hint=f"blend spaces: {', '.join(SPACES)}")
        if not prompts:
            return np.zeros((0, len(LABELS)))
        if space == "probability":
            return self._mix_answers(prompts, gates, calibrated, progress)
        import torch

        from hatex.model.scoring import score_labels

        with progress.task("Scoring posts", len(prompts), "posts") as advance:
            log_probs = (
                score_labels(
                    self.lm,
                    prompts,
                    self._label_ids,
                    torch.from_numpy(gates).float(),
                    max_tokens=self.batch_tokens,
                    reference=space == "reference",
                    advance=advance,
                    reader=reader,
                )
                .numpy()
                .astype(float)
            )
        return self.calibration.apply(log_probs, gates) if calibrated else np.exp(log_probs)

    def score_variants(
        self,
        texts: Sequence[str],
        variants: Sequence[str],
        owners: Sequence[int],
        gates: NDArray[np.floating[Any]],
        options: ExplainOptions | None = None,
    ) -> NDArray[np.float64]:
        """Label probabilities of changed posts under their own post's gates, shape (variants, labels).

        Variant i is a version of `texts[owners[i]]`; gates (posts, adapters); the options' blend space counts. The same
        as `score` within bf16 noise, and but for the space `probability` in half of the tokens, since a variant is read
        only from where it differs.
        """
        import torch

        from hatex.model.variants import score_variants

        options = options or self.explain_options

        if not variants:
            return np.zeros((0, len(LABELS)))
        rows = np.asarray(gates, float)
        changed = [prompt.ids for prompt in self._encode(variants, rows[list(owners)], options)]
        if options.space == "probability":
            return self._score_prompts(changed, rows[list(owners)], options.space, True, NO_PROGRESS)
        log_probs = score_variants(
            self._reader(options.space),
            [prompt.ids for prompt in self._encode(texts, rows, options)],
            changed,
            owners,
            self._label_ids,
            torch.from_numpy(rows).float(),
        )
        return self.calibration.apply(log_probs.numpy().astype(float), rows[list(owners)])

    def integrated_gradients(
        self, texts: Sequence[str], gates: NDArray[np.floating[Any]], labels: Sequence[int], *, steps: int
    ) -> list[list[tuple[int, int, float]]]:
        """Attributions to P(labels[i]), one list a post, each `(start, end, attribution)` of a token.

        Offsets count characters of the post as the prompt shows it. Raises UsageError where the label does not stand
        right behind the post, or is more than one token.
        """
        import torch

        from hatex.model.attribution import integrated_gradients

        if self.prompt.preface or any(len(ids) > 1 for ids in self._label_ids):
            raise UsageError(
                f"gradients need a template with one-token labels behind the post, unlike {self.prompt.name}",
                hint="use --evidence leave-out",
            )
        rows = torch.from_numpy(np.asarray(gates)).float()
        found = []
        for i, text in enumerate(texts):
            tokens = self.prompt.locate(self.tokenizer, text, self.max_tokens)
            weights = integrated_gradients(
                self.lm,
                tokens.ids,
                tokens.post,
                self.tokenizer.eos_token_id,
                [ids[0] for ids in self._label_ids],
                labels[i],
                rows[i],
                steps=steps,
                max_tokens=self.batch_tokens,
            )
            found.append(
                [(*span, weight) for span, weight in zip(tokens.spans, weights.tolist(), strict=True)]
            )
        return found

    def _mix_answers(
        self,
        prompts: Sequence[Sequence[int]],
        gates: NDArray[np.float64],
        calibrated: bool,
        progress: Progress,
    ) -> NDArray[np.float64]:
        """Each adapter's own answer, weighed by its gate; adapters that weigh nothing are not asked."""
        rows, columns = np.nonzero(gates > 0)
        one_hot = np.eye(len(self.adapters))[columns]
        answers = self._score_prompts([prompts[int(i)] for i in rows], one_hot, "delta", calibrated, progress)
        mixed = np.zeros((len(prompts), len(LABELS)))
        np.add.at(mixed, rows, answers * gates[rows, columns, None])
        return mixed

    @cached_property
    def _label_ids(self) -> list[list[int]]:
        return [
            self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.prompt.label_texts
        ]

    def generate(
        self,
        texts: Sequence[str],
        suffixes: Sequence[str],
        gates: NDArray[np.floating[Any]],
        constraint: TokenConstraint,
        options: ExplainOptions,
    ) -> None:
        """Decode behind each post's prompt and suffix under `constraint`, row i of `texts` being row id i.

        The space `probability` mixes answers, not tokens: there, `delta` writes.
        """
        import torch

        from hatex.model.generation import generate

        prompts = self.prompt.encode(self.tokenizer, texts, self.max_tokens)
        tails = [self.tokenizer(s, add_special_tokens=False)["input_ids"] if s else [] for s in suffixes]
        generate(
            self._reader(options.space),
            [prompt.ids for prompt in prompts],
            tails,
            torch.from_numpy(np.asarray(gates)).float(),
            constraint,
            max_new_tokens=options.max_new_tokens,
            sampling=options.sampling,
        )

    def _reader(self, space: BlendSpace) -> PromptReader:
        from hatex.model.reading import PromptReader

        return self.reader or PromptReader(self.lm, self.batch_tokens, reference=space == "reference")

    def _reading(self, space: BlendSpace) -> Engine:
        """The engine for the length of one call, in which every prompt is read once."""
        if self.reader is not None:
            return self
        engine = replace(self, reader=self._reader(space))
        # What was costly to build is handed on.
        engine.__dict__["explainer"] = self.explainer.through(engine)
        return engine

    @cached_property
    def explainer(self) -> Explainer:
        """Turns verdicts into explanations; holds the grammar's view of the tokenizer."""
        from hatex.explanation.explain import Explainer

        return Explainer(self)

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
        explainer = self._reading(options.space).explainer
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
        engine = self._reading(space) if sequences else self
        gates = self.gate(texts, strategy)
        encoded = engine._encode(texts, gates, options)
        probabilities = self._score_prompts(
            [p.ids for p in encoded], gates, space, True, progress, engine.reader
        )
        samples: list[tuple[Explanation, ...]] = [()] * len(texts)
        if sequences:
            rows = gates.astype(np.float32)
            samples = engine.explainer.sample(texts, rows, probabilities, options, sequences)
        model = self.model_id(strategy, space)
        verdicts = (
            build_verdict(
                text,
                probabilities[i],
                dict(zip(self.adapters, gates[i].tolist(), strict=True)),
                votes_per_post=self.votes_per_post,
                policy=self.policy,
                strategy=strategy,
                model=model,
                truncated=encoded[i].truncated,
                explanation=samples[i][0] if sequences else None,
            )
            for i, text in enumerate(texts)
        )
        return list(zip(verdicts, samples, strict=True))
