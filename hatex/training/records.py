"""The model card of a trained adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hatex.training.job import Job, Trained


@dataclass(frozen=True)
class CardFacts:
    """What the card says beyond the job itself."""

    base: str
    licence: str | None
    rows: Mapping[str, int]
    """Training posts of each data set."""
    votes_per_post: float
    sources: Sequence[Mapping[str, str]] = ()
    """`name`, `licence` and `cite` of every source, as the data card has them."""
    report: Mapping[str, float] = field(default_factory=dict)
    """Figures on the report split."""
    hardware: str = "CPU"
    ranks: Sequence[int] = ()
    """Of the adapter's updates, each rank once; an adapter that started from another has that one's."""
    scalings: Sequence[float] = ()
    """What the updates are scaled by, each once."""


def model_card(job: Job, trained: Trained, facts: CardFacts) -> str:
    """README.md of an adapter: what it is, what it was trained on, how it went, what it is for."""
    start = f"adapter `{job.section.init}`" if job.section.init else "fresh LoRA factors"
    at = trained.progressed
    rows = "\n".join(f"| {dataset} | {count:,} |" for dataset, count in facts.rows.items())
    tune = "not taken" if at.best_loss is None else f"{at.best_loss:.4f} (step {at.best_step}, which is kept)"
    return f"""---
library_name: peft
license: {facts.licence.lower() if facts.licence else "unknown"}
base_model: {facts.base}
tags: [hate-speech-detection, lora]
---
# {job.name}

A LoRA adapter of hatex: it answers whether a post is neutral, offensive or hate speech, as the annotators of
its training data would, and names affected groups and harmful words.

{_perspective(job)}- Platforms: {", ".join(job.section.platforms) or "all"}
- Started from {start}; r = {_listed(facts.ranks)}, scaling = {_listed(facts.scalings)}, \
dropout = {job.train.lora.dropout:g}
- Loss: minus log of the probability mass of each vote's label set, at the label position{_answers(job)}
- {trained.tokens:,} tokens, {at.step} steps, {at.seconds / 60:.0f} minutes on {facts.hardware}
- Votes per training post: {facts.votes_per_post:g}
- Loss on tune: {tune}
- Licence: {facts.licence or "not stated"}

| training set | posts |
|---|---|
{rows}
{_sources(facts.sources)}{_report(facts.report)}
![Loss by optimizer step](losses.png)

Intended use: research, and help for human moderators. It reads English posts of the platforms above; it makes
mistakes, above all on irony, quotation, reclaimed words and groups that its data rarely names. It must not be
the only reason for a sanction.
"""


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _perspective(job: Job) -> str:
    group = job.section.perspective
    return (
        f"- **Experimental**: learnt from annotators of group {group} alone; not to be given away\n"
        if group
        else ""
    )


def _answers(job: Job) -> str:
    weight = job.train.explanation_weight
    return f", plus {weight:g} times that of the explanation's tokens where people gave one" if weight else ""


def _sources(sources: Sequence[Mapping[str, str]]) -> str:
    if not sources:
        return ""
    lines = [f"| {s['name']} | {s['licence']} | {s['cite'] or '-'} |" for s in sources]
    return "\n".join(["", "| source | licence | cite |", "|---|---|---|", *lines, ""])


def _report(report: Mapping[str, float]) -> str:
    if not report:
        return ""
    lines = [
        f"| {name.removeprefix('report_').replace('_', ' ')} | {value:.4g} |"
        for name, value in report.items()
    ]
    return "\n".join(["", "| on the report split | |", "|---|---|", *lines, ""])
