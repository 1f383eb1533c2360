"""Scoring many variants of a few prompts: each variant starts from the cached keys and values of its own prompt.

A variant shares with its prompt the tokens up to the first difference and the gates, so only what comes after has to
be computed: about half of the tokens when every word of a post is left out in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from hatex.model.cache import PromptCache
from hatex.model.reading import PromptReader
from hatex.model.scoring import each_batch, pad, score_labels

COPIED_TOKENS: Final = 4
"""Cached tokens that a step may copy for its rows, as a multiple of the tokens it may compute.

A suffix of one token still needs a copy of its prompt: unbounded, short suffixes fill groups of a thousand rows.
"""


@torch.inference_mode()
def score_variants(
    reader: PromptReader,
    prompts: Sequence[Sequence[int]],
    variants: Sequence[Sequence[int]],
    owners: Sequence[int],
    labels: Sequence[Sequence[int]],
    gates: Tensor,
) -> Tensor:
    """Log-probability of each label behind each variant, normalised over labels, shape (variants, labels), fp32.

    `owners[i]` is the prompt that variant i belongs to; gates (prompts, adapters). Each step computes at most the
    reader's `max_tokens` tokens. Labels of several tokens, and bases whose cache holds no padding, are scored without
    sharing.
    """
    lm, max_tokens = reader.lm, reader.max_tokens
    if lm.needs_equal_lengths or any(len(label) > 1 for label in labels):
        rows = torch.tensor(owners, dtype=torch.long)
        return score_labels(
            lm, variants, labels, gates[rows], max_tokens=max_tokens, reference=reader.reference
        )
    head = lm.vocabulary[[label[0] for label in labels]].float()
    owned: list[list[int]] = [[] for _ in prompts]
    for variant, owner in enumerate(owners):
        owned[owner].append(variant)
    out = torch.zeros(len(variants), len(labels))
    for places, cache in reader.read(prompts, gates):
        members = [(row, variant) for i, row in places for variant in owned[i]]
        shared = [shared_tokens(prompts[owners[variant]], variants[variant]) for _, variant in members]
        suffixes = [variants[variant][start:] for (_, variant), start in zip(members, shared, strict=True)]
        room = max((len(suffix) for suffix in suffixes), default=0)
        at_once = max(1, COPIED_TOKENS * max_tokens // (cache.valid.shape[1] + room))
        for group in each_batch([len(suffix) for suffix in suffixes], max_tokens, at_once):
            new, counts = pad([suffixes[j] for j in group])
            chosen = cache.select([members[j][0] for j in group], new.shape[1])
            forked = _fork(chosen, torch.tensor([shared[j] for j in group]))
            hidden = forked.extend(new)[torch.arange(len(group)), counts - 1]
            out[[members[j][1] for j in group]] = torch.log_softmax(hidden.float() @ head.t(), -1).cpu()
    return out


def shared_tokens(prompt: Sequence[int], variant: Sequence[int]) -> int:
    """How many tokens a variant can take over: the common beginning, short of the variant's last token."""
    limit = min(len(prompt), len(variant) - 1)
    return next((i for i in range(limit) if prompt[i] != variant[i]), limit)


def _fork(cache: PromptCache, starts: Tensor) -> PromptCache:
    """The cache of each row's first `starts` tokens."""
    starts = starts.to(cache.valid.device)
    kept = torch.arange(cache.valid.shape[1], device=starts.device)[None, :] < starts[:, None]
    return replace(cache, valid=cache.valid & kept, lengths=starts)
