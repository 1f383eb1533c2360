"""The sentence encoder in front of the router: mean-pooled, normalised embeddings of posts.

The last layer tells what a post says; its first layers still know the words, which tell platforms apart as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hatex.data.cleaning import clean
from hatex.errors import ModelError
from hatex.memory import configure_memory, release_free_pages
from hatex.types import NO_PROGRESS, Progress

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_TOKENS = 1024
LAST_LAYER = (-1,)
"""What sentence-transformers pools, and what a router reads that does not say otherwise."""
LONG_WORD = re.compile(r"(\w{101})\w+")
"""Longer than the 100 characters from which on WordPiece reads a word as one unknown token: the rest says nothing."""
CHARACTERS_PER_TOKEN = 102
"""With long words cut and single spaces, no token stands for more, so longer tails cannot change the embedding."""


@contextmanager
def _no_bars() -> Iterator[None]:
    """Transformers draws a bar for a tenth of a second, also for who only imports hatex."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class Encoder:
    """A BERT-like encoder as sentence-transformers packs all-MiniLM-L6-v2 (Reimers and Gurevych, 2019).

    Of each of `layers` (0: the input embeddings, -1: the last layer) an embedding holds the mean over tokens, as a unit
    vector.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        max_tokens: int,
        layers: Sequence[int] = LAST_LAYER,
    ) -> None:
        depth = int(model.config.num_hidden_layers)
        if outside := [layer for layer in layers if not -depth - 1 <= layer <= depth]:
            raise ModelError(
                f"encoder {name} has no layer {', '.join(map(str, outside))}",
                hint=f"its layers are 0 (the input embeddings) to {depth}; -1 is the last",
            )
        self.model, self.tokenizer, self.name, self.max_tokens = model, tokenizer, name, max_tokens
        self.layers = tuple(layers)

    @classmethod
    def load(
        cls,
        folder: Path,
        name: str,
        max_tokens: int,
        device: torch.device | None = None,
        *,
        layers: Sequence[int] = LAST_LAYER,
    ) -> Encoder:
        """Read an encoder folder (config, tokenizer, safetensors) to a device, by default the processor.

        Raises ModelError if it is not one, or lacks one of `layers`.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        configure_memory()
        try:
            json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError("not an encoder folder", where=str(folder), hint="fetch it again") from error
        with _no_bars():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
        if device is not None:
            model = model.to(device)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder), name, max_tokens, layers)

    @property
    def width(self) -> int:
        """Numbers of an embedding: the hidden size, times the layers it is pooled from."""
        return int(self.model.config.hidden_size) * len(self.layers)

    def embed(self, texts: Sequence[str], progress: Progress = NO_PROGRESS) -> NDArray[np.float32]:
        """A unit vector of each layer, side by side: shape (posts, width), in the order of `texts`."""
        import torch

        out = np.zeros((len(texts), self.width), np.float32)
        spaced = [" ".join(clean(text).text.split()) for text in texts]
        cleaned = [LONG_WORD.sub(r"\1", text)[: self.max_tokens * CHARACTERS_PER_TOKEN] for text in spaced]
        # A post's own `[SEP]` is text, and no mark of the encoder.
        options = {"truncation": True, "max_length": self.max_tokens, "split_special_tokens": True}
        encoded = self.tokenizer(cleaned, **options)["input_ids"] if texts else []
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
        with torch.inference_mode(), progress.task("Embedding posts", len(texts), "posts") as advance:
            for batch in _batches(order, [len(ids) for ids in encoded]):
                out[batch] = self._embed([encoded[i] for i in batch]).numpy()
                advance(len(batch))
        release_free_pages()
        return out

    def _embed(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        import torch
        from torch.nn import functional as F

        width = max(len(row) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros(len(rows), width)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        states = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        hidden = torch.stack([states[layer] for layer in self.layers], dim=1)
        mean = (hidden * mask[:, None, :, None]).sum(2) / mask.sum(1)[:, None, None]
        return F.normalize(mean, dim=-1).flatten(1).cpu()


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    batches: list[list[int]] = []
    for index in order:
        if batches and (len(batches[-1]) + 1) * lengths[index] <= BATCH_TOKENS:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
