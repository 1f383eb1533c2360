"""The loop of `hatex train` over the posts of a race, for the benches that time it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from contenders import Answer, Prompts

from hatex.model.gatedlm import GatedLM
from hatex.recipe.train import TrainSection
from hatex.training.initial import fresh_adapter
from hatex.training.job import Job
from hatex.training.loop import AdapterTrainer
from hatex.training.rows import TrainingRow
from hatex.types import LABEL_SETS, NO_PROGRESS

LABELS = (100, 101, 102)


def adapter_training(
    folder: Path,
    dtype: torch.dtype,
    settings: Mapping[str, Any],
    *,
    answer_tokens: int = 0,
    job_type: type[Job] = Job,
) -> Answer:
    """One adapter under the `train` settings, with the checkpoint that is written at the end; no tune rows.

    The last `answer_tokens` tokens of every second post are supervised as an answer behind the label.
    """
    lm = GatedLM.load(folder, "resident", dtype)
    train = TrainSection.model_validate(
        {"data": "none", **settings, "adapters": {"bench": {}}, "router": None}
    )

    def answer(prompts: Prompts) -> None:
        rows = [_row(number, prompt, answer_tokens) for number, prompt in enumerate(prompts)]
        lm.attach([fresh_adapter(lm, "bench", train.lora, train.seed)], trainable=True)
        with tempfile.TemporaryDirectory() as scratch:
            job = job_type("bench", train.adapters["bench"], train, rows, (), 0, "bench", Path(scratch))
            AdapterTrainer(lm, job, LABELS, NO_PROGRESS).run(resume=False)

    return answer


def _row(number: int, prompt: Sequence[int], answer_tokens: int) -> TrainingRow:
    shares = tuple(float(i == number % 3) for i in range(len(LABEL_SETS)))
    end = len(prompt) - (answer_tokens if number % 2 and len(prompt) > 2 * answer_tokens else 0)
    answer = tuple(range(end, len(prompt)))
    return TrainingRow(str(number), "bench", tuple(prompt), end - 1, answer, shares, 1.0)
