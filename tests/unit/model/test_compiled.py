"""Compiled functions give the values of plain ones, for any gates, and leave what they do not serve to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tiny_bases import MIXED, random_adapters, random_batch

from hatex.errors import ModelError
from hatex.model.gatedlm import GatedLM

Load = Callable[[str], GatedLM]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own future
def test_compiled_functions_give_the_same_hidden_states(load: Load) -> None:
    lm = load("llama")
    lm.attach(random_adapters(lm, MIXED))
    batches = [random_batch(4, 3), random_batch(3, 3), random_batch(1, 3)]

    @torch.inference_mode()
    def hidden(reference: bool = False) -> list[torch.Tensor]:
        return [lm.last_hidden(b.ids, b.lengths, b.gates, reference=reference) for b in batches]

    expected = hidden()
    lm.compile()
    for found, plain in zip(hidden(), expected, strict=True):
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-5)
    # Other adapters are taken up without a new start.
    others = [replace(a, modules=dict(list(a.modules.items())[::2])) for a in random_adapters(lm, MIXED)]
    lm.attach(others)
    found = hidden()
    lm.attach(random_adapters(lm, [MIXED[0]] * 3))
    found += hidden(reference=True)
    assert lm.decoder is not None
    lm.decoder.compiled = None
    expected = hidden(reference=True)
    lm.attach(others)
    for one, plain in zip(found, hidden() + expected, strict=True):
        torch.testing.assert_close(one, plain, rtol=1e-5, atol=1e-5)


def test_bases_without_a_fast_path_are_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="only resident Llama bases"):
        load("opt").compile()


def test_no_compiler_is_said(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match=r"C\+\+ compiler"):
        load("llama").compile()
