"""What `hatex train` will do: adapters in order, their rows, and everything that is refused before the first step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from hatex.data.examples import read_examples
from hatex.data.groups import GROUPS
from hatex.data.prompts import Prompt, load_prompt
from hatex.errors import RegistryError, TrainingError
from hatex.model.policy import compute_device, compute_dtype
from hatex.recipe.schema import Recipe
from hatex.recipe.train import TrainSection
from hatex.registry import Artefact, Registry
from hatex.registry.names import Kind
from hatex.training.checks import check_votes, check_weights
from hatex.training.perspective import check_people, group_examples
from hatex.types import Example, Progress, Split
from hatex.workflows.train_compare import find_opponent
from hatex.workflows.train_data import check_prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from hatex.training.job import Job
    from hatex.training.rows import TrainingRow

ROUTER = "router"
# English posts in the vocabularies of today's causal LMs.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Plan:
    """One call of `hatex train`: what to train, on which examples, under which names."""

    recipe: Recipe
    train: TrainSection
    registry: Registry
    examples: Sequence[Example]
    prompt: Prompt
    names: tuple[str, ...]
    resume: bool
    replace: bool
    progress: Progress
    processes: int = 1
    """How many train together; each draws its own dropout."""

    @property
    def adapters(self) -> list[str]:
        return [name for name in self.names if name != ROUTER]

    @property
    def trains_router(self) -> bool:
        return ROUTER in self.names

    def examples_of(self, name: str) -> Sequence[Example]:
        """What adapter `name` learns from and is measured on: every example, or one annotator group's votes."""
        group = self.train.adapters[name].perspective
        return self.examples if group is None else group_examples(self.examples, group, name)

    def existing(self, kind: Kind, name: str) -> Artefact | None:
        """An artefact of this name in the registry's own folder; the read-only starter set may be covered."""
        found = self._find(kind, name)
        return None if found is None or found.is_bundled else found

    def covers_bundled(self, kind: Kind, name: str) -> bool:
        """Whether an artefact of this name will stand before one that hatex ships."""
        found = self._find(kind, name)
        return found is not None and found.is_bundled

    def _find(self, kind: Kind, name: str) -> Artefact | None:
        try:
            return self.registry.find(kind, name, base=self.recipe.base.name if kind == "adapter" else None)
        except RegistryError:
            return None


def make_plan(
    recipe: Recipe,
    registry: Registry,
    only: Sequence[str],
    *,
    resume: bool,
    replace: bool,
    progress: Progress,
    processes: int = 1,
) -> Plan:
    """Read the examples and check names, order and platforms; no model is loaded.

    Raises TrainingError, RegistryError or DataError.
    """
    train = recipe.require("train")
    names = tuple(_names(train, only))
    if compares(train, names):
        find_opponent(recipe)
    splits: tuple[Split, ...] = ("train", "tune", "report") if train.report_posts else ("train", "tune")
    check_prepared(recipe)
    examples = read_examples(Path(train.data), splits=splits)
    prompt = load_prompt(recipe.prompt)
    plan = Plan(recipe, train, registry, examples, prompt, names, resume, replace, progress, processes)
    check_weights(train, examples)
    _check_free(plan)
    _check_starts(plan)
    if plan.trains_router:
        from hatex.training.router import check_platforms

        assert train.router is not None
        check_platforms(examples, train.router)
        if unknown := sorted({*train.router.adapters} - {*recipe.adapters}):
            raise TrainingError(
                f"the router weighs {', '.join(unknown)}, which the recipe does not list",
                where="train.router.adapters",
                hint="add it to `adapters`",
            )
        for name in recipe.adapters:
            if name not in plan.adapters:
                registry.find("adapter", name, base=recipe.base.name)
    return plan


def compares(train: TrainSection, names: Sequence[str]) -> bool:
    """Whether the trained engine is measured beside another one: only if its router is trained now."""
    return train.compare_with is not None and ROUTER in names


def check_machine(plan: Plan) -> None:
    """Raise TrainingError for an optimizer or a tracker that this machine does not have."""
    from hatex.training.optimizer import check_optimizer
    from hatex.training.trackers import check_trackers

    on_cuda = compute_device(plan.recipe.base.device).type == "cuda"
    check_optimizer(plan.train.optimizer, on_cuda=on_cuda)
    check_trackers(plan.train.report_to)


def _names(train: TrainSection, only: Sequence[str]) -> list[str]:
    known = [*train.adapters, *([ROUTER] if train.router is not None else [])]
    if unknown := [name for name in only if name not in known]:
        raise TrainingError(
            f"nothing named {', '.join(unknown)} to train", hint=f"the recipe trains {', '.join(known)}"
        )
    return [name for name in known if not only or name in only]


def _check_free(plan: Plan) -> None:
    wanted: list[tuple[Kind, str]] = [("adapter", name) for name in plan.adapters]
    if plan.trains_router:
        wanted.append(("router", plan.recipe.router))
    if covered := [f"{kind} {name}" for kind, name in wanted if plan.covers_bundled(kind, name)]:
        plan.progress.say(
            f"{', '.join(covered)}: from then on found in this registry before those of that name that hatex ships"
        )
    for kind, name in () if plan.replace else wanted:
        found = plan.existing(kind, name)
        # With --resume, what an earlier run of this recipe finished is skipped once its key is known to fit.
        if found is not None and not (plan.resume and "training_key" in found.manifest.extra):
            raise RegistryError(
                f"{kind} {name} exists already",
                where=str(found.path),
                hint="name it otherwise, or use --replace",
            )


