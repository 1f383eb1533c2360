"""Rows of CSV, JSON and JSONL files, plain or gzipped, streamed, with file and row in every problem."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeVar

from hatex.data.raw import Problem
from hatex.errors import DataError

Row = dict[str, str]
T = TypeVar("T")


@contextmanager
def open_text(path: Path, errors: str = "strict") -> Iterator[IO[str]]:
    """A UTF-8 text stream of a plain or gzipped file; newlines as they are.

    Raises:
        DataError: no such file, a broken gzip or bytes that are not UTF-8 (also later, while reading).
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline="", errors=errors) as stream:
            yield stream
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _broken_gzip(path, error) from error
        hint = "check `path` in the recipe and HATEX_DATA"
        raise DataError(error.strerror or str(error), where=str(path), hint=hint) from error
    except (zlib.error, EOFError) as error:
        raise _broken_gzip(path, error) from error
    except UnicodeDecodeError as error:
        message = f"not UTF-8: byte {error.object[error.start]:#04x}"
        raise DataError(message, where=str(path), hint="convert the file to UTF-8") from error


def _broken_gzip(path: Path, error: Exception, row: int | None = None) -> DataError:
    where = str(path) if row is None else f"{path}:{row}"
    return DataError(f"broken gzip: {error}", where=where, hint="fetch the file again")


def _numbered(rows: Iterator[T], path: Path) -> Iterator[tuple[int, T]]:
    """Rows from 1; a gzip that breaks off says at which row."""
    number = 1
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise _broken_gzip(path, error, number) from error
        yield number, row
        number += 1


def _is_utf8(text: str) -> bool:
    """Whether no byte had to be escaped when the text was decoded."""
    return text.isascii() or not any("\udc80" <= char <= "\udcff" for char in text)


def _not_utf8(path: Path, number: int) -> Problem:
    return Problem(str(path), number, "encoding", "the row is not UTF-8")


def csv_rows(
    path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, Row] | Problem]:
    """Rows of a CSV file with a header as dicts, numbered from 1; quoted newlines are kept.

    Raises:
        DataError: a column of `columns` is missing, or the gzip is broken.
    """
    csv.field_size_limit(sys.maxsize)
    with open_text(path, "surrogateescape") as stream:
        records = _csv_records(csv.reader(stream, strict=True, delimiter=delimiter), path)
        header = next(records, None)
        if header is None or isinstance(header, Problem):
            raise DataError("the file has no header", where=f"{path}:1")
        if missing := [name for name in columns if name not in header]:
            has = ", ".join(map(repr, header))
            raise DataError(f"missing column {', '.join(map(repr, missing))} (has {has})", where=f"{path}:1")
        for number, row in _numbered(records, path):
            checked = _checked(row, path, number, len(header))
            yield (
                checked if isinstance(checked, Problem) else (number, dict(zip(header, checked, strict=True)))
            )


def csv_records(path: Path, width: int) -> Iterator[tuple[int, list[str]] | Problem]:
    """Rows of a CSV file without a header, numbered from 1."""
    csv.field_size_limit(sys.maxsize)
    with open_text(path, "surrogateescape") as stream:
        for number, row in _numbered(_csv_records(csv.reader(stream, strict=True), path), path):
            checked = _checked(row, path, number, width)
            yield checked if isinstance(checked, Problem) else (number, checked)


def _checked(row: list[str] | Problem, path: Path, number: int, width: int) -> list[str] | Problem:
    if isinstance(row, Problem):
        return replace(row, row=number)
    if len(row) != width:
        return Problem(str(path), number, "columns", f"{len(row)} fields instead of {width}")
    return row if all(map(_is_utf8, row)) else _not_utf8(path, number)


def _csv_records(reader: Any, path: Path) -> Iterator[list[str] | Problem]:
    while True:
        try:
            row: list[str] | None = next(reader, None)
        except csv.Error as error:
            yield Problem(str(path), None, "csv", f"line {reader.line_num}: {error}")
            continue
        if row is None:
            return
        if row:
            yield row


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    """Objects of a JSON-lines file, numbered from 1; blank lines are passed over."""
    with open_text(path, "surrogateescape") as stream:
        for number, line in _numbered(iter(stream), path):
            if not line.strip():
                continue
            if not _is_utf8(line):
                yield _not_utf8(path, number)
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                yield Problem(str(path), number, "json", f"not JSON: {error.msg} at column {error.colno}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                yield Problem(str(path), number, "json", f"expected an object, got {type(value).__name__}")


def json_file(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: not JSON.
    """
    with open_text(path) as stream:
        try:
            return json.load(stream)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}") from error


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
