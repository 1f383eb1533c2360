"""Splits: seeded, stratified, grouped; official parts are respected, dev data is cut into tune and report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hatex.data.signatures import mix
from hatex.types import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLITS: Final[tuple[Split, ...]] = ("train", "tune", "report", "test")
PARTS: Final = (None, "train", "dev", "test")
TRAIN, TUNE, REPORT, TEST, DROPPED = 0, 1, 2, 3, -1
_LARGEST_GROUP: Final = 0.25
"""A group with more rows than this share of a cut goes to train: it would be the cut."""
CAP: Final = (
    "posts in groups larger than a quarter of what tune or report may hold, which therefore stay in train"
)


@dataclass(frozen=True, slots=True)
class Shares:
    tune: float
    report: float


@dataclass(frozen=True, slots=True)
class Assigned:
    """All of shape (rows,)."""

    splits: NDArray[np.int8]
    """An index into `SPLITS`, or `DROPPED`."""
    is_capped: NDArray[np.bool_]
    """Whether the row stays in train because its group is too large for a cut."""


def assign_splits(
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    datasets: NDArray[np.int64],
    parts: NDArray[np.int8],
    id_keys: NDArray[np.uint64],
    shares: Shares,
    seed: int,
) -> Assigned:
    """The split of every row; all shapes (rows,).

    `groups` holds the name of each row's group, `strata` a code for data set, platform and label set, `datasets`
    one for the data set, `parts` an index into `PARTS`, `id_keys` hashes of the ids. Official train rows whose
    group also holds official dev or test rows are dropped; every other row follows its group. Within each stratum
    groups are ordered by a seeded hash of the id of their first row, and cut where the shares are reached.
    """
    import numpy as np

    _, leaders, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    has = {part: np.zeros(len(leaders), bool) for part in ("train", "dev", "test")}
    for part, flags in has.items():
        flags[inverse[parts == PARTS.index(part)]] = True
    order = mix(id_keys[leaders] ^ mix(np.array([seed], np.uint64)))
    held = _Groups(strata[leaders], datasets[leaders], sizes, order)
    split = np.full(len(leaders), TRAIN, np.int8)
    is_free = ~has["train"] & ~has["dev"] & ~has["test"]
    both = shares.tune + shares.report
    is_large = held.too_large(is_free, shares.report, both)
    held.cut(split, is_free, ~is_large, shares.report, both)
    report_of_dev = shares.report / both if both > 0 else 1.0
    is_dev = has["dev"] & ~has["test"]
    held.cut(split, is_dev, is_dev, report_of_dev, 1.0)
    split[has["test"]] = TEST
    by_row: NDArray[np.int8] = split[inverse]
    leaks = (parts == PARTS.index("train")) & (by_row != TRAIN)
    leaks |= (parts == PARTS.index("dev")) & (by_row == TEST)
    by_row[leaks] = DROPPED
    return Assigned(by_row, is_large[inverse])


@dataclass(frozen=True)
class _Groups:
    """One entry a group: codes of stratum and data set of its first row, its rows, the hash that orders it."""

    strata: NDArray[np.int64]
    datasets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def too_large(self, chosen: NDArray[np.bool_], report: float, both: float) -> NDArray[np.bool_]:
        """Which of the `chosen` groups are no part of a cut, shape (groups,).

        A cut is the smallest positive share of the stratum's rows; where the groups within that limit would not
        fill the stratum's cuts, it is that share of the whole data set's rows.
        """
        import numpy as np

        if both <= 0:
            return np.zeros(len(chosen), bool)
        smallest = min(share for share in (report, both - report) if share > 0)
        rows = np.where(chosen, self.sizes, 0)
        by_stratum, by_dataset = (
            np.bincount(codes, weights=rows)[codes] for codes in (self.strata, self.datasets)
        )
        limit = np.maximum(1, _LARGEST_GROUP * smallest * by_stratum)
        left = np.bincount(self.strata, weights=np.where(self.sizes <= limit, rows, 0))[self.strata]
        whole = np.maximum(limit, _LARGEST_GROUP * smallest * by_dataset)
        found: NDArray[np.bool_] = chosen & (self.sizes > np.where(left < both * by_stratum, whole, limit))
        return found

    def cut(
        self,
        split: NDArray[np.int8],
        chosen: NDArray[np.bool_],
        allowed: NDArray[np.bool_],
        report: float,
        both: float,
    ) -> None:
        """Give the first `report` of each stratum's `chosen` rows to report, those up to `both` to tune, out of the
        `allowed` groups.
        """
        import numpy as np

        totals = np.bincount(self.strata, weights=np.where(chosen, self.sizes, 0))
        index = np.flatnonzero(chosen & allowed)
        if not len(index):
            return
        index = index[np.lexsort((self.keys[index], self.strata[index]))]
        sizes = self.sizes[index]
        before = np.cumsum(sizes) - sizes
        _, start, inverse = np.unique(self.strata[index], return_index=True, return_inverse=True)
        # The middle of a group decides, so that shares are met without a bias towards either side.
        middle = (before - before[start][inverse] + sizes / 2) / totals[self.strata[index]]
        split[index[middle < both]] = TUNE
        split[index[middle < report]] = REPORT
