"""The exact blend of every row, against merged weights, against PEFT, and against itself in another order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bases import ARCHITECTURES, MIXED, Batch, Spec, delta, dense_hidden, random_adapters, random_batch
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from hatex.errors import ModelError
from hatex.model.fused import FusedLinear
from hatex.model.gated import GatedLinear, GateState, LoraPart, LoraStack
from hatex.model.gatedlm import GatedLM
from hatex.model.weights import ResidentWeight
from hatex.registry.adapters import LoraAdapter, LoraUpdate, save_adapter

Load = Callable[[str], GatedLM]
Bases = Callable[[str], Path]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@torch.no_grad()
def last_hidden(lm: GatedLM, batch: Batch, *, reference: bool = False) -> Tensor:
    return lm.last_hidden(batch.ids, batch.lengths, batch.gates, reference=reference)


def with_peft(folder: Path, adapters: Sequence[LoraAdapter], at: Path) -> torch.nn.Module:
    from peft import PeftModel

    for adapter in adapters:
        save_adapter(at / adapter.name, adapter, base_model="tiny", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, at / adapters[0].name, adapter_name=adapters[0].name)
    for adapter in adapters[1:]:
        model.load_adapter(at / adapter.name, adapter_name=adapter.name)
    return model.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blend_equals_each_rows_dense_merge(architecture: str, load: Load, bases: Bases) -> None:
    lm = load(architecture)
    assert (lm.decoder is not None) == (architecture == "llama")
    adapters, batch = random_adapters(lm, MIXED), random_batch(4, 3)
    lm.attach(adapters)
    expected = dense_hidden(bases(architecture), adapters, batch)
    torch.testing.assert_close(last_hidden(lm, batch), expected, **CLOSE)
    bare = dense_hidden(bases(architecture), [], Batch(batch.ids, batch.lengths, torch.zeros(4, 0)))
    assert (expected - bare).abs().max() > 0.05, "the adapters of this test change nothing"
    with torch.no_grad():
        torch.testing.assert_close(lm.last_hidden(batch.ids, batch.lengths, None), bare, **CLOSE)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_one_hot_gates_equal_pefts_single_adapter(
    architecture: str, load: Load, bases: Bases, tmp_path: Path
) -> None:
    lm = load(architecture)
    adapters = random_adapters(lm, MIXED)
    lm.attach(adapters)
    batch = random_batch(3, 3)
    model = with_peft(bases(architecture), adapters, tmp_path)
    for k, adapter in enumerate(adapters):
        model.set_adapter(adapter.name)
        ours = last_hidden(lm, Batch(batch.ids, batch.lengths, torch.eye(3)[[k] * 3]))
        with torch.no_grad():
            theirs = model.model.base_model(input_ids=batch.ids).last_hidden_state
        torch.testing.assert_close(ours, theirs[torch.arange(3), batch.lengths - 1], **CLOSE)


def test_blend_equals_peft_with_scalings_that_broadcast(load: Load, bases: Bases, tmp_path: Path) -> None:
    from peft.tuners.lora import LoraLayer

    lm = load("llama")
    adapters, batch = random_adapters(lm, MIXED), random_batch(5, 3)
    lm.attach(adapters)
    model = with_peft(bases("llama"), adapters, tmp_path)
    model.base_model.set_adapter([adapter.name for adapter in adapters])
    for module in model.modules():
        for k, adapter in enumerate(adapters):
            if isinstance(module, LoraLayer) and adapter.name in module.scaling:
                module.scaling[adapter.name] = module.scaling[adapter.name] * batch.gates[:, k].view(-1, 1, 1)
    with torch.no_grad():
        theirs = model.model.base_model(input_ids=batch.ids).last_hidden_state
    torch.testing.assert_close(last_hidden(lm, batch), theirs[torch.arange(5), batch.lengths - 1], **CLOSE)


@pytest.mark.parametrize("architecture", ["llama", "gpt_neox"])
def test_a_rows_answer_does_not_depend_on_its_batch(architecture: str, load: Load) -> None:
    lm = load(architecture)
    lm.attach(random_adapters(lm, MIXED))
    batch = random_batch(6, 3)
    whole = last_hidden(lm, batch)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = last_hidden(lm, Batch(batch.ids[order], batch.lengths[order], batch.gates[order]))
    torch.testing.assert_close(shuffled, whole[order], **CLOSE)
    padded = Batch(torch.nn.functional.pad(batch.ids, (0, 7), value=5), batch.lengths, batch.gates)
    torch.testing.assert_close(last_hidden(lm, padded), whole, **CLOSE)
    alone = [
        last_hidden(lm, Batch(batch.row(i), batch.lengths[i, None], batch.gates[i, None])) for i in range(6)
    ]
    torch.testing.assert_close(torch.cat(alone), whole, **CLOSE)


def reference_delta(adapters: Sequence[LoraAdapter], gates: Tensor, path: str) -> Tensor:
    """PEFT 0.8.2's `linear` as the research system calls it: A and B are summed apart.

    A = sum_j sqrt(g_j) s_j A_j, B = sum_i sqrt(g_i) B_i, and the merged adapter has scaling 1.
    """
    updates = [adapter.modules[path] for adapter in adapters]
    A = sum(g.sqrt() * u.scaling * u.A for g, u in zip(gates, updates, strict=True))
    B = sum(g.sqrt() * u.B for g, u in zip(gates, updates, strict=True))
    return B @ A


@pytest.mark.parametrize("architecture", ["llama", "llama-generic", "opt"])
def test_reference_space_is_the_formula_of_peft_0_8_2(architecture: str, load: Load, bases: Bases) -> None:
    lm = load(architecture)
    adapters, batch = random_adapters(lm, [Spec(3, 2.0), Spec(3, 0.5), Spec(3, 1.0)]), random_batch(3, 3)
    lm.attach(adapters)
    expected = dense_hidden(bases(architecture), adapters, batch, reference_delta)
    torch.testing.assert_close(last_hidden(lm, batch, reference=True), expected, **CLOSE)
    assert (expected - last_hidden(lm, batch)).abs().max() > 0.01, "cross-terms would not be seen"


def test_reference_space_is_todays_linear_where_scalings_are_equal(
    load: Load, bases: Bases, tmp_path: Path
) -> None:
    lm = load("llama")
    adapters, batch = random_adapters(lm, [Spec(3, 2.0)] * 3), random_batch(2, 3)
    lm.attach(adapters)
    ours = last_hidden(lm, batch, reference=True)
    model = with_peft(bases("llama"), adapters, tmp_path)
    for i in range(2):
        model.add_weighted_adapter(
            [a.name for a in adapters], batch.gates[i].tolist(), f"mix{i}", combination_type="linear"
        )
        model.set_adapter(f"mix{i}")
        with torch.no_grad():
            theirs = model.model.base_model(input_ids=batch.row(i)).last_hidden_state[0, -1]
        torch.testing.assert_close(ours[i], theirs, **CLOSE)


def test_reference_space_refuses_mixed_ranks(load: Load) -> None:
    lm = load("llama")
    lm.attach(random_adapters(lm, [Spec(2, 1.0), Spec(3, 1.0)]))
    with pytest.raises(ModelError, match="one rank"):
        last_hidden(lm, random_batch(2, 2), reference=True)


def test_adapters_that_do_not_fit_are_refused(load: Load) -> None:
    lm = load("llama")
    (adapter,) = random_adapters(lm, [Spec(2, 1.0)])
    path, update = next(iter(adapter.modules.items()))
    with pytest.raises(ModelError, match="another size"):
        lm.attach([LoraAdapter("x", {path: LoraUpdate(update.A[:, 1:], update.B, 1.0)})])
    with pytest.raises(ModelError, match="does not have"):
        lm.attach([LoraAdapter("x", {"model.embed_tokens": update})])
    lm.attach([adapter])
    with pytest.raises(ModelError, match="gate weights"):
        last_hidden(lm, random_batch(2, 2))


def test_a_layer_that_sees_picked_tokens_is_refused() -> None:
    gates = GateState()
    layer = GatedLinear(ResidentWeight(torch.eye(3)), None, gates)
    layer.stack = LoraStack([LoraPart(0, torch.ones(1, 3), torch.ones(3, 1), 1.0)])
    gates.set(torch.ones(2, 1))
    gates.tokens = 4
    with torch.no_grad():
        assert layer(torch.ones(8, 3)).shape == (8, 3)
        with pytest.raises(ModelError, match="rows of tokens"):
            layer(torch.ones(7, 3))


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[int], int, list[list[tuple[int, int, float]]], Tensor, int]:
    """Widths of fused layers, their input width, the adapters of each, gates (rows, adapters), tokens."""
    small = st.integers(1, 5)
    widths, width, count = draw(st.lists(small, min_size=1, max_size=3)), draw(small), draw(st.integers(1, 4))
    scaling = st.floats(0.01, 8)
    parts = [[(k, draw(small), draw(scaling)) for k in range(count) if draw(st.booleans())] for _ in widths]
    gate = st.floats(0, 1, width=32)
    rows = draw(st.lists(st.lists(gate, min_size=count, max_size=count), min_size=1, max_size=4))
    return widths, width, parts, torch.tensor(rows), draw(small)


@settings(max_examples=60, deadline=None)
@given(layers(), st.booleans())
def test_any_gates_and_shapes_equal_the_dense_sum(
    case: tuple[list[int], int, list[list[tuple[int, int, float]]], Tensor, int], with_gradients: bool
) -> None:
    widths, width, parts, rows, tokens = case
    generator = torch.Generator().manual_seed(0)
    state, linears, expected = GateState(), [], []
    x = torch.randn(len(rows), tokens, width, generator=generator)
    for out, adapters in zip(widths, parts, strict=True):
        layer = GatedLinear(ResidentWeight(torch.randn(out, width, generator=generator)), None, state)
        stack = [
            LoraPart(
                k, torch.randn(r, width, generator=generator), torch.randn(out, r, generator=generator), s
            )
            for k, r, s in adapters
        ]
        layer.stack = LoraStack(stack) if stack else None
        dense = [layer.base.weight + sum(g[p.adapter] * p.scaling * (p.B @ p.A) for p in stack) for g in rows]
        expected.append(torch.stack([x[i] @ dense[i].T for i in range(len(rows))]))
        linears.append(layer)
    state.set(rows)
    with torch.set_grad_enabled(with_gradients):
        apart = torch.cat([layer(x) for layer in linears], -1)
        fused = FusedLinear(linears)
        groups = ((len(rows), tokens),)
        # Five rows of the input belong to no post.
        with_room = F.pad(x.flatten(0, 1), (0, fused.room, 0, 5))
        together = fused(with_room.clone(), groups)
        added = fused.add_to(torch.ones_like(together), with_room, groups)[:-5].view(apart.shape)
        together = together[:-5].view(apart.shape)
        as_views = torch.cat([layer(x) for layer in linears], -1)
    torch.testing.assert_close(as_views, apart)
    torch.testing.assert_close(apart, torch.cat(expected, -1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(added, 1 + apart, rtol=1e-4, atol=1e-4)


def test_delta_of_the_oracle_is_a_weighted_sum() -> None:
    update = LoraUpdate(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]), 0.5)
    found = delta([LoraAdapter("a", {"x": update})], torch.tensor([0.5]), "x")
    torch.testing.assert_close(found, torch.tensor([[0.75, 1.5], [1.0, 2.0]]))
