"""`hatex merge`: adapters to one adapter, measured, registered and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hatex.errors import RecipeError, RegistryError, UsageError
from hatex.merging.merge import Merged, MergePlan, merge_adapters
from hatex.merging.methods import SPARSE
from hatex.merging.optimise import Trial, optimise_weights
from hatex.merging.outcome import MergeOutcome, MethodRow
from hatex.merging.targets import check_free
from hatex.recipe.merge import MergeSection
from hatex.recipe.schema import Recipe
from hatex.registry import Artefact, Registry, check_adapter_fits
from hatex.registry.adapters import LoraAdapter, load_adapter, save_adapter
from hatex.registry.names import check_name
from hatex.types import NO_PROGRESS, Progress
from hatex.workflows.merge_data import Posts, load_posts, mean_gates, score_constant
from hatex.workflows.merge_record import build_card, merge_fields

if TYPE_CHECKING:
    from hatex.engine import Engine
    from hatex.merging.exports import ExportReport


@dataclass(frozen=True)
class _Run:
    """What all steps of one call share."""

    recipe: Recipe
    section: MergeSection
    registry: Registry
    replace: bool
    progress: Progress


def merge(
    recipe: Recipe,
    registry: Registry,
    *,
    replace: bool = False,
    progress: Progress = NO_PROGRESS,
) -> MergeOutcome:
    """Merge as the recipe's section `merge` says, publish the adapter, write the exports.

    Raises `RecipeError` where there is no such section, `RegistryError` for a name that is taken or cannot be, missing
    adapters or adapters of different bases, before anything is computed.
    """
    if recipe.merge is None:
        raise RecipeError(
            [f"recipe {recipe.name} has no section merge"], hint="add one, or use --name and --weight"
        )
    run = _Run(recipe, recipe.merge, registry, replace, progress)
    _check_targets(run)
    engine = _load_engine(run)
    weights, trials = _choose_weights(run, engine)
    parents = _find_parents(run, weights)
    adapters = [load_adapter(parent) for parent in parents]
    plan = _plan(run.section, weights)
    plans = [plan, *(_with_method(plan, method) for method in run.section.compare)]
    merged = [merge_adapters(adapters, each, progress=progress) for each in plans]
    exact, scores = _measure(run, engine, weights, merged)
    rows = tuple(
        MethodRow(each.report, score, number == 0)
        for number, (each, score) in enumerate(zip(merged, scores, strict=True))
    )
    artefact = _publish(run, weights, parents, merged[0], scores[0])
    exports = _export(run, adapters, weights, merged[0].adapter, artefact)
    return MergeOutcome(artefact, weights, run.section.layers, rows, exact, tuple(trials), exports)


def _check_targets(run: _Run) -> None:
    """Refuse names that cannot be, and names and folders that are taken, before hours are spent."""
    section = run.section
    check_name(section.name, what="adapter name")
    if section.name in run.recipe.adapters:
        raise UsageError(
            f"{section.name!r} is an adapter of this recipe", where="merge.name", hint="use a new name"
        )
    taken = [artefact for artefact in run.registry.list("adapter") if artefact.base == run.recipe.base.name]
    if not run.replace and section.name in {artefact.name for artefact in taken}:
        raise RegistryError(
            f"adapter {section.name} exists already", hint="name it otherwise, or use --replace"
        )
    for kind in section.export:
        check_free(kind, Path(section.output or "") / kind, replace=run.replace)


def _load_engine(run: _Run) -> Engine | None:
    """The recipe's engine, where posts have to be gated or scored; fixed weights alone need none."""
    if run.section.weights is not None and run.section.data is None:
        return None
    from hatex.engine import load_engine

    return load_engine(run.recipe, run.registry, progress=run.progress)


def _choose_weights(run: _Run, engine: Engine | None) -> tuple[Mapping[str, float], list[Trial]]:
    section = run.section
    if engine is not None and section.gates_from is not None:
        return mean_gates(engine, section), []
    if engine is not None and section.optimise is not None and section.data is not None:
        trials = _search(run, engine, load_posts(section.data, "tune", section))
        return trials[0].weights, trials
    return section.weights or {}, []


def _search(run: _Run, engine: Engine, posts: Posts) -> list[Trial]:
    given = run.section.weights
    names = tuple(given) if given else engine.router.adapters
    if unknown := [name for name in names if name not in engine.adapters]:
        raise UsageError(f"the recipe has no adapter {', '.join(unknown)}", where="merge.weights")
    return optimise_weights(
        lambda weights: posts.macro_f1(score_constant(engine, weights, posts.texts)),
        names,
        start=list(given.values()) if given else None,
        steps=run.section.steps,
        seed=run.section.seed,
        progress=run.progress,
    )


