"""Condensed posts of one source on disk until splits are known.

A shard is a parquet table, a file of signatures and a JSON tally. The tally is written last: a shard that
has one is whole, so that an interrupted run goes on with the next source.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hatex.data.condense import Batch, extra_fields
from hatex.data.examples import schema
from hatex.data.signatures import PERMUTATIONS
from hatex.data.tally import Tally

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

READ_ROWS: Final = 8_192


@dataclass(frozen=True, slots=True)
class Shard:
    folder: Path
    name: str

    @property
    def table_path(self) -> Path:
        return self.folder / f"{self.name}.parquet"

    @property
    def signature_path(self) -> Path:
        return self.folder / f"{self.name}.signatures"

    @property
    def tally_path(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def is_whole(self) -> bool:
        return self.tally_path.exists()

    def tally(self) -> Tally:
        return Tally.from_json(json.loads(self.tally_path.read_text("utf-8")))

    def write(self, batches: Iterable[Batch], tally: Tally) -> Iterator[int]:
        """Write batches as they come and yield their sizes; `tally` is read when the last one is written."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.folder.mkdir(parents=True, exist_ok=True)
        fields = [pa.field(name, kind) for name, kind in extra_fields()]
        kinds = pa.schema([*schema(), *fields])
        with (
            pq.ParquetWriter(self.table_path, kinds, compression="zstd") as writer,
            self.signature_path.open("wb") as signatures,
        ):
            for batch in batches:
                writer.write_table(batch.table.cast(kinds))
                batch.signatures.tofile(signatures)
                tally.edited += batch.edited
                yield len(batch.table)
        partial = self.tally_path.with_suffix(".partial")
        partial.write_text(json.dumps(tally.to_json()), "utf-8")
        partial.replace(self.tally_path)

    def __len__(self) -> int:
        return self.signature_path.stat().st_size // (4 * PERMUTATIONS)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.table_path) as file:
            yield from file.iter_batches(READ_ROWS, columns=list(columns) if columns is not None else None)

    def column(self, name: str) -> NDArray[Any]:
        """One number per post, shape (posts,)."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.table_path) as file:
            numbers: NDArray[Any] = file.read(columns=[name]).column(0).to_numpy()
        return numbers

    def signatures(self) -> NDArray[np.uint32]:
        """Signatures of all posts, mapped from disk, shape (posts, PERMUTATIONS)."""
        import numpy as np

        if not len(self):
            return np.empty((0, PERMUTATIONS), np.uint32)
        return np.memmap(self.signature_path, np.uint32, "r").reshape(-1, PERMUTATIONS)

    def remove(self) -> None:
        for path in (self.tally_path, self.table_path, self.signature_path):
            path.unlink(missing_ok=True)
