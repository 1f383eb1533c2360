"""Whatever device the model is on, everything that meets it there is brought there: shown by shape, without a GPU.

Tensors on torch's device `meta` have no values, and operations that mix them with tensors elsewhere fail as they would
on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_bases import MIXED, random_adapters, random_batch

from hatex.errors import UsageError
from hatex.model.cache import PromptCache
from hatex.model.gatedlm import GatedLM
from hatex.model.policy import compute_device
from hatex.training.groups import collate
from hatex.training.objective import batch_loss, lora_parameters
from hatex.training.rows import TrainingRow

Load = Callable[[str], GatedLM]
META = torch.device("meta")


@pytest.fixture(params=["llama", "opt"])
def lm(request: pytest.FixtureRequest, load: Load) -> GatedLM:
    lm = load(request.param).to(META)
    lm.attach(random_adapters(lm, MIXED), trainable=True)
    return lm


def test_mixing_devices_fails_as_on_a_gpu() -> None:
    with pytest.raises(RuntimeError, match="device"):
        torch.ones(3, 4) * torch.ones(3, 4, device=META)


@torch.inference_mode()
def test_scoring_and_decoding_stay_on_the_models_device(lm: GatedLM) -> None:
    batch = random_batch(4, 3)
    assert lm.device == META
    hidden = lm.last_hidden(batch.ids, batch.lengths, batch.gates)
    assert (hidden.device, hidden.shape) == (META, (4, 32))
    cache = PromptCache.prefill(lm, batch.ids, batch.lengths, batch.gates)
    forked = cache.select([0, 2, 2], 4)
    further = forked.extend(torch.tensor([[5, 6], [7, 8], [9, 10]]))
    assert (further.device, further.shape) == (META, (3, 2, 32))
    assert lm.logits(forked.hidden).shape == (3, 97)


@pytest.mark.parametrize("answer", [0.0, 0.2])
def test_training_stays_on_the_models_device(lm: GatedLM, answer: float) -> None:
    gates = (0.6, 0.4, 0.0)
    rows = [
        TrainingRow(str(i), "d", tuple(range(3, 9 + i)), 4, (6, 7), (0, 0.5, 0.5, 0, 0, 0, 0), 1.0, gates)
        for i in range(3)
    ]
    batch = collate(rows, 0).to(lm.device)
    losses, logits = batch_loss(lm, [batch], lm.vocabulary[[5, 6, 7]], answer)
    assert logits.shape == (3, 3)
    (losses * batch.weights).sum().backward()
    for parameter in lora_parameters(lm).values():
        assert parameter.grad is not None
        assert parameter.grad.device == META


def test_a_device_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert compute_device("auto") == compute_device("cpu") == torch.device("cpu")
    with pytest.raises(UsageError, match="torch sees no CUDA device"):
        compute_device("cuda")
