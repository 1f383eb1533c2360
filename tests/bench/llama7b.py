"""A Llama-2-7B-shaped base with random weights: quantised shard by shard, loaded packed, scored and decoded.

Run: python tests/bench/llama7b.py [DIR]. Needs about 18 GB of disk below DIR (default: the system's temporary folder).
Computes in bf16, or in float32 where the processor has no bf16 of its own. Every stage runs in a process of its own, so
that its peak memory is its own: quantising may take 10 GB, the rest 6 GB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from usage import run_measured

SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
}
LIMITS_GB = {"quantise": 10.0, "score": 6.0, "generate": 6.0}


def write_source(folder: Path) -> None:
    """Random bf16 weights, one shard a layer, without ever holding the model."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    from hatex.model.loading import build_empty

    folder.mkdir(parents=True, exist_ok=True)
    LlamaConfig(**SHAPE, torch_dtype="bfloat16").save_pretrained(folder)
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, parameter in build_empty(folder, torch.bfloat16).named_parameters():
        layer = name.split(".")[2] if ".layers." in name else name
        shards.setdefault(f"model-{layer}.safetensors", {})[name] = tuple(parameter.shape)
    for file, shapes in shards.items():
        tensors = {name: torch.randn(shape, dtype=torch.bfloat16) * 0.02 for name, shape in shapes.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
    places = {name: file for file, shapes in shards.items() for name in shapes}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def quantise(source: Path, base: Path) -> None:
    from hatex.model.quantizing import write_base
    from hatex.types import NO_PROGRESS

    base.mkdir(exist_ok=True)
    write_base(source, base, 64, NO_PROGRESS)


def _load(base: Path):  # type: ignore[no-untyped-def]
    import torch

    from hatex.model.gatedlm import GatedLM
    from hatex.model.policy import compute_dtype
    from hatex.registry.adapters import LoraAdapter, LoraUpdate

    # What `auto` comes to where the weights do not fit when dequantised.
    lm = GatedLM.load(base, "mixed", compute_dtype("auto"))
    layers = {path: m for path, m in lm.gated_layers().items() if path.endswith(("q_proj", "v_proj"))}
    lm.attach(
        [
            LoraAdapter(
                f"adapter{k}",
                {
                    path: LoraUpdate(torch.randn(16, m.in_features), torch.zeros(m.out_features, 16), 2.0)
                    for path, m in layers.items()
                },
            )
            for k in range(3)
        ]
    )
    return lm, torch.full((2, 3), 1 / 3)


def score(source: Path, base: Path) -> None:
    from hatex.model.scoring import score_labels

    del source
    lm, gates = _load(base)
    prompts = [list(range(5, 37)), list(range(9, 30))]
    assert score_labels(lm, prompts, [[10], [11], [12]], gates, max_tokens=2048).isfinite().all()


def generate(source: Path, base: Path) -> None:
    from hatex.model.generation import generate as decode
    from hatex.model.reading import PromptReader
    from hatex.types import Sampling

    class Anything:
        def mask(self, step_logits, row_ids):  # type: ignore[no-untyped-def]
            del row_ids
            return step_logits

        def accept(self, row_id: int, token_id: int) -> bool:
            del row_id, token_id
            return False

    del source
    lm, gates = _load(base)
    prompts = [list(range(5, 21)), list(range(9, 20))]
    reader = PromptReader(lm, 2048)
    decode(reader, prompts, [[], []], gates, Anything(), [0, 0], max_new_tokens=4, sampling=Sampling())


STAGES = {"quantise": quantise, "score": score, "generate": generate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=None)
    parser.add_argument("--stage", choices=STAGES)
    options = parser.parse_args()
    if options.stage:
        STAGES[options.stage](options.folder / "source", options.folder / "base")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        write_source(Path(scratch) / "source")
        for stage, limit in LIMITS_GB.items():
            started = time.perf_counter()
            command = [sys.executable, __file__, scratch, "--stage", stage]
            _, peak = run_measured(command)
            print(
                f"{stage:10} {time.perf_counter() - started:7.0f} s  peak {peak:5.2f} GB (limit {limit:.0f} GB)"
            )
        stored = sum(f.stat().st_size for f in (Path(scratch) / "base").glob("*.safetensors")) / 1e9
        print(f"stored     {stored:.2f} GB")


if __name__ == "__main__":
    main()
