"""Tokens per second of training steps of 1,600 tokens in four groups of other lengths, in one pass and in four, and of
one length.

Run: python tests/bench/training_steps.py [--posts N] [--registry DIR]. Every second row has an answer behind its label.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch
from contenders import Answer, Contender, Prompts, race

from hatex.model.base import compute_dtype, ensure_base
from hatex.model.gatedlm import GatedLM
from hatex.recipe import load_recipe
from hatex.recipe.train import TrainSection
from hatex.registry import open_registry
from hatex.training.initial import fresh_adapter
from hatex.training.job import Job
from hatex.training.loop import AdapterTrainer
from hatex.training.rows import TrainingRow
from hatex.types import LABEL_SETS, NO_PROGRESS

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
LABELS = (100, 200, 300)


def steps(folder: Path, dtype: torch.dtype, cut: dict[str, int]) -> Answer:
    """The loop of `hatex train` with the starter's settings, but for how a step is cut."""
    lm = GatedLM.load(folder, "resident", dtype)
    starter = load_recipe("starter").require("train")
    train = TrainSection.model_validate(
        starter.model_dump() | cut | {"adapters": {"bench": {}}, "router": None}
    )

    def row(number: int, prompt: list[int]) -> TrainingRow:
        shares = tuple(float(i == number % 3) for i in range(len(LABEL_SETS)))
        end = len(prompt) - (ANSWER_TOKENS if number % 2 and len(prompt) > 2 * ANSWER_TOKENS else 0)
        answer = tuple(range(end, len(prompt)))
        return TrainingRow(str(number), "bench", tuple(prompt), end - 1, answer, shares, 1.0)

    def answer(prompts: Prompts) -> None:
        rows = [row(number, list(prompt)) for number, prompt in enumerate(prompts)]
        lm.attach([fresh_adapter(lm, "bench", train.lora, train.seed)], trainable=True)
        with tempfile.TemporaryDirectory() as scratch:
            job = Job("bench", train.adapters["bench"], train, rows, (), 0, "bench", Path(scratch))
            AdapterTrainer(lm, job, LABELS, NO_PROGRESS).run(resume=False)

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=int, default=256)
    parser.add_argument("--registry", type=Path)
    options = parser.parse_args()
    base = ensure_base(load_recipe("starter").base, open_registry(options.registry)).path
    dtype = compute_dtype("auto")
    contenders = {name: Contender(partial(steps, base, dtype, cut)) for name, cut in CUTS.items()}
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
