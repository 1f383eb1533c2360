"""Training uses the same layers: their gradients equal plain autograd's, also after an evaluation pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tiny_bases import MIXED, Batch, Spec, random_adapters, random_batch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

from hatex.errors import ModelError
from hatex.model.attribution import integrated_gradients, label_logits
from hatex.model.cache import PromptCache
from hatex.model.functions import BlendedLinear, join_heads, rms_norm, split_heads, swiglu
from hatex.model.gatedlm import GatedLM
from hatex.model.quantizing import write_base
from hatex.model.sharding import shard_base
from hatex.model.weights import Compute, Nf4Weight, build_weight, quantize
from hatex.types import NO_PROGRESS

Load = Callable[[str], GatedLM]


def doubles(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_blended_linear_has_the_gradients_of_its_formula() -> None:
    """Three slices of an output; the adapters touch the first and the last."""
    x, factors, W = doubles(6, 5), doubles(6, 5), doubles(9, 5).detach()
    A, B, C, D = doubles(2, 5), doubles(4, 2), doubles(3, 5), doubles(2, 3)
    blocks = [(slice(0, 4), slice(0, 2)), (slice(7, 9), slice(2, 5))]

    def plain(x: Tensor, f: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
        first, middle, last = torch.split(x @ W.T, [4, 3, 2], 1)
        first = first + ((x @ A.T) * f[:, :2]) @ B.T
        last = last + ((x @ C.T) * f[:, 2:]) @ D.T
        return torch.cat([first, middle, last], 1)

    def ours(x: Tensor, f: Tensor, *factors: Tensor) -> Tensor:
        beside = W.new_zeros(9, 5)
        for (rows, columns), part in zip(blocks, factors[1::2], strict=True):
            beside[rows, columns] = part.detach()
        with_room = F.pad(x, (0, 5), value=float("nan"))
        together = torch.cat([part.detach() for part in factors[::2]])
        return BlendedLinear.apply(with_room, f, together, torch.cat([W, beside], 1), blocks, *factors)

    inputs = (x, factors, A, B, C, D)
    torch.testing.assert_close(ours(*inputs), plain(*inputs))
    upstream = torch.randn(6, 9, dtype=torch.float64)
    expected = torch.autograd.grad(plain(*inputs), inputs, upstream)
    for found, theirs in zip(torch.autograd.grad(ours(*inputs), inputs, upstream), expected, strict=True):
        torch.testing.assert_close(found, theirs)


@pytest.mark.parametrize("room", [0, 2])
def test_elementwise_functions_have_the_gradients_of_their_formulas(room: int) -> None:
    def check(ours: Callable[[Tensor], Tensor], x: Tensor, expected: Tensor) -> None:
        def used(x: Tensor) -> Tensor:
            return ours(x)[..., : expected.shape[-1]]

        torch.testing.assert_close(used(x), expected)
        assert torch.autograd.gradcheck(used, x)

    fused = doubles(4, 6)
    check(lambda x: swiglu(x, room), fused, F.silu(fused[:, :3]) * fused[:, 3:])
    x, weight = doubles(6, 5), doubles(5).detach()
    expected = x * (x.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt() * weight
    check(lambda x: rms_norm(x, weight, 1e-3, room), x, expected)
    heads = doubles(2, 3, 4, 5)
    joined = F.pad(heads.transpose(1, 2).flatten(2).flatten(0, 1), (0, 0, 0, 3))
    check(lambda x: join_heads(x, 11, room), heads, joined)


def test_heads_are_split_and_turned_with_the_gradients_of_their_formulas() -> None:
    fused, angles = doubles(8, 24), torch.randn(1, 3, 1, 3, dtype=torch.float64)
    cos, sin = (torch.cat((t, t), -1) for t in (angles.cos(), angles.sin()))
    signed = torch.cat((-sin[..., :3], sin[..., 3:]), -1)

    def ours(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Two rows of three tokens, and two rows that belong to no post; two heads, one of keys and values."""
        return split_heads(x, cos, signed, (2, 3), 2, 1)

    heads = fused[:6].view(2, 3, 4, 6)
    turned = heads * cos + torch.cat((-heads[..., 3:], heads[..., :3]), -1) * sin
    expected = (turned[:, :, :2], turned[:, :, 2:3], heads[:, :, 3:])
    for found, part in zip(ours(fused), expected, strict=True):
        torch.testing.assert_close(found, part.transpose(1, 2))
    assert torch.autograd.gradcheck(ours, fused)


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


