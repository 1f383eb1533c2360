"""JSONL in and out: strict posts, micro-batches that never wait for more than has arrived, stable records."""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from hatex.types import OUTPUT_SCHEMA, Verdict

MAX_LINE_BYTES: Final = 16 * 2**20
"""A longer line is a bad line; it is passed over without being held."""
READ_BYTES: Final = 2**16
DECIMALS: Final = 6
"""Of every number that hatex computes: three rounded probabilities still sum to 1 within 1.5e-6."""

LINE_ERROR_KINDS: Final = (
    "encoding",
    "json",
    "object",
    "id",
    "text",
    "empty",
    "surrogate",
    "too_long",
    "date",
)
"""Every `kind` that the error of a bad line can have; `date` is an error in statements of reasons only."""


@dataclass(frozen=True, slots=True)
class Line:
    """One non-blank input line, numbered from 1; `data` is None where it was longer than `MAX_LINE_BYTES`.

    It is line `row` of source number `source` (from 0), and takes that source's bytes `start:end`.
    """

    number: int
    data: bytes | None
    source: int = field(default=0, compare=False)
    row: int = field(default=0, compare=False)
    start: int = field(default=0, compare=False)
    end: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Post:
    """A line that can be answered; `fields` is the whole object as it came."""

    line: int
    id: str | int | float
    text: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that cannot be answered; `id` is None unless it was read. The message holds no post text."""

    line: int
    id: str | int | float | None
    kind: str
    message: str


class _RefusedError(ValueError):
    """Valid for Python's JSON reader, refused by ours."""


