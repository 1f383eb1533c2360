"""Every merge method against the definition it follows, on small random updates."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hatex.errors import UsageError
from hatex.merging.lowrank import Factors, squared_norm, truncate_dense
from hatex.merging.merge import MergePlan, merge_adapters
from hatex.merging.methods import METHODS, Part, Settings, _drop, _largest
from hatex.model.gated import GatedLinear, GateState, LoraPart, LoraStack
from hatex.model.weights import ResidentWeight
from hatex.registry.adapters import LoraAdapter, LoraUpdate

MODULES = {"model.layers.0.up": (24, 40), "model.layers.1.up": (40, 24), "model.layers.1.q": (32, 32)}
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}


def random_adapter(name: str, r: int, scaling: float, seed: int, modules=MODULES) -> LoraAdapter:
    generator = torch.Generator().manual_seed(seed)
    updates = {
        module: LoraUpdate(
            torch.randn(r, i, generator=generator) / 8, torch.randn(o, r, generator=generator) / 8, scaling
        )
        for module, (o, i) in modules.items()
    }
    return LoraAdapter(name, updates)


def three(ranks=(4, 4, 4), scalings=(2.0, 2.0, 2.0)) -> list[LoraAdapter]:
    return [
        random_adapter(name, r, s, k)
        for k, (name, r, s) in enumerate(zip("abc", ranks, scalings, strict=True))
    ]


def dense(adapter: LoraAdapter, module: str) -> torch.Tensor:
    A, B, scaling = adapter.modules[module]
    return scaling * (B.double() @ A.double())


def exact_sum(adapters, weights, module):
    return sum(weights[a.name] * dense(a, module) for a in adapters)


@pytest.mark.parametrize("method", METHODS)
def test_one_adapter_of_weight_one_reproduces_itself(method):
    adapter = random_adapter("a", 6, 1.7, 3)
    merged = merge_adapters([adapter], MergePlan("m", {"a": 1.0}, method))
    assert merged.report.relative_error < 1e-5
    assert merged.report.energy == pytest.approx(1, abs=1e-6)
    for module in MODULES:
        torch.testing.assert_close(
            dense(merged.adapter, module), dense(adapter, module), atol=1e-5, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("ranks", "scalings"), [((4, 4, 4), (2.0, 2.0, 2.0)), ((3, 8, 5), (2.0, 0.5, 16 / 5**0.5))]
)
def test_cat_is_the_exact_sum_with_mixed_ranks_and_scalings(ranks, scalings):
    adapters = three(ranks, scalings)
    merged = merge_adapters(adapters, MergePlan("m", WEIGHTS))
    assert merged.report.rank == sum(ranks)
    assert merged.report.relative_error < 1e-6
    for module in MODULES:
        torch.testing.assert_close(
            dense(merged.adapter, module), exact_sum(adapters, WEIGHTS, module), atol=1e-6, rtol=1e-5
        )


def test_cat_equals_the_gated_layer_with_constant_gates():
    adapters = three((3, 8, 5), (2.0, 0.5, 1.3))
    merged = merge_adapters(adapters, MergePlan("m", WEIGHTS)).adapter
    x, module = torch.randn(4, 7, 40, generator=torch.Generator().manual_seed(1)), "model.layers.0.up"
    gates = GateState()

    def layer(members):
        gated = GatedLinear(ResidentWeight(torch.zeros(24, 40)), None, gates)
        parts = [
            LoraPart(k, *m.modules[module][:2], m.modules[module].scaling) for k, m in enumerate(members)
        ]
        gated.stack = LoraStack(parts, trainable=False)
        return gated

    with torch.no_grad():
        gates.set(torch.tensor([list(WEIGHTS.values())] * 4))
        blended = layer(adapters)(x)
        gates.set(torch.ones(4, 1))
        shipped = layer([merged])(x)
    assert (blended - shipped).abs().max() < 1e-6


def test_svd_keeps_the_best_part_and_says_how_much():
    adapters = three((4, 6, 4))
    full = merge_adapters(adapters, MergePlan("m", WEIGHTS, "svd", rank=14)).report
    assert full.relative_error < 1e-6
    assert full.energy == pytest.approx(1)
    cut = merge_adapters(adapters, MergePlan("m", WEIGHTS, "svd", rank=5))
    singular = [torch.linalg.svdvals(exact_sum(adapters, WEIGHTS, m)).square() for m in MODULES]
    energy = sum(s[:5].sum() for s in singular) / sum(s.sum() for s in singular)
    assert cut.report.energy == pytest.approx(float(energy), abs=1e-6)
    assert cut.report.relative_error == pytest.approx(math.sqrt(1 - float(energy)), abs=1e-5)
    assert {update.r for update in cut.adapter.modules.values()} == {5}


@pytest.mark.parametrize(
    ("weights", "error"),
    [((1 / 3, 1 / 3, 1 / 3), 1.42), ((0.8, 0.15, 0.05), 0.71), ((0.98, 0.01, 0.01), 0.20)],
)
def test_linear_has_the_cross_terms_of_peft(weights, error):
    adapters = [random_adapter(n, 8, 2.0, k, {"m": (256, 256)}) for k, n in enumerate("abc")]
    plan = MergePlan("m", dict(zip("abc", weights, strict=True)), "linear")
    assert merge_adapters(adapters, plan).report.relative_error == pytest.approx(error, abs=0.03)


def test_linear_needs_equal_ranks():
    with pytest.raises(UsageError, match="one rank"):
        merge_adapters(three((4, 4, 5)), MergePlan("m", WEIGHTS, "linear"))


def test_ties_follows_its_definition():
    adapters, density = three(), 0.4
    module = "model.layers.1.q"
    merged = merge_adapters(adapters, MergePlan("m", WEIGHTS, "ties", rank=32, density=density)).adapter
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    deltas = torch.stack([dense(a, module) for a in adapters])
    expected = torch.zeros(32, 32, dtype=torch.float64)
    kept = round(density * 1024)
    for delta in deltas:
        delta[delta.abs() < delta.abs().flatten().topk(kept).values[-1]] = 0
    for i in range(32):
        for j in range(32):
            column = deltas[:, i, j]
            sign = torch.sign((weights * column).sum())
            agrees = (torch.sign(column) == sign) & (column != 0)
            if agrees.any():
                expected[i, j] = (weights * column)[agrees].sum() / weights[agrees].sum()
    torch.testing.assert_close(dense(merged, module), expected, atol=1e-4, rtol=1e-3)


def test_magnitude_prune_keeps_the_largest_entries_of_every_update():
    adapters, module = three(), "model.layers.1.q"
    plan = MergePlan("m", {"a": -1.0}, "magnitude_prune", rank=32, density=0.25)
    got = dense(merge_adapters(adapters, plan).adapter, module)
    delta = dense(adapters[0], module)
    keep = delta.abs() >= delta.abs().flatten().topk(256).values[-1]
    torch.testing.assert_close(got, torch.where(keep, -delta, 0.0), atol=1e-4, rtol=1e-3)


def test_equal_entries_are_kept_as_far_as_the_density_goes():
    kept = _largest(torch.tensor([[2.0, 1.0, -1.0], [1.0, -1.0, 0.5]]), 0.5)
    assert kept.tolist() == [[2.0, 0.0, 0.0], [1.0, -1.0, 0.0]]
    assert int((_largest(torch.ones(4, 4), 0.25) != 0).sum()) == 4


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_drops_at_random_rescales_and_repeats_itself(method):
    adapters, module = three(), "model.layers.1.q"
    plan = MergePlan("m", {"a": 1.0}, method, rank=32, density=0.5, seed=1)
    first = dense(merge_adapters(adapters, plan).adapter, module)
    again = dense(merge_adapters(adapters, plan).adapter, module)
    assert torch.equal(first, again)
    delta = dense(adapters[0], module)
    is_kept = first.abs() > 1e-4
    assert 0.4 < is_kept.double().mean() < 0.6
    torch.testing.assert_close(first[is_kept], 2 * delta[is_kept], atol=1e-3, rtol=1e-2)
    other = dense(
        merge_adapters(adapters, MergePlan("m", {"a": 1.0}, method, 32, 0.5, seed=2)).adapter, module
    )
    assert not torch.allclose(first, other)


def test_per_layer_weights_override_where_they_match():
    adapters = three()
    layers = {"model.layers.1.*": {"a": 0.0, "c": -2.0}}
    merged = merge_adapters(adapters, MergePlan("m", WEIGHTS, layers=layers)).adapter
    plain, override = exact_sum(adapters, WEIGHTS, "model.layers.0.up"), {"a": 0.0, "b": 0.3, "c": -2.0}
    torch.testing.assert_close(dense(merged, "model.layers.0.up"), plain, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        dense(merged, "model.layers.1.q"),
        exact_sum(adapters, override, "model.layers.1.q"),
        atol=1e-6,
        rtol=1e-5,
    )
    assert {u.r for u in merged.modules.values()} == {12}, "layers with fewer adapters are padded to one rank"


def test_adapters_may_lack_modules():
    a, b = random_adapter("a", 4, 1.0, 0), random_adapter("b", 4, 1.0, 1, {"model.layers.1.q": (32, 32)})
    merged = merge_adapters([a, b], MergePlan("m", {"a": 1.0, "b": 1.0})).adapter
    torch.testing.assert_close(dense(merged, "model.layers.0.up"), dense(a, "model.layers.0.up"))


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (MergePlan("m", {"z": 1.0}), "unknown adapters: z"),
        (MergePlan("m", {"a": math.nan}), "finite"),
        (MergePlan("m", {"a": 0.0}), "all weights are zero"),
        (MergePlan("m", {"a": 1.0}, "average"), "unknown method"),
        (MergePlan("m", {"a": 1.0}, "ties", density=0.0), "density"),
        (MergePlan("m", {"a": 1.0}, "cat", density=0.5), "has no density"),
        (MergePlan("m", {"a": 1.0}, "cat", rank=4), "no choice of rank"),
        (MergePlan("m", {"a": 1.0}, "svd", rank=0), "at least 1"),
    ],
)
def test_plans_that_do_not_fit_are_refused(plan, reason):
    with pytest.raises(UsageError, match=reason):
        merge_adapters(three(), plan)


def test_adapters_of_different_bases_are_refused():
    other = random_adapter("b", 4, 1.0, 1, {"model.layers.1.q": (32, 16)})
    with pytest.raises(UsageError, match="different shapes"):
        merge_adapters([random_adapter("a", 4, 1.0, 0), other], MergePlan("m", {"a": 1.0, "b": 1.0}))


@settings(deadline=None)
@given(
    weights=st.lists(st.floats(-2, 2).filter(lambda w: abs(w) > 1e-3), min_size=3, max_size=3),
    method=st.sampled_from(["cat", "svd", "dare_linear", "magnitude_prune"]),
)
def test_at_density_one_additive_methods_are_exact_for_any_weights(weights, method):
    adapters = [random_adapter(n, 2, 1.5, k, {"m": (20, 16)}) for k, n in enumerate("abc")]
    rank = None if method == "cat" else 16
    plan = MergePlan("m", dict(zip("abc", weights, strict=True)), method, rank)
    assert merge_adapters(adapters, plan).report.relative_error < 1e-4


@settings(deadline=None)
@given(rank=st.integers(1, 6), seed=st.integers(0, 50))
def test_randomised_svd_finds_low_rank_matrices_exactly(rank, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(30, rank, generator=generator) @ torch.randn(rank, 50, generator=generator)
    found = truncate_dense(matrix, rank, generator)
    torch.testing.assert_close(found.factors.dense(), matrix, atol=1e-4, rtol=1e-4)
    assert found.kept == pytest.approx(found.total, rel=1e-4)


def test_squared_norm_is_that_of_the_product():
    factors = Factors(torch.randn(3, 20), torch.randn(9, 3))
    assert squared_norm(factors) == pytest.approx(float(factors.dense().square().sum()), rel=1e-5)


def by_definition(
    method: str, adapters: list[LoraAdapter], weights: tuple[float, ...], module: str
) -> torch.Tensor:
    """What three sparse methods do to the updates of one module, in plain words of torch; density .4, seed 3."""
    settings = Settings(32, 0.4, 3)
    updates = [dense(adapter, module).float() for adapter in adapters]
    if method == "dare_ties":
        kept = [
            _drop(Part(adapter.modules[module], weight), k, settings, module).abs() * update.sign()
            for k, (adapter, weight, update) in enumerate(zip(adapters, weights, updates, strict=True))
        ]
    else:
        least = [u.abs().flatten().topk(round(0.4 * u.numel())).values[-1] for u in updates]
        kept = [torch.where(u.abs() >= bound, u, 0) for u, bound in zip(updates, least, strict=True)]
    w = torch.tensor(weights)[:, None, None]
    weighed = w * torch.stack(kept)
    if method == "magnitude_prune":
        return weighed.sum(0)
    agrees = (weighed.sign() == weighed.sum(0).sign()) & (weighed != 0)
    mean = (weighed * agrees).sum(0) / (w.abs() * agrees).sum(0).clamp_min(1e-30)
    return torch.where(agrees.any(0), mean, 0) * w.abs().sum()


@pytest.mark.parametrize("method", ["ties", "dare_ties", "magnitude_prune"])
def test_sparse_methods_follow_their_definition_for_weights_of_any_sum_and_sign(method):
    adapters, weights, module = three(), (0.9, 0.6, -0.3), "model.layers.1.q"
    plan = MergePlan("m", dict(zip("abc", weights, strict=True)), method, rank=32, density=0.4, seed=3)
    found = dense(merge_adapters(adapters, plan).adapter, module).float()
    torch.testing.assert_close(found, by_definition(method, adapters, weights, module), atol=1e-4, rtol=1e-3)


def test_dare_draws_anew_for_every_adapter_and_layer():
    part, settings = Part(LoraUpdate(torch.ones(2, 30), torch.ones(30, 2), 1.0), 1.0), Settings(30, 0.5, 1)
    kept = [_drop(part, k, settings, m) != 0 for k in (0, 1) for m in ("x", "y")]
    assert all((a != b).float().mean() > 0.3 for i, a in enumerate(kept) for b in kept[:i])


def test_the_first_pattern_that_matches_counts():
    plan = MergePlan("m", WEIGHTS, layers={"*.q": {"a": 9.0}, "model.*": {"a": 1.0}})
    assert (plan.weights_for("model.layers.1.q")["a"], plan.weights_for("model.layers.1.up")["a"]) == (
        9.0,
        1.0,
    )
