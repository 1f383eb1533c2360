"""`hatex train`: adapters by QLoRA on the base, one after the other, then the router."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import RegistryError
from hatex.memory import release_free_pages
from hatex.model.base import compute_dtype, ensure_base
from hatex.model.policy import choose_compute, compute_device
from hatex.recipe.schema import Recipe
from hatex.registry import Artefact, Registry
from hatex.types import NO_PROGRESS, Progress
from hatex.workflows.train_compare import compare
from hatex.workflows.train_data import prepare_missing
from hatex.workflows.train_dry import dry_run as run_dry
from hatex.workflows.train_plan import (
    Plan,
    build_job,
    check_machine,
    compares,
    make_plan,
    with_parents,
)
from hatex.workflows.train_publish import measure_adapter, publish_adapter
from hatex.workflows.train_report import AdapterReport, Comparison, TrainReport, report_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hatex.model.gatedlm import GatedLM
    from hatex.registry.adapters import LoraAdapter
    from hatex.training.job import Job
    from hatex.training.team import Team

__all__ = ["AdapterReport", "Comparison", "TrainReport", "train"]


@dataclass(frozen=True)
class _Ground:
    """What all adapters of one call are trained on, and with whom."""

    base: Artefact
    lm: GatedLM
    tokenizer: PreTrainedTokenizerBase
    label_ids: Sequence[int]
    team: Team


def train(
    recipe: Recipe,
    registry: Registry,
    *,
    only: Sequence[str] = (),
    resume: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    progress: Progress = NO_PROGRESS,
) -> TrainReport:
    """Train every adapter and the router of the recipe (or `only` those named), and publish them.

    Data that is missing is prepared first, where the recipe says how. Under `accelerate launch` all processes train
    together and the main one writes; the report of the others says so (`is_main`).
    Raises TrainingError or RegistryError before the first step where something is missing, taken or does not fit.
    """
    from hatex.training.team import join_team

    team = join_team(recipe.base.device)
    progress = progress if team.is_main else NO_PROGRESS
    if not dry_run:
        with team.main_first():
            prepare_missing(recipe, registry, progress)
    plan = make_plan(
        recipe, registry, only, resume=resume, replace=replace, progress=progress, processes=team.size
    )
    if dry_run:
        return run_dry(plan)
    check_machine(plan)
    if team.is_main and plan.trains_router:
        from hatex.training.router import load_encoder

        # Before the adapters, for hours later is late to miss an encoder or one of its layers.
        load_encoder(recipe, registry, progress)
    reports = _train_adapters(plan, team) if plan.adapters else []
    release_free_pages()
    router, comparison = None, None
    if team.is_main and plan.trains_router:
        router = _train_router(plan)
    if team.is_main and compares(plan.train, plan.names):
        comparison = compare(recipe, registry, progress)
    team.wait()
    return TrainReport(tuple(reports), router, comparison=comparison, is_main=team.is_main)


def _train_adapters(plan: Plan, team: Team) -> list[AdapterReport]:
    """Train and publish the plan's adapters, then let go of the base: the router's engine loads its own."""
    from hatex.training.checkpoint import claim

    ground = _load(plan, team)
    jobs = [build_job(plan, n, ground.tokenizer, ground.base.manifest.base_identity) for n in plan.adapters]
    with ExitStack() as claims:
        if team.is_main:
            for job in jobs:
                claims.enter_context(claim(job.folder))
        _check_resumable(plan, ground, jobs)
        return [_train_adapter(plan, ground, job) for job in jobs]


def _load(plan: Plan, team: Team) -> _Ground:
    import torch
    from transformers import AutoTokenizer

    from hatex.model.gatedlm import GatedLM
    from hatex.model.sharding import shard_base
    from hatex.training.encoding import label_tokens
    from hatex.training.estimate import training_bytes

    if plan.train.threads is not None:
        torch.set_num_threads(plan.train.threads)
    with team.main_first():
        base = ensure_base(plan.recipe.base, plan.registry, progress=plan.progress)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    label_ids = label_tokens(plan.prompt, tokenizer)
    with plan.progress.task("Loading the base"):
        device = compute_device(plan.recipe.base.device)
        dtype = compute_dtype(plan.recipe.base.dtype, device)
        # Never packed: bitsandbytes' packed CPU kernels have no right gradient after an eval pass.
        if team.spreads_base:
            lm = GatedLM.load(base.path, "dequantize", dtype)
            shard_base(lm, device)
            plan.progress.say(f"the base is spread over {team.size} processes")
        else:
            beside = training_bytes(base.path, plan.train, dtype)
            compute = choose_compute(plan.recipe.base.compute, base.path, dtype, device, beside=beside)
            fits = compute == "resident"
            lm = GatedLM.load(base.path, "resident" if fits else "dequantize", dtype, device=device)
    return _Ground(base, lm, tokenizer, label_ids, team)


def _train_adapter(plan: Plan, ground: _Ground, job: Job) -> AdapterReport:
    from hatex.registry.adapters import load_adapter
    from hatex.training.initial import trained_adapter
    from hatex.training.loop import AdapterTrainer
    from hatex.training.trackers import open_trackers

    parents = [_find(plan, ground, name) for name in _parents(job)]
    start, partners = _start(plan, ground, job, parents), parents[len(parents) - len(job.section.partners) :]
    job = with_parents(job, parents)
    if (found := _finished(plan, job)) is not None:
        return _report_again(plan, job, found)
    team = ground.team
    if not plan.resume and team.is_main:
        shutil.rmtree(job.folder, ignore_errors=True)
    team.wait()
    ground.lm.attach([start, *map(load_adapter, partners)], trainable=True, dropout=plan.train.lora.dropout)
    trackers = open_trackers(
        plan.train.report_to if team.is_main else (),
        f"{plan.recipe.name}-{job.name}",
        Path(plan.train.report_folder),
        plan.train.model_dump(),
    )
    trainer = AdapterTrainer(ground.lm, job, ground.label_ids, plan.progress, team=team, trackers=trackers)
    try:
        trained = trainer.run(resume=plan.resume)
    finally:
        trackers.finish()
    adapter = trained_adapter(start, trained.weights)
    measured = measure_adapter(plan, job, adapter, ground.lm, ground.tokenizer)
    if team.is_main:
        publish_adapter(plan, job, trained, adapter, ground.lm.device, measured, [ground.base, *parents])
        shutil.rmtree(job.folder, ignore_errors=True)
    team.wait()
    return report_of(job, trained)


def _find(plan: Plan, ground: _Ground, name: str) -> Artefact:
    """An adapter of this base in the registry."""
    from hatex.registry import check_adapter_fits

    found = plan.registry.find("adapter", name, base=ground.base.name)
    check_adapter_fits(ground.base.manifest, found.manifest)
    return found


def _parents(job: Job) -> list[str]:
    """Names of the adapter that this one starts from, if any, and of those it is trained beside."""
    return [*([job.section.init] if job.section.init is not None else []), *job.section.partners]


def _start(plan: Plan, ground: _Ground, job: Job, parents: Sequence[Artefact]) -> LoraAdapter:
    """Fresh factors, or those of the adapter that `init` names, which is the first of `parents`."""
    from hatex.registry.adapters import LoraAdapter, load_adapter
    from hatex.training.initial import fresh_adapter

    fresh = fresh_adapter(ground.lm, job.name, plan.train.lora, plan.train.seed)
    return fresh if job.section.init is None else LoraAdapter(job.name, load_adapter(parents[0]).modules)


def _check_resumable(plan: Plan, ground: _Ground, jobs: Sequence[Job]) -> None:
    """Raise before the first step for what earlier runs left under these names: artefacts or, under --resume,
    checkpoints of another recipe; without it, checkpoints of this one, which starting anew would delete.

    An adapter whose parents are still to be trained cannot be compared yet; its checkpoint is looked at later.
    """
    from hatex.training.checkpoint import read_progress, refuse_unfinished

    pending: set[str] = set()
    for job in jobs:
        if pending & set(_parents(job)):
            pending.add(job.name)
            if not plan.replace and (found := plan.existing("adapter", job.name)):
                raise _taken(job, found)
            continue
        keyed = with_parents(job, [_find(plan, ground, name) for name in _parents(job)])
        if _finished(plan, keyed) is None:
            pending.add(job.name)
            if plan.resume:
                read_progress(keyed.folder, keyed.key)
            elif not plan.replace:
                refuse_unfinished(keyed.folder, keyed.key)
    if (
        pending
        and plan.trains_router
        and not plan.replace
        and (found := plan.existing("router", plan.recipe.router))
    ):
        raise RegistryError(
            f"router {plan.recipe.router} exists already, from other adapters",
            where=str(found.path),
            hint="name it otherwise, or use --replace",
        )


def _finished(plan: Plan, job: Job) -> Artefact | None:
    """What an earlier run of the same recipe published, which `--replace` replaces unless the run is resumed.

    Raises RegistryError if it was another recipe's and must stay.
    """
    found = plan.existing("adapter", job.name)
    if found is None:
        return None
    is_same = found.manifest.extra.get("training_key") == job.key
    if plan.replace:
        return found if is_same and plan.resume else None
    if not is_same:
        raise _taken(job, found)
    return found


def _taken(job: Job, found: Artefact) -> RegistryError:
    return RegistryError(
        f"adapter {job.name} exists already, from another recipe, base or data",
        where=str(found.path),
        hint="name it otherwise, or use --replace",
    )


def _report_again(plan: Plan, job: Job, found: Artefact) -> AdapterReport:
    plan.progress.say(f"{job.name}: trained already")
    metrics = found.manifest.metrics
    rows = dict(Counter(row.dataset for row in job.rows))
    return AdapterReport(
        job.name,
        dict(sorted(rows.items())),
        job.steps,
        int(metrics["tokens"]),
        float(metrics["seconds"]),
        metrics["tune_loss"],
    )


def _train_router(plan: Plan) -> dict[str, Any]:
    from hatex.training.router import router_key, train_router

    key = router_key(plan.recipe, plan.registry, plan.examples)
    found = plan.existing("router", plan.recipe.router)
    is_same = found is not None and found.manifest.extra.get("training_key") == key
    if found is not None and (not plan.replace or (plan.resume and is_same)):
        if is_same:
            plan.progress.say("router: trained already")
            return dict(found.manifest.metrics)
        raise RegistryError(
            f"router {plan.recipe.router} exists already, from another recipe, adapters or data",
            where=str(found.path),
            hint="name it otherwise, or use --replace",
        )
    return train_router(
        plan.recipe, plan.registry, plan.examples, replace=plan.replace, key=key, progress=plan.progress
    )
