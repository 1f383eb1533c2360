"""Fit the label calibration on what the blend says of tune posts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hatex.data.examples import in_seeded_order
from hatex.data.votes import vote_shares
from hatex.routing.calibration import Calibration, fit_calibration
from hatex.routing.router import Router
from hatex.training.weights import weigh_votes
from hatex.types import Example, Progress

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.recipe import Recipe
    from hatex.recipe.train import TrainSection
    from hatex.registry import Registry
    from hatex.routing.encoder import Encoder


def calibrate(
    recipe: Recipe,
    registry: Registry,
    encoder: Encoder,
    router: Router,
    examples: Sequence[Example],
    progress: Progress,
) -> Calibration:
    """Fit on tune posts, each answered by the blend and by every adapter that may answer alone."""
    from hatex.engine import assemble

    assert recipe.train is not None
    assert recipe.train.router is not None
    engine: Engine = assemble(recipe, registry, encoder=encoder, router=router, progress=progress)
    posts = tune_posts(examples, recipe.train)
    texts = [e.text for e in posts]
    shares = np.array([vote_shares(e.votes) for e in posts])
    sizes = Counter(e.dataset for e in posts)
    even = {dataset: len(posts) / len(sizes) / size for dataset, size in sizes.items()}
    datasets = [e.dataset for e in posts]
    weights, shares = weigh_votes(datasets, shares, even, recipe.train.priors)
    gates = [engine.gate(texts, "blend")]
    if "full" in engine.adapters:
        gates.append(engine.gate(texts, "full"))
    answers = [engine.score(texts, g, calibrated=False, progress=progress) for g in gates]
    return fit_calibration(
        np.log(np.clip(np.concatenate(answers), 1e-12, 1)),
        np.concatenate(gates),
        np.concatenate([shares] * len(gates)),
        np.concatenate([weights] * len(gates)),
    )


def tune_posts(examples: Sequence[Example], train: TrainSection) -> list[Example]:
    """Posts of the data sets that platform adapters are trained on, less those with priors where others are left.

    Where those sets have none, all of the adapters' platforms give some.

    Others only tell how often their collectors chose harmful posts, and would shift the answers of the adapters that
    the router gives them; so would sets whose rate is not the one to decide by, and which are weighed in training.
    """
    assert train.router is not None
    trained: dict[str, list[Example]] = defaultdict(list)
    others: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.split == "tune" and example.platform in train.router.adapters:
            section = train.adapters.get(example.platform)
            is_trained = section is None or not section.rows or example.dataset in section.rows
            (trained if is_trained else others)[example.dataset].append(example)
    pools = trained or others
    chosen = []
    for dataset in sorted(pools.keys() - train.priors.keys() or pools.keys()):
        pool = pools[dataset]
        chosen += in_seeded_order(pool, train.seed)[: train.router.calibration_posts]
    return chosen
