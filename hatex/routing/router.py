"""The router: embedding -> Linear -> ReLU -> Linear -> softmax over adapters, with a fitted temperature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = "router.safetensors"
CALIBRATION = "calibration.json"
SHAPES = ("hidden.weight", "hidden.bias", "output.weight", "output.bias")


@dataclass(frozen=True)
class Router:
    """Weights of the router; `adapters` names its outputs in order.

    hidden.weight (hidden, width), hidden.bias (hidden,), output.weight (adapters, hidden), output.bias (adapters,).
    """

    adapters: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float32]]
    temperature: float = 1.0

    def __post_init__(self) -> None:
        shapes = {name: self.weights[name].shape for name in SHAPES if name in self.weights}
        if set(self.weights) != set(SHAPES):
            raise ModelError(
                f"a router holds {', '.join(SHAPES)}, this holds {', '.join(sorted(self.weights))}"
            )
        hidden = shapes["hidden.weight"][0]
        outputs = len(self.adapters)
        expected = {
            "hidden.bias": (hidden,),
            "output.weight": (outputs, hidden),
            "output.bias": (outputs,),
        }
        for name, shape in expected.items():
            if shapes[name] != shape:
                raise ModelError(f"router: {name} has shape {shapes[name]}, not {shape}")

    @property
    def width(self) -> int:
        """Embedding width it reads."""
        return int(self.weights["hidden.weight"].shape[1])

    def logits(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Uncalibrated logits, shape (posts, adapters)."""
        w = {name: value.astype(np.float64) for name, value in self.weights.items()}
        hidden = np.maximum(embeddings @ w["hidden.weight"].T + w["hidden.bias"], 0)
        return np.asarray(hidden @ w["output.weight"].T + w["output.bias"])

    def probabilities(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability that each adapter's platform fits, shape (posts, adapters), rows sum to 1."""
        from scipy.special import softmax

        return np.asarray(softmax(self.logits(embeddings) / self.temperature, axis=1))

    def save(self, folder: Path, calibration: Mapping[str, Any]) -> None:
        """Write router.safetensors and calibration.json (`calibration` plus the router's temperature)."""
        from safetensors.numpy import save_file

        save_file({k: np.ascontiguousarray(v) for k, v in self.weights.items()}, folder / WEIGHTS)
        record = {**calibration, "router_temperature": self.temperature}
        (folder / CALIBRATION).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, adapters: Sequence[str]) -> Router:
        """Read a router folder; raises ModelError where shapes do not fit `adapters`."""
        from safetensors.numpy import load_file

        record = load_calibration(folder)
        return cls(tuple(adapters), load_file(folder / WEIGHTS), float(record.get("router_temperature", 1.0)))


def load_calibration(folder: Path) -> dict[str, Any]:
    """The calibration record beside a router; empty if there is none (an imported router)."""
    path = folder / CALIBRATION
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
