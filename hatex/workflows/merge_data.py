"""The posts that `hatex merge` chooses and reports on, and what an engine makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hatex.data.examples import read_examples
from hatex.errors import DataError, UsageError
from hatex.evaluation.classification import macro_f1
from hatex.evaluation.gold import Gold, Scored, build_gold, find_question
from hatex.jsonl import BadLine, Line, parse_line, read_batches
from hatex.recipe.merge import MergeSection
from hatex.types import NO_PROGRESS, Progress, Split
from hatex.workflows.evaluation_data import choose_posts
from hatex.workflows.inputs import open_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatex.engine import Engine


@dataclass(frozen=True)
class Posts:
    """Posts of one split, data set after data set; `texts` are in the order of the golds' rows."""

    golds: tuple[Gold, ...]
    texts: tuple[str, ...]

    def macro_f1(self, probabilities: NDArray[np.float64]) -> float:
        """Mean over data sets of macro-F1; probabilities have shape (posts, labels)."""
        scores, start = [], 0
        for gold in self.golds:
            rows = probabilities[start : start + len(gold)]
            scores.append(float(macro_f1(Scored(gold, rows), np.ones((1, len(gold))))[0]))
            start += len(gold)
        return float(np.nanmean(scores))


def load_posts(folder: str, split: Split, section: MergeSection) -> Posts:
    """A seeded sample of a split of a prepared folder, at most `section.posts` of each data set."""
    by_dataset: dict[str, list[int]] = {}
    examples = read_examples(Path(folder), splits=(split,))
    for index, example in enumerate(examples):
        by_dataset.setdefault(example.dataset, []).append(index)
    if not by_dataset:
        raise DataError(f"no posts in split {split}", where=folder, hint="run `hatex prepare` first")
    golds: list[Gold] = []
    texts: list[str] = []
    for dataset, indices in sorted(by_dataset.items()):
        pool = [examples[index] for index in indices]
        question = find_question([example.votes for example in pool])
        gold = build_gold(dataset, choose_posts(pool, section.posts, section.seed), question)
        text_of = {example.id: example.text for example in pool}
        golds.append(gold)
        texts.extend(text_of[id_] for id_ in gold.ids)
    return Posts(tuple(golds), tuple(texts))


def mean_gates(engine: Engine, section: MergeSection) -> dict[str, float]:
    """The router's mean gate weights on the posts that `gates_from` names; adapters of no weight are left
    out.
    """
    gates = engine.gate(_texts(section)).mean(axis=0)
    return {name: float(gate) for name, gate in zip(engine.adapters, gates, strict=True) if gate > 0}


def score_constant(
    engine: Engine, weights: Mapping[str, float], texts: Sequence[str], progress: Progress = NO_PROGRESS
) -> NDArray[np.float64]:
    """Label probabilities under the same weights for every post, uncalibrated, shape (posts, labels)."""
    row = [weights.get(name, 0.0) for name in engine.adapters]
    return engine.score(texts, np.tile(row, (len(texts), 1)), calibrated=False, progress=progress)


def _texts(section: MergeSection) -> Sequence[str]:
    source = section.data if section.gates_from == "data" else section.gates_from
    assert source is not None
    path = Path(source)
    if path.is_dir() or path.suffix == ".parquet":
        return load_posts(source, "tune", section).texts
    if not path.is_file():
        raise UsageError(
            "no such file or folder", where=source, hint="name a prepared folder or a JSONL file"
        )
    lines = (line for batch in read_batches(open_inputs([path])) for line in batch)
    texts = [_text(line, f"{source}:{line.number}") for line in lines]
    if not texts:
        raise DataError("no posts", where=source)
    return texts


def _text(line: Line, where: str) -> str:
    post = parse_line(line)
    if isinstance(post, BadLine):
        raise DataError(post.message, where=where, hint='every line is a JSON object in UTF-8 with "text"')
    return post.text