def _check_starts(plan: Plan) -> None:
    """Every `init` and every partner is trained earlier in this call, or is in the registry."""
    for position, name in enumerate(plan.adapters):
        section = plan.train.adapters[name]
        needed = [("init", section.init)] if section.init is not None else []
        for key, other in [*needed, *(("partners", partner) for partner in section.partners)]:
            if other in plan.adapters[:position]:
                continue
            if other in plan.adapters:
                raise TrainingError(
                    f"adapter {name} needs {other}, which is trained after it",
                    where=f"train.adapters.{name}.{key}",
                    hint=f"write {other} above {name} under train.adapters",
                )
            plan.registry.find("adapter", other, base=plan.recipe.base.name)


def build_job(plan: Plan, name: str, tokenizer: PreTrainedTokenizerBase | None, identity: str | None) -> Job:
    """The rows of one adapter; without a tokenizer (a dry run before the base is here) their lengths are guessed.

    Raises TrainingError for an empty platform, one class only, or a label that no vote touches.
    """
    from hatex.training.encoding import written
    from hatex.training.job import Job
    from hatex.training.partners import draw_gates
    from hatex.training.rows import select_examples
    from hatex.training.weights import weigh_rows

    section, train = plan.train.adapters[name], plan.train
    chosen = select_examples(plan.examples_of(name), name, train.adapters, train.seed)
    if plan.prompt.preface and not any(written(example, "summary") for example in chosen):
        plan.progress.say(
            f"{name}: no training post has a written explanation (prepare.annotate), so what template "
            f"{plan.prompt.name} writes before the label is not trained"
        )
    rows = encode(plan, chosen, tokenizer, is_training=True)
    if section.perspective is not None:
        check_people(chosen, section.perspective, name)
    own = {e.id for e in chosen if not section.platforms or e.platform in section.platforms}
    check_votes(name, rows, own)
    if section.partners:
        rows = draw_gates(rows, len(section.partners), section.partner_share, train.seed)
    rows = weigh_rows(rows, section.dataset_weights, train.priors)
    tune = _sample(plan, name, chosen, "tune", train.tune_posts)
    tune_rows = weigh_rows(
        encode(plan, tune, tokenizer, is_training=False), section.dataset_weights, train.priors
    )
    pad = getattr(tokenizer, "pad_token_id", None) or 0
    folder = plan.registry.root / ".training" / plan.recipe.base.name / name
    job = Job(name, section, train, rows, tune_rows, pad, "", folder)
    return replace(job, key=_key(plan, job, identity))


def report_rows(plan: Plan, job: Job, tokenizer: PreTrainedTokenizerBase) -> Sequence[TrainingRow]:
    """Rows of the report split that the finished adapter is measured on, for its card."""
    names = {row.dataset for row in job.rows}
    chosen = [e for e in plan.examples_of(job.name) if e.split == "train" and e.dataset in names]
    posts = _sample(plan, job.name, chosen, "report", plan.train.report_posts)
    return encode(plan, posts, tokenizer, is_training=False)


def encode(
    plan: Plan,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase | None,
    *,
    is_training: bool,
) -> list[TrainingRow]:
    """Training rows have answers and varied formatting, the others neither."""
    from hatex.training.encoding import encode_rows, guess_rows

    train = plan.train
    if tokenizer is None:
        return guess_rows(examples, plan.prompt, BYTES_PER_TOKEN, train.max_tokens)
    return encode_rows(
        examples,
        plan.prompt,
        tokenizer,
        max_tokens=train.max_tokens,
        with_answers=is_training and train.explanation_weight > 0,
        formatting_noise=train.formatting_noise if is_training else 0.0,
        groups=plan.recipe.groups or GROUPS,
        seed=train.seed,
        majority=is_training and train.votes == "majority",
    )


def _sample(plan: Plan, name: str, chosen: Sequence[Example], split: Split, count: int) -> list[Example]:
    datasets, platforms = {e.dataset for e in chosen}, plan.train.adapters[name].platforms
    pool = [e for e in plan.examples_of(name) if e.split == split and e.dataset in datasets]
    pool = [e for e in pool if not platforms or e.platform in platforms]
    Random(f"{plan.train.seed}/{split}/{name}").shuffle(pool)
    return pool[:count]


# Settings that do not change a single byte of the adapter.
_FREE = {"adapters", "router", "data", "checkpoint_every", "report_to", "report_folder"} | {
    "report_posts",
    "compare_with",
    "licence",
}


def _key(plan: Plan, job: Job, identity: str | None) -> str:
    """Digest of all that decides the adapter's bytes but for its parents', so that no checkpoint of another run is
    taken up: `with_parents` adds those.
    """
    device = compute_device(plan.recipe.base.device)
    record = [
        str(compute_dtype(plan.recipe.base.dtype, device)),
        device.type,
        plan.processes,
        plan.train.model_dump(exclude=_FREE),
        job.section.model_dump(),
        identity,
        str(plan.prompt),
        [
            (row.example_id, row.ids, row.answer_at, row.shares, row.weight)
            for row in (*job.rows, *job.tune_rows)
        ],
    ]
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


def with_parents(job: Job, parents: Sequence[Artefact]) -> Job:
    """The job with the weights that it starts from, or is trained beside, in its key."""
    if not parents:
        return job
    weights = (parent.manifest.files["adapter_model.safetensors"] for parent in parents)
    text = " ".join([job.key, *weights])
    return replace(job, key=hashlib.sha256(text.encode()).hexdigest())
