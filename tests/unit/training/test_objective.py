"""What a batch costs, compared with transformers' own model, one row at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hatex.data.prompts import load_prompt
from hatex.model.gatedlm import GatedLM
from hatex.training.encoding import encode_rows, label_tokens
from hatex.training.groups import collate
from hatex.training.losses import vote_loss
from hatex.training.objective import batch_loss

WEIGHT = 0.3


@pytest.mark.parametrize("weight", [0.0, WEIGHT])
def test_a_row_costs_its_votes_and_a_share_of_its_answer(
    ground, tokenizer, make_example, weight: float
) -> None:
    prompt = load_prompt("compact")
    rows = encode_rows(
        [make_example(i) for i in range(9)], prompt, tokenizer, max_tokens=64, with_answers=True
    )
    assert {bool(row.answer_at) for row in rows} == {True, False}
    lm, labels = (
        GatedLM.load(ground.base, "resident", torch.float32),
        label_tokens(prompt, tokenizer),
    )
    batch, head = collate(rows, 0), lm.vocabulary[labels]
    losses, logits = batch_loss(lm, [batch], head, weight)
    for i, row in enumerate(rows):
        lm.set_gates(None)
        whole = lm.model(torch.tensor([row.ids])).logits[0]
        at_label = whole[row.label_at, labels]
        torch.testing.assert_close(logits[i], at_label, rtol=1e-4, atol=1e-5)
        expected = vote_loss(at_label[None], torch.tensor([row.shares]))[0]
        if row.answer_at:
            predicted = whole[[at - 1 for at in row.answer_at]]
            written = torch.tensor([row.ids[at] for at in row.answer_at])
            expected = expected + weight * F.cross_entropy(predicted, written)
        assert losses[i].item() == pytest.approx(expected.item(), rel=1e-4)
