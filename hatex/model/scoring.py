"""Label probabilities without generation: one prefill a post, the label rows of the output head only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hatex.memory import release_free_pages
from hatex.model.cache import PromptCache
from hatex.model.gatedlm import GatedLM

if TYPE_CHECKING:
    from hatex.model.reading import PromptReader


def plan(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices by rising length, in batches of at most `max_tokens` with padding (a longer row stands alone)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def each_batch(
    lengths: Sequence[int], max_tokens: int, max_rows: int | None = None, *, equal: bool = False
) -> Iterator[list[int]]:
    """The batches of `plan` one by one, in parts of `max_rows`; what they have used is free after the last.

    `equal` keeps to rows of one length a batch, for bases that cannot go on behind padding.
    """
    for batch in plan(lengths, max_tokens):
        parts = [list(part) for _, part in groupby(batch, lengths.__getitem__)] if equal else [batch]
        for part in parts:
            step = max_rows or len(part)
            for start in range(0, len(part), step):
                yield part[start : start + step]
    # Not after every batch: the next would fault the same pages in again, which takes a tenth of its time.
    release_free_pages()


def pad(rows: Sequence[Sequence[int]], fill: int = 0) -> tuple[Tensor, Tensor]:
    """Ids (rows, longest), padded on the right, and lengths (rows,)."""
    ids = torch.full((len(rows), max(len(row) for row in rows)), fill)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([len(row) for row in rows])


@torch.inference_mode()
def score_labels(
    lm: GatedLM,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    gates: Tensor | None,
    *,
    max_tokens: int,
    reference: bool = False,
    advance: Callable[[float], None] | None = None,
    reader: PromptReader | None = None,
) -> Tensor:
    """Log-probability of each label behind each prompt, normalised over labels, shape (posts, labels), fp32.

    gates (posts, adapters) or None for the bare base. A label of several tokens is scored through a fork of the
    prompt's cache. Rows come back in the order of `prompts`; `advance` is told the posts of every batch. With `reader`,
    which has its own budget and blend, prompts are read through it and kept for what follows.
    """
    out = torch.zeros(len(prompts), len(labels))
    is_single = all(len(label) == 1 for label in labels)
    head = lm.vocabulary[[label[0] for label in labels]] if is_single else None
    if reader is not None:
        assert gates is not None
        for members, cache in reader.read(prompts, gates):
            indices, places = zip(*members, strict=True)
            if head is not None:
                logits = cache.hidden[list(places)].float() @ head.float().t()
            else:
                logits = _sequence_log_probs(lm, cache.select(places), labels)
            out[list(indices)] = torch.log_softmax(logits, -1).cpu()
            if advance is not None:
                advance(len(indices))
        return out
    equal = head is None and lm.needs_equal_lengths
    for batch in each_batch([len(p) for p in prompts], max_tokens, equal=equal):
        ids, lengths = pad([prompts[i] for i in batch])
        rows = None if gates is None else gates[batch]
        if head is not None:
            hidden = lm.last_hidden(ids, lengths, rows, reference=reference)
            logits = hidden.float() @ head.float().t()
        else:
            logits = _sequence_log_probs(
                lm, PromptCache.prefill(lm, ids, lengths, rows, reference=reference), labels
            )
        out[batch] = torch.log_softmax(logits, -1).cpu()
        if advance is not None:
            advance(len(batch))
    return out


def _sequence_log_probs(lm: GatedLM, prompt: PromptCache, labels: Sequence[Sequence[int]]) -> Tensor:
    """Sum of log-probabilities of each label's tokens, shape (rows, labels)."""
    rows = range(len(prompt.lengths))
    first = torch.log_softmax(lm.logits(prompt.hidden), -1)
    columns = []
    for label in labels:
        total = first[:, label[0]]
        if len(label) > 1:
            tokens = torch.tensor(label[:-1]).repeat(len(rows), 1)
            hidden = prompt.select(rows).extend(tokens)
            log_probs = torch.log_softmax(lm.logits(hidden), -1)
            for i, token in enumerate(label[1:]):
                total = total + log_probs[:, i, token]
        columns.append(total)
    return torch.stack(columns, 1)
