"""Batched decoding under a token constraint; rows with different gates run together, finished rows leave."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from hatex.model.cache import PromptCache
from hatex.model.gatedlm import GatedLM
from hatex.model.layercache import HEADROOM
from hatex.model.reading import PromptReader
from hatex.types import Sampling


class TokenConstraint(Protocol):
    """Which tokens may come next; row ids count prompts from 0."""

    def mask(self, step_logits: Tensor, row_ids: Sequence[int]) -> Tensor:
        """Logits (rows, vocabulary) with forbidden tokens at -inf."""
        ...

    def accept(self, row_id: int, token_id: int) -> bool:
        """Take the chosen token; True once the row is complete."""
        ...


@torch.inference_mode()
def generate(
    reader: PromptReader,
    prompts: Sequence[Sequence[int]],
    suffixes: Sequence[Sequence[int]],
    gates: Tensor,
    constraint: TokenConstraint,
    draws: Sequence[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
) -> None:
    """Decode behind every prompt and its suffix until the constraint says it is complete, or `max_new_tokens` are out.

    Rows that go on together have prompts of one batch of the reader's, and suffixes of one length. Every row draws from
    a generator of its own (the seed, its tokens, and which of its prompt's `draws` it is), so a sample does not depend
    on what it is batched with.
    """
    seeds = [
        _row_seed(sampling.seed, (*prompt, *suffix), draw)
        for prompt, suffix, draw in zip(prompts, suffixes, draws, strict=True)
    ]
    for members, cache in reader.read(prompts, gates):
        members.sort(key=lambda member: len(suffixes[member[0]]))
        for length, group in groupby(members, key=lambda member: len(suffixes[member[0]])):
            indices, rows = zip(*group, strict=True)
            going = cache.select(rows, max(length, HEADROOM))
            if length:
                going.extend(torch.tensor([list(suffixes[i]) for i in indices]))
            generators = {i: torch.Generator().manual_seed(seeds[i]) for i in indices}
            _decode(reader.lm, going, generators, constraint, max_new_tokens, sampling)


def _row_seed(seed: int, ids: Sequence[int], draw: int) -> int:
    """63 bits, which every torch generator takes."""
    digest = hashlib.blake2b(f"{seed} {draw} {ids}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _decode(
    lm: GatedLM,
    cache: PromptCache,
    generators: dict[int, torch.Generator],
    constraint: TokenConstraint,
    max_new_tokens: int,
    sampling: Sampling,
) -> None:
    rows = list(generators)
    for _ in range(max_new_tokens):
        logits = constraint.mask(lm.logits(cache.hidden).cpu(), rows)
        tokens = [choose(logits[i], sampling, generators[row]) for i, row in enumerate(rows)]
        going = [i for i, row in enumerate(rows) if not constraint.accept(row, tokens[i])]
        if not going:
            return
        if len(going) < len(rows):
            cache = cache.select(going)
            rows, tokens = [rows[i] for i in going], [tokens[i] for i in going]
        cache.extend(torch.tensor(tokens)[:, None])


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token from logits (vocabulary,): the likeliest, or drawn from the nucleus (Holtzman et al., 2020)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    ordered, order = probabilities.sort(descending=True)
    outside = ordered.cumsum(-1) - ordered >= sampling.top_p
    ordered = ordered.masked_fill(outside, 0)
    return int(order[torch.multinomial(ordered, 1, generator=generator)])
