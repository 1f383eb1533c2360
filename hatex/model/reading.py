"""Prompts that are read once and used several times: for the label, for the explanation and for its evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from torch import Tensor

from hatex.model.cache import PromptCache
from hatex.model.gatedlm import GatedLM
from hatex.model.scoring import each_batch, pad

KEPT_BYTES: Final = 96 << 20
"""Keys and values that a reader keeps; prompts beyond are read anew for every use."""

Key = tuple[tuple[int, ...], bytes]
"""A prompt's tokens and its gates: no cache is shared between different gates."""
Member = tuple[int, int]
"""Which prompt of the call, and its row in the cache."""


class PromptReader:
    """Reads prompts in batches of at most `max_tokens` tokens and keeps their caches for whoever asks again."""

    def __init__(self, lm: GatedLM, max_tokens: int, *, reference: bool = False) -> None:
        self.lm, self.max_tokens, self.reference = lm, max_tokens, reference
        self._kept: list[tuple[list[Key], PromptCache]] = []
        self._bytes = 0

    def read(
        self, prompts: Sequence[Sequence[int]], gates: Tensor
    ) -> Iterator[tuple[list[Member], PromptCache]]:
        """Caches that hold all prompts, with the places of those that are asked for; gates (prompts, adapters).

        A cache is the reader's own: select rows of it, and extend what was selected.
        """
        keys = [(tuple(prompt), gates[i].numpy().tobytes()) for i, prompt in enumerate(prompts)]
        places: dict[Key, list[int]] = defaultdict(list)
        for i, key in enumerate(keys):
            places[key].append(i)
        for known, cache in self._kept:
            members = [(i, row) for row, key in enumerate(known) for i in places.pop(key, ())]
            # A prompt that is asked for several times must not make a batch of many rows.
            for start in range(0, len(members), len(known)):
                yield members[start : start + len(known)], cache
        rest = [i for asked in places.values() for i in asked]
        equal = self.lm.needs_equal_lengths
        for batch in each_batch([len(prompts[i]) for i in rest], self.max_tokens, equal=equal):
            chosen = [rest[i] for i in batch]
            ids, lengths = pad([prompts[i] for i in chosen])
            cache = PromptCache.prefill(self.lm, ids, lengths, gates[chosen], reference=self.reference)
            if self._bytes + cache.nbytes <= KEPT_BYTES:
                self._bytes += cache.nbytes
                self._kept.append(([keys[i] for i in chosen], cache))
            yield [(i, row) for row, i in enumerate(chosen)], cache
