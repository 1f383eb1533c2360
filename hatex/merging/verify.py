"""Label probabilities of the probe posts, by hatex's own model and by plain transformers, in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hatex.data.prompts import Prompt
from hatex.errors import ModelError
from hatex.merging.probes import PROBES
from hatex.model.gatedlm import GatedLM
from hatex.registry.adapters import LoraAdapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ProbeTokens:
    """Token ids of every probe's prompt, and the token of each label, in the order of `types.LABELS`."""

    ids: tuple[tuple[int, ...], ...]
    labels: tuple[int, ...]

    def batches(self, rows: int = 10) -> Iterator[tuple[Tensor, Tensor]]:
        """Token ids padded on the right, shape (rows, tokens), and lengths, shape (rows,)."""
        for start in range(0, len(self.ids), rows):
            chunk = [torch.tensor(ids) for ids in self.ids[start : start + rows]]
            yield pad_sequence(chunk, batch_first=True), torch.tensor([len(ids) for ids in chunk])


def encode_probes(
    base: Path, prompt: Prompt, texts: Sequence[str] = PROBES, *, max_tokens: int = 512
) -> ProbeTokens:
    """Tokenise the probe posts as the engine does; raises `ModelError` where labels begin with the same token."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    labels = prompt.label_ids(tokenizer)
    if any(len(ids) != 1 for ids in labels):
        raise ModelError(
            "two labels begin with the same token of this base", hint="use a template with other label words"
        )
    encoded = prompt.encode(tokenizer, texts, max_tokens)
    return ProbeTokens(tuple(each.ids for each in encoded), tuple(ids[0] for ids in labels))


@torch.no_grad()
def gated_probabilities(
    base: Path, adapters: Sequence[LoraAdapter], gates: Sequence[float], probes: ProbeTokens
) -> Tensor:
    """What hatex answers with these gate weights for every post, shape (posts, labels)."""
    model = GatedLM.load(base, "resident", torch.float32)
    model.attach(adapters)
    rows = []
    for ids, lengths in probes.batches():
        hidden = model.last_hidden(ids, lengths, torch.tensor([list(gates)] * len(ids)))
        rows.append((hidden @ model.vocabulary[list(probes.labels)].T).softmax(-1))
    return torch.cat(rows)


@torch.no_grad()
def plain_probabilities(model: PreTrainedModel, probes: ProbeTokens) -> Tensor:
    """What a transformers or PEFT model answers, shape (posts, labels)."""
    rows = []
    for ids, lengths in probes.batches():
        # Causal models padded on the right need no mask: nothing real looks at padding.
        logits = model(input_ids=ids).logits[torch.arange(len(ids)), lengths - 1]
        rows.append(logits[:, list(probes.labels)].float().softmax(-1))
    return torch.cat(rows)


def load_plain(folder: Path) -> PreTrainedModel:
    """A model folder in plain transformers on the processor, float32; NF4 weights are dequantised once."""
    from transformers import AutoModelForCausalLM

    # Left to itself, transformers puts a quantised model onto a CUDA device, away from the posts.
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map={"": "cpu"}, trust_remote_code=False
    )
    if getattr(model, "quantization_method", None) is not None:
        model = model.dequantize().float()
    return model.eval()


def load_with_peft(base: Path, adapter: Path) -> PreTrainedModel:
    """The base with an adapter folder put on by PEFT, as a user without hatex does it."""
    from peft import PeftModel

    return PeftModel.from_pretrained(load_plain(base), adapter).eval()
