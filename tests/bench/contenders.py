"""Contenders timed in turn, each in a process of its own, on posts whose lengths are new in every round.

In one process they would share malloc's heap and settings and oneDNN's cache of matmul shapes, and so measure each
other. On the same lengths in every round they would find all shapes prepared, which no stream of new posts lets them.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

Prompts = Sequence[Sequence[int]]
Answer = Callable[[Prompts], object]

AT = [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1]
LENGTHS = [7, 12, 14, 18, 22, 26, 30, 36, 42, 53, 75, 106, 212, 511]
"""Quantiles of 2,000 posts of the starter's report split, prompt included."""
TOKENS = (200, 30_000)
"""Of the base's vocabulary and of BERT's."""


@dataclass(frozen=True)
class Contender:
    """`build` is pickled and called in the contender's process; what it gives answers posts.

    A slow contender gets at most `posts` of the round's posts.
    """

    build: Callable[[], Answer]
    posts: int | None = None


@dataclass(frozen=True)
class Lap:
    """One contender's round."""

    posts: int
    tokens: int
    seconds: float


def draw(count: int, number: int) -> Prompts:
    """The posts of round `number`: random tokens in no order, one length from each of `count` equal parts of the mix.

    The middles of the parts would be the same lengths in every round; independent draws would change the mix (the mean
    length of 512 posts by some 5 %).
    """
    generator = np.random.default_rng([count, number])
    at = (generator.permutation(count) + generator.random(count)) / count
    lengths = np.interp(at, AT, LENGTHS).astype(int)
    return [generator.integers(*TOKENS, n).tolist() for n in lengths]


def thin(prompts: Prompts, count: int, number: int) -> Prompts:
    """`count` of the posts (or all), in their order and with the same mix: one of each of `count` parts by length.

    Of a hundred such choices it is the one whose mean length is nearest to that of all, for few posts of the last part
    hold many of the tokens.
    """
    generator = np.random.default_rng([count, number])
    lengths = np.array([len(prompt) for prompt in prompts])
    parts = np.array_split(np.argsort(lengths, kind="stable"), min(count, len(prompts)))
    choices = [np.array([generator.choice(part) for part in parts]) for _ in range(100)]
    best = min(choices, key=lambda chosen: abs(lengths[chosen].mean() - lengths.mean()))
    return [prompts[i] for i in sorted(best)]


def race(contenders: Mapping[str, Contender], size: int, rounds: int) -> dict[str, list[Lap]]:
    """Every contender's laps, behind one to warm up; rounds go through all in turn, so that a busy minute hits all.

    Contenders are built one after the other and stay till the end; who waits takes no processor time. What a contender
    raises is raised here, and BrokenProcessPool where its process dies.
    """
    laps: dict[str, list[Lap]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        context = get_context("spawn")
        workers = {name: stack.enter_context(ProcessPoolExecutor(1, context)) for name in contenders}
        for number in range(rounds + 1):
            prompts = draw(size, number)
            for name, contender in contenders.items():
                mine = prompts if contender.posts is None else thin(prompts, contender.posts, number)
                try:
                    if number == 0:
                        workers[name].submit(_build, contender.build).result()
                    seconds = workers[name].submit(_time, mine).result()
                except Exception as error:
                    error.add_note(f"This happened to: {name}")
                    raise
                if number > 0:
                    laps[name].append(Lap(len(mine), sum(map(len, mine)), seconds))
                what = f"round {number}/{rounds}" if number else "warm"
                print(f"  {what}: {name}, {seconds:.1f} s", file=sys.stderr)
    return laps


_built: list[Answer] = []
"""What this worker process answers with."""


def _build(build: Callable[[], Answer]) -> None:
    warnings.simplefilter("ignore")
    _built.append(build())


def _time(prompts: Prompts) -> float:
    started = time.perf_counter()
    _built[0](prompts)
    return time.perf_counter() - started
