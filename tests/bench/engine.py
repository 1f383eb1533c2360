"""The engine beside everything it is compared with, in one run: medians, and ratios of posts per second.

Run: python tests/bench/engine.py [--quick] [--registry DIR] [--parts PART ...].

Posts are random tokens with the lengths of real posts (quantiles of 2,000 posts of the starter's report split, prompt
included); every rate is taken on a sample that has the same mix of lengths, slow baselines on a smaller one.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from engine_baselines import (
    BATCH_TOKENS,
    Prompts,
    bert,
    classify_all,
    eager_base,
    forward_all,
    merge_per_post,
    stock_training,
    with_peft,
)
from torch import Tensor

from hatex.model.base import compute_dtype, ensure_base
from hatex.model.gatedlm import GatedLM
from hatex.model.scoring import pad, plan, score_labels
from hatex.recipe import load_recipe
from hatex.registry import open_registry
from hatex.registry.adapters import LoraAdapter, LoraUpdate

AT = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
LENGTHS = [7, 12, 14, 18, 22, 26, 30, 36, 42, 53, 75, 106, 212, 511]
PARTS = ("route", "compare", "sweep", "training")
LABELS = [[100], [101], [102]]
AIMS = {
    "add_weighted_adapter": "40x",
    "PEFT, one adapter (bf16": "5x",
    "eager bare base (bf16": "1.0x",
    "BERT-base (fp32, input": "3x",
}


def posts(count: int) -> Prompts:
    """Random tokens; lengths follow the quantiles of real posts, in no order."""
    generator = np.random.default_rng(count)
    lengths = np.interp((generator.permutation(count) + 0.5) / count, AT, LENGTHS).astype(int)
    return [generator.integers(200, 40_000, n).tolist() for n in lengths]


def adapters(lm: GatedLM, count: int, r: int) -> list[LoraAdapter]:
    generator = torch.Generator().manual_seed(0)
    layers = lm.gated_layers().items()
    return [
        LoraAdapter(
            f"adapter{k}",
            {
                path: LoraUpdate(
                    torch.randn(r, layer.in_features, generator=generator) * 0.02,
                    torch.randn(layer.out_features, r, generator=generator) * 0.02,
                    2.0,
                )
                for path, layer in layers
            },
        )
        for k in range(count)
    ]


def gates(rows: int, count: int) -> torch.Tensor:
    return torch.softmax(torch.randn(rows, count, generator=torch.Generator().manual_seed(rows)), -1)


def score(lm: GatedLM, prompts: Prompts) -> Callable[[], None]:
    rows = gates(len(prompts), len(lm.adapters))
    return lambda: score_labels(lm, prompts, LABELS, rows, max_tokens=BATCH_TOKENS)  # type: ignore[return-value]


@torch.inference_mode()
def matmuls(lm: GatedLM, prompts: Prompts) -> Callable[[], None]:
    """Only the base's matmuls, at the shapes of the engine's batches."""
    assert lm.decoder is not None
    blocks: list[Any] = list(lm.decoder.blocks)
    weights: list[list[Tensor]] = [
        [f.weight[:, : f.in_features].contiguous() for f in (b.qkv, b.out, b.gate_up, b.down)] for b in blocks
    ]
    sizes = [
        pad([prompts[i] for i in batch])[0].numel() for batch in plan([len(p) for p in prompts], BATCH_TOKENS)
    ]
    narrow, wide = (torch.randn(max(sizes), weights[0][i].shape[1], dtype=lm.dtype) for i in (0, 3))

    def run() -> None:
        for size in sizes:
            for layer in weights:
                for weight in layer:
                    x = narrow if weight.shape[1] == narrow.shape[1] else wide
                    torch.mm(x[:size], weight.t())

    return run


def rates(cases: dict[str, tuple[int, Callable[[], None]]], rounds: int) -> dict[str, float]:
    """Median posts per second; rounds go through all cases in turn, so that a busy minute hits them alike."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, (count, run) in cases.items():
            started = time.perf_counter()
            run()
            taken[name].append(count / (time.perf_counter() - started))
            print(f"  round {number + 1}/{rounds}: {name}", file=sys.stderr)
    return {name: median(values) for name, values in taken.items()}


