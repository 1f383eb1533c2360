"""Fit the router on embeddings, and publish it with the label calibration (`calibrate`)."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from hatex.data.examples import in_seeded_order
from hatex.data.formatting import common_form, vary
from hatex.data.prompts import load_prompt
from hatex.data.votes import vote_shares
from hatex.errors import TrainingError
from hatex.model.policy import compute_device, compute_dtype
from hatex.routing.router import Router
from hatex.training.calibrate import calibrate
from hatex.training.weights import class_weights
from hatex.types import Example, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatex.recipe import Recipe
    from hatex.recipe.train import RouterSection
    from hatex.registry import Artefact, Registry
    from hatex.routing.encoder import Encoder

BATCH_POSTS = 256
WEIGHT_DECAY = 1e-4
AS_IT_IS, IN_COMMON_FORM = "tune_accuracy", "tune_accuracy_common_form"


def train_router(
    recipe: Recipe,
    registry: Registry,
    examples: Sequence[Example],
    *,
    replace: bool = False,
    key: str,
    progress: Progress,
) -> dict[str, Any]:
    """Fit and publish the recipe's router; returns its record: accuracy, temperature, posts, seconds.

    `key` (of `router_key`) is kept in the manifest. Raises TrainingError where a platform has no posts, RegistryError
    where the name is taken.
    """
    from hatex.engine import assemble
    from hatex.training.refine import refine_router

    assert recipe.train is not None
    assert recipe.train.router is not None
    section, seed = recipe.train.router, recipe.train.seed
    started = time.monotonic()
    artefact, encoder = load_encoder(recipe, registry, progress)
    fitted, record = fit_router(encoder, section, examples, seed, progress)
    if section.refine is not None:
        engine = assemble(recipe, registry, encoder=encoder, router=fitted, progress=progress)
        chosen = choose_posts(examples, section, "train", section.refine.posts, seed)
        fitted, figures = refine_router(engine, section.refine, chosen, recipe.train.priors, progress)
        record |= {name: round(value, 4) for name, value in figures.items()}
        tune = choose_posts(examples, section, "tune", section.posts_per_platform, seed)
        record |= _accuracies(fitted, _embed_forms(encoder, tune, progress), _platforms(tune, section))
    fields = {
        "source": {"train": recipe.name},
        "licence": recipe.train.licence,
        "recipe": {"router": section.model_dump(mode="json"), "seed": seed},
        "metrics": record,
        "parents": {artefact.ref: artefact.manifest.digest},
        "adapters": list(section.adapters),
        "training_key": key,
        "encoder": {
            "name": artefact.name,
            "sha256": artefact.manifest.files["model.safetensors"],
            "layers": list(section.layers),
        },
    }
    with registry.publish("router", recipe.router, manifest_fields=fields, replace=replace) as folder:
        calibration = calibrate(recipe, registry, encoder, fitted, examples, progress)
        fitted.save(folder, calibration.record(recipe.adapters))
        record["seconds"] = round(time.monotonic() - started)
    return record


def load_encoder(recipe: Recipe, registry: Registry, progress: Progress) -> tuple[Artefact, Encoder]:
    """The recipe's encoder, fetched if need be, with the layers its router reads; ModelError where it lacks one."""
    from hatex.model.base import ensure_encoder
    from hatex.routing.encoder import Encoder

    assert recipe.train is not None
    assert recipe.train.router is not None
    section, layers = recipe.encoder, recipe.train.router.layers
    artefact = ensure_encoder(section, registry, progress=progress)
    device = compute_device(recipe.base.device)
    return artefact, Encoder.load(artefact.path, section.name, section.max_tokens, device, layers=layers)


def fit_router(
    encoder: Encoder, section: RouterSection, examples: Sequence[Example], seed: int, progress: Progress
) -> tuple[Router, dict[str, Any]]:
    """A router that names the platform of a post, calibrated by temperature on tune.

    Every platform counts alike, however many posts it has. Of the share `formatting_noise` of the posts one half is
    varied and one brought into the one common form, so that case and punctuation cannot tell platforms apart.
    """
    train = choose_posts(examples, section, "train", section.posts_per_platform, seed)
    tune = choose_posts(examples, section, "tune", section.posts_per_platform, seed)
    rng = Random(seed)
    texts = [_noisy(e.text, section.formatting_noise, rng) for e in train]
    router = _fit(encoder.embed(texts, progress), _platforms(train, section), section, seed)
    forms, labels = _embed_forms(encoder, tune, progress), _platforms(tune, section)
    router = replace(router, temperature=_temperature(router.logits(forms[AS_IT_IS]), labels))
    record = {"posts": len(train), "temperature": round(router.temperature, 4)}
    return router, record | _accuracies(router, forms, labels)


def _platforms(posts: Sequence[Example], section: RouterSection) -> NDArray[np.int64]:
    """Which of the router's outputs names each post's platform, shape (posts,)."""
    return np.array([section.adapters.index(post.platform) for post in posts])


