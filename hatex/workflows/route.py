"""`hatex route`: JSONL posts through one Engine, one line out for each line in, in constant memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from hatex.errors import UsageError
from hatex.jsonl import (
    RESERVED_FIELDS,
    BadLine,
    Line,
    Post,
    bad_line_record,
    dump_line,
    parse_line,
    read_batches,
    verdict_record,
)
from hatex.routing.strategies import chosen_strategy
from hatex.types import NO_PROGRESS, BlendSpace, Progress
from hatex.workflows.partial import PartialFile
from hatex.workflows.route_inputs import STDIN, check_inputs, count_lines, open_inputs, place_of

if TYPE_CHECKING:
    from hatex.engine import Engine
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


@dataclass(slots=True)
class Routed:
    """Lines in the output: `failed` counts bad ones by kind, `resumed` those that an earlier run wrote.

    `first_failed` is the place of the first bad line that this run has seen, as in `posts.jsonl:7`.
    """

    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    first_failed: str | None = None

    @property
    def lines(self) -> int:
        """Non-blank lines of the input."""
        return self.answered + self.failed.total()

    @classmethod
    def from_partial(cls, partial: PartialFile) -> Self:
        """What the earlier run did."""
        return cls(partial.lines - partial.failed.total(), Counter(partial.failed), partial.lines)


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
    or `output` cannot be used, and whatever the engine raises.
    """
    check_inputs(inputs)
    if output is not None and output.exists() and any(p != STDIN and p.samefile(output) for p in inputs):
        raise UsageError("the output file is one of the inputs", where=str(output), hint="name another file")
    taken = sorted(RESERVED_FIELDS.intersection(options.keep))
    if taken:
        raise UsageError(f"the answer has a field {taken[0]} of its own", where="--keep")
    strategy = chosen_strategy(recipe, registry, options.strategy)
    with ExitStack() as stack:
        partial = stack.enter_context(PartialFile(output, resume=resume)) if output is not None else None
        if partial is not None and partial.is_complete:
            progress.say(
                f"{output} is complete already, with {partial.lines} lines; delete it to answer anew"
            )
            return Routed.from_partial(partial)
        from hatex.engine import load_engine

        engine = load_engine(recipe, registry, progress=progress)
        router = _Router(engine, strategy, options.space or recipe.route.space, options, inputs, partial)
        batches = read_batches(
            open_inputs(inputs),
            max_lines=EXPLAINED_AT_ONCE if options.explain else POSTS_AT_ONCE,
            waits=options.deterministic,
        )
        advance = stack.enter_context(progress.task("route", count_lines(inputs), "posts"))
        for batch in batches:
            if data := router.answer(batch):
                (partial.write if partial is not None else write)(data)
            advance(len(batch))
        router.check_all_skipped()
        if partial is not None:
            partial.finish()
    return router.outcome


class _Router:
    """Batches of lines to output bytes, minus what a resumed run has already written."""

    def __init__(
        self,
        engine: Engine,
        strategy: str,
        space: BlendSpace,
        options: RouteOptions,
        inputs: Sequence[Path],
        partial: PartialFile | None,
    ) -> None:
        self.outcome = Routed() if partial is None else Routed.from_partial(partial)
        self._engine = engine
        self._options = options
        self._inputs = inputs
        self._strategy = strategy
        self._space = space
        self._partial = partial
        self._to_skip = partial.lines if partial is not None else 0

    def answer(self, batch: Sequence[Line]) -> bytes:
        """Output lines of a batch: none of them, some or all, depending on where a resumed run stopped."""
        skip = min(self._to_skip, len(batch))
        if skip:
            self._to_skip -= skip
            if self._to_skip == 0 and self._partial is not None:
                self._partial.check_last(parse_line(batch[skip - 1]).id)
        if skip == len(batch):
            return b""
        # Under `deterministic` a half-written batch is computed whole again: its posts keep their company.
        start = 0 if self._options.deterministic else skip
        records = self._records(batch[start:])[skip - start :]
        for line, record in zip(batch[skip:], records, strict=True):
            if "error" in record:
                self.outcome.first_failed = self.outcome.first_failed or place_of(line, self._inputs)
                self.outcome.failed[record["error"]["kind"]] += 1
            else:
                self.outcome.answered += 1
        if self._partial is not None:
            self._partial.check_alike(records)
        return b"".join(map(dump_line, records))

    def _records(self, lines: Sequence[Line]) -> list[dict[str, Any]]:
        parsed = [self._parse(line) for line in lines]
        texts = [each.text for each in parsed if isinstance(each, Post)]
        verdicts = iter(
            self._engine.verdicts(
                texts, strategy=self._strategy, space=self._space, explain=self._options.explain
            )
            if texts
            else ()
        )
        return [
            bad_line_record(each)
            if isinstance(each, BadLine)
            else verdict_record(next(verdicts), each, self._options.keep)
            for each in parsed
        ]

    def _parse(self, line: Line) -> Post | BadLine:
        """The post or the bad line; where there are several inputs the message says which one, and where."""
        parsed = parse_line(line)
        if isinstance(parsed, BadLine) and len(self._inputs) > 1:
            return replace(parsed, message=f"{place_of(line, self._inputs)}: {parsed.message}")
        return parsed

    def check_all_skipped(self) -> None:
        """The input may not end before the lines that a resumed run has already answered."""
        if self._to_skip and self._partial is not None:
            raise self._partial.mismatch("it has more lines than the input")
