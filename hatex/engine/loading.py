"""Registry artefacts to one `Engine`: base, adapters, encoder, router, calibration, each compared with its manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hatex.data.groups import GROUPS
from hatex.data.prompts import load_prompt
from hatex.engine.engine import Engine
from hatex.engine.prompted import PromptedModel
from hatex.errors import ModelError, RegistryError, UsageError
from hatex.explanation.protocol import ExplainOptions
from hatex.memory import release_free_pages
from hatex.model.base import compute_dtype, ensure_base, ensure_encoder
from hatex.model.policy import cache_bytes, choose_compute, compute_device
from hatex.registry.peft_config import WEIGHTS
from hatex.routing.calibration import Calibration
from hatex.routing.identity import digests, fallback_of
from hatex.routing.policy import check_policy
from hatex.routing.strategies import check_strategy
from hatex.types import NO_PROGRESS, Policy, Progress

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.registry import Artefact, Registry
    from hatex.routing.encoder import Encoder
    from hatex.routing.router import Router


def load_engine(recipe: Recipe, registry: Registry, *, progress: Progress = NO_PROGRESS) -> Engine:
    """The engine of a recipe; fetches the base and the encoder if the registry does not have them yet.

    Raises RegistryError for a missing artefact or an adapter of another base, IntegrityError for a file that is not
    what its manifest names, ModelError for an adapter or a router that does not fit, RecipeError for a policy's
    languages that nothing tells.
    """
    from hatex.routing.encoder import LAST_LAYER, Encoder
    from hatex.routing.router import Router, load_calibration

    check_policy(recipe)
    artefact = registry.check(registry.find("router", recipe.router))
    router = Router.load(artefact.path, artefact.manifest.extra["adapters"])
    found = registry.check(ensure_encoder(recipe.encoder, registry, progress=progress))
    _check_encoder(artefact, found)
    device = compute_device(recipe.base.device)
    layers = artefact.manifest.extra.get("encoder", {}).get("layers", LAST_LAYER)
    section = recipe.encoder
    encoder = Encoder.load(found.path, section.name, section.max_tokens, device, layers=layers)
    if router.width != encoder.width:
        raise ModelError(
            f"{artefact.ref} reads {router.width} numbers of a post, {found.ref} gives {encoder.width}",
            hint="name the encoder that it was fitted on in the recipe, or train the router again",
        )
    calibration = Calibration.from_record(load_calibration(artefact.path), recipe.adapters)
    engine = assemble(
        recipe, registry, encoder=encoder, router=router, calibration=calibration, progress=progress
    )
    return replace(engine, artefacts={**engine.artefacts, **digests(artefact, found)})


def _check_encoder(router: Artefact, encoder: Artefact) -> None:
    """Raise RegistryError where the router was fitted on another encoder's embeddings.

    A router that was imported before its encoder was fetched names no hash of it, and any of that width will do.
    """
    fitted = router.manifest.extra.get("encoder", {})
    if "sha256" in fitted and fitted["sha256"] != encoder.manifest.files["model.safetensors"]:
        raise RegistryError(
            f"{router.ref} was fitted on encoder {fitted['name']}, which is not {encoder.ref} as it is here",
            hint="name that encoder in the recipe, or train the router again",
        )


def assemble(
    recipe: Recipe,
    registry: Registry,
    *,
    encoder: Encoder,
    router: Router,
    calibration: Calibration | None = None,
    progress: Progress = NO_PROGRESS,
) -> Engine:
    """An engine of the recipe's base and adapters around a router; without `calibration` it answers raw."""
    from transformers import AutoTokenizer

    from hatex.model.gatedlm import GatedLM
    from hatex.registry import check_adapter_fits
    from hatex.registry.adapters import load_adapter

    if missing := [name for name in router.adapters if name not in recipe.adapters]:
        raise UsageError(
            f"router {recipe.router} weighs {', '.join(missing)}, which the recipe's adapters lack",
            hint="add them to `adapters`, or name another router",
        )
    base = registry.check(ensure_base(recipe.base, registry, progress=progress))
    adapters = [registry.find("adapter", name, base=base.name) for name in recipe.adapters]
    for artefact in adapters:
        check_adapter_fits(base.manifest, artefact.manifest)
    with progress.task("Loading the engine"):
        device = compute_device(recipe.base.device)
        dtype = compute_dtype(recipe.base.dtype, device)
        # Factors stand in their own tensors and in the fused layers; caches are copied where rows leave a batch.
        factors = sum((artefact.path / WEIGHTS).stat().st_size for artefact in adapters)
        beside = 2 * (factors + cache_bytes(base.path, dtype, recipe.route.batch_tokens))
        compute = choose_compute(recipe.base.compute, base.path, dtype, device, beside=beside)
        lm = GatedLM.load(base.path, compute, dtype, device=device)
        lm.attach([load_adapter(artefact) for artefact in adapters])
        if recipe.route.compile:
            lm.compile()
        # Files' bytes and unfused weights, before anything else asks for pages.
        release_free_pages()
    route = recipe.route
    if route.fallback is not None:
        check_strategy(route.fallback.to, recipe.adapters, router.adapters)
    model = PromptedModel(
        lm,
        AutoTokenizer.from_pretrained(base.path),
        load_prompt(recipe.prompt),
        calibration or Calibration.identity(len(adapters)),
        recipe.groups or GROUPS,
        max_tokens=route.max_tokens,
        batch_tokens=route.batch_tokens,
    )
    return Engine(
        name=recipe.name,
        adapters=recipe.adapters,
        model=model,
        encoder=encoder,
        router=router,
        policy=Policy(**route.policy.model_dump()),
        votes_per_post={a.name: float(a.manifest.extra.get("votes_per_post", 1.0)) for a in adapters},
        artefacts=digests(base, *adapters),
        explain_options=ExplainOptions.of(recipe.explain),
        fallback=fallback_of(route.fallback),
    )