def _embed_forms(
    encoder: Encoder, posts: Sequence[Example], progress: Progress
) -> dict[str, NDArray[np.float32]]:
    """Embeddings of posts as they are and in the one common form, by the name that the record gives the accuracy."""
    texts = [post.text for post in posts]
    return {
        AS_IT_IS: encoder.embed(texts, progress),
        IN_COMMON_FORM: encoder.embed([common_form(text) for text in texts], progress),
    }


def check_platforms(examples: Sequence[Example], section: RouterSection) -> None:
    """Raise TrainingError where a platform that the router is to name has no posts to fit on."""
    for split in ("train", "tune"):
        platforms = {example.platform for example in examples if example.split == split}
        if missing := [name for name in section.adapters if name not in platforms]:
            raise TrainingError(
                f"router: no {split} posts of platform {', '.join(missing)}",
                where="train.router.adapters",
                hint=f"a router weighs adapters that are named after prepared platforms: "
                f"{', '.join(sorted(platforms)) or 'none'}",
            )


def router_key(recipe: Recipe, registry: Registry, examples: Sequence[Example]) -> str:
    """Digest of all that decides the router: its settings, what it is calibrated with, the examples."""
    section, device = recipe.require("train"), compute_device(recipe.base.device)
    adapters = [registry.find("adapter", name, base=recipe.base.name) for name in recipe.adapters]
    record = [
        section.router.model_dump() if section.router is not None else None,
        section.seed,
        recipe.encoder.model_dump(),
        str(load_prompt(recipe.prompt)),
        (
            recipe.route.fallback,
            recipe.route.max_tokens,
            str(compute_dtype(recipe.base.dtype, device)),
            device.type,
        ),
        section.priors,
        [(name, sorted(adapter.rows)) for name, adapter in section.adapters.items()],
        [(artefact.ref, artefact.manifest.digest) for artefact in adapters],
        [(e.id, e.platform, e.split, e.text, vote_shares(e.votes)) for e in examples if e.split != "report"],
    ]
    return hashlib.sha256(json.dumps(record, default=str).encode()).hexdigest()


def choose_posts(
    examples: Sequence[Example], section: RouterSection, split: str, per_platform: int, seed: int
) -> list[Example]:
    """Seeded posts of every platform that the router is to name, at most `per_platform` of each."""
    pools: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.split == split and example.platform in section.adapters:
            pools[example.platform].append(example)
    chosen = []
    for platform in section.adapters:
        pool = in_seeded_order(pools[platform], seed)
        by_set: dict[str, list[Example]] = defaultdict(list)
        for example in pool:
            by_set[example.dataset].append(example)
        # Data sets take turns, so that the largest does not stand for the whole platform.
        turns = max(len(rows) for rows in by_set.values())
        mixed = [rows[i] for i in range(turns) for rows in by_set.values() if i < len(rows)]
        chosen += mixed[:per_platform]
    return chosen


def _noisy(text: str, noise: float, rng: Random) -> str:
    draw = rng.random()
    if draw < noise / 2:
        return vary(text, rng)
    return common_form(text) if draw < noise else text


def _fit(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], section: RouterSection, seed: int
) -> Router:
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    # Weights and dropout draw from the process's own generator.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Linear(embeddings.shape[1], section.hidden),
            nn.ReLU(),
            nn.Dropout(section.dropout),
            nn.Linear(section.hidden, len(section.adapters)),
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=section.lr, weight_decay=WEIGHT_DECAY)
        x, y = torch.from_numpy(embeddings), torch.from_numpy(labels)
        weights = torch.from_numpy(class_weights(labels, len(section.adapters))).float()
        for _ in range(section.epochs):
            for batch in torch.split(torch.randperm(len(x), generator=generator), BATCH_POSTS):
                loss = nn.functional.cross_entropy(net(x[batch]), y[batch], weights)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    hidden, output = net[0], net[-1]
    tensors = {
        "hidden.weight": hidden.weight,
        "hidden.bias": hidden.bias,
        "output.weight": output.weight,
        "output.bias": output.bias,
    }
    return Router(section.adapters, {k: v.detach().numpy().copy() for k, v in tensors.items()})  # type: ignore[operator]


def _temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The temperature of least cross-entropy (Guo et al., 2017)."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    weights = class_weights(labels, logits.shape[1])[labels]

    def loss(log_temperature: float) -> float:
        log_probs = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-np.average(log_probs[np.arange(len(labels)), labels], weights=weights))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _accuracies(
    router: Router, forms: dict[str, NDArray[np.float32]], labels: NDArray[np.int64]
) -> dict[str, float]:
    """How often the router names the platform, for each form of the posts."""
    return {
        name: round(float((router.logits(embeddings).argmax(1) == labels).mean()), 4)
        for name, embeddings in forms.items()
    }
