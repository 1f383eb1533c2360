"""`hatex route`: JSONL posts through one Engine, or Ray's several; one line out for each line in, constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from hatex.errors import UsageError
from hatex.jsonl import RESERVED_FIELDS, read_batches
from hatex.routing.policy import check_policy
from hatex.routing.strategies import chosen_strategy
from hatex.types import NO_PROGRESS, BlendSpace, Progress
from hatex.workflows.inputs import STDIN, check_inputs, count_lines, open_inputs
from hatex.workflows.partial import PartialFile
from hatex.workflows.route_answers import Answers, Asked, Batch, answer
from hatex.workflows.route_ray import answer_with_ray, check_ray
from hatex.workflows.route_resume import compare_answered, expected_model

if TYPE_CHECKING:
    from hatex.recipe import Recipe
    from hatex.registry import Registry

Write = Callable[[bytes], None]
"""Takes whole lines and has flushed them when it returns."""
POSTS_AT_ONCE: Final = 256
"""Enough for the engine to sort posts by length; few enough that answers appear every few seconds."""
EXPLAINED_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """How posts are answered; None takes the recipe's word."""

    strategy: str | None = None
    space: BlendSpace | None = None
    explain: bool = False
    keep: tuple[str, ...] = ()
    deterministic: bool = False
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None
    """Engines under `ray`; None: one for every GPU, else one for every machine."""


@dataclass(slots=True)
class Routed:
    """Lines in the output: `failed` counts bad ones by kind, `resumed` those that an earlier run wrote.

    `first_failed` is the place of the first bad line, as in `posts.jsonl:7`.
    """

    lines: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    first_failed: str | None = None

    @property
    def answered(self) -> int:
        """Lines with a verdict."""
        return self.lines - self.failed.total()

    def add(self, answers: Answers) -> None:
        """Count some more lines."""
        self.lines += answers.lines
        self.failed.update(answers.failed)
        self.first_failed = self.first_failed or answers.first_failed


def route(
    recipe: Recipe,
    registry: Registry,
    *,
    inputs: Sequence[Path] = (STDIN,),
    write: Write,
    output: Path | None = None,
    resume: bool = False,
    options: RouteOptions = RouteOptions(),
    progress: Progress = NO_PROGRESS,
) -> Routed:
    """Answer every line of `inputs` (`-` is stdin), in order, to `write` or to the file `output`.

    `output` grows as `output.partial` and is renamed when complete; `resume` continues such a file after its
    last complete line. Raises UsageError before the model is loaded where an input, the strategy, `keep`
    or `output` cannot be used or is not of this run, RecipeError where its policy cannot be, and whatever the engine
    raises.
    """
    check_inputs(inputs)
    if options.engine == "ray":
        check_ray(inputs)
    elif options.workers is not None:
        raise UsageError("needs --engine ray", where="--workers")
    if output is not None and output.exists() and any(p != STDIN and p.samefile(output) for p in inputs):
        raise UsageError("the output file is one of the inputs", where=str(output), hint="name another file")
    check_policy(recipe)
    taken = sorted(RESERVED_FIELDS.intersection(options.keep))
    if taken:
        raise UsageError(f"the answer has a field {taken[0]} of its own", where="--keep")
    asked = Asked(
        inputs=tuple(inputs),
        strategy=chosen_strategy(recipe, registry, options.strategy),
        space=options.space or recipe.route.space,
        explain=options.explain,
        keep=options.keep,
    )
    outcome = Routed()
    with ExitStack() as stack:
        partial = stack.enter_context(PartialFile(output, resume=resume)) if output is not None else None
        lines = read_batches(
            open_inputs(inputs),
            max_lines=EXPLAINED_AT_ONCE if options.explain else POSTS_AT_ONCE,
            waits=options.deterministic,
        )
        batches: Iterator[Batch] = map(Batch, lines)
        if partial is not None and (partial.lines or partial.is_complete):
            model = expected_model(recipe, registry, asked, progress)
            earlier, batches = compare_answered(
                partial, lines, asked, model, whole_batches=options.deterministic
            )
            outcome.add(earlier)
            outcome.resumed = earlier.lines
            if partial.is_complete:
                progress.say(
                    f"{output} is complete already, with {partial.lines} lines; delete it to answer anew"
                )
                return outcome
        answered = (
            answer_with_ray(recipe, registry, asked, batches, options.workers, progress)
            if options.engine == "ray"
            else _answer_here(recipe, registry, asked, batches, progress)
        )
        found = stack.enter_context(answered)
        advance = stack.enter_context(progress.task("route", count_lines(inputs), "posts"))
        advance(outcome.lines)
        for answers in found:
            (partial.write if partial is not None else write)(answers.data)
            outcome.add(answers)
            advance(answers.lines)
        if partial is not None:
            partial.finish()
    return outcome


@contextmanager
def _answer_here(
    recipe: Recipe, registry: Registry, asked: Asked, batches: Iterator[Batch], progress: Progress
) -> Iterator[Iterator[Answers]]:
    """Answers as they are asked for, from an engine that is loaded at once."""
    from hatex.engine import load_engine

    engine = load_engine(recipe, registry, progress=progress)
    yield (answer(engine, asked, batch) for batch in batches)
