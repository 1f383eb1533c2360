"""The last pass: shards and their division to examples.parquet, counted on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hatex.data.condense import extra_fields
from hatex.data.corpus import KEPT, REASONS, Corpus, Division
from hatex.data.examples import open_writer
from hatex.data.splits import SPLITS
from hatex.data.statistics import Statistics

if TYPE_CHECKING:
    import pyarrow as pa


def assemble(
    corpus: Corpus, division: Division, path: Path, advance: Callable[[float], None]
) -> tuple[Statistics, dict[str, dict[str, int]]]:
    """Write the kept rows in corpus order; returns statistics and dropped rows by reason and data set."""
    import numpy as np

    statistics = Statistics()
    dropped: Counter[tuple[int, str]] = Counter()
    names = _leader_ids(corpus, division)
    row = 0
    with open_writer(path) as write:
        for shard in corpus.shards:
            for batch in shard.batches():
                here = slice(row, row + len(batch))
                row += len(batch)
                kept = division.reasons[here] == KEPT
                sets = np.array(batch.column("dataset").to_pylist(), object)
                reasons = division.reasons[here]
                dropped.update(zip(reasons[~kept].tolist(), sets[~kept].tolist(), strict=True))
                if kept.any():
                    table, strata = _finished(batch, kept, division, here, names)
                    statistics.add(table, strata)
                    write(table)
                advance(len(batch))
    by_reason: dict[str, dict[str, int]] = {}
    for (code, name), count in sorted(dropped.items()):
        by_reason.setdefault(REASONS[code], {})[name] = count
    return statistics, by_reason


def _leader_ids(corpus: Corpus, division: Division) -> pa.Array:
    """The id of every row's group: that of its first post, shape (rows,)."""
    import pyarrow as pa

    ids = [batch.column(0) for shard in corpus.shards for batch in shard.batches(["id"])]
    column = pa.chunked_array(ids, pa.string()).cast(pa.large_string()).combine_chunks()
    return column.take(pa.array(division.groups))


def _finished(
    batch: pa.RecordBatch, kept: object, division: Division, here: slice, names: pa.Array
) -> tuple[pa.Table, list[str]]:
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    splits = pa.array([SPLITS[code] if code >= 0 else None for code in division.splits[here]], pa.string())
    groups = names.slice(here.start, here.stop - here.start).cast(pa.string())
    for name, column in (("split", splits), ("group", groups)):
        table = table.set_column(table.schema.get_field_index(name), name, column)
    table = table.filter(pa.array(kept))
    strata = table.column("stratum").to_pylist()
    return table.drop_columns([name for name, _ in extra_fields()]), strata
