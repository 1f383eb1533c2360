"""Bounded caches and freed pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from hatex.memory import SHAPE_CACHES, configure_memory, give_large_back

GROWTH = """
import torch
from hatex.memory import configure_memory, release_free_pages
if {bounded}:
    configure_memory()
weight = torch.randn(512, 256, dtype=torch.bfloat16)

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

def run(rows):
    torch.nn.functional.linear(torch.randn(rows, 256, dtype=torch.bfloat16), weight)
    if {bounded}:
        release_free_pages()

for rows in range(1, 100):
    run(rows)
before = resident()
for rows in range(100, 900):
    run(rows)
print(resident() - before)
"""

ARROW = """
import pyarrow
from hatex.memory import release_free_pages

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

columns = [pyarrow.array(["a post of some length " * 40] * 100) for _ in range(800)]
held = resident()
del columns
release_free_pages()
print(held - resident())
"""

FAULTS = """
import resource
import torch
from hatex.memory import configure_memory
if {kept}:
    configure_memory()

def layer():
    torch.ones(40 << 20, dtype=torch.uint8) + torch.ones(40 << 20, dtype=torch.uint8)

for _ in range(8):
    layer()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    layer()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


LARGE = """
import torch
from hatex.memory import configure_memory, give_large_back

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

configure_memory()
if {given}:
    give_large_back()
before = resident()
kept = []
for _ in range(8):
    large = torch.ones(64 << 20, dtype=torch.uint8)
    # Stays, and stands where the heap would have gone on.
    kept.append(torch.ones(1 << 20, dtype=torch.uint8))
    del large
print(resident() - before)
"""


def printed_by(script: str) -> int:
    """The number that a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="sets glibc's malloc")
def test_freed_pages_serve_the_next_layer() -> None:
    kept, left_alone = (printed_by(FAULTS.format(kept=kept)) for kept in (True, False))
    assert kept < 0.1 * left_alone


def test_what_the_environment_says_stays() -> None:
    environment = {"LRU_CACHE_CAPACITY": "1024"}
    configure_memory(environment)
    assert environment == SHAPE_CACHES | {"LRU_CACHE_CAPACITY": "1024"}


@pytest.mark.parametrize("configure", [configure_memory, give_large_back])
def test_mallocs_own_settings_win(
    monkeypatch: pytest.MonkeyPatch, configure: Callable[[dict[str, str]], None]
) -> None:
    kept: list[tuple[int, ...]] = []
    monkeypatch.setattr("hatex.memory.keep_pages", lambda *largest: kept.append(largest))
    configure({"MALLOC_TRIM_THRESHOLD_": "131072"})
    assert not kept
    configure({})
    assert kept


@pytest.mark.skipif(sys.platform != "linux", reason="sets glibc's malloc")
def test_large_tensors_can_be_given_back() -> None:
    given, kept = (printed_by(LARGE.format(given=given)) for given in (True, False))
    assert given < 24_000, "only what stays"
    assert kept > given + 50_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and trims glibc's malloc")
def test_many_shapes_keep_less_memory_when_bounded() -> None:
    bounded, left_alone = (printed_by(GROWTH.format(bounded=bounded)) for bounded in (True, False))
    assert bounded < 0.5 * left_alone


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_pages_that_arrow_freed_are_given_back() -> None:
    kilobytes = printed_by(ARROW)
    assert kilobytes > 50_000, "70 MB of text were freed"
