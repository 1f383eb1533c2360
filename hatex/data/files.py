"""Rows of CSV, JSON and JSONL files, plain or gzipped, streamed, with file and row in every problem."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeVar

from hatex.data.raw import Problem
from hatex.errors import DataError

Row = dict[str, str]
_NOT_UTF8: Final = "the row is not UTF-8"
T = TypeVar("T")


@contextmanager
def open_text(path: Path, errors: str = "strict") -> Iterator[IO[str]]:
    """A UTF-8 text stream of a plain or gzipped file; newlines as they are.

    Raises:
        DataError: no such file, UTF-16, a broken gzip or bytes that are not UTF-8 (also later, while reading).
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as raw:
            start = raw.peek(2)[:2]
            if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in start:
                raise DataError(
                    "UTF-16 where UTF-8 is expected", where=str(path), hint="save the file as UTF-8"
                )
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="", errors=errors) as stream:
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


def csv_rows(
    path: Path, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, Row] | Problem]:
    """Rows of a CSV file with a header as dicts, numbered from 1; quoted newlines are kept.

    Raises:
        DataError: a column of `columns` is missing, or the gzip is broken.
    """
    has_quoting = delimiter != "\t" or _has_quoting(path)
    with _csv_reader(path, delimiter, has_quoting) as reader:
        header = next(_csv_records(reader, path), None)
        if header is None or isinstance(header, Problem):
            raise DataError("the file has no header", where=f"{path}:1")
        if missing := [name for name in columns if name not in header]:
            has = ", ".join(map(repr, header))
            is_other = len(header) == 1 and delimiter == "," and ";" in header[0]
            raise DataError(
                f"missing column {', '.join(map(repr, missing))} (has {has})",
                where=f"{path}:1",
                hint="its fields are parted by `;`: save it with commas, or as .tsv with tabs"
                if is_other
                else None,
            )
        for number, row in _numbered(_csv_records(reader, path, len(header)), path):
            if isinstance(row, Problem):
                yield replace(row, row=number)
            else:
                yield number, dict(zip(header, row, strict=True))


def csv_records(path: Path, width: int) -> Iterator[tuple[int, list[str]] | Problem]:
    """Rows of a CSV file without a header, numbered from 1."""
    with _csv_reader(path, ",", True) as reader:
        for number, row in _numbered(_csv_records(reader, path, width), path):
            yield replace(row, row=number) if isinstance(row, Problem) else (number, row)


def _has_quoting(path: Path) -> bool:
    """Whether quotation marks around a field of a TSV file are no part of it, as CSV writers mean them.

    They are where the header has them. Else fields that begin with one tell: as CSV only where it is closed at the
    field's end with those inside doubled, or the line is no whole row; as plain text where the line is a whole row.
    """
    with open_text(path, "surrogateescape") as stream:
        _, first = next(_numbered(iter(stream), path), (0, ""))
        header = first.rstrip("\r\n").split("\t")
        if len(header) == 1 or any(map(_is_quoted, header)):
            return True
        as_csv = as_text = 0
        for _, line in _numbered(iter(stream), path):
            fields = line.rstrip("\r\n").split("\t")
            for field in filter(lambda field: field.startswith('"'), fields):
                if _is_quoted(field):
                    as_csv += '""' in field[1:-1]
                elif len(fields) == len(header):
                    as_text += 1
                else:
                    as_csv += 1
    return not as_text or as_csv > as_text


def _is_quoted(field: str) -> bool:
    is_enclosed = len(field) > 1 and field[0] == field[-1] == '"'
    return is_enclosed and '"' not in field[1:-1].replace('""', "")


@contextmanager
def _csv_reader(path: Path, delimiter: str, has_quoting: bool) -> Iterator[Any]:
    csv.field_size_limit(sys.maxsize)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if has_quoting else csv.QUOTE_NONE
    with open_text(path, "surrogateescape") as stream:
        yield csv.reader(stream, strict=True, delimiter=delimiter, quoting=quoting)


def _csv_records(reader: Any, path: Path, width: int | None = None) -> Iterator[list[str] | Problem]:
    """Records; one that is none is a problem for each of its lines, since a stray quotation mark swallows rows."""
    while True:
        before = reader.line_num
        try:
            row: list[str] | None = next(reader, None)
        except csv.Error as error:
            yield from _lost(path, "csv", str(error), before + 1, reader.line_num)
            continue
        if row is None:
            return
        if row and width not in (None, len(row)):
            yield from _lost(
                path, "columns", f"{len(row)} fields instead of {width}", before + 1, reader.line_num
            )
        elif not all(map(_is_utf8, row)):
            yield Problem(str(path), None, "encoding", _NOT_UTF8)
        elif row:
            yield row


def _lost(path: Path, kind: str, message: str, first: int, last: int) -> Iterator[Problem]:
    """A problem a line."""
    place = f"line {first}" if first == last else f"lines {first} to {last}"
    yield from repeat(Problem(str(path), None, kind, f"{place}: {message}"), last - first + 1)


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    """Objects of a JSON-lines file, numbered from 1; blank lines are passed over."""
    with open_text(path, "surrogateescape") as stream:
        for number, line in _numbered(iter(stream), path):
            if not line.strip():
                continue
            if not _is_utf8(line):
                yield Problem(str(path), number, "encoding", _NOT_UTF8)
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                yield Problem(str(path), number, "json", f"not JSON: {error.msg} at column {error.colno}")
                continue
            except (ValueError, RecursionError) as error:
                yield Problem(str(path), number, "json", _refusal(error))
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                yield Problem(str(path), number, "json", f"expected an object, got {type(value).__name__}")


def json_file(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: not JSON, or more than the parser takes.
    """
    with open_text(path) as stream:
        try:
            return json.load(stream)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error.msg}", where=f"{path}:{error.lineno}:{error.colno}") from error
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise DataError(_refusal(error), where=str(path)) from error


def _refusal(error: Exception) -> str:
    """Why the parser gives up on what may be JSON: a number of 4,301 digits, brackets in brackets in brackets."""
    return f"cannot be read: {str(error).partition(';')[0]}"
