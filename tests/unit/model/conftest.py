from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_bases import write_base

from hatex.model.gatedlm import GatedLM


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny random base by architecture."""
    made: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        name = architecture.removesuffix("-generic")
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            write_base(name, made[name])
        return made[name]

    return folder


@pytest.fixture(scope="session")
def load(bases: Callable[[str], Path]) -> Callable[[str], GatedLM]:
    """A base in float32 behind gated layers; `llama` takes the fast path, all others transformers' own forward."""
    return lambda name: GatedLM.load(bases(name), "resident", torch.float32, fast=name == "llama")
