"""JSONL inputs of `hatex route` and `hatex explain`: files, plain or compressed with gzip, and stdin."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hatex.errors import DataError, UsageError
from hatex.jsonl import READ_BYTES, Source
from hatex.streams import STDIN_DESCRIPTOR

STDIN: Final = Path("-")
"""How an input names file descriptor 0."""
GZIP: Final = b"\x1f\x8b"
"""How a file begins that gzip wrote; no JSONL does."""
TABLES: Final = {".csv": "read_csv", ".tsv": "read_table", ".parquet": "read_parquet"}
"""Names of files that hold posts in another form, and what reads them."""


def check_inputs(inputs: Sequence[Path]) -> None:
    """UsageError where an input is not there, or is a folder or a table."""
    for path in inputs:
        if path == STDIN:
            continue
        if not path.exists():
            raise UsageError("there is no such input file", where=str(path))
        if path.is_dir():
            raise UsageError("is a folder: name its files", where=str(path))
        if (table := TABLES.get(path.suffix.lower())) is not None:
            raise UsageError(
                "is a table, not JSONL",
                where=str(path),
                hint=f"with pandas: {table}({path.name!r}).to_json('posts.jsonl', orient='records', lines=True)",
            )


def open_inputs(inputs: Sequence[Path]) -> Iterator[Source]:
    """Inputs for `read_batches`, each open while it is read. Raises DataError where a gzip file is damaged."""
    for path in inputs:
        if path == STDIN:
            yield STDIN_DESCRIPTOR
        elif is_compressed(path):
            yield _decompressed(path)
        else:
            with path.open("rb", buffering=0) as stream:
                yield stream.fileno()


def is_compressed(path: Path) -> bool:
    """Whether gzip wrote the file, whatever its name; pipes are not looked into."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(GZIP)) == GZIP


def _decompressed(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as stream:
            while chunk := stream.read(READ_BYTES):
                yield chunk
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise DataError(
            "the gzip file is damaged or cut short", where=str(path), hint="`gzip -t` checks it"
        ) from None


def count_lines(inputs: Sequence[Path]) -> int | None:
    """Lines of all inputs if they are plain files, which is what a bar needs; None for others."""
    total = 0
    for path in inputs:
        if path == STDIN or not path.is_file() or is_compressed(path):
            return None
        with path.open("rb") as stream:
            while chunk := stream.read(2**20):
                total += chunk.count(b"\n")
    return total
