from pathlib import Path

import numpy as np
import pytest

from hatex.errors import ModelError
from hatex.routing.router import Router, load_calibration

NAMES = ("forums", "wiki", "microblog")


def weights(seed: int = 0, outputs: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        "hidden.weight": (8, 384),
        "hidden.bias": (8,),
        "output.weight": (outputs, 8),
        "output.bias": (outputs,),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_forward_is_linear_relu_linear_softmax() -> None:
    w = weights()
    x = np.random.default_rng(1).normal(size=(2, 384)).astype(np.float32)
    found = Router(NAMES, w, temperature=2.0).probabilities(x)
    for row, probabilities in zip(x, found, strict=True):
        hidden = [max(0.0, float(np.dot(w["hidden.weight"][j], row) + w["hidden.bias"][j])) for j in range(8)]
        logits = [float(np.dot(w["output.weight"][k], hidden) + w["output.bias"][k]) / 2 for k in range(3)]
        exp = np.exp(np.array(logits) - max(logits))
        np.testing.assert_allclose(probabilities, exp / exp.sum(), rtol=1e-5)


def test_saved_routers_load_with_their_temperature(tmp_path: Path) -> None:
    Router(NAMES, weights(), temperature=1.7).save(tmp_path, {"adapters": {}})
    loaded = Router.load(tmp_path, NAMES)
    assert loaded.temperature == 1.7
    np.testing.assert_array_equal(loaded.weights["hidden.weight"], weights()["hidden.weight"])
    assert load_calibration(tmp_path)["adapters"] == {}


def test_a_router_of_another_size_is_refused() -> None:
    with pytest.raises(ModelError, match=r"output\.weight has shape \(4, 8\), not \(3, 8\)"):
        Router(NAMES, weights(outputs=4))


def test_unknown_tensors_are_refused() -> None:
    with pytest.raises(ModelError, match="a router holds"):
        Router(NAMES, {**weights(), "more": np.zeros(1, np.float32)})
