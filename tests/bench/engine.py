"""The engine beside everything it is compared with, in one run: medians, and ratios of posts per second.

Run: python tests/bench/engine.py [--quick | --posts N] [--registry DIR] [--parts PART ...].

Whatever is compared runs in a process of its own, as it ships: none of hatex's memory settings but where a row says so.
Posts are random tokens with the lengths of real posts, other ones in every round but the same for all; the two slowest
baselines, which do not sort posts into batches, get a part of them with the same mix of lengths.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import Answer, Contender, Lap, Prompts, race
from engine_baselines import (
    BATCH_TOKENS,
    BERT_ROWS,
    adapters,
    bare_base,
    classifier,
    gates,
    merge_per_post,
    one_adapter,
    stock_training,
)
from torch import Tensor
from training import adapter_training
from usage import run_measured

from hatex.model.base import compute_dtype, ensure_base
from hatex.model.gatedlm import GatedLM
from hatex.model.scoring import plan, score_labels
from hatex.recipe import load_recipe
from hatex.registry import open_registry
from hatex.training.job import Job

PARTS = ("route", "compare", "sweep", "training")
LABELS = [[100], [101], [102]]
OURS, COMPILED, MATMULS = (
    "engine, 3 adapters blended",
    "engine, 3 adapters blended, compiled",
    "base matmuls alone",
)
AIMS = {"add_weighted_adapter": "40x", "PEFT": "5x", "eager": "1.0x", "BERT": "3x"}
"""Of a baseline as it ships."""
TRAINED_ROWS = 8
STOCK_SETTINGS = {"lora": {"r": 16, "alpha": 32}, "batch_lengths": 1}
"""What the stock loop does: a step a batch, at the rank of its adapter."""


def engine(folder: Path, dtype: torch.dtype, count: int, r: int, *, is_compiled: bool = False) -> Answer:
    lm = GatedLM.load(folder, "resident", dtype)
    lm.attach(adapters(lm.gated_layers(), count, r))
    if is_compiled:
        lm.compile()
    return lambda prompts: score_labels(
        lm, prompts, LABELS, gates(len(prompts), count), max_tokens=BATCH_TOKENS
    )


def matmuls(folder: Path, dtype: torch.dtype) -> Answer:
    """Only the base's matmuls, at the shapes of the engine's batches."""
    lm = GatedLM.load(folder, "resident", dtype)
    assert lm.decoder is not None
    blocks: list[Any] = list(lm.decoder.blocks)
    weights: list[list[Tensor]] = [
        [f.weight[:, : f.in_features].contiguous() for f in (b.qkv, b.out, b.gate_up, b.down)] for b in blocks
    ]
    narrow, wide = (torch.randn(BATCH_TOKENS, weights[0][i].shape[1], dtype=dtype) for i in (0, 3))

    @torch.inference_mode()
    def answer(prompts: Prompts) -> None:
        lengths = [len(prompt) for prompt in prompts]
        for batch in plan(lengths, BATCH_TOKENS):
            size = len(batch) * max(lengths[i] for i in batch)
            for layer in weights:
                for weight in layer:
                    x = narrow if weight.shape[1] == narrow.shape[1] else wide
                    torch.mm(x[:size], weight.t())

    return answer


class InputOrder(Job):
    """A job whose batches are those of the stock loop: posts in input order, equally many in each."""

    def plan(self) -> list[list[int]]:
        indices = list(range(len(self.rows)))
        return [indices[i : i + TRAINED_ROWS] for i in range(0, len(indices), TRAINED_ROWS)]


def rate(laps: Sequence[Lap]) -> float:
    """Median posts per second."""
    return median(lap.posts / lap.seconds for lap in laps)


def compared(folder: Path, dtype: torch.dtype, size: int) -> dict[str, Contender]:
    """Rows of the comparison; without native bf16 those in float32 alone, for emulated ones take hours."""
    bf16, fp32 = torch.bfloat16, torch.float32
    native = "bf16" if dtype == bf16 else "fp32"
    bare, peft = partial(bare_base, folder), partial(one_adapter, folder)
    rows = {
        OURS: Contender(partial(engine, folder, dtype, 3, 16)),
        COMPILED: Contender(partial(engine, folder, dtype, 3, 16, is_compiled=True)),
        MATMULS: Contender(partial(matmuls, folder, dtype)),
        f"add_weighted_adapter per post ({native}, as it ships)": Contender(
            partial(merge_per_post, folder, dtype), max(4, size // 16)
        ),
        f"PEFT, one adapter ({native} base, as it ships)": Contender(partial(peft, dtype)),
        "PEFT, one adapter (autocast_adapter_dtype=False)": Contender(partial(peft, dtype, autocast=False)),
        "PEFT, one adapter (the same, malloc keeps pages)": Contender(
            partial(peft, dtype, autocast=False, keeps_pages=True)
        ),
        "PEFT, one adapter (fp32 base)": Contender(partial(peft, fp32)),
        f"eager bare base ({native}, as it ships)": Contender(partial(bare, dtype)),
        f"eager bare base ({native}, malloc keeps pages)": Contender(partial(bare, dtype, keeps_pages=True)),
        "eager bare base (fp32)": Contender(partial(bare, fp32)),
        "BERT-base (fp32, input order, as it ships)": Contender(
            partial(classifier, fp32, is_sorted=False), max(BERT_ROWS, size // 4)
        ),
        "BERT-base (fp32, sorted by length)": Contender(partial(classifier, fp32, is_sorted=True)),
        "BERT-base (bf16, sorted by length)": Contender(partial(classifier, bf16, is_sorted=True)),
    }
    if dtype == bf16:
        return rows
    print("no native bf16 here: rows in fp32 only, where PEFT's autocast changes nothing")
    same = ("eager bare base (fp32)", "PEFT, one adapter (fp32 base)")
    return {n: c for n, c in rows.items() if n not in same and "bf16" not in n and "dtype=" not in n}


def compare(folder: Path, dtype: torch.dtype, size: int, rounds: int) -> None:
    """Rows: baseline, its posts per second, how many times as many the engine answers, and what is aimed at."""
    rates = {name: rate(laps) for name, laps in race(compared(folder, dtype, size), size, rounds).items()}
    ours, fast = rates[OURS], rates[COMPILED]
    print(f"\n{'posts per second':52} {'rate':>8} {'engine':>8}  aim")
    for name, found in rates.items():
        aims = (aim for start, aim in AIMS.items() if name.startswith(start) and "as it ships" in name)
        print(f"{name:52} {found:8.2f} {ours / found:7.2f}x  {next(aims, '')}")
    bare = next(found for name, found in rates.items() if name.startswith("eager") and "as it ships" in name)
    print(f"compiled, against the eager bare base as it ships: {fast / bare:.2f}x (aim 1.35x)")
    berts = (f"{name[11:-1]} {ours / found:.2f}x" for name, found in rates.items() if name.startswith("BERT"))
    print(f"against BERT-base: {'; '.join(berts)} (aim {AIMS['BERT']} as it ships)")
    for name, found in {"as it is": ours, "compiled": fast}.items():
        print(f"share of the matmul roofline, {name}: {found / rates[MATMULS]:.0%} (aim 60%)")


def sweep(folder: Path, dtype: torch.dtype, size: int, rounds: int) -> None:
    """Cost against the number of adapters and their rank."""
    shapes = [*((k, 16) for k in (1, 3, 8, 16)), *((3, r) for r in (8, 32, 64))]
    rows = {f"K={k} r={r}": Contender(partial(engine, folder, dtype, k, r)) for k, r in shapes}
    rates = {name: rate(laps) for name, laps in race(rows, size, rounds).items()}
    print("\ncost of adapters, against K=1 r=16 (aim: below 1.5x at K=16 r=16)")
    print("  ".join(f"{name}: {rates['K=1 r=16'] / found:.2f}x" for name, found in rates.items()))


def training(folder: Path, dtype: torch.dtype, size: int, rounds: int) -> None:
    """Both loops on the same batches of eight posts in input order."""
    rows = {
        "hatex train": Contender(
            partial(adapter_training, folder, dtype, STOCK_SETTINGS, job_type=InputOrder)
        ),
        "stock Trainer": Contender(partial(stock_training, folder, dtype, TRAINED_ROWS)),
    }
    laps = race(rows, size, rounds)
    ours, stock = (median(lap.tokens / lap.seconds for lap in laps[name]) for name in rows)
    print(
        f"\ntraining tokens per second: hatex train's loop {ours:.0f}, stock Trainer + PEFT + NF4 {stock:.0f}"
    )
    print(f"that is {ours / stock:.1f}x (aim 2x)")


def route_memory(registry: Path | None, counts: tuple[int, ...]) -> None:
    """Peak memory of `hatex route` with the starter, for inputs of different length."""
    command = [sys.executable, "-m", "hatex", "route", "--quiet"]
    command += ["--registry", str(registry)] if registry else []
    peaks = []
    for count in counts:
        rows = [{"id": i, "text": "The away team lost again. " * (i % 9 + 1)} for i in range(count)]
        _, peak = run_measured(command, "".join(json.dumps(row) + "\n" for row in rows))
        peaks.append(f"{count} posts {peak:.2f} GB")
    print(f"\npeak memory of hatex route: {', '.join(peaks)} (aim 1.3 GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="32 posts, one round")
    parser.add_argument("--posts", type=int, default=512, help="posts of a round, for slow machines fewer")
    parser.add_argument("--registry", type=Path, help="where the base is or is fetched to")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    size, rounds = (32, 1) if options.quick else (options.posts, 3)
    if "route" in options.parts:
        route_memory(options.registry, (16, 64) if options.quick else (64, 1024))
    dtype = compute_dtype("auto")
    base = ensure_base(load_recipe("starter").base, open_registry(options.registry)).path
    print(
        f"{torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}, {size} posts, {rounds} rounds"
    )
    if "compare" in options.parts:
        compare(base, dtype, size, rounds)
    if "sweep" in options.parts:
        sweep(base, dtype, size // 4, rounds)
    if "training" in options.parts:
        training(base, dtype, size // 4, rounds)


if __name__ == "__main__":
    main()
