"""Rows of tables: CSV, JSONL and parquet read with row numbers, hub ids and folders in their layout by `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hatex.data.files import csv_rows, jsonl_rows
from hatex.data.raw import Part, Problem, SourceSpec
from hatex.errors import DataError, FetchError

if TYPE_CHECKING:
    import pyarrow as pa

PART_NAMES: Final[Mapping[str, Part]] = {
    "train": "train",
    "dev": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""Names of official parts, in columns, file names and hub splits. Names of files or hub splits count only where those
of one source name two parts or more: a file that somebody chose is not a test part because it is called `test.csv`.
"""
_KINDS: Final = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_PARQUET_ROWS: Final = 8_192

Place = tuple[str, int, Part | None, dict[str, Any]]
"""File (or hub id and split), row from 1, official part, fields."""


class BadTableRowError(ValueError):
    """Carried inside the fields so that the reader reports it in its place."""


class _Broken(dict[str, Any]):
    """A row that could not be read: the first field a reader asks for tells why."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message

    def __missing__(self, key: str) -> Any:
        raise BadTableRowError(self._message)


def table_files(path: Path) -> Sequence[Path]:
    """The file itself, or all tables of a folder in order of name.

    Raises:
        DataError: none there.
    """
    if path.is_file():
        return [path]
    found = [each for each in sorted(path.iterdir()) if _kind(each) in _KINDS] if path.is_dir() else []
    if not found:
        raise DataError(
            "no table here",
            where=str(path),
            hint=f"looked for {', '.join(_KINDS)} (.gz allowed); a relative path starts where hatex is run",
        )
    return found


def named_part(place: str) -> Part | None:
    """The part that the name of a file (`posts_test.csv`) or of a hub split ends in."""
    return PART_NAMES.get(Path(place).name.partition(".")[0].rpartition("_")[2].rpartition("-")[2])


def open_rows(spec: SourceSpec, columns: Sequence[str]) -> Iterator[Place]:
    """Every row of a source's tables, or of its hub data set, streamed; the part is None where names divide nothing.

    Raises:
        DataError: a column of `columns` is missing. FetchError: the hub cannot be reached or does not have it.
    """
    if spec.hub is not None:
        yield from _hub_rows(spec, columns)
        return
    paths = table_files(Path(spec.path or ""))
    parts = _dividing([named_part(path.name) for path in paths])
    for path, part in zip(paths, parts, strict=True):
        for number, row in _file_rows(path, columns):
            yield str(path), number, part, row


def _dividing(parts: Sequence[Part | None]) -> Sequence[Part | None]:
    """The parts that names tell of, if they are two or more."""
    return parts if len(set(parts) - {None}) > 1 else [None] * len(parts)


def _kind(path: Path) -> str:
    return next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")


def _file_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    kind = _kind(path)
    if kind == ".parquet":
        yield from _parquet_rows(path, columns)
        return
    if kind in (".csv", ".tsv"):
        rows: Iterator[Any] = csv_rows(path, columns, delimiter="\t" if kind == ".tsv" else ",")
    else:
        rows = jsonl_rows(path)
    for number, item in enumerate(rows, start=1):
        if isinstance(item, Problem):
            yield item.row or number, _Broken(item.message)
        else:
            yield item


def _parquet_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with the `columns` and those of plain types, for readers that look for more where it is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            kinds = {field.name: field.type for field in file.schema_arrow}
            _check_columns(kinds, columns, str(path))
            wanted = [name for name, kind in kinds.items() if name in columns or _is_plain(kind)]
            batches = file.iter_batches(_PARQUET_ROWS, columns=wanted)
            yield from enumerate(chain.from_iterable(batch.to_pylist() for batch in batches), start=1)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a parquet file: {error}", where=str(path)) from error


def _is_plain(kind: pa.DataType) -> bool:
    """Whether it is text, a number or a truth value; a date may be one that Python does not know."""
    import pyarrow as pa

    return not pa.types.is_nested(kind) and not pa.types.is_temporal(kind)


def _hub_rows(spec: SourceSpec, columns: Sequence[str]) -> Iterator[Place]:
    import datasets

    try:
        loaded = datasets.load_dataset(spec.hub, revision=spec.revision, streaming=True)
    except Exception as error:  # datasets lets the errors of many HTTP and file libraries through
        raise FetchError(
            f"{type(error).__name__}: cannot load the data set",
            where=str(spec.hub),
            hint="check the id and the network",
        ) from error
    parts = _dividing([PART_NAMES.get(split) for split in loaded])
    for (split, rows), part in zip(loaded.items(), parts, strict=True):
        for number, row in enumerate(rows, start=1):
            if number == 1:
                _check_columns(row, columns, f"{spec.hub}/{split}")
            yield f"{spec.hub}/{split}", number, part, row


def _check_columns(row: Mapping[str, Any], columns: Sequence[str], where: str) -> None:
    if missing := [name for name in columns if name not in row]:
        has = ", ".join(map(repr, row))
        raise DataError(f"missing column {', '.join(map(repr, missing))} (has {has})", where=where)
