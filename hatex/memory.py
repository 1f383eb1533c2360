"""Memory that a long run would never give back: libraries' caches of matmul shapes, and freed pages that malloc keeps.

Posts differ in length, so many batches have a shape of their own. oneDNN keeps what it prepares for the last 1,024
of them, and malloc keeps the pages of the largest tensor of each size: memory grew with the number of batches.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Mapping, MutableMapping
from functools import cache
from typing import Final

SHAPE_CACHES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""Entries of oneDNN's cache and of PyTorch's own in front of it; one batch of a Llama needs about 14 of each."""
# glibc's parameters (malloc.h), and what they are set to. Left alone, free() hands the largest tensors' pages back in
# every layer, and the next layer faults them in again: up to a third of a batch's time, depending on the heap's past.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
KEPT_FREE: Final = 256 << 20
LARGEST_KEPT: Final = 1 << 30
LARGE: Final = 32 << 20
"""Bytes of a tensor from which on its pages are worth giving back after every use, where memory is short."""


def configure_memory(environment: MutableMapping[str, str] = os.environ) -> None:
    """Bound both caches and keep freed pages for the next layer, unless the environment says otherwise.

    The caches' bounds work until the process's first matmul.
    """
    for name, value in SHAPE_CACHES.items():
        environment.setdefault(name, value)
    if not _sets_malloc(environment):
        keep_pages()


def give_large_back(environment: Mapping[str, str] = os.environ) -> None:
    """Keep freed pages of tensors below `LARGE` only, from now on.

    Larger ones leave holes in the heap, into which what is allocated meanwhile creeps: the next one needs new pages.
    """
    if not _sets_malloc(environment):
        keep_pages(LARGE)


@cache
def keep_pages(largest: int = LARGEST_KEPT) -> None:
    """Let glibc's malloc keep what is freed, tensors up to `largest` bytes; other systems are left alone."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(TRIM_THRESHOLD, KEPT_FREE)
        mallopt(MMAP_THRESHOLD, largest)


def _sets_malloc(environment: Mapping[str, str]) -> bool:
    return any(name.startswith("MALLOC_") for name in environment)


def release_free_pages() -> None:
    """Give freed pages of glibc's malloc (others do so themselves, or cannot) and of Arrow back to the system."""
    if (trim := _malloc_trim()) is not None:
        trim(0)
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()


def release_device_cache() -> None:
    """Give blocks that torch keeps of freed CUDA tensors back to the device.

    Blocks of unfused weights never serve the wider fused ones, and count as taken to whoever asks what is free.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


@cache
def _malloc_trim() -> ctypes._NamedFuncPointer | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