def test_recomputed_blocks_keep_the_bases_own_dropout_off(load: Load) -> None:
    lm, batch = load("opt"), random_batch(4, 3)
    lm.attach(random_adapters(lm, MIXED), trainable=True)
    plain = gradients(lm, batch)
    lm.checkpoint_activations(True)
    assert_same(gradients(lm, batch), plain)
    with torch.no_grad():
        cache = PromptCache.prefill(lm, batch.ids, batch.lengths, batch.gates)
    assert not isinstance(cache.layers, list)
    assert cache.layers.get_seq_length() == batch.ids.shape[1]
    lm.checkpoint_activations(False)
    assert not any(isinstance(m, GradientCheckpointingLayer) and m.training for m in lm.model.modules())
    assert_same(gradients(lm, batch), plain)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_integrated_gradients_keep_little_and_are_those_of_one_plain_pass(
    load: Load, architecture: str
) -> None:
    lm = load(architecture)
    lm.attach(random_adapters(lm, MIXED))
    ids, gates, labels, filler = list(range(2, 12)), torch.tensor([0.5, 0.2, 0.3]), [3, 4, 5], 1
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        found = integrated_gradients(
            lm,
            ids,
            range(2, 9),
            filler,
            labels,
            1,
            gates,
            scale=1.5,
            bias=torch.zeros(3),
            steps=1,
            max_tokens=99,
        )
        little = sum(kept)
        kept.clear()
        start = torch.tensor(ids[:2] + 7 * [filler] + ids[9:])
        embed = lm.model.get_input_embeddings()
        origin, goal = embed(start).detach(), embed(torch.tensor(ids)).detach()
        path = ((origin + goal) / 2)[None].requires_grad_()
        logits = label_logits(lm, torch.tensor(ids), path, labels, gates)
        (gradient,) = torch.autograd.grad((1.5 * logits).softmax(-1)[0, 1], path)
    assert_same({"": found}, {"": (gradient[0] * (goal - origin)).sum(-1)[2:9]})
    assert little < sum(kept) / 4


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


@pytest.fixture(params=["llama", "gpt_neox"])
def packed(request: pytest.FixtureRequest, bases: Callable[[str], Path], tmp_path: Path) -> Path:
    """The folder of a tiny base in NF4."""
    write_base(bases(request.param), tmp_path, 64, NO_PROGRESS)
    return tmp_path


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A group of one process."""
    store = f"file://{tmp_path / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize("compute", ["dequantize", "packed", "resident"])
def test_an_nf4_base_has_the_same_gradients_however_it_is_computed(compute: Compute, packed: Path) -> None:
    lm, resident = (GatedLM.load(packed, c, torch.float32, fast=False) for c in (compute, "resident"))
    batch, adapters = random_batch(3, 3), random_adapters(resident, MIXED)
    for each in (lm, resident):
        each.attach(adapters, trainable=True)
    with torch.inference_mode():
        lm.last_hidden(batch.ids, batch.lengths, batch.gates)
    assert_same(gradients(lm, batch), gradients(resident, batch))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_base_spread_over_processes_has_the_gradients_of_a_whole_one(
    packed: Path, checkpointing: bool
) -> None:
    spread, whole = (GatedLM.load(packed, "dequantize", torch.float32) for _ in range(2))
    shard_base(spread, spread.device)
    assert all(isinstance(m.packed, DTensor) for m in spread.modules() if isinstance(m, Nf4Weight))
    batch = random_batch(3, 3)
    for each in (spread, whole):
        each.attach(random_adapters(whole, MIXED), trainable=True)
    spread.checkpoint_activations(checkpointing)
    with torch.no_grad():
        spread.last_hidden(batch.ids, batch.lengths, batch.gates)
    assert_same(gradients(spread, batch), gradients(whole, batch))
    assert all(isinstance(m.packed, DTensor) for m in spread.modules() if isinstance(m, Nf4Weight))


@pytest.mark.usefixtures("alone")
def test_a_base_that_is_not_packed_is_not_spread(load: Load) -> None:
    with pytest.raises(ModelError, match="NF4"):
        shard_base(load("llama-generic"), torch.device("cpu"))


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


def test_a_weight_that_was_unpacked_for_scoring_first_is_unpacked_for_gradients_next() -> None:
    packed = quantize(torch.randn(64, 32, dtype=torch.bfloat16), 64)
    weight = build_weight(packed, "dequantize", torch.float32)
    x = torch.randn(3, 32, requires_grad=True)

    def score_then_learn() -> None:
        with torch.inference_mode():
            weight(x)
        weight(x).sum().backward()

    # The room to unpack into is each thread's own, and allocated by the first weight.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(score_then_learn).result()
    torch.testing.assert_close(x.grad, weight.dequantized().sum(0).expand(3, -1))
