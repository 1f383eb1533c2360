"""`hatex train --dry-run`: steps, tokens, memory and time, from the shape of the base alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.errors import RegistryError, TrainingError
from hatex.workflows.train_plan import BYTES_PER_TOKEN, Plan, build_job, check_machine
from hatex.workflows.train_report import DryRun, TrainReport, report_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from hatex.training.estimate import Estimate
    from hatex.training.job import Job


def dry_run(plan: Plan) -> TrainReport:
    """Every check that needs no weights, and what the run would take. Nothing is fetched or written."""
    tokenizer, config, identity = _look_at_base(plan)
    jobs = [build_job(plan, name, tokenizer, identity) for name in plan.adapters]
    found = _estimate(plan, config, jobs) if config is not None and jobs else None
    rate = found.tokens_per_s if found else None
    reports = [report_of(job, None, job.tokens / rate if rate else None) for job in jobs]
    notes = [_TIMED if found else "the base is not here and the recipe does not tell its shape (base.shape)"]
    if tokenizer is None:
        notes.append(f"tokens counted as {BYTES_PER_TOKEN} bytes each, since the tokenizer is not here")
    try:
        check_machine(plan)
    except TrainingError as error:
        notes.append(f"{error.message}: {error.hint}")
    summary = DryRun(
        found.base_bytes if found else None,
        found.adapter_bytes if found else None,
        found.activation_bytes if found else None,
        rate,
        "; ".join(notes),
    )
    return TrainReport(tuple(reports), _router(plan), estimate=summary)


def _router(plan: Plan) -> dict[str, Any] | None:
    """What the router would weigh, and the posts that it would be fitted on."""
    from hatex.training.router import choose_posts

    if not plan.trains_router:
        return None
    train = plan.train
    assert train.router is not None
    limit = train.router.posts_per_platform
    posts = choose_posts(plan.examples, train.router, "train", limit, train.seed)
    return {"adapters": ", ".join(train.router.adapters), "posts": len(posts)}


_TIMED = (
    "one block of the base's shape was trained on this machine for a moment, and its time and memory multiplied; "
    "loss on tune, loading and the router come on top"
)


def _look_at_base(plan: Plan) -> tuple[PreTrainedTokenizerBase | None, PretrainedConfig | None, str | None]:
    """Tokenizer, configuration and identity of the base, as far as they are on this machine."""
    from transformers import AutoConfig, AutoTokenizer, LlamaConfig

    section = plan.recipe.base
    folder, identity = None, None
    try:
        artefact = plan.registry.find("base", section.name)
    except RegistryError:
        if section.source.folder is not None:
            folder = Path(section.source.folder).expanduser()
    else:
        folder, identity = artefact.path, artefact.manifest.base_identity
    if folder is not None and (folder / "config.json").is_file():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return AutoTokenizer.from_pretrained(folder), config, identity
    if section.shape is None:
        return None, None, None
    shape: dict[str, Any] = section.shape.model_dump()
    return None, LlamaConfig(**shape), None


def _estimate(plan: Plan, config: PretrainedConfig, jobs: list[Job]) -> Estimate:
    from hatex.model.policy import compute_device, compute_dtype
    from hatex.training.estimate import estimate

    longest = max(len(row.ids) for job in jobs for row in job.rows)
    device = compute_device(plan.recipe.base.device)
    dtype = compute_dtype(plan.recipe.base.dtype, device)
    with plan.progress.task("Timing one block"):
        return estimate(config, plan.train, dtype, longest, device)
