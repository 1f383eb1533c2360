"""A real but tiny engine: a byte-level BPE trained on the spot and a two-layer Llama with random weights.

Random weights are the harshest model a grammar can meet: they never want what the grammar wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hatex.data.prompts import Post, PostView, Prompt, load_prompt
from hatex.explanation.protocol import ExplainOptions, TokenConstraint

GROUPS = ("Women", "Men", "Muslims", "Older people", "Young people", "Other group")
POSTS = (
    "Your football club is a circus and you are the clowns",
    "What a lovely match that was, thank you all",
    "only fools, fools and more fools support this team \U0001f926\u200d♀️ again and again",
)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lines = [*POSTS, "\nTargets: none\nWords: none | none\n", "Post: Label: neutral offensive hate", *GROUPS]
    backend.train_from_iterator([*lines, " a b c a b c" * 9] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


@dataclass
class TinyEngine:
    """`ExplainEngine` in plain form: one forward pass a step, no cache, gates that scale the logits."""

    tokenizer: PreTrainedTokenizerFast
    model: LlamaForCausalLM
    prompt: Prompt
    groups: tuple[str, ...] = GROUPS
    calls: list[int] = field(default_factory=list)
    context: int | None = None
    """Words that the prompt shows."""

    @property
    def vocabulary_size(self) -> int:
        return int(self.model.config.vocab_size)

    def score(self, texts: Sequence[Post], gates: NDArray[np.float32]) -> NDArray[np.float64]:
        self.calls.append(len(texts))
        ids = [self.tokenizer(text)["input_ids"][0] for text in self.prompt.label_texts]
        rows = [
            self._logits(self.prompt.render(text, self.tokenizer), gate)[ids]
            for text, gate in zip(texts, gates, strict=True)
        ]
        return torch.softmax(torch.stack(rows).double(), dim=1).numpy()

    def count_shown_words(self, texts: Sequence[str]) -> list[int]:
        return [len(PostView.of(text, self.tokenizer).words[: self.context]) for text in texts]

    def score_variants(
        self,
        texts: Sequence[str],
        variants: Sequence[Post],
        owners: Sequence[int],
        gates: NDArray[np.float32],
        options: ExplainOptions,
    ) -> NDArray[np.float64]:
        del texts, options
        return self.score(variants, gates[list(owners)])

    @torch.inference_mode()
    def generate(
        self,
        posts: Sequence[Post],
        suffixes: Sequence[str],
        gates: NDArray[np.float32],
        constraint: TokenConstraint,
        options: ExplainOptions,
        draws: Sequence[int],
    ) -> None:
        del draws
        sampling = options.sampling
        generator = torch.Generator().manual_seed(sampling.seed)
        prompts = [self.prompt.render(t, self.tokenizer) + s for t, s in zip(posts, suffixes, strict=True)]
        ids = [self.tokenizer(p)["input_ids"] for p in prompts]
        live = list(range(len(posts)))
        for _ in range(options.max_new_tokens):
            if not live:
                return
            logits = constraint.mask(torch.stack([self._next(ids[row], gates[row]) for row in live]), live)
            if sampling.temperature > 0:
                chosen = torch.multinomial(
                    torch.softmax(logits / sampling.temperature, -1), 1, generator=generator
                )
            else:
                chosen = logits.argmax(-1, keepdim=True)
            tokens = chosen[:, 0].tolist()
            for row, token in zip(live, tokens, strict=True):
                ids[row].append(token)
            live = [row for row, token in zip(live, tokens, strict=True) if not constraint.accept(row, token)]

    def _logits(self, prompt: str, gate: NDArray[np.float32]) -> torch.Tensor:
        return self._next(self.tokenizer(prompt)["input_ids"], gate)

    @torch.inference_mode()
    def _next(self, ids: list[int], gate: NDArray[np.float32]) -> torch.Tensor:
        logits = self.model(torch.tensor([ids[-200:]])).logits[0, -1].float()
        return logits * (3.0 + float(gate[0]))


@pytest.fixture(scope="session")
def tiny_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(4761)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
        initializer_range=0.6,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def engine(tokenizer: PreTrainedTokenizerFast, tiny_model: LlamaForCausalLM) -> TinyEngine:
    return TinyEngine(tokenizer, tiny_model, load_prompt("compact"))


@pytest.fixture
def five_part_engine(tokenizer: PreTrainedTokenizerFast, tiny_model: LlamaForCausalLM) -> TinyEngine:
    return TinyEngine(tokenizer, tiny_model, load_prompt("five-part"))


@pytest.fixture(scope="session")
def posts() -> tuple[str, ...]:
    return POSTS
