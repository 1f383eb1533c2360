"""Time and memory of merging three adapters of rank 16: on the starter's shapes, and on those of Llama-2-7B.

Run: python tests/bench/merge_time.py. The dense methods are timed on a few layers of the large shape; what all layers
would take is printed as projected.
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from usage import peak_gb

from hatex.merging.merge import MergePlan, merge_adapters
from hatex.registry.adapters import LoraAdapter, LoraUpdate

WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.2}
RANK = 16
SHAPES = {
    # name: layers, width, width of keys and values, width of the MLP
    "starter (SmolLM2-135M)": (30, 576, 192, 1536),
    "Llama-2-7B": (32, 4096, 4096, 11008),
}
DENSE_LAYERS = {"starter (SmolLM2-135M)": 30, "Llama-2-7B": 1}


def modules(layers: int, width: int, kv: int, mlp: int) -> dict[str, tuple[int, int]]:
    """Path and shape (out, in) of every linear layer."""
    leaves = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (kv, width),
        "self_attn.v_proj": (kv, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (mlp, width),
        "mlp.up_proj": (mlp, width),
        "mlp.down_proj": (width, mlp),
    }
    return {f"model.layers.{n}.{leaf}": shape for n in range(layers) for leaf, shape in leaves.items()}


def random_adapter(name: str, shapes: dict[str, tuple[int, int]]) -> LoraAdapter:
    """Random bf16 weights, as an adapter file holds them."""
    updates = {
        module: LoraUpdate(
            torch.randn(RANK, i, dtype=torch.bfloat16), torch.randn(o, RANK, dtype=torch.bfloat16), 1.0
        )
        for module, (o, i) in shapes.items()
    }
    return LoraAdapter(name, updates)


def main() -> None:
    """Print one line a method and shape."""
    for title, (layers, *widths) in SHAPES.items():
        for method, density in (
            ("cat", 1.0),
            ("svd", 1.0),
            ("linear", 1.0),
            ("ties", 0.5),
            ("dare_linear", 0.5),
        ):
            timed = layers if density == 1.0 else DENSE_LAYERS[title]
            adapters = [random_adapter(name, modules(timed, *widths)) for name in WEIGHTS]
            start = time.perf_counter()
            report = merge_adapters(adapters, MergePlan("m", WEIGHTS, method, density=density)).report
            seconds = time.perf_counter() - start
            note = (
                ""
                if timed == layers
                else f", {seconds * layers / timed:,.0f} s projected for {layers} layers"
            )
            peak = peak_gb(resource.getrusage(resource.RUSAGE_SELF))
            sys.stdout.write(
                f"{title}, {timed} layers, {method}: {seconds:.1f} s{note}; rank {report.rank}, "
                f"relative error {report.relative_error:.2g}; peak memory so far {peak:.1f} GB\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
