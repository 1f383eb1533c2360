"""Router refinement: the best blend is not the platform's name, so gates also learn from the answers they would give.

Every adapter answers a sample of training posts alone; then the router is trained on the votes through the mixture of
those answers, -sum_s share_s log sum_k g_k m_ks with m_ks the mass that adapter k gives to label set s (the likelihood
of a mixture of experts, Jacobs et al., 1991), while the platform's name goes on to count. Adapters stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from hatex.data.votes import vote_shares
from hatex.routing.router import Router
from hatex.training.losses import SET_MEMBERS
from hatex.training.weights import class_weights, weigh_votes
from hatex.types import Example, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatex.engine import Engine
    from hatex.recipe.train import RefineSection


def refine_router(
    engine: Engine,
    section: RefineSection,
    examples: Sequence[Example],
    priors: Mapping[str, Mapping[str, float]],
    progress: Progress,
) -> tuple[Router, dict[str, float]]:
    """The engine's router with gates that answer better; its mixture loss on the examples before and after.

    Platforms count alike, as in the router's fit, and votes as `priors` of their data set weigh them in training.
    """
    router = engine.router
    texts = [example.text for example in examples]
    answers = _answers(engine, texts, progress)
    embeddings = torch.from_numpy(engine.encoder.embed(texts, progress)).double()
    masses = torch.from_numpy(answers) @ SET_MEMBERS.T.double()
    votes = np.array([vote_shares(example.votes) for example in examples])
    weighed, votes = weigh_votes([example.dataset for example in examples], votes, {}, priors)
    shares = torch.from_numpy(votes)
    platforms = np.array([router.adapters.index(example.platform) for example in examples])
    of_platform = torch.from_numpy(class_weights(platforms, len(router.adapters)))
    counts = of_platform[platforms] * torch.from_numpy(weighed)
    counts, labels = counts / counts.mean(), torch.from_numpy(platforms)
    weights = {
        name: torch.from_numpy(value).double().requires_grad_() for name, value in router.weights.items()
    }

    def losses() -> tuple[torch.Tensor, torch.Tensor]:
        hidden = F.relu(F.linear(embeddings, weights["hidden.weight"], weights["hidden.bias"]))
        logits = F.linear(hidden, weights["output.weight"], weights["output.bias"]) / router.temperature
        mixed = (logits.softmax(-1).unsqueeze(-1) * masses).sum(1)
        likelihood = (shares * mixed.clamp_min(1e-9).log()).sum(-1)
        return -(counts * likelihood).mean(), F.cross_entropy(logits, labels, of_platform)

    optimizer = torch.optim.Adam(weights.values(), lr=section.lr)
    before = 0.0
    for step in range(section.steps):
        mixture, platform = losses()
        before = before if step else mixture.item()
        optimizer.zero_grad()
        (mixture + section.platform_weight * platform).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        after = losses()[0].item()
    refined = {name: value.detach().float().numpy() for name, value in weights.items()}
    return replace(router, weights=refined), {"mixture_loss_before": before, "mixture_loss": after}


def _answers(engine: Engine, texts: Sequence[str], progress: Progress) -> NDArray[np.float64]:
    """What each of the router's adapters says alone, uncalibrated, shape (posts, adapters, labels)."""
    columns = []
    for name in engine.router.adapters:
        gates = engine.gate(texts, f"single:{name}")
        columns.append(engine.score(texts, gates, calibrated=False, progress=progress))
    return np.stack(columns, axis=1)
