"""What the engine is compared with: PEFT, transformers' eager forward, a BERT classifier, a stock training loop.

Each function builds one contender, in the process that runs it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from contenders import Answer, Prompts
from torch import Tensor, nn

from hatex.memory import keep_pages
from hatex.model.scoring import pad, plan
from hatex.registry.adapters import LoraAdapter, LoraUpdate, save_adapter

BATCH_TOKENS = 2048
BERT_ROWS = 32


def adapters(layers: Mapping[str, Any], count: int, r: int) -> list[LoraAdapter]:
    """Random adapters on these linear layers."""
    generator = torch.Generator().manual_seed(0)
    return [
        LoraAdapter(
            f"adapter{k}",
            {
                path: LoraUpdate(
                    torch.randn(r, layer.in_features, generator=generator) * 0.02,
                    torch.randn(layer.out_features, r, generator=generator) * 0.02,
                    2.0,
                )
                for path, layer in layers.items()
            },
        )
        for k in range(count)
    ]


def gates(rows: int, count: int) -> Tensor:
    """Seeded gate weights, shape (rows, count)."""
    return torch.softmax(torch.randn(rows, count, generator=torch.Generator().manual_seed(rows)), -1)


def bare_base(folder: Path, dtype: torch.dtype, *, keeps_pages: bool = False) -> Answer:
    """Transformers' own forward; `keeps_pages` sets malloc as hatex does."""
    if keeps_pages:
        keep_pages()
    return _forward(_load(folder, dtype).base_model)


def one_adapter(
    folder: Path, dtype: torch.dtype, *, autocast: bool = True, keeps_pages: bool = False
) -> Answer:
    """A base with one adapter put on by PEFT."""
    if keeps_pages:
        keep_pages()
    return _forward(_with_peft(folder, dtype, 1, autocast=autocast).get_base_model().base_model)


def merge_per_post(folder: Path, dtype: torch.dtype) -> Answer:
    """As the research code does it: for every post a weighted adapter of its own, then one forward."""
    model = _with_peft(folder, dtype, 3, autocast=True)
    names = list(model.peft_config)

    @torch.no_grad()
    def answer(prompts: Prompts) -> None:
        for prompt, weights in zip(prompts, gates(len(prompts), 3).tolist(), strict=True):
            model.add_weighted_adapter(names, weights, "mix", combination_type="linear")
            model.set_adapter("mix")
            model.get_base_model().base_model(input_ids=torch.tensor([list(prompt)]), use_cache=False)
            model.delete_adapter("mix")

    return answer


def classifier(dtype: torch.dtype, *, is_sorted: bool) -> Answer:
    """BERT-base as a sequence classifier, 110 M random parameters.

    Posts in input order, 32 at a time, as classifiers ship; or sorted by length under the engine's budget.
    """
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig()).to(dtype).eval()

    @torch.inference_mode()
    def answer(prompts: Prompts) -> None:
        # Two tokens around a post, where the engine's prompt has five.
        rows = [[101, *prompt[5:], 102] for prompt in prompts]
        batches = [list(range(len(rows)))[i : i + BERT_ROWS] for i in range(0, len(rows), BERT_ROWS)]
        if is_sorted:
            batches = plan([len(row) for row in rows], BATCH_TOKENS)
        for batch in batches:
            ids, lengths = pad([rows[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths))

    return answer


def stock_training(folder: Path, dtype: torch.dtype, rows: int) -> Answer:
    """`transformers.Trainer` over PEFT over bitsandbytes' NF4, as their examples do it; `rows` posts a batch."""
    from bitsandbytes.nn import Linear4bit
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    # Loaded packed, layers compute in bf16 and plain weights stay bf16 whatever `dtype` says: cast as one would where
    # bf16 is emulated.
    for module in base.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = dtype
    for parameter in base.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    model = get_peft_model(base, lora)

    def collate(chosen: list[dict[str, Any]]) -> dict[str, Tensor]:
        ids, lengths = pad([row["input_ids"] for row in chosen])
        at_label = torch.arange(ids.shape[1])[None] == (lengths - 1)[:, None]
        labels = torch.where(at_label, ids, -100)
        return {"input_ids": ids, "attention_mask": _mask(ids, lengths), "labels": labels}

    def answer(prompts: Prompts) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            arguments = TrainingArguments(
                scratch,
                per_device_train_batch_size=rows,
                train_sampling_strategy="sequential",
                num_train_epochs=1,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                remove_unused_columns=False,
                use_cpu=True,
            )
            data = [{"input_ids": list(prompt)} for prompt in prompts]
            Trainer(model, arguments, train_dataset=data, data_collator=collate).train()

    return answer


def _load(folder: Path, dtype: torch.dtype) -> Any:
    """Transformers' own model with the NF4 values resident."""
    from transformers import AutoModelForCausalLM

    packed = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return packed.dequantize().to(dtype).eval()


def _with_peft(folder: Path, dtype: torch.dtype, count: int, *, autocast: bool) -> Any:
    """A base with adapters put on by PEFT; the first one is active."""
    from peft import PeftModel

    model = _load(folder, dtype)
    head = model.get_output_embeddings()
    layers = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head}
    with tempfile.TemporaryDirectory() as scratch:
        for adapter in adapters(layers, count, 16):
            at = Path(scratch) / adapter.name
            save_adapter(at, adapter, dtype=torch.float32)
            if isinstance(model, PeftModel):
                model.load_adapter(at, adapter.name, autocast_adapter_dtype=autocast)
            else:
                model = PeftModel.from_pretrained(
                    model, at, adapter_name=adapter.name, autocast_adapter_dtype=autocast
                )
    model.set_adapter("adapter0")
    return model.eval()


def _forward(model: nn.Module) -> Answer:
    """Posts in the engine's own batches; the head is left out, in the baseline's favour."""

    @torch.inference_mode()
    def answer(prompts: Prompts) -> None:
        for batch in plan([len(p) for p in prompts], BATCH_TOKENS):
            ids, lengths = pad([prompts[i] for i in batch])
            model(input_ids=ids, attention_mask=_mask(ids, lengths), use_cache=False)

    return answer


def _mask(ids: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
