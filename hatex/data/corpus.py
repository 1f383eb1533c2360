"""All shards as one corpus: rows numbered through, joined into groups, divided into splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hatex.data.duplicates import KeyTable, components, near_edges
from hatex.data.holdout import Holdout, flag_copies
from hatex.data.shards import Shard
from hatex.data.signatures import BAND_ROWS, PERMUTATIONS, band_keys, is_signed, rows_per_band
from hatex.data.splits import DROPPED, REPORT, TEST, Shares, assign_splits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEPT: Final = 0
REASONS: Final = (
    "kept",
    "language left out by the recipe",
    "same text and same votes as an earlier post of the set",
    "official train post in one group with an official dev or test post",
    "equal text in the holdout",
    "near-copy of a holdout text",
)
"""Why a sound post is not in the examples, by code."""
LANGUAGE, REPEAT, LEAK, HOLDOUT_EQUAL, HOLDOUT_NEAR = range(1, len(REASONS))
_REACH: Final = 16
"""Posts back that a post is compared with in a band of fewer rows, which many posts share that are not near."""


@dataclass(frozen=True)
class Rules:
    """What decides on the fate of rows."""

    languages: tuple[str, ...]
    threshold: float
    drop_repeats: bool
    shares: Shares
    seed: int


@dataclass(frozen=True)
class Division:
    """The fate of every row, all of shape (rows,)."""

    groups: NDArray[np.int64]
    splits: NDArray[np.int8]
    reasons: NDArray[np.uint8]
    repeats: dict[str, int]
    """How many posts repeat an earlier one: by text within a set, by text across sets, nearly."""
    capped: dict[str, int]
    """Data set to its posts whose groups are too large for tune and report."""


class Corpus:
    """Shards in order; row numbers count through all of them."""

    def __init__(self, shards: Sequence[Shard], scratch: Path) -> None:
        self.shards = tuple(shards)
        self.scratch = scratch
        self.starts = [0, *accumulate(len(shard) for shard in self.shards)]
        self.rows = self.starts[-1]

    def numbered(self) -> Iterator[tuple[int, Shard]]:
        """Every shard with the number of its first row."""
        return zip(self.starts, self.shards, strict=False)

    def column(self, name: str) -> NDArray[Any]:
        """One number per row, shape (rows,)."""
        import numpy as np

        return np.concatenate([shard.column(name) for shard in self.shards])

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A text column as numbers of its distinct values, shape (rows,), and these in first-seen order."""
        import numpy as np

        known: dict[str, int] = {}
        parts = []
        for batch in chain.from_iterable(shard.batches([name]) for shard in self.shards):
            encoded = batch.column(0).dictionary_encode()
            lookup = [known.setdefault(value, len(known)) for value in encoded.dictionary.to_pylist()]
            parts.append(np.array(lookup, np.int64)[encoded.indices.to_numpy()])
        return (np.concatenate(parts) if parts else np.empty(0, np.int64)), list(known)

    def key_table(self, name: str) -> KeyTable:
        """(key, row) pairs of a list column."""
        import numpy as np

        table = KeyTable(self.scratch, name)
        row = 0
        for batch in chain.from_iterable(shard.batches([name]) for shard in self.shards):
            lists = batch.column(0)
            lengths = np.diff(lists.offsets.to_numpy())
            rows = np.repeat(np.arange(row, row + len(batch)), lengths)
            table.add(lists.flatten().to_numpy(), rows)
            row += len(batch)
        return table

    def signatures(self) -> NDArray[np.uint32]:
        """Signatures of all rows in one file on disk, shape (rows, PERMUTATIONS)."""
        import numpy as np

        path = self.scratch / "all.signatures"
        with path.open("wb") as out:
            for shard in self.shards:
                shard.signatures().tofile(out)
        if not self.rows:
            return np.empty((0, PERMUTATIONS), np.uint32)
        return np.memmap(path, np.uint32, "r").reshape(-1, PERMUTATIONS)

    def band_table(self, rows_per_band: int) -> KeyTable:
        """(key, row) pairs of all bands."""
        import numpy as np

        table = KeyTable(self.scratch, "bands")
        for first, shard in self.numbered():
            signatures = shard.signatures()
            for start in range(0, len(signatures), 50_000):
                part = signatures[start : start + 50_000]
                signed = is_signed(part)
                keys = band_keys(part[signed], rows_per_band)
                rows = np.flatnonzero(signed) + first + start
                table.add(keys.ravel(), np.repeat(rows, keys.shape[1]))
        return table


