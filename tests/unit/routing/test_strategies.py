import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hatex.errors import UsageError
from hatex.routing.strategies import check_strategy, fall_back, gate_weights

ADAPTERS = ("microblog", "forums", "wiki", "full")
ROUTED = ("forums", "wiki", "microblog")
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3]])


def test_blend_places_the_routers_columns_by_adapter_name() -> None:
    gates = gate_weights("blend", PROBABILITIES, ROUTED, ADAPTERS)
    assert gates[0].tolist() == [0.3, 0.2, 0.5, 0.0]


def test_top_k_shares_equally_among_the_likeliest() -> None:
    assert gate_weights("top-1", PROBABILITIES, ROUTED, ADAPTERS)[0].tolist() == [0, 0, 1, 0]
    assert gate_weights("top-2", PROBABILITIES, ROUTED, ADAPTERS)[0].tolist() == [0.5, 0, 0.5, 0]


def test_top_3_of_three_is_uniform() -> None:
    top, uniform = (gate_weights(s, PROBABILITIES, ROUTED, ADAPTERS) for s in ("top-3", "uniform"))
    np.testing.assert_array_equal(top, uniform)


def test_equal_probabilities_keep_the_routers_order() -> None:
    assert gate_weights("top-1", PROBABILITIES, ROUTED, ADAPTERS)[1].tolist() == [0, 1, 0, 0]


def test_single_and_full_use_one_adapter() -> None:
    assert gate_weights("single:forums", PROBABILITIES, ROUTED, ADAPTERS).tolist() == [[0, 1, 0, 0]] * 2
    assert gate_weights("full", PROBABILITIES, ROUTED, ADAPTERS).tolist() == [[0, 0, 0, 1]] * 2


@pytest.mark.parametrize("strategy", ["best", "top-0", "top-4", "single:news", "single:", "top-x", ""])
def test_unknown_strategies_are_refused_with_the_known_ones(strategy: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_strategy(strategy, ADAPTERS, ROUTED)
    assert caught.value.hint is not None
    assert "single:forums" in caught.value.hint


def test_full_needs_an_adapter_of_that_name() -> None:
    with pytest.raises(UsageError, match="needs an adapter named full"):
        check_strategy("full", ROUTED, ROUTED)


@given(
    arrays(float, (5, 3), elements=st.floats(0.01, 1)),
    st.sampled_from(["blend", "top-1", "top-2", "top-3", "uniform", "full", "single:wiki"]),
)
def test_gate_weights_sum_to_one(raw: np.ndarray, strategy: str) -> None:
    gates = gate_weights(strategy, raw / raw.sum(1, keepdims=True), ROUTED, ADAPTERS)
    assert gates.shape == (5, 4)
    np.testing.assert_allclose(gates.sum(1), 1)
    assert (gates >= 0).all()


def test_posts_that_no_adapter_fits_fall_back() -> None:
    gates = gate_weights(
        "blend", np.array([[0.8, 0.1, 0.1], [0.6, 0.2, 0.2], [0.4, 0.3, 0.3], [1 / 3] * 3]), ROUTED, ADAPTERS
    )
    full = gate_weights("full", gates[:, :3], ROUTED, ADAPTERS)
    found = fall_back(gates, full, 0.6, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    np.testing.assert_array_equal(found[:2], gates[:2])
    assert found[2, 3] == pytest.approx(0.75)
    np.testing.assert_allclose(found[3], [0, 0, 0, 1])
