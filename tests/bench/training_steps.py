"""Tokens per second of training steps of 1,600 tokens in four groups of other lengths, in one pass and in four, and of
one length.

Run: python tests/bench/training_steps.py [--posts N] [--registry DIR].

The settings are the starter's, but for how a step is cut; every second row has an answer behind its label.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from statistics import median

import torch
from contenders import Contender, race
from training import adapter_training

from hatex.model.base import compute_dtype, ensure_base
from hatex.recipe import load_recipe
from hatex.registry import open_registry

STEP_TOKENS = 1600
GROUPS = 4
CUTS = {
    "4 groups in one pass": {"batch_tokens": STEP_TOKENS, "batch_lengths": GROUPS},
    "4 groups in a pass each": {
        "batch_tokens": STEP_TOKENS // GROUPS,
        "batch_lengths": 1,
        "accumulate": GROUPS,
    },
    "one length": {"batch_tokens": STEP_TOKENS, "batch_lengths": 1},
}
ANSWER_TOKENS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=256)
    parser.add_argument("--registry", type=Path)
    options = parser.parse_args()
    base = ensure_base(load_recipe("starter").base, open_registry(options.registry)).path
    dtype = compute_dtype("auto")
    starter = load_recipe("starter").require("train").model_dump()
    contenders = {
        name: Contender(partial(adapter_training, base, dtype, starter | cut, answer_tokens=ANSWER_TOKENS))
        for name, cut in CUTS.items()
    }
    laps = race(contenders, options.posts, rounds=3)
    rates = {name: median(lap.tokens / lap.seconds for lap in rounds) for name, rounds in laps.items()}
    slowest = min(rates.values())
    print(
        f"{torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}, {options.posts} rows a round"
    )
    for name, rate in rates.items():
        print(f"{name:>23}: {rate:5.0f} tokens/s, {rate / slowest:.2f} x the slowest")


if __name__ == "__main__":
    main()
