"""Memory that a long run would never give back: libraries' caches of matmul shapes, and freed pages that malloc keeps.

Posts differ in length, so many batches have a shape of their own. oneDNN keeps what it prepares for the last 1,024
of them, and malloc keeps the pages of the largest tensor of each size: memory grew with the number of batches.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import MutableMapping
from functools import cache
from typing import Final

SHAPE_CACHES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Entries of oneDNN's cache and of PyTorch's own in front of it; one batch of a Llama needs about 14 of each."""


def bound_shape_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound both caches, unless the environment says otherwise; works until the process's first matmul."""
    for name, value in SHAPE_CACHES.items():
        environment.setdefault(name, value)


def release_free_pages() -> None:
    """Give freed pages of glibc's malloc (others do so themselves, or cannot) and of Arrow back to the system."""
    if (trim := _malloc_trim()) is not None:
        trim(0)
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