def divide(corpus: Corpus, rules: Rules, holdout: Holdout) -> Division:
    """Join rows into groups, decide who stays, and cut the splits."""
    import numpy as np

    datasets, dataset_names = corpus.codes("dataset")
    texts = corpus.key_table("text_keys")
    repeats, repeated = _repeats(texts, datasets, corpus.column("votes_key"))
    equal = list(chain(texts.edges(), corpus.key_table("group_keys").edges()))
    band = rows_per_band(rules.threshold)
    reach = 1 if band == BAND_ROWS[0] else _REACH
    near = list(near_edges(corpus.band_table(band), corpus.signatures(), rules.threshold, reach))
    groups = components(corpus.rows, chain(equal, near))
    repeats["same text as another but for a few words"] = _distinct([b for _, b in near])

    reasons = np.full(corpus.rows, KEPT, np.uint8)
    if rules.drop_repeats:
        reasons[repeated] = REPEAT
    if rules.languages:
        codes, names = corpus.codes("language")
        reasons[~np.isin(codes, [i for i, name in enumerate(names) if name in rules.languages])] = LANGUAGE
    splits = np.full(corpus.rows, DROPPED, np.int8)
    stays = reasons == KEPT
    strata, _ = corpus.codes("stratum")
    assigned = assign_splits(
        groups[stays],
        strata[stays],
        datasets[stays],
        corpus.column("part")[stays],
        corpus.column("id_key")[stays],
        rules.shares,
        rules.seed,
    )
    splits[stays] = assigned.splits
    reasons[stays & (splits == DROPPED)] = LEAK
    if len(holdout):
        _hold_out(holdout, corpus, splits, reasons)
    is_capped = np.zeros(corpus.rows, bool)
    is_capped[stays] = assigned.is_capped
    counts = np.bincount(datasets[is_capped & (reasons == KEPT)], minlength=len(dataset_names)).tolist()
    capped = {name: count for name, count in zip(dataset_names, counts, strict=True) if count}
    return Division(groups, splits, reasons, repeats, capped)


def _repeats(
    texts: KeyTable, datasets: NDArray[np.int64], votes: NDArray[np.uint64]
) -> tuple[dict[str, int], NDArray[np.int64]]:
    """How many posts repeat an earlier text, and which rows repeat text and votes of their own set."""
    import numpy as np

    within, across, whole = [], [], []
    for keys, rows in texts.runs():
        order = np.lexsort((rows, votes[rows], keys))
        sorted_keys, sorted_rows = keys[order], rows[order]
        same = (sorted_keys[1:] == sorted_keys[:-1]) & (votes[sorted_rows][1:] == votes[sorted_rows][:-1])
        whole.append(sorted_rows[1:][same])
    for left, right in texts.edges():
        same_set = datasets[left] == datasets[right]
        within.append(right[same_set])
        across.append(right[~same_set])
    counts = {
        "same text as an earlier post of the set": _distinct(within),
        "same text as a post of another set": _distinct(across),
    }
    return counts, np.unique(np.concatenate(whole or [np.empty(0, np.int64)])).astype(np.int64)


def _distinct(rows: list[NDArray[np.int64]]) -> int:
    import numpy as np

    return len(np.unique(np.concatenate(rows))) if rows else 0


def _hold_out(holdout: Holdout, corpus: Corpus, splits: NDArray[np.int8], reasons: NDArray[np.uint8]) -> None:
    """Take copies of held-out texts from whatever is fitted or chosen on: train and tune."""
    equal, near = flag_copies(holdout, corpus.numbered(), corpus.rows)
    used = (splits != REPORT) & (splits != TEST) & (splits != DROPPED)
    reasons[used & equal] = HOLDOUT_EQUAL
    reasons[used & near] = HOLDOUT_NEAR
    splits[used & (equal | near)] = DROPPED
