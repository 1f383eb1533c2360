"""Whether an output belongs to the input and the model at hand, line by line, and what is left to answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from hatex.data.groups import GROUPS
from hatex.data.prompts import load_prompt
from hatex.errors import IntegrityError, RegistryError
from hatex.explanation.protocol import ExplainOptions
from hatex.jsonl import RESERVED_FIELDS, BadLine, Line
from hatex.routing.identity import Settings, digests, fallback_of, fingerprint, model_id
from hatex.types import NO_PROGRESS, Policy, Progress
from hatex.workflows.partial import PartialFile
from hatex.workflows.route_answers import Answers, Asked, Batch

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.registry import Registry


def compare_answered(
    output: PartialFile,
    batches: Iterator[list[Line]],
    asked: Asked,
    model: str,
    *,
    whole_batches: bool,
) -> tuple[Answers, Iterator[Batch]]:
    """What an earlier run has answered, and the batches that it has not.

    Where it stopped inside a batch, that one is given whole under `whole_batches`: its posts keep their company.
    Raises UsageError with the first line of the output which is not the answer of `model` to this input.
    """
    earlier = Answers()
    records = output.records()
    for lines in batches:
        for i, line in enumerate(lines):
            record = next(records, None)
            if record is None and output.is_complete:
                raise output.mismatch(f"it ends where the input goes on, at {asked.place(line)}")
            if record is None:
                rest = Batch(lines, i) if whole_batches else Batch(lines[i:])
                return earlier, chain([rest], map(Batch, batches))
            earlier.count(record, asked.place(line))
            if trouble := _difference(record, line, asked, model):
                raise output.mismatch(f"its line {earlier.lines} {trouble}")
    if next(records, None) is not None:
        raise output.mismatch(f"it has more lines than the input, from line {earlier.lines + 1} on")
    return earlier, iter(())


def _difference(record: dict[str, Any], line: Line, asked: Asked, model: str) -> str | None:
    """Why `record` is not what `model` answers to `line`, as far as can be told without asking it."""
    parsed = asked.parse(line)
    expected = _bad(parsed.line, parsed.kind) if isinstance(parsed, BadLine) else _post(parsed.id)
    error = record.get("error")
    found = _post(record.get("id")) if error is None else _bad(record.get("line"), error.get("kind"))
    if found != expected:
        return f"answers {found}, but {asked.place(line)} is {expected}"
    if isinstance(parsed, BadLine):
        return None
    for name, value in (("strategy", asked.strategy), ("model", model)):
        if record.get(name) != value:
            return f"has the {name} {record.get(name)}, now it is {value}"
    if ("explanation" in record) != asked.explain:
        return f"is written {'without' if asked.explain else 'with'} --explain"
    kept = {name: value for name, value in record.items() if name not in RESERVED_FIELDS}
    if kept != {name: parsed.fields[name] for name in asked.keep if name in parsed.fields}:
        return "has other fields of the input than --keep names"
    return None


def _post(post_id: object) -> str:
    return f"post {json.dumps(post_id, ensure_ascii=False)}"


def _bad(line: object, kind: object) -> str:
    return f"bad line {line} ({kind})"


def expected_model(recipe: Recipe, registry: Registry, asked: Asked, progress: Progress = NO_PROGRESS) -> str:
    """The `model` of every answer of the recipe's engine, from manifests; base and encoder are fetched if need be."""
    try:
        base = registry.find("base", recipe.base.name)
        encoder = registry.find("encoder", recipe.encoder.name)
    except IntegrityError:
        raise
    except RegistryError:
        from hatex.model.base import ensure_base, ensure_encoder

        base = ensure_base(recipe.base, registry, progress=progress)
        encoder = ensure_encoder(recipe.encoder, registry, progress=progress)
    adapters = [registry.find("adapter", name, base=base.name) for name in recipe.adapters]
    parts = digests(base, *adapters, encoder, registry.find("router", recipe.router))
    settings = Settings(
        prompt=load_prompt(recipe.prompt),
        policy=Policy(**recipe.route.policy.model_dump()),
        fallback=fallback_of(recipe.route.fallback),
        groups=recipe.groups or GROUPS,
        max_tokens=recipe.route.max_tokens,
        encoder_tokens=recipe.encoder.max_tokens,
        explain=ExplainOptions.of(recipe.explain),
    )
    return model_id(fingerprint(parts, settings), asked.strategy, asked.space)
