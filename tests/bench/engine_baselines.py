"""What the engine is compared with: PEFT, transformers' eager forward, a BERT classifier, a stock training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from contenders import Case
from torch import Tensor

from hatex.memory import keep_pages
from hatex.model.scoring import pad, plan

BATCH_TOKENS = 2048
Prompts = Sequence[Sequence[int]]


def linear_layers(folder: Path) -> dict[str, torch.nn.Linear]:
    """The base's linear layers by path, without their weights and without the head."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer is not model.get_output_embeddings()
    }


def eager_base(folder: Path, dtype: torch.dtype) -> Any:
    """Transformers' own model with the NF4 values resident."""
    from transformers import AutoModelForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return packed.dequantize().to(dtype).eval()


def eager_forward(folder: Path, prompts: Prompts, dtype: torch.dtype, *, keeps_pages: bool = False) -> Case:
    """The bare base; `keeps_pages` sets malloc as hatex does."""
    if keeps_pages:
        keep_pages()
    return len(prompts), _forward_all(eager_base(folder, dtype).base_model, prompts)


def peft_forward(
    folder: Path, adapter: Path, prompts: Prompts, dtype: torch.dtype, *, autocast: bool
) -> Case:
    """A base with one adapter put on by PEFT."""
    model = _with_peft(folder, [adapter], dtype, autocast=autocast)
    return len(prompts), _forward_all(model.get_base_model().base_model, prompts)


def merge_per_post(folder: Path, adapters: Sequence[Path], prompts: Prompts, gates: Tensor) -> Case:
    """As the research code does it: for every post a weighted adapter of its own, then one forward."""
    model = _with_peft(folder, adapters, torch.bfloat16, autocast=True)
    names = [adapter.name for adapter in adapters]

    @torch.no_grad()
    def run() -> None:
        for prompt, weights in zip(prompts, gates.tolist(), strict=True):
            model.add_weighted_adapter(names, weights, "mix", combination_type="linear")
            model.set_adapter("mix")
            model.get_base_model().base_model(input_ids=torch.tensor([list(prompt)]), use_cache=False)
            model.delete_adapter("mix")

    return len(prompts), run


def classify(prompts: Prompts, dtype: torch.dtype, *, is_sorted: bool) -> Case:
    """BERT-base as a sequence classifier, 110 M random parameters.

    Posts in input order, 32 at a time, as classifiers ship; or sorted by length under the engine's budget.
    """
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig()).to(dtype).eval()
    rows = [[101, *(t % 30000 for t in p[5:]), 102] for p in prompts]
    batches = [list(range(i, min(i + 32, len(rows)))) for i in range(0, len(rows), 32)]
    if is_sorted:
        batches = plan([len(r) for r in rows], BATCH_TOKENS)

    @torch.inference_mode()
    def run() -> None:
        for batch in batches:
            ids, lengths = pad([rows[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths))

    return len(rows), run


def _with_peft(folder: Path, adapters: Sequence[Path], dtype: torch.dtype, *, autocast: bool) -> Any:
    """A base with adapters put on by PEFT, each named as its folder; the first one is active."""
    from peft import PeftModel

    first, *others = adapters
    base = eager_base(folder, dtype)
    model = PeftModel.from_pretrained(base, first, adapter_name=first.name, autocast_adapter_dtype=autocast)
    for adapter in others:
        model.load_adapter(adapter, adapter.name, autocast_adapter_dtype=autocast)
    model.set_adapter(first.name)
    return model.eval()


def _forward_all(model: torch.nn.Module, prompts: Prompts) -> Callable[[], None]:
    """One pass over the posts in the engine's own batches; the head is left out, in the baseline's favour."""

    @torch.inference_mode()
    def run() -> None:
        for batch in plan([len(p) for p in prompts], BATCH_TOKENS):
            ids, lengths = pad([prompts[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths), use_cache=False)

    return run


def _mask(ids: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()


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
