"""Examples in parquet: one row a post, streamed in and out.

Schema of `examples.parquet`: `id` is `dataset:upstream id`; `votes` lists `{labels, count, annotator,
group}` where `labels` is a label set such as `offensive|hate`; `rationales` lists `{start, end, annotator,
kind}` in code points of `text`; `explanation` is a JSON object or null; the other columns are those of
`types.Example`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hatex.data.votes import parse_label_set
from hatex.errors import DataError
from hatex.types import Example, Rationale, Split, Vote

if TYPE_CHECKING:
    import pyarrow as pa

FILE_NAME: Final = "examples.parquet"
SCHEMA_VERSION: Final = 1
ROWS_PER_GROUP: Final = 20_000

_COLUMNS: Final[dict[str, Callable[[Example], Any]]] = {
    "id": lambda x: x.id,
    "dataset": lambda x: x.dataset,
    "platform": lambda x: x.platform,
    "text": lambda x: x.text,
    "votes": lambda x: [
        {"labels": "|".join(v.labels), "count": v.count, "annotator": v.annotator, "group": v.group}
        for v in x.votes
    ],
    "split": lambda x: x.split,
    "group": lambda x: x.group,
    "targets": lambda x: list(x.targets),
    "has_targets": lambda x: x.has_targets,
    "rationales": lambda x: [
        {"start": r.start, "end": r.end, "annotator": r.annotator, "kind": r.kind} for r in x.rationales
    ],
    "has_rationales": lambda x: x.has_rationales,
    "context": lambda x: x.context,
    "language": lambda x: x.language,
    "explanation": lambda x: (
        None if x.explanation is None else json.dumps(x.explanation, ensure_ascii=False, sort_keys=True)
    ),
}


def schema() -> pa.Schema:
    """The arrow schema of `examples.parquet`, its version in the metadata."""
    import pyarrow as pa

    vote = [
        ("labels", pa.string()),
        ("count", pa.int32()),
        ("annotator", pa.string()),
        ("group", pa.string()),
    ]
    span = [("start", pa.int32()), ("end", pa.int32()), ("annotator", pa.string()), ("kind", pa.string())]
    special = {
        "votes": pa.list_(pa.struct(vote)),
        "targets": pa.list_(pa.string()),
        "has_targets": pa.bool_(),
        "rationales": pa.list_(pa.struct(span)),
        "has_rationales": pa.bool_(),
    }
    fields = [pa.field(name, special.get(name, pa.string())) for name in _COLUMNS]
    return pa.schema(fields, metadata={"hatex.schema": str(SCHEMA_VERSION)})


def to_table(examples: Sequence[Example]) -> pa.Table:
    import pyarrow as pa

    kinds = schema()
    arrays = [
        pa.array([value(example) for example in examples], kinds.field(name).type)
        for name, value in _COLUMNS.items()
    ]
    return pa.Table.from_arrays(arrays, schema=kinds)


@contextmanager
def open_writer(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends tables; the file appears at `path` when the context ends without an error."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with pq.ParquetWriter(partial, schema(), compression="zstd") as writer:
            yield lambda table: writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write a parquet file atomically, in constant memory; returns the number of rows."""
    written = 0
    rows = iter(examples)
    with open_writer(path) as write:
        while batch := list(islice(rows, ROWS_PER_GROUP)):
            write(to_table(batch))
            written += len(batch)
    return written


def iter_examples(
    path: Path,
    *,
    splits: Sequence[Split] | None = None,
    datasets: Sequence[str] | None = None,
    platforms: Sequence[str] | None = None,
) -> Iterator[Example]:
    """Examples of a prepared folder (or a parquet file) in file order, a row group at a time.

    Raises:
        DataError: no such file, or one that is not of this schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        hint = "run `hatex prepare` with the recipe whose prepare.output this is"
        raise DataError("no prepared examples here", where=str(path), hint=hint)
    wanted = {"split": splits, "dataset": datasets, "platform": platforms}
    try:
        with pq.ParquetFile(file) as source:
            _check_version(source.schema_arrow, file)
            for batch in source.iter_batches(batch_size=ROWS_PER_GROUP):
                yield from (_example(row) for row in _filtered(batch, wanted).to_pylist())
    except pa.ArrowInvalid as error:
        raise DataError(f"not a parquet file of examples: {error}", where=str(file)) from error


def read_examples(
    path: Path,
    *,
    splits: Sequence[Split] | None = None,
    datasets: Sequence[str] | None = None,
    platforms: Sequence[str] | None = None,
) -> list[Example]:
    """`iter_examples` as a list."""
    return list(iter_examples(path, splits=splits, datasets=datasets, platforms=platforms))


def in_seeded_order(examples: Iterable[Example], seed: int) -> list[Example]:
    """Examples in an order that is theirs alone: it stays when others come or go."""
    return sorted(examples, key=lambda e: hashlib.sha256(f"{seed}/{e.id}".encode()).digest())


def _check_version(found: pa.Schema, file: Path) -> None:
    version = (found.metadata or {}).get(b"hatex.schema")
    if version != str(SCHEMA_VERSION).encode():
        has = "none" if version is None else version.decode(errors="replace")
        raise DataError(
            f"examples of schema {SCHEMA_VERSION} expected, found {has}",
            where=str(file),
            hint="run `hatex prepare` again with the recipe whose prepare.output this is",
        )


def _filtered(batch: pa.RecordBatch, wanted: dict[str, Sequence[str] | None]) -> pa.RecordBatch:
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, values in wanted.items():
        if values is not None:
            batch = batch.filter(
                pc.is_in(batch.column(column), value_set=pa.array(list(values), pa.string()))
            )
    return batch


def _example(row: dict[str, Any]) -> Example:
    votes = tuple(
        Vote(parse_label_set(v["labels"]), v["count"], v["annotator"], v["group"]) for v in row.pop("votes")
    )
    rationales = tuple(Rationale(**r) for r in row.pop("rationales"))
    explanation = row.pop("explanation")
    targets = tuple(row.pop("targets"))
    return Example(
        votes=votes,
        rationales=rationales,
        targets=targets,
        explanation=None if explanation is None else json.loads(explanation),
        **row,
    )