def parse_line(line: Line) -> Post | BadLine:
    """The post in a line, or why there is none: `kind` is one of `LINE_ERROR_KINDS`.

    A line is a JSON object in UTF-8 with a `text` that is a string and not blank. `id` is a string or a
    number, by default (also where it is null) the line number. A key given twice and NaN are not JSON here.
    """
    if line.data is None:
        return BadLine(line.number, None, "too_long", f"the line is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        value = json.loads(
            line.data.decode("utf-8-sig"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        return BadLine(line.number, None, "encoding", f"the line is not UTF-8 (byte {error.start + 1})")
    except json.JSONDecodeError as error:
        return BadLine(line.number, None, "json", f"the line is not JSON: {error.msg} (column {error.colno})")
    except _RefusedError as error:
        return BadLine(line.number, None, "json", str(error))
    except (ValueError, RecursionError):
        return BadLine(
            line.number, None, "json", "the line is not JSON that can be read: too deep or too large"
        )
    return _check_post(line.number, value)


def _check_post(number: int, value: Any) -> Post | BadLine:
    if not isinstance(value, dict):
        return BadLine(number, None, "object", "the line is not a JSON object")
    post_id = value.get("id")
    if post_id is None:
        post_id = number
    elif isinstance(post_id, bool) or not isinstance(post_id, str | int | float):
        return BadLine(number, None, "id", "`id` is neither a string nor a number")
    text = value.get("text")
    if not isinstance(text, str):
        message = "`text` is not a string" if "text" in value else "`text` is missing"
        return BadLine(number, post_id, "text", message)
    trouble = text_trouble(text)
    return BadLine(number, post_id, *trouble) if trouble else Post(number, post_id, text, value)


def text_trouble(text: str) -> tuple[str, str] | None:
    """Kind and message where `text` cannot be answered: it is blank, or holds half of a surrogate pair."""
    if not text.strip():
        return "empty", "`text` is empty"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return "surrogate", f"`text` holds half of a surrogate pair (character {error.start + 1})"
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise _RefusedError("the line gives a key twice")
    return unique


def _refuse_constant(name: str) -> Any:
    raise _RefusedError(f"the line holds {name}, which is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _RefusedError("the line holds a number too large for a float")
    return value


Source = int | Iterator[bytes]
"""Where lines come from: a file descriptor, or chunks of bytes that nobody has to wait for."""


def read_batches(
    sources: Iterable[Source],
    *,
    max_lines: int = 64,
    max_bytes: int = 2**20,
    waits: bool = False,
) -> Iterator[list[Line]]:
    """Non-blank lines of all sources, in batches of up to `max_lines` lines and some `max_bytes` bytes.

    A batch closes when it is full, or when no further byte has arrived yet, so that a line written to a pipe
    that stays open is handed on at once; with `waits` only full batches close, and the same bytes give the
    same batches. Lines are numbered through all sources. Holds one batch and one line at a time.
    """
    batch: list[Line] = []
    held = 0
    for line in _read_lines(sources):
        if line is not None:
            batch.append(line)
            held += len(line.data or b"")
        is_full = len(batch) >= max_lines or held >= max_bytes
        if batch and (is_full or (line is None and not waits)):
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _read_lines(sources: Iterable[Source]) -> Iterator[Line | None]:
    """Every non-blank line, and None wherever a reader would have to wait for the next byte."""
    splitter = _Splitter()
    for source in sources:
        for chunk in _read_descriptor(source) if isinstance(source, int) else source:
            if chunk:
                yield from splitter.feed(chunk)
            else:
                yield None
        yield from splitter.end()


def _read_descriptor(descriptor: int) -> Iterator[bytes]:
    """Bytes as they arrive, and b"" wherever the next ones have not."""
    while chunk := os.read(descriptor, READ_BYTES):
        yield chunk
        if not select.select([descriptor], [], [], 0)[0]:
            yield b""


class _Splitter:
    """Bytes to numbered non-blank lines; only `\\n` ends a line."""

    def __init__(self) -> None:
        self._number = self._row = 1
        self._source = self._start = self._end = 0
        self._rest, self._too_long = bytearray(), False

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that end in `chunk`."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._take(piece)
            self._end += 1
            yield from self._close()
        self._take(rest)

    def end(self) -> Iterator[Line]:
        """The last line of a source, if it does not end with a line break; what is fed next is of another."""
        if self._rest or self._too_long:
            yield from self._close()
        self._source += 1
        self._row, self._start, self._end = 1, 0, 0

    def _take(self, piece: bytes) -> None:
        self._end += len(piece)
        if self._too_long or len(self._rest) + len(piece) > MAX_LINE_BYTES:
            self._too_long = True
            self._rest.clear()
        else:
            self._rest += piece

    def _close(self) -> Iterator[Line]:
        if self._too_long or self._rest.strip():
            data = None if self._too_long else bytes(self._rest)
            yield Line(self._number, data, self._source, self._row, self._start, self._end)
        self._rest.clear()
        self._too_long = False
        self._number, self._row = self._number + 1, self._row + 1
        self._start = self._end


_CONTROLS = re.compile("[\x7f-\x9f]")


def dump_line(value: Any) -> bytes:
    """One JSON value as one UTF-8 line; half a surrogate pair is written as an ASCII escape, as it came, and so are
    controls, which a terminal would obey.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(", ", ": "))
    text = _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(", ", ": ")).encode() + b"\n"


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON, in the order of the contract; numbers rounded to `DECIMALS`."""
    fields: dict[str, Any] = {
        "label": verdict.label,
        "probabilities": dict(verdict.probabilities),
        "gates": dict(verdict.gates),
        "strategy": verdict.strategy,
        "disagreement": verdict.disagreement,
        "disagreement_basis": verdict.disagreement_basis,
        "decision": verdict.decision,
        "model": verdict.model,
    }
    if verdict.truncated:
        fields["truncated"] = True
    if verdict.reasons:
        fields["reasons"] = list(verdict.reasons)
    if verdict.explanation is not None:
        explanation = asdict(verdict.explanation)
        order = ("style", "summary", "affected_groups", "harmful_words", "reason", "evidence")
        fields["explanation"] = {key: explanation[key] for key in order}
        if not verdict.explanation.is_complete:
            fields["explanation"]["is_complete"] = False
    rounded: dict[str, Any] = round_numbers(fields)
    return rounded


def verdict_record(verdict: Verdict, post: Post, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """The output object of an answered post; `keep` names input fields to repeat, where the post has them."""
    kept = {name: post.fields[name] for name in keep if name in post.fields}
    return {"schema": OUTPUT_SCHEMA, "id": post.id, **verdict_fields(verdict), **kept}


def bad_line_record(bad: BadLine) -> dict[str, Any]:
    """The output object of a bad line."""
    error = {"kind": bad.kind, "message": bad.message}
    return {"schema": OUTPUT_SCHEMA, "id": bad.id, "line": bad.line, "error": error}


def round_numbers(value: Any) -> Any:
    """`value` with every float rounded to `DECIMALS`; sequences become lists."""
    if isinstance(value, float):
        return round(value, DECIMALS) + 0.0  # + 0.0 turns -0.0 into 0.0
    if isinstance(value, Mapping):
        return {key: round_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_numbers(item) for item in value]
    return value


RESERVED_FIELDS: Final = frozenset(
    {"schema", "id", "label", "probabilities", "gates", "strategy", "disagreement", "disagreement_basis"}
    | {"decision", "model", "truncated", "reasons", "explanation", "line", "error"}
)
"""Keys of an output object, which `--keep` cannot name."""
