"""What the engine is compared with: PEFT, transformers' eager forward, a BERT classifier, a stock training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hatex.model.scoring import pad, plan
from hatex.registry.adapters import LoraAdapter, save_adapter

BATCH_TOKENS = 2048
Prompts = Sequence[Sequence[int]]


def eager_base(folder: Path, dtype: torch.dtype) -> Any:
    """Transformers' own model with the NF4 values resident."""
    from transformers import AutoModelForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return packed.dequantize().to(dtype).eval()


def forward_all(model: torch.nn.Module, prompts: Prompts) -> Callable[[], None]:
    """One pass over the posts in the engine's own batches; the head is left out, in the baseline's favour."""

    @torch.inference_mode()
    def run() -> None:
        for batch in plan([len(p) for p in prompts], BATCH_TOKENS):
            ids, lengths = pad([prompts[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths), use_cache=False)

    return run


def _mask(ids: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()


def with_peft(
    folder: Path, adapters: Sequence[LoraAdapter], at: Path, dtype: torch.dtype, *, autocast: bool
) -> Any:
    """A base with adapters put on by PEFT."""
    from peft import PeftModel

    for adapter in adapters:
        save_adapter(at / adapter.name, adapter, dtype=torch.float32)
    model = PeftModel.from_pretrained(
        eager_base(folder, dtype),
        at / adapters[0].name,
        adapter_name=adapters[0].name,
        autocast_adapter_dtype=autocast,
    )
    for adapter in adapters[1:]:
        model.load_adapter(at / adapter.name, adapter.name, autocast_adapter_dtype=autocast)
    model.set_adapter(adapters[0].name)
    return model.eval()


def merge_per_post(model: Any, names: Sequence[str], prompts: Prompts, gates: Tensor) -> Callable[[], None]:
    """As the research code does it: for every post a weighted adapter of its own, then one forward."""

    @torch.no_grad()
    def run() -> None:
        for prompt, weights in zip(prompts, gates.tolist(), strict=True):
            model.add_weighted_adapter(list(names), weights, "mix", combination_type="linear")
            model.set_adapter("mix")
            model.get_base_model().base_model(input_ids=torch.tensor([list(prompt)]), use_cache=False)
            model.delete_adapter("mix")

    return run


def bert(dtype: torch.dtype) -> Any:
    """BERT-base as a sequence classifier, 110 M random parameters."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig()).to(dtype).eval()


def classify_all(model: torch.nn.Module, prompts: Prompts, *, is_sorted: bool) -> Callable[[], None]:
    """Posts in input order, 32 at a time, as classifiers ship; or sorted by length under the engine's budget."""
    rows = [[101, *(t % 30000 for t in p[5:]), 102] for p in prompts]
    batches = [list(range(i, min(i + 32, len(rows)))) for i in range(0, len(rows), 32)]
    if is_sorted:
        batches = plan([len(r) for r in rows], BATCH_TOKENS)

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            ids, lengths = pad([rows[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths))

    return run


def stock_training(folder: Path, prompts: Prompts, at: Path, rows: int) -> float:
    """Tokens per second of `transformers.Trainer` over PEFT over bitsandbytes' NF4, as their examples do it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)

    def collate(chosen: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, lengths = pad([row["input_ids"] for row in chosen])
        at_label = torch.arange(ids.shape[1])[None] == (lengths - 1)[:, None]
        labels = torch.where(at_label, ids, -100)
        return {"input_ids": ids, "attention_mask": _mask(ids, lengths), "labels": labels}

    arguments = TrainingArguments(
        str(at),
        per_device_train_batch_size=rows,
        num_train_epochs=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )
    data = [{"input_ids": list(p)} for p in prompts]
    trainer = Trainer(model, arguments, train_dataset=data, data_collator=collate)
    started = time.perf_counter()
    trainer.train()
    return sum(len(p) for p in prompts) / (time.perf_counter() - started)
