"""Keys and values of a batch of prompts, and going on behind them.

A cache belongs to the gates it was made with: rows may be dropped or forked, never shared between different gates.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from hatex.errors import ModelError
from hatex.model.layercache import HEADROOM, LayerCache

if TYPE_CHECKING:
    from transformers import DynamicCache

    from hatex.model.gatedlm import GatedLM


@dataclass
class PromptCache:
    """What a batch has read so far.

    `valid` (rows, tokens) is False at padding, `lengths` (rows,) counts real tokens, `gates` (rows, adapters) are
    those of the rows; `hidden` (rows, width) is the final hidden state of each row's last token.
    """

    lm: GatedLM
    layers: list[LayerCache] | DynamicCache
    valid: Tensor
    lengths: Tensor
    gates: Tensor | None
    hidden: Tensor
    reference: bool = False

    @classmethod
    def prefill(
        cls, lm: GatedLM, ids: Tensor, lengths: Tensor, gates: Tensor | None, *, reference: bool = False
    ) -> PromptCache:
        """Read prompts, ids (rows, tokens) padded on the right.

        Raises ModelError for padded rows where the base needs equal lengths (`each_batch` makes such batches).
        """
        ids, lengths = ids.to(lm.device), lengths.to(lm.device)
        gates = None if gates is None else gates.to(lm.device)
        rows = torch.arange(ids.shape[0], device=lm.device)
        valid = torch.arange(ids.shape[1], device=lm.device)[None, :] < lengths[:, None]
        if lm.needs_equal_lengths and not valid.all():
            raise ModelError("this base cannot go on behind padded rows")
        with lm.lock:
            lm.set_gates(gates, reference=reference)
            if lm.decoder is not None:
                layers: list[LayerCache] | DynamicCache = [LayerCache() for _ in lm.decoder.blocks]
                hidden = lm.decoder(ids, cache=layers)
            else:
                from transformers import DynamicCache

                layers = DynamicCache(config=lm.model.config)
                hidden = lm.run_base(ids, past_key_values=layers, use_cache=True)
        return cls(lm, layers, valid, lengths, gates, hidden[rows, lengths - 1], reference)

    def extend(self, ids: Tensor) -> Tensor:
        """Read the same number of further tokens in every row, ids (rows, new); returns hidden (rows, new, width)."""
        ids, new = ids.to(self.lm.device), ids.shape[1]
        positions = self.lengths[:, None] + torch.arange(new, device=ids.device)[None, :]
        self.valid = torch.cat((self.valid, self.valid.new_ones(len(ids), new)), 1)
        with self.lm.lock:
            self.lm.set_gates(self.gates, reference=self.reference)
            if self.lm.decoder is not None:
                assert isinstance(self.layers, list)
                hidden = self.lm.decoder(ids, cache=self.layers, positions=positions, mask=self._mask(new))
            else:
                hidden = self.lm.run_base(
                    ids,
                    past_key_values=self.layers,
                    attention_mask=self.valid.long(),
                    position_ids=positions,
                    use_cache=True,
                )
        self.lengths = self.lengths + new
        self.hidden = hidden[:, -1]
        return cast(Tensor, hidden)

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values."""
        if isinstance(self.layers, list):
            return sum(layer.nbytes for layer in self.layers)
        return sum(
            tensor.nbytes
            for layer in self.layers.layers
            for tensor in (layer.keys, layer.values)
            if tensor is not None
        )

    def select(self, rows: Sequence[int], room: int = HEADROOM) -> PromptCache:
        """The cache of some rows, in that order; a row named twice is forked. `room` tokens are to follow at once."""
        index = torch.tensor(rows, dtype=torch.long, device=self.lm.device)
        if isinstance(self.layers, list):
            layers: list[LayerCache] | DynamicCache = [layer.select(index, room) for layer in self.layers]
        else:
            # Selecting makes new tensors and puts them into the layer objects: shallow copies keep the old ones.
            layers = copy(self.layers)
            layers.layers = [copy(layer) for layer in layers.layers]
            layers.batch_select_indices(index)
        return replace(
            self,
            layers=layers,
            valid=self.valid[index],
            lengths=self.lengths[index],
            gates=None if self.gates is None else self.gates[index],
            hidden=self.hidden[index],
        )

    def _mask(self, new: int) -> Tensor:
        """True where a new token may look, shape (rows, 1, new, tokens): real earlier tokens and itself."""
        total = self.valid.shape[1]
        places = torch.arange(total, device=self.valid.device)
        order = places[None, :] <= places[total - new :, None]
        return (order[None] & self.valid[:, None, :])[:, None]
