"""Copies and near-copies of held-out texts, found exactly.

A near-copy has a Jaccard overlap of word sets of at least the threshold. Prefix filtering finds all of
them: with words in one global order, rarest first, two sets that overlap that much share a word among their
first n - ceil(threshold * n) + 1 (Chaudhuri, Ganti, Kaushik, A primitive operator for similarity joins,
ICDE 2006).
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hatex.data.duplicates import text_keys
from hatex.data.files import csv_rows, jsonl_rows, open_text
from hatex.data.raw import Problem
from hatex.data.shards import Shard
from hatex.data.signatures import MIN_WORDS, word_set
from hatex.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Copy = Literal["equal text", "near copy"]


class Holdout:
    """Texts that nothing may be fitted or chosen on."""

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        self.threshold = threshold
        self._keys: set[int] = set()
        self._sets: list[frozenset[str]] = []
        for text in texts:
            self._keys |= text_keys(text)
            self._sets.append(word_set(text))
        self._frequency = Counter(word for words in self._sets for word in words)
        self._index: dict[str, list[int]] = defaultdict(list)
        for number, words in enumerate(self._sets):
            if len(words) >= MIN_WORDS:
                for word in self._prefix(words):
                    self._index[word].append(number)

    def __len__(self) -> int:
        return len(self._sets)

    def match(self, text: str, keys: Iterable[int] | None = None) -> Copy | None:
        """Whether a post is a copy of a held-out text; `keys` are its `text_keys`, if they are known."""
        if not self._keys.isdisjoint(text_keys(text) if keys is None else keys):
            return "equal text"
        words = word_set(text)
        if len(words) < MIN_WORDS:
            return None
        numbers = {number for word in self._prefix(words) for number in self._index.get(word, ())}
        return "near copy" if any(self._overlaps(words, self._sets[n]) for n in numbers) else None

    def matches(self, shard: Shard) -> Iterator[tuple[int, Copy]]:
        """Positions in a shard whose posts are copies."""
        position = 0
        for batch in shard.batches(["text", "text_keys"]):
            texts, keys = (batch.column(name).to_pylist() for name in ("text", "text_keys"))
            for offset, (text, of_text) in enumerate(zip(texts, keys, strict=True)):
                if (copy := self.match(text, of_text)) is not None:
                    yield position + offset, copy
            position += len(batch)

    def _prefix(self, words: frozenset[str]) -> Sequence[str]:
        # A word that no held-out text has is the rarest of all, and needs no look-up.
        known = sorted(words & self._frequency.keys(), key=lambda word: (self._frequency[word], word))
        length = len(words) - ceil(self.threshold * len(words)) + 1
        return known[: max(0, length - (len(words) - len(known)))]

    def _overlaps(self, left: frozenset[str], right: frozenset[str]) -> bool:
        shared = len(left & right)
        return shared >= self.threshold * (len(left) + len(right) - shared)


def load_texts(path: Path) -> Iterator[str]:
    """Texts of a file: lines of .txt, the `text` field of .jsonl, .csv and .parquet (.gz allowed).

    Raises:
        DataError: an unknown kind of file, a row without text, or no text at all.
    """
    kind = next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")
    if kind == ".parquet":
        yield from _parquet_texts(path)
    elif kind in (".jsonl", ".csv"):
        for item in jsonl_rows(path) if kind == ".jsonl" else csv_rows(path, ("text",)):
            if isinstance(item, Problem):
                raise DataError(item.message, where=f"{item.file}:{item.row}")
            number, row = item
            if not isinstance(row.get("text"), str):
                raise DataError("no text", where=f"{path}:{number}", hint=f"has {json.dumps(sorted(row))}")
            yield row["text"]
    elif kind == ".txt":
        with open_text(path) as stream:
            yield from (line.rstrip("\r\n") for line in stream if line.strip())
    else:
        raise DataError(
            "unknown kind of holdout file", where=str(path), hint=".txt, .jsonl, .csv or .parquet"
        )


def _parquet_texts(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise DataError("no column `text`", where=str(path))
            for batch in file.iter_batches(columns=["text"]):
                yield from (text for text in batch.column(0).to_pylist() if text is not None)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise DataError(f"not a parquet file: {error}", where=str(path)) from error


def flag_copies(
    holdout: Holdout, shards: Iterable[tuple[int, Shard]], rows: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are copies and which near-copies, each (rows,); shards come with their first row."""
    import numpy as np

    equal, near = np.zeros(rows, bool), np.zeros(rows, bool)
    for first, shard in shards:
        for position, copy in holdout.matches(shard):
            (equal if copy == "equal text" else near)[first + position] = True
    return equal, near
