"""Compiled functions give the values of plain ones, for any gates, and leave what they do not serve to them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_bases import MIXED, random_adapters, random_batch

from hatex.errors import ModelError
from hatex.model.gatedlm import GatedLM

Load = Callable[[str], GatedLM]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler here")
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own future
# In float32 the residual is summed inside the matmuls, in bf16 by a function of its own.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_compiled_functions_give_the_same_hidden_states(
    bases: Callable[[str], Path], dtype: torch.dtype, tolerance: float
) -> None:
    lm = GatedLM.load(bases("llama"), "resident", dtype)
    lm.attach(random_adapters(lm, MIXED))
    batches = [random_batch(4, 3), random_batch(3, 3), random_batch(1, 3)]

    @torch.inference_mode()
    def hidden(reference: bool = False) -> list[torch.Tensor]:
        return [lm.last_hidden(b.ids, b.lengths, b.gates, reference=reference) for b in batches]

    expected = hidden()
    lm.compile()
    assert lm.decoder is not None
    assert lm.decoder.compiled is not None
    calls = Counter[str]()
    for name in ("rms_norm", "swiglu", "split_heads", "add"):
        setattr(lm.decoder.compiled, name, counted(getattr(lm.decoder.compiled, name), name, calls))
    for found, plain in zip(hidden(), expected, strict=True):
        torch.testing.assert_close(found, plain, rtol=tolerance, atol=tolerance)
    # Two blocks, of two norms each; the single row is left to the plain functions.
    sums = {} if dtype == torch.float32 else {"add": 8}
    assert calls == {"rms_norm": 8, "swiglu": 4, "split_heads": 4} | sums
    # Other adapters are taken up without a new start.
    others = [replace(a, modules=dict(list(a.modules.items())[::2])) for a in random_adapters(lm, MIXED)]
    lm.attach(others)
    found = hidden()
    lm.attach(random_adapters(lm, [MIXED[0]] * 3))
    found += hidden(reference=True)
    lm.decoder.compiled = None
    expected = hidden(reference=True)
    lm.attach(others)
    for one, plain in zip(found, hidden() + expected, strict=True):
        torch.testing.assert_close(one, plain, rtol=tolerance, atol=tolerance)


def counted(function: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    """`function`, which counts its calls under `name`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return function(*args, **kwargs)

    return call


def test_bases_without_a_fast_path_are_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="only resident Llama bases"):
        load("opt").compile()


def test_no_compiler_is_said(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ModelError, match=r"C\+\+ compiler"):
        load("llama").compile()
