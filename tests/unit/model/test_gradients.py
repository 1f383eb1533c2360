"""Training uses the same layers: their gradients equal plain autograd's, also after an evaluation pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_bases import MIXED, Batch, Spec, random_adapters, random_batch
from torch import Tensor
from torch.nn import functional as F

from hatex.model.functions import BlendedLinear, RmsNorm, Rotate, SwiGlu
from hatex.model.gatedlm import GatedLM
from hatex.model.weights import Nf4Weight, build_weight, quantize

Load = Callable[[str], GatedLM]


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_blended_linear_has_the_gradients_of_its_formula() -> None:
    x, weight = doubles(6, 5), doubles(9, 5).detach()
    stacks = [
        doubles(6, 2),
        doubles(2, 5),
        doubles(4, 2),
        None,
        None,
        None,
        doubles(6, 3),
        doubles(3, 5),
        doubles(2, 3),
    ]

    def plain(x: Tensor, *s: Tensor | None) -> Tensor:
        parts = list(torch.split(x @ weight.T, [4, 3, 2], 1))
        for i in (0, 2):
            factors, A, B = s[3 * i : 3 * i + 3]
            parts[i] = parts[i] + ((x @ A.T) * factors) @ B.T
        return torch.cat(parts, 1)

    found = BlendedLinear.apply(x, weight, [4, 3, 2], *stacks)
    torch.testing.assert_close(found, plain(x, *stacks))
    inputs = [t for t in (x, *stacks) if t is not None]
    upstream = torch.randn_like(found)
    expected = torch.autograd.grad(plain(x, *stacks), inputs, upstream)
    for ours, theirs in zip(torch.autograd.grad(found, inputs, upstream), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(
        lambda *t: BlendedLinear.apply(t[0], weight, [4, 3, 2], *t[1:]), (x, *stacks)
    )


def test_swiglu_norm_and_rotation_have_the_gradients_of_their_formulas() -> None:
    fused = doubles(4, 6)
    torch.testing.assert_close(SwiGlu.apply(fused), F.silu(fused[:, :3]) * fused[:, 3:])
    assert torch.autograd.gradcheck(SwiGlu.apply, fused)
    x, weight = doubles(2, 3, 5), doubles(5).detach()
    expected = x * (x.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt() * weight
    torch.testing.assert_close(RmsNorm.apply(x, weight, 1e-3), expected)
    assert torch.autograd.gradcheck(lambda x: RmsNorm.apply(x, weight, 1e-3), x)
    heads, angles = doubles(2, 3, 2, 6), torch.randn(1, 3, 1, 3, dtype=torch.float64)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat((-heads[..., 3:], heads[..., :3]), -1)
    expected = heads * torch.cat((cos, cos), -1) + turned * torch.cat((sin, sin), -1)
    torch.testing.assert_close(Rotate.apply(heads, cos, sin), expected)
    assert torch.autograd.gradcheck(lambda x: Rotate.apply(x, cos, sin), heads)


def loss_of(lm: GatedLM, batch: Batch, gates: Tensor) -> Tensor:
    hidden = lm.last_hidden(batch.ids, batch.lengths, gates)
    return F.cross_entropy(hidden @ lm.vocabulary[[5, 6, 7]].T, torch.arange(len(hidden)) % 3)


def gradients(lm: GatedLM, batch: Batch) -> dict[str, Tensor]:
    """Of every LoRA factor, and of the gates."""
    gates = batch.gates.clone().requires_grad_()
    factors = {
        f"{path}.{name}": parameter
        for path, layer in lm.gated_layers().items()
        if layer.stack is not None
        for name, parameter in layer.stack.named_parameters()
    }
    found = torch.autograd.grad(loss_of(lm, batch, gates), [*factors.values(), gates])
    return dict(zip([*factors, "gates"], found, strict=True))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("specs", [MIXED, (Spec(2, 1.0, ("k_proj", "gate_proj", "o_proj")),)])
def test_the_fast_path_has_the_gradients_of_transformers_block(
    load: Load, specs: tuple[Spec, ...], checkpointing: bool
) -> None:
    fast, plain = load("llama"), load("llama-generic")
    adapters, batch = random_adapters(fast, specs), random_batch(5, len(specs))
    for lm in (fast, plain):
        lm.attach(adapters, trainable=True)
    fast.checkpoint_activations(checkpointing)
    assert_same(gradients(fast, batch), gradients(plain, batch))


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_gradients_after_an_evaluation_pass_are_those_without_one(load: Load, architecture: str) -> None:
    lm, batch = load(architecture), random_batch(4, 3)
    lm.attach(random_adapters(lm, MIXED), trainable=True)
    before = gradients(lm, batch)
    with torch.inference_mode():
        lm.last_hidden(batch.ids, batch.lengths, batch.gates)
    with torch.no_grad():
        lm.last_hidden(batch.ids, batch.lengths, None)
    after = gradients(lm, batch)
    for name, gradient in before.items():
        assert torch.equal(after[name], gradient), name
    assert all(gradient.abs().sum() > 0 for gradient in before.values())


@pytest.mark.parametrize("compute", ["dequantize", "packed", "resident"])
def test_an_nf4_base_has_the_same_gradients_however_it_is_computed(
    compute: str, bases: Callable[[str], Path], tmp_path: Path
) -> None:
    from hatex.model.quantizing import write_base
    from hatex.types import NO_PROGRESS

    write_base(bases("llama"), tmp_path, 64, NO_PROGRESS)
    lm, resident = (GatedLM.load(tmp_path, c, torch.float32, fast=False) for c in (compute, "resident"))
    batch, adapters = random_batch(3, 3), random_adapters(resident, MIXED)
    for each in (lm, resident):
        each.attach(adapters, trainable=True)
    with torch.inference_mode():
        lm.last_hidden(batch.ids, batch.lengths, batch.gates)
    assert_same(gradients(lm, batch), gradients(resident, batch))


def test_training_keeps_no_unpacked_weight_between_forward_and_backward() -> None:
    weight = build_weight(quantize(torch.randn(64, 32), 64), "dequantize", torch.float32)
    assert isinstance(weight, Nf4Weight)
    x = torch.randn(3, 32, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = weight(x)
    y.sum().backward()
    assert kept == []
    torch.testing.assert_close(x.grad, weight.dequantized().sum(0).expand(3, -1))


def test_dropout_leaves_evaluation_alone_and_keeps_the_mean(load: Load) -> None:
    lm, batch = load("llama"), random_batch(3, 3)
    adapters = random_adapters(lm, MIXED)
    lm.attach(adapters, trainable=True)
    expected = loss_of(lm, batch, batch.gates).item()
    lm.attach(adapters, trainable=True, dropout=0.5)
    drawn = torch.tensor([loss_of(lm, batch, batch.gates).item() for _ in range(8)])
    assert drawn.std() > 0
    with torch.no_grad():
        assert abs(loss_of(lm, batch, batch.gates).item() - expected) < 1e-5
