"""A base with its adapters behind a prompt: label probabilities, decoding under a constraint, attributions.

The model's half of the engine, which explanations stand on as well; it knows gates, but not where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.data.prompts import Post, Prompt, PromptTokens
from hatex.errors import UsageError
from hatex.routing.calibration import Calibration
from hatex.types import LABELS, NO_PROGRESS, BlendSpace, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from hatex.explanation.explain import Explainer
    from hatex.explanation.protocol import ExplainOptions, TokenConstraint
    from hatex.model.gatedlm import GatedLM
    from hatex.model.reading import PromptReader

SPACES: tuple[BlendSpace, ...] = ("delta", "probability", "reference")


@dataclass(frozen=True)
class PromptedModel:
    """Answers about posts under given gates, which have shape (posts, adapters)."""

    lm: GatedLM
    tokenizer: PreTrainedTokenizerBase
    prompt: Prompt
    calibration: Calibration
    groups: tuple[str, ...]
    max_tokens: int
    """The context: posts are cut so that prompt and post fit."""
    batch_tokens: int
    reader: PromptReader | None = None
    """Prompts that are read once in a call that scores and explains; absent outside of one."""

    @property
    def vocabulary_size(self) -> int:
        """Columns of the logits that `generate` hands to its constraint."""
        return self.lm.vocabulary.shape[0]

    @property
    def explainer(self) -> Explainer:
        """Turns verdicts into explanations."""
        from hatex.explanation.explain import Explainer

        return Explainer(self)

    def reading(self, space: BlendSpace) -> PromptedModel:
        """The same model for the length of one call, in which every prompt is read once."""
        return self if self.reader is not None else replace(self, reader=self._reader(space))

    def encode(
        self, posts: Sequence[Post], gates: NDArray[np.floating[Any]], options: ExplainOptions
    ) -> list[PromptTokens]:
        """Tokens up to the label position; a template that explains first has its explanation written now."""
        encoded = self.prompt.encode(self.tokenizer, posts, self.max_tokens)
        if not self.prompt.preface:
            return encoded
        prefaces = self.explainer.write_prefaces(posts, np.asarray(gates, np.float32), options)
        tails = self.tokenizer(prefaces, add_special_tokens=False)["input_ids"]
        return [
            replace(prompt, ids=(*prompt.ids, *tail)) for prompt, tail in zip(encoded, tails, strict=True)
        ]

    def count_shown_words(self, texts: Sequence[str]) -> list[int]:
        """How many words of each post, as `PostView` splits it, fit into the context."""
        return [prompt.words for prompt in self.prompt.encode(self.tokenizer, texts, self.max_tokens)]

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        gates: NDArray[np.float64],
        space: BlendSpace,
        *,
        calibrated: bool = True,
        progress: Progress = NO_PROGRESS,
    ) -> NDArray[np.float64]:
        """Label probabilities behind prompts that end where the label stands, shape (prompts, labels), rows sum to 1.

        Raises UsageError for an unknown space.
        """
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
                    reader=self.reader,
                )
                .numpy()
                .astype(float)
            )
        return self.calibration.apply(log_probs, gates) if calibrated else np.exp(log_probs)

    def _mix_answers(
        self,
        prompts: Sequence[Sequence[int]],
        gates: NDArray[np.float64],
        calibrated: bool,
        progress: Progress,
    ) -> NDArray[np.float64]:
        """Each adapter's own answer, weighed by its gate; adapters that weigh nothing are not asked."""
        rows, columns = np.nonzero(gates > 0)
        one_hot = np.eye(gates.shape[1])[columns]
        asked = [prompts[int(i)] for i in rows]
        answers = self.score(asked, one_hot, "delta", calibrated=calibrated, progress=progress)
        mixed = np.zeros((len(prompts), len(LABELS)))
        np.add.at(mixed, rows, answers * gates[rows, columns, None])
        return mixed

    def score_variants(
        self,
        texts: Sequence[str],
        variants: Sequence[Post],
        owners: Sequence[int],
        gates: NDArray[np.floating[Any]],
        options: ExplainOptions,
    ) -> NDArray[np.float64]:
        """Label probabilities of changed posts under their own post's gates, shape (variants, labels).

        Variant i is a version of `texts[owners[i]]`; gates (posts, adapters); the options' blend space counts. The same
        as `score` within bf16 noise, and but for the space `probability` in half of the tokens, since a variant is read
        only from where it differs.
        """
        import torch

        from hatex.model.variants import score_variants

        if not variants:
            return np.zeros((0, len(LABELS)))
        rows = np.asarray(gates, float)
        changed = [prompt.ids for prompt in self.encode(variants, rows[list(owners)], options)]
        if options.space == "probability":
            return self.score(changed, rows[list(owners)], options.space)
        log_probs = score_variants(
            self._reader(options.space),
            [prompt.ids for prompt in self.encode(texts, rows, options)],
            changed,
            owners,
            self._label_ids,
            torch.from_numpy(rows).float(),
        )
        return self.calibration.apply(log_probs.numpy().astype(float), rows[list(owners)])

    def integrated_gradients(
        self, texts: Sequence[str], gates: NDArray[np.floating[Any]], labels: Sequence[int], *, steps: int
    ) -> list[list[tuple[int, int, float]]]:
        """Attributions to the calibrated P(labels[i]), one list a post, each `(start, end, attribution)` of a token.

        Offsets count characters of the post as the prompt shows it. Raises UsageError where the label does not stand
        right behind the post, or one token does not tell it from the others.
        """
        import torch

        from hatex.model.attribution import integrated_gradients

        if self.prompt.preface or any(len(ids) > 1 for ids in self._label_ids):
            raise UsageError(
                f"gradients need labels that differ in the token right behind the post, unlike {self.prompt.name}'s",
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
                scale=float(rows[i].double().numpy() @ self.calibration.scales),
                bias=torch.from_numpy(rows[i].double().numpy() @ self.calibration.biases),
                steps=steps,
                max_tokens=self.batch_tokens,
            )
            found.append(
                [(*span, weight) for span, weight in zip(tokens.spans, weights.tolist(), strict=True)]
            )
        return found

    def generate(
        self,
        posts: Sequence[Post],
        suffixes: Sequence[str],
        gates: NDArray[np.floating[Any]],
        constraint: TokenConstraint,
        options: ExplainOptions,
        draws: Sequence[int],
    ) -> None:
        """Decode behind each post's prompt and suffix under `constraint`, row i of `posts` being row id i; `draws[i]`
        tells the samples of one post apart.

        The space `probability` mixes answers, not tokens: there, `delta` writes.
        """
        import torch

        from hatex.model.generation import generate

        prompts = self.prompt.encode(self.tokenizer, posts, self.max_tokens)
        tails = [self.tokenizer(s, add_special_tokens=False)["input_ids"] if s else [] for s in suffixes]
        generate(
            self._reader(options.space),
            [prompt.ids for prompt in prompts],
            tails,
            torch.from_numpy(np.asarray(gates)).float(),
            constraint,
            draws,
            max_new_tokens=options.max_new_tokens,
            sampling=options.sampling,
        )

    @cached_property
    def _label_ids(self) -> list[list[int]]:
        return self.prompt.label_ids(self.tokenizer)

    def _reader(self, space: BlendSpace) -> PromptReader:
        from hatex.model.reading import PromptReader

        return self.reader or PromptReader(self.lm, self.batch_tokens, reference=space == "reference")
