"""What explanations need of an engine, and what a reader may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hatex.data.prompts import Post, Prompt
from hatex.types import BlendSpace, EvidenceMethod, Sampling

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from hatex.recipe.explain import ExplainSection

GREEDY: Final = Sampling()


class TokenConstraint(Protocol):
    """What the decoder asks at every step. Row ids are those that `AnswerGrammar.add_row` gave, from 0 up."""

    def mask(self, step_logits: Tensor, row_ids: Sequence[int]) -> Tensor:
        """Logits, shape (rows, vocabulary), with forbidden tokens at -inf."""
        ...

    def accept(self, row_id: int, token_id: int) -> bool:
        """Take the chosen token; True once the row is complete."""
        ...


class ExplainEngine(Protocol):
    """The part of the engine that explanations stand on. Gates have shape (texts, adapters)."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase: ...

    @property
    def vocabulary_size(self) -> int:
        """Columns of the logits that `generate` hands to the constraint."""
        ...

    @property
    def prompt(self) -> Prompt: ...

    @property
    def groups(self) -> tuple[str, ...]: ...

    def count_shown_words(self, texts: Sequence[str]) -> list[int]:
        """How many words of each post, as `PostView` splits it, fit into the context."""
        ...

    def score_variants(
        self,
        texts: Sequence[str],
        variants: Sequence[Post],
        owners: Sequence[int],
        gates: NDArray[np.float32],
        options: ExplainOptions,
    ) -> NDArray[np.float64]:
        """P(label) of changed posts under their own post's gates, shape (variants, labels).

        Variant i is a version of `texts[owners[i]]`, gates have shape (texts, adapters); `options` name the blend
        space and what is written before the label, where a template has it so.
        """
        ...

    def generate(
        self,
        posts: Sequence[Post],
        suffixes: Sequence[str],
        gates: NDArray[np.float32],
        constraint: TokenConstraint,
        options: ExplainOptions,
        draws: Sequence[int],
    ) -> None:
        """Decode behind `prompt of posts[i] + suffixes[i]`, row id i, until the constraint says finished, or the
        options' budget is spent. `draws[i]` is which sample of its post row i is.

        The prompt is cut to the context as for scoring, the suffix never. What was decoded is the
        constraint's to keep.
        """
        ...


@runtime_checkable
class GradientEngine(Protocol):
    """An engine that can also attribute a label to the tokens of its prompt."""

    def integrated_gradients(
        self, texts: Sequence[str], gates: NDArray[np.float32], labels: Sequence[int], *, steps: int
    ) -> list[list[tuple[int, int, float]]]:
        """For every text, `(start, end, attribution)` a token of the post as the prompt shows it.

        Offsets count characters of the cleaned words joined by spaces; attributions sum to about
        P(label | post) - P(label | as many end-of-text tokens). Sundararajan et al., ICML 2017.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    """`max_variants` bounds the model calls behind one post's evidence: longer posts lose spans, not single
    words. `space` is the blend space that the explained probabilities come from.
    """

    max_new_tokens: int = 200
    sampling: Sampling = GREEDY
    evidence: EvidenceMethod = "leave-out"
    max_variants: int = 48
    gradient_steps: int = 16
    space: BlendSpace = "delta"

    @classmethod
    def of(cls, section: ExplainSection) -> ExplainOptions:
        """What a recipe says; decoding is greedy."""
        return cls(
            max_new_tokens=section.max_new_tokens,
            evidence=section.evidence,
            max_variants=section.max_variants,
        )


DEFAULT_OPTIONS: Final = ExplainOptions()