def compare(folder: Path, lm: GatedLM, scratch: Path, size: int, rounds: int) -> None:
    """Rows: baseline, its posts per second, how many times as many the engine answers, and what is aimed at."""
    many, some, few = posts(size), posts(max(8, size // 4)), posts(max(4, size // 16))
    lm.attach(adapters(lm, 3, 16))
    compiled = GatedLM.load(folder, "resident", lm.dtype)
    compiled.attach(adapters(lm, 3, 16))
    compiled.compile()
    score(compiled, many)()
    three = adapters(lm, 3, 16)
    bf16, fp32 = torch.bfloat16, torch.float32
    merging = with_peft(folder, three, scratch / "m", bf16, autocast=True)
    peft = {
        "PEFT, one adapter (bf16 base, as it ships)": (many, bf16, True),
        "PEFT, one adapter (autocast_adapter_dtype=False)": (many, bf16, False),
        "PEFT, one adapter (fp32 base)": (some, fp32, True),
    }
    cases: dict[str, tuple[int, Callable[[], None]]] = {
        "engine, 3 adapters blended": (size, score(lm, many)),
        "base matmuls alone": (size, matmuls(lm, many)),
        "engine, 3 adapters blended, compiled": (size, score(compiled, many)),
        "add_weighted_adapter per post (bf16, as it ships)": (
            len(few),
            merge_per_post(merging, [a.name for a in three], few, gates(len(few), 3)),
        ),
    }
    for name, (prompts, dtype, autocast) in peft.items():
        model = with_peft(folder, three[:1], scratch / "p", dtype, autocast=autocast)
        cases[name] = (len(prompts), forward_all(model.get_base_model().base_model, prompts))
    eager = {"eager bare base (bf16, as it ships)": (many, bf16), "eager bare base (fp32)": (many, fp32)}
    for name, (prompts, dtype) in eager.items():
        cases[name] = (len(prompts), forward_all(eager_base(folder, dtype).base_model, prompts))
    cases["BERT-base (fp32, input order, as it ships)"] = (
        len(some),
        classify_all(bert(fp32), some, is_sorted=False),
    )
    cases["BERT-base (fp32, sorted by length)"] = (size, classify_all(bert(fp32), many, is_sorted=True))
    cases["BERT-base (bf16, sorted by length)"] = (size, classify_all(bert(bf16), many, is_sorted=True))
    found = rates(cases, rounds)
    ours = found["engine, 3 adapters blended"]
    print(f"\n{'posts per second':52} {'rate':>8} {'engine':>8}  aim")
    for name, rate in found.items():
        aim = next((aim for start, aim in AIMS.items() if name.startswith(start)), "")
        print(f"{name:52} {rate:8.2f} {ours / rate:7.2f}x  {aim}")
    fast, bare = found["engine, 3 adapters blended, compiled"], found["eager bare base (bf16, as it ships)"]
    print(f"compiled, against the eager bare base: {fast / bare:.2f}x (aim 1.35x)")
    for name, rate in {"as it is": ours, "compiled": fast}.items():
        print(f"share of the matmul roofline, {name}: {rate / found['base matmuls alone']:.0%} (aim 60%)")


def sweep(lm: GatedLM, size: int, rounds: int) -> None:
    """Cost against the number of adapters and their rank."""
    prompts = posts(size)
    shapes = [*((k, 16) for k in (1, 3, 8, 16)), *((3, r) for r in (8, 32, 64))]
    seconds: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    for _ in range(rounds):
        for k, r in seconds:
            lm.attach(adapters(lm, k, r))
            started = time.perf_counter()
            score(lm, prompts)()
            seconds[k, r].append(time.perf_counter() - started)
    base = median(seconds[1, 16])
    print("\ncost of adapters, against K=1 r=16 (aim: below 1.5x at K=16 r=16)")
    print("  ".join(f"K={k} r={r}: {median(s) / base:.2f}x" for (k, r), s in seconds.items()))


def training(folder: Path, lm: GatedLM, scratch: Path, size: int) -> None:
    prompts, rows = posts(size), 8
    stock = stock_training(folder, prompts, scratch / "t", rows)
    lm.attach(adapters(lm, 1, 16), trainable=True)
    factors = [p for layer in lm.gated_layers().values() if layer.stack for p in layer.stack.parameters()]
    optimizer, head = torch.optim.AdamW(factors, lr=1e-4), lm.vocabulary[[label[0] for label in LABELS]]
    started = time.perf_counter()
    # The same batches as the stock loop: input order, as many rows.
    for start in range(0, size, rows):
        ids, lengths = pad(prompts[start : start + rows])
        hidden = lm.last_hidden(ids, lengths, torch.ones(len(ids), 1))
        torch.nn.functional.cross_entropy(hidden @ head.t(), lengths % 3).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    ours = sum(len(p) for p in prompts) / (time.perf_counter() - started)
    print(f"\ntraining tokens per second: hatex {ours:.0f}, stock Trainer + PEFT + NF4 {stock:.0f}")
    print(f"that is {ours / stock:.1f}x (aim 2x)")


def route_memory(registry: Path | None, counts: tuple[int, ...]) -> None:
    """Peak memory of `hatex route` with the starter, for inputs of different length."""
    command = [sys.executable, "-m", "hatex", "route", "--quiet"]
    command += ["--registry", str(registry)] if registry else []
    peaks = []
    for count in counts:
        rows = [{"id": i, "text": "The away team lost again. " * (i % 9 + 1)} for i in range(count)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"\nhatex route failed: {done.stderr.strip().splitlines()[-1:]}")
            return
        peaks.append(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6)
    shown = ", ".join(f"{count} posts {peak:.2f} GB" for count, peak in zip(counts, peaks, strict=True))
    print(f"\npeak memory of hatex route: {shown} (aim 1.3 GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small samples, one round")
    parser.add_argument("--registry", type=Path, help="where the base is or is fetched to")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    size, rounds = (32, 1) if options.quick else (512, 3)
    if "route" in options.parts:
        route_memory(options.registry, (16, 64) if options.quick else (64, 1024))
    dtype = compute_dtype("auto")
    base = ensure_base(load_recipe("starter").base, open_registry(options.registry))
    lm = GatedLM.load(base.path, "resident", dtype)
    print(
        f"{torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}, {size} posts, {rounds} rounds"
    )
    with tempfile.TemporaryDirectory() as scratch:
        if "compare" in options.parts:
            compare(base.path, lm, Path(scratch), size, rounds)
        if "sweep" in options.parts:
            sweep(lm, size // 4, rounds)
        if "training" in options.parts:
            training(base.path, lm, Path(scratch), size // 4)


if __name__ == "__main__":
    main()
