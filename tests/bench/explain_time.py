"""Explained posts per second: the starter, 20-word posts, a batch of 64, evidence included.

python tests/bench/explain_time.py [RECIPE] [REGISTRY]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from hatex.types import EvidenceMethod

SENTENCE = (
    "your football club is a circus and all of you are clowns who could not win a raffle or even a cup of tea on "
    "sunday my friend honestly what a season this was for everyone in the stands and at home"
)
POSTS = 64
WORDS_A_POST = 20


def main() -> None:
    from hatex.engine import load_engine
    from hatex.recipe import load_recipe
    from hatex.registry import open_registry

    recipe = load_recipe(sys.argv[1] if len(sys.argv) > 1 else "starter")
    engine = load_engine(recipe, open_registry(Path(sys.argv[2]) if len(sys.argv) > 2 else None))
    draw = Random(4761)
    posts = [" ".join(draw.sample(SENTENCE.split(), WORDS_A_POST)) for _ in range(POSTS)]
    gates = engine.gate(posts).astype(np.float32)
    # All posts count as hateful, so that every one of them is decoded.
    probabilities = np.tile([0.1, 0.2, 0.7], (POSTS, 1))
    engine.explain(posts[:2], gates[:2], probabilities[:2])
    methods: dict[str, EvidenceMethod] = {"fields": "none", "fields and evidence": "leave-out"}
    for name, method in methods.items():
        options = replace(engine.explain_options, evidence=method)
        started = time.perf_counter()
        engine.explain(posts, gates, probabilities, options)
        seconds = time.perf_counter() - started
        print(f"{name:<20} {POSTS / seconds:6.2f} posts/s   ({seconds:.1f} s for {POSTS} posts)")
    variants = [" ".join(p.split()[:i] + p.split()[i + 1 :]) for p in posts for i in range(WORDS_A_POST)]
    owners = [i for i in range(POSTS) for _ in range(WORDS_A_POST)]
    started = time.perf_counter()
    whole = engine.score(variants, gates[owners])
    between = time.perf_counter()
    shared = engine.model.score_variants(posts, variants, owners, gates, engine.explain_options)
    ended = time.perf_counter()
    gain = (between - started) / (ended - between)
    off = np.abs(whole - shared).max()
    print(f"sharing a post's beginning between variants: {gain:.2f}x, probabilities within {off:.4f}")


if __name__ == "__main__":
    main()
