"""What `hatex route` asks of every post, and a batch of lines answered: the same wherever the engine runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatex.jsonl import BadLine, Line, Post, bad_line_record, dump_line, parse_line, verdict_record
from hatex.types import BlendSpace
from hatex.workflows.inputs import STDIN

if TYPE_CHECKING:
    from hatex.engine import Engine


@dataclass(frozen=True, slots=True)
class Asked:
    """What every post of `inputs` is asked, the recipe's word taken where no option says otherwise."""

    inputs: tuple[Path, ...]
    strategy: str
    space: BlendSpace
    explain: bool
    keep: tuple[str, ...]

    def parse(self, line: Line) -> Post | BadLine:
        """The post or the bad line; where there are several inputs the message says which one, and where."""
        parsed = parse_line(line)
        if isinstance(parsed, BadLine) and len(self.inputs) > 1:
            return replace(parsed, message=f"{self.place(line)}: {parsed.message}")
        return parsed

    def place(self, line: Line) -> str:
        """`posts.jsonl:7`: the input that a line is from, and its number there."""
        path = self.inputs[line.source]
        return f"{'stdin' if path == STDIN else path}:{line.row}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to answer together; the first `answered` of them keep the others company, and are not written again."""

    lines: Sequence[Line]
    answered: int = 0


@dataclass(slots=True)
class Answers:
    """Output lines: `failed` counts the bad ones by kind, `first_failed` is the place of the first."""

    data: bytes = b""
    lines: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    first_failed: str | None = None

    def count(self, record: dict[str, Any], place: str) -> None:
        """One more line, whose output object is `record`."""
        self.lines += 1
        if "error" in record:
            self.failed[record["error"]["kind"]] += 1
            self.first_failed = self.first_failed or place


def answer(engine: Engine, asked: Asked, batch: Batch) -> Answers:
    """The output lines of a batch, in order."""
    parsed = [asked.parse(line) for line in batch.lines]
    texts = [each.text for each in parsed if isinstance(each, Post)]
    verdicts = iter(
        engine.verdicts(texts, strategy=asked.strategy, space=asked.space, explain=asked.explain)
        if texts
        else ()
    )
    records = [
        bad_line_record(each)
        if isinstance(each, BadLine)
        else verdict_record(next(verdicts), each, asked.keep)
        for each in parsed
    ][batch.answered :]
    answers = Answers(b"".join(map(dump_line, records)))
    for line, record in zip(batch.lines[batch.answered :], records, strict=True):
        answers.count(record, asked.place(line))
    return answers