def _find_parents(run: _Run, weights: Mapping[str, float]) -> list[Artefact]:
    """The adapters to merge, all bound to one base."""
    overrides = [name for layer in run.section.layers.values() for name in layer]
    base = run.recipe.base.name
    parents = [run.registry.find("adapter", name, base) for name in dict.fromkeys([*weights, *overrides])]
    for known in run.registry.list("base"):
        if known.name == base:
            for parent in parents:
                check_adapter_fits(known.manifest, parent.manifest)
    if experimental := [parent.name for parent in parents if parent.manifest.extra.get("perspective")]:
        raise RegistryError(
            f"{', '.join(experimental)} answers as one group of annotators would, and is not for giving away",
            hint="merge adapters trained without `perspective`",
        )
    # Imported adapters are bound to a name alone.
    identities = {parent.manifest.base_identity for parent in parents} - {None}
    if len(identities) > 1:
        raise RegistryError(
            f"these adapters are bound to {len(identities)} different bases",
            hint="merge adapters of one base",
        )
    return parents


def _plan(section: MergeSection, weights: Mapping[str, float]) -> MergePlan:
    return MergePlan(
        name=section.name,
        weights=weights,
        method=section.method,
        rank=section.rank,
        density=section.density,
        seed=section.seed,
        layers=section.layers,
    )


def _with_method(plan: MergePlan, method: str) -> MergePlan:
    """The same plan with another method, without what that method does not read."""
    rank = plan.rank if method == "svd" or method in SPARSE else None
    return replace(plan, method=method, rank=rank, density=plan.density if method in SPARSE else 1.0)


def _measure(
    run: _Run, engine: Engine | None, weights: Mapping[str, float], merged: Sequence[Merged]
) -> tuple[float | None, list[float | None]]:
    """Macro-F1 on report posts: of the exact blend (where all layers have the same weights), and of each
    merge.
    """
    if engine is None or run.section.data is None:
        return None, [None] * len(merged)
    posts = load_posts(run.section.data, "report", run.section)
    exact = None
    if not run.section.layers:
        exact = posts.macro_f1(score_constant(engine, weights, posts.texts, run.progress))
    return exact, [_score_merged(engine, each.adapter, posts, run.progress) for each in merged]


def _score_merged(engine: Engine, adapter: LoraAdapter, posts: Posts, progress: Progress) -> float:
    engine.model.lm.attach([adapter])
    alone = replace(engine, adapters=(adapter.name,))
    return posts.macro_f1(score_constant(alone, {adapter.name: 1.0}, posts.texts, progress))


def _publish(
    run: _Run,
    weights: Mapping[str, float],
    parents: Sequence[Artefact],
    merged: Merged,
    macro_f1: float | None,
) -> Artefact:
    import torch

    name, base = run.section.name, run.recipe.base.name
    fields = merge_fields(run.recipe, parents, weights, merged.report, macro_f1)
    with run.registry.publish(
        "adapter", name, base=base, manifest_fields=fields, replace=run.replace
    ) as folder:
        # What is stored is what was measured; bf16 would round it.
        save_adapter(folder, merged.adapter, base_model=base, dtype=torch.float32)
        (folder / "README.md").write_text(build_card(name, fields), encoding="utf-8")
    return run.registry.find("adapter", name, base)


def _export(
    run: _Run,
    adapters: Sequence[LoraAdapter],
    weights: Mapping[str, float],
    merged: LoraAdapter,
    artefact: Artefact,
) -> tuple[ExportReport, ...]:
    section, recipe = run.section, run.recipe
    if not section.export or section.output is None:
        return ()
    from hatex.data.prompts import load_prompt
    from hatex.merging.exports import ExportJob, export
    from hatex.merging.verify import encode_probes, gated_probabilities
    from hatex.model.base import ensure_base

    base = ensure_base(recipe.base, run.registry, progress=run.progress)
    probes = encode_probes(base.path, load_prompt(recipe.prompt), max_tokens=recipe.route.max_tokens)
    # Only `cat` promises the blend itself; every other method is compared with its own merge.
    is_blend = section.method == "cat" and not section.layers
    used, gates = (adapters, [weights[a.name] for a in adapters]) if is_blend else ([merged], [1.0])
    with run.progress.task("Answering the probe posts"):
        expected = gated_probabilities(base.path, used, gates, probes)
    job = ExportJob(
        base=base,
        adapter=merged,
        probes=probes,
        expected=expected,
        card=(artefact.path / "README.md").read_text(encoding="utf-8"),
        base_name=str(base.manifest.source.get("hub", base.name)),
        seed=section.seed,
    )
    targets = [(kind, Path(section.output) / kind) for kind in section.export]
    return tuple(export(job, kind, to, replace=run.replace, progress=run.progress) for kind, to in targets)
