"""A batch of lines as the bytes that it takes of its files, so that another process can read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypedDict

from hatex.errors import DataError
from hatex.jsonl import READ_BYTES, Line, read_batches
from hatex.workflows.route_answers import Batch


class Chunk(TypedDict):
    """Plain values for JSON: `pieces` are (source, start, end, number, row) of lines that follow each other."""

    pieces: list[list[int]]
    lines: int
    answered: int


def chunk_of(batch: Batch) -> Chunk:
    """Where the lines of a batch stand."""
    pieces = []
    for source, group in groupby(batch.lines, lambda line: line.source):
        lines = list(group)
        first, last = lines[0], lines[-1]
        pieces.append([source, first.start, last.end, first.number, first.row])
    return {"pieces": pieces, "lines": len(batch.lines), "answered": batch.answered}


def read_chunk(chunk: Chunk, files: Sequence[Path]) -> Batch:
    """The batch again, numbers and all. Raises DataError where a file has changed since."""
    lines: list[Line] = []
    for source, start, end, number, row in chunk["pieces"]:
        for batch in read_batches([_bytes(files[source], start, end)]):
            lines += (
                replace(line, source=source, number=number + line.number - 1, row=row + line.row - 1)
                for line in batch
            )
    if len(lines) != chunk["lines"]:
        where = ", ".join(str(files[piece[0]]) for piece in chunk["pieces"])
        raise DataError("the file has changed while it was read", where=where)
    return Batch(lines, chunk["answered"])


def _bytes(path: Path, start: int, end: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        while start < end and (data := stream.read(min(READ_BYTES, end - start))):
            start += len(data)
            yield data
