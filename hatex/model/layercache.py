"""Keys and values of one attention layer."""

from __future__ import annotations

import torch
from torch import Tensor

HEADROOM = 64
"""Tokens that fit behind the present ones before the buffers are copied into larger ones."""


class LayerCache:
    """Keys and values of one layer, shape (rows, kv heads, tokens, dim). Never shared between different gates."""

    def __init__(self) -> None:
        self._buffers: Tensor | None = None
        self._tokens = 0

    @property
    def nbytes(self) -> int:
        return 0 if self._buffers is None else self._buffers.nbytes

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add new tokens; returns all keys and values so far."""
        start, self._tokens = self._tokens, self._tokens + k.shape[2]
        if self._buffers is None or self._tokens > self._buffers.shape[3]:
            self._grow(k)
        assert self._buffers is not None
        self._buffers[0, :, :, start : self._tokens] = k
        self._buffers[1, :, :, start : self._tokens] = v
        keys, values = self._buffers[:, :, :, : self._tokens]
        return keys, values

    def _grow(self, like: Tensor) -> None:
        rows, heads, _, dim = like.shape
        larger = like.new_empty(2, rows, heads, self._tokens + HEADROOM, dim)
        if self._buffers is not None:
            larger[:, :, :, : self._buffers.shape[3]] = self._buffers
        self._buffers = larger

    def select(self, rows: Tensor, room: int = HEADROOM) -> LayerCache:
        """The cache of some rows, with space for up to `room` more tokens; a row named twice is forked."""
        chosen = LayerCache()
        assert self._buffers is not None
        chosen._buffers, chosen._tokens = (
            torch.index_select(self._buffers[:, :, :, : self._tokens + room], 1, rows),
            self._tokens,
        )
        return chosen
