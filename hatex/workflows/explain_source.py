"""Where `hatex explain` takes its posts from: a text, stdin, or a JSONL file."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hatex.errors import UsageError
from hatex.jsonl import BadLine, Line, Post, parse_line, read_batches, text_trouble
from hatex.streams import STDIN_DESCRIPTOR
from hatex.workflows.inputs import open_inputs

STDIN: Final = "-"
POSTS_AT_ONCE: Final = 32
_UNPACKERS: Final = {".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}
_JSONL: Final = re.compile(r"\.jsonl(\.(gz|bz2|xz|zst))?\Z")
READABLE: Final = (".jsonl", ".jsonl.gz")


def open_source(source: str) -> Iterator[list[Post | BadLine]]:
    """Batches of posts from `source`: a text, `-` for stdin, or the path of a JSONL file (NAME.jsonl, NAME.jsonl.gz).

    Raises UsageError at once, not at the first batch, where `source` is blank or not text, or names a file or a folder
    that is not there or is no JSONL.
    """
    if source == STDIN:
        return _open_stdin()
    path, exists = Path(source), path_exists(source)
    if exists and (path.suffix or os.sep in source):
        if not source.endswith(READABLE) or path.is_dir():
            raise _no_jsonl(path)
        path.open("rb").close()  # a file that cannot be read is told now, not at the first batch
        return _parsed(read_batches(open_inputs([path]), max_lines=POSTS_AT_ONCE))
    if exists is False and _JSONL.search(source):
        raise UsageError(
            f"ends in {path.suffix}, but there is no such file",
            where="TEXT" if any(map(str.isspace, source)) else source,  # with blanks it may well be a post
            hint="correct the path; if these words are the post, pipe them into hatex explain -",
        )
    return iter([[_single(source, "TEXT")]])


def path_exists(source: str) -> bool | None:
    """Whether a file or folder has this name; None where none could have, as with long texts."""
    try:
        Path(source).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        raise
    except (OSError, ValueError):  # too long, or with NUL or half a surrogate pair in it
        return None
    return True


def _no_jsonl(path: Path) -> UsageError:
    if path.is_dir():
        return UsageError("is a folder", where=str(path), hint="name one of its files, NAME.jsonl")
    quoted = shlex.quote(str(path))
    if unpacker := _UNPACKERS.get(path.suffix):
        return UsageError(
            "is compressed", where=str(path), hint=f"unpack it: {unpacker} -c {quoted} | hatex explain -"
        )
    return UsageError(
        "is a file whose name does not end in .jsonl",
        where=str(path),
        hint=f"if it holds one post, or JSONL: hatex explain - < {quoted}",
    )


def _single(text: str, where: str) -> Post:
    trouble = text_trouble(text)
    if trouble:
        raise UsageError(trouble[1].replace("`text`", "the text"), where=where)
    return Post(1, 1, text, {})


def _open_stdin() -> Iterator[list[Post | BadLine]]:
    """JSONL if the first line is a JSON object, or a later one is a JSON object with a text; one post otherwise.

    The first of these lines decides: from there on, JSONL is streamed.
    """
    head = bytearray()
    is_first = True
    while line := _read_line():
        head += line
        if not line.strip():
            continue
        if _is_json_object(line, may_lack_text=is_first):
            return _read_on(bytes(head))
        is_first = False
    try:
        text = head.removesuffix(b"\n").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the input is not UTF-8 (byte {error.start + 1})", where="stdin") from None
    return iter([[_single(text, "stdin")]])


def _read_line() -> bytes:
    """One line of stdin and nothing behind it, so that the rest can still be streamed."""
    line = bytearray()
    while byte := os.read(STDIN_DESCRIPTOR, 1):
        line += byte
        if byte == b"\n":
            break
    return bytes(line)


def _is_json_object(line: bytes, *, may_lack_text: bool) -> bool:
    """Whether a line holds a post, or would if it were not blank (or had an `id` and a `text` that are right)."""
    found = parse_line(Line(1, line))
    if isinstance(found, Post) or found.kind in {"empty", "surrogate"}:
        return True
    return may_lack_text and found.kind in {"id", "text"}


def _read_on(head: bytes) -> Iterator[list[Post | BadLine]]:
    """The lines of `head`, at once, and those that stdin still holds; numbered through both."""
    lines = head.removesuffix(b"\n").split(b"\n")
    yield from _parsed([[Line(n, line) for n, line in enumerate(lines, start=1) if line.strip()]])
    rest = read_batches([STDIN_DESCRIPTOR], max_lines=POSTS_AT_ONCE)
    yield from _parsed([Line(len(lines) + line.number, line.data) for line in batch] for batch in rest)


def _parsed(batches: Iterable[Sequence[Line]]) -> Iterator[list[Post | BadLine]]:
    for batch in batches:
        yield [parse_line(line) for line in batch]
