"""Integrated gradients of a label's probability over the tokens of a post (Sundararajan et al., ICML 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hatex.model.gatedlm import GatedLM


def integrated_gradients(
    lm: GatedLM,
    ids: Sequence[int],
    post: range,
    filler: int,
    labels: Sequence[int],
    label: int,
    gates: Tensor,
    *,
    scale: float,
    bias: Tensor,
    steps: int,
    max_tokens: int,
) -> Tensor:
    """Attribution of each token in `post` to P(label), shape (len(post),), fp32.

    The path runs to the post from the token `filler` at each of its places, the template's tokens staying as they
    are; attributions sum to about the difference that makes to the calibrated probability. (From zero embeddings, the
    usual start, RMS norms would take nearly the whole path in its first step.) `labels` are the label tokens, gates
    (adapters,); `scale` and bias (labels,) calibrate the post's logits; the integral is a midpoint sum of `steps`
    points, computed in batches of at most `max_tokens` tokens.
    """
    tokens = torch.tensor(ids, device=lm.device)
    embed = lm.model.get_input_embeddings()
    start = tokens.clone()
    start[post.start : post.stop] = filler
    with torch.no_grad():
        origin, goal = embed(start).float(), embed(tokens).float()
    points = (torch.arange(steps, device=lm.device) + 0.5) / steps
    total = torch.zeros_like(goal)
    with torch.enable_grad(), lm.lock:
        # A large base would keep gigabytes of one long post for the backward pass.
        lm.checkpoint_activations(True)
        try:
            for part in torch.split(points, max(1, max_tokens // len(ids))):
                path = (origin + part[:, None, None] * (goal - origin)).to(lm.dtype).requires_grad_()
                logits = label_logits(lm, tokens, path, labels, gates)
                chosen = torch.softmax(scale * logits + bias.to(logits), -1)[:, label]
                (gradient,) = torch.autograd.grad(chosen.sum(), path)
                total += gradient.float().sum(0)
        finally:
            lm.checkpoint_activations(False)
    attributed: Tensor = (total / steps * (goal - origin)).sum(-1)
    return attributed[post.start : post.stop].cpu()


def label_logits(lm: GatedLM, ids: Tensor, embedded: Tensor, labels: Sequence[int], gates: Tensor) -> Tensor:
    """Label logits behind rows of input embeddings (rows, tokens, width) of one prompt, shape (rows, labels), fp32."""
    rows = len(embedded)
    lm.set_gates(gates.expand(rows, -1))
    # The embedding layer's output is replaced, so that the same forward serves every architecture.
    handle = lm.model.get_input_embeddings().register_forward_hook(lambda *_: embedded)
    try:
        hidden = lm.hidden(ids.expand(rows, -1))[:, -1]
    finally:
        handle.remove()
    return hidden.float() @ lm.vocabulary[list(labels)].float().t()
