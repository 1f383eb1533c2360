"""A finished adapter into the registry, with its records."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.data.card import CARD_JSON
from hatex.registry import Artefact
from hatex.types import Example
from hatex.workflows.train_plan import Plan, report_rows
from hatex.workflows.train_report import report_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from hatex.model.gatedlm import GatedLM
    from hatex.registry.adapters import LoraAdapter
    from hatex.training.job import Job, Trained


def publish_adapter(
    plan: Plan,
    job: Job,
    trained: Trained,
    adapter: LoraAdapter,
    device: torch.device,
    measured: Mapping[str, float],
    parents: Sequence[Artefact],
) -> None:
    """Write the adapter, its card and its loss curve, and publish them under the adapter's name.

    `measured` is what `measure_adapter` found. `parents` are the base, then the adapters that it started from and was
    trained beside.
    """
    from hatex.registry.adapters import save_adapter
    from hatex.training.curve import write_curve
    from hatex.training.records import CardFacts, model_card

    base, report = parents[0], report_of(job, trained)
    card = Path(plan.train.data) / CARD_JSON
    ids = {row.example_id for row in job.rows}
    votes = 1.0 if plan.train.votes == "majority" else _votes_per_post(plan.examples_of(job.name), ids)
    fields: dict[str, Any] = {
        "base_identity": base.manifest.base_identity,
        "source": {"train": plan.recipe.name},
        "licence": plan.train.licence,
        "recipe": plan.recipe.model_dump(
            mode="json", exclude={"prepare", "merge", "eval"}, exclude_defaults=True
        ),
        "data": {"card": hashlib.sha256(card.read_bytes()).hexdigest()} if card.is_file() else {},
        "metrics": {
            "tune_loss": report.best_tune_loss,
            "tokens": report.tokens,
            "seconds": round(trained.progressed.seconds),
            **measured,
        },
        "parents": {each.ref: each.manifest.digest for each in parents},
        "rows": report.rows,
        "perspective": job.section.perspective
        or next((p for each in parents if (p := each.manifest.extra.get("perspective"))), None),
        "votes_per_post": votes,
        "training_key": job.key,
    }
    facts = CardFacts(
        base.name,
        plan.train.licence,
        report.rows,
        votes,
        _sources(card, {e.platform for e in plan.examples if e.id in ids}),
        measured,
        _hardware(device, plan.processes),
        sorted({len(update.A) for update in adapter.modules.values()}),
        sorted({round(update.scaling, 6) for update in adapter.modules.values()}),
    )
    with plan.registry.publish(
        "adapter", job.name, base=base.name, manifest_fields=fields, replace=plan.replace
    ) as folder:
        save_adapter(folder, adapter, base_model=base.name, dropout=plan.train.lora.dropout)
        write_curve(folder, job.name, trained.progressed.losses, trained.progressed.tune_losses)
        (folder / "README.md").write_text(model_card(job, trained, facts), encoding="utf-8")


def _votes_per_post(examples: Sequence[Example], ids: set[str]) -> float:
    """Mean number of votes of the training posts; decides whether disagreement speaks of people or of the model."""
    counts = [sum(vote.count for vote in e.votes) for e in examples if e.id in ids]
    return round(sum(counts) / max(1, len(counts)), 3)


def _sources(card: Path, platforms: set[str]) -> list[dict[str, str]]:
    """Name, licence and citation of the data card's sources on these platforms; none without a card."""
    if not card.is_file():
        return []
    sources = json.loads(card.read_text(encoding="utf-8")).get("sources", ())
    return [
        {key: " ".join(str(source.get(key, "")).split()) for key in ("name", "licence", "cite")}
        for source in sources
        if source["platform"] in platforms
    ]


def _hardware(device: torch.device, processes: int) -> str:
    import torch

    threads = torch.get_num_threads()
    name = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return name if processes == 1 else f"{name} in {processes} processes"


def measure_adapter(
    plan: Plan, job: Job, adapter: LoraAdapter, lm: GatedLM, tokenizer: PreTrainedTokenizerBase
) -> dict[str, float]:
    """Vote loss and accuracy (as `hatex eval` decides, on posts that most votes agree on) on seeded report posts.

    Nothing where the recipe asks for none (`train.report_posts`), or there are none, or the template explains first:
    the adapter's own explanation would have to stand before the label, as `hatex eval` has it.
    """
    if not plan.train.report_posts or plan.prompt.preface:
        return {}
    from hatex.training.encoding import label_tokens
    from hatex.training.measure import measure_rows

    rows = report_rows(plan, job, tokenizer)
    if not rows:
        return {}
    lm.attach([adapter])
    head = lm.vocabulary[label_tokens(plan.prompt, tokenizer)]
    with plan.progress.task(f"Measuring {job.name}", len(rows), "posts") as advance:
        loss, probabilities = measure_rows(lm, rows, job, head, advance)
    measured: dict[str, float] = {"report_posts": len(rows), "report_vote_loss": round(loss, 4)}
    accuracy = card_accuracy(plan, [row.example_id for row in rows], probabilities)
    return measured if accuracy is None else measured | {"report_accuracy": round(accuracy, 4)}


def card_accuracy(plan: Plan, ids: Sequence[str], probabilities: NDArray[np.float64]) -> float | None:
    """Share of right decisions on report posts, P(label) in the order of their ids; None where no votes decide."""
    from hatex.evaluation.gold import Scored, build_gold, find_question

    place = {id_: i for i, id_ in enumerate(ids)}
    by_set: dict[str, list[Example]] = defaultdict(list)
    for example in plan.examples:
        if example.split == "report":
            by_set[example.dataset].append(example)
    right: list[bool] = []
    for dataset, examples in by_set.items():
        question = find_question([example.votes for example in examples])
        posts = [example for example in examples if example.id in place]
        if len(question.cells) > 1 and any(
            question.cell_of(v.labels) is not None for e in posts for v in e.votes
        ):
            gold = build_gold(dataset, posts, question)
            scored = Scored(gold, probabilities[[place[id_] for id_ in gold.ids]])
            right += scored.is_correct[gold.is_decided].tolist()
    return sum(right) / len(right) if right else None
