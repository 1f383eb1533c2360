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


@dataclass(frozen=True, slots=True)
class Shares:
    tune: float
    report: float


def assign_splits(
    groups: NDArray[np.int64],
    strata: NDArray[np.int64],
    parts: NDArray[np.int8],
    id_keys: NDArray[np.uint64],
    shares: Shares,
    seed: int,
) -> NDArray[np.int8]:
    """The split of every row: an index into `SPLITS`, or `DROPPED`; all shapes (rows,).

    `groups` holds the name of each row's group, `strata` a code for data set, platform and label set,
    `parts` an index into `PARTS`, `id_keys` hashes of the ids. Official train rows whose group also holds
    official dev or test rows are dropped; every other row follows its group. Within each stratum groups are
    ordered by a seeded hash of the id of their first row, and cut where the shares are reached.
    """
    import numpy as np

    _, leaders, inverse, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    has = {part: np.zeros(len(leaders), bool) for part in ("train", "dev", "test")}
    for part, flags in has.items():
        flags[inverse[parts == PARTS.index(part)]] = True
    order = mix(id_keys[leaders] ^ mix(np.array([seed], np.uint64)))
    held = _Groups(strata[leaders], sizes, order)
    split = np.full(len(leaders), TRAIN, np.int8)
    is_free = ~has["train"] & ~has["dev"] & ~has["test"]
    both = shares.tune + shares.report
    held.cut(split, is_free, shares.report, both)
    report_of_dev = shares.report / both if both > 0 else 1.0
    held.cut(split, has["dev"] & ~has["test"], report_of_dev, 1.0, cap=False)
    split[has["test"]] = TEST
    by_row: NDArray[np.int8] = split[inverse]
    leaks = (parts == PARTS.index("train")) & (by_row != TRAIN)
    leaks |= (parts == PARTS.index("dev")) & (by_row == TEST)
    by_row[leaks] = DROPPED
    return by_row


@dataclass(frozen=True)
class _Groups:
    strata: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def cut(
        self,
        split: NDArray[np.int8],
        chosen: NDArray[np.bool_],
        report: float,
        both: float,
        *,
        cap: bool = True,
    ) -> None:
        """Give the first `report` of each stratum's rows to report, those up to `both` to tune."""
        import numpy as np

        index = np.flatnonzero(chosen)
        index = index[np.lexsort((self.keys[index], self.strata[index]))]
        if not len(index):
            return
        totals = np.bincount(self.strata[index], weights=self.sizes[index])
        if cap:
            limit = np.maximum(1, _LARGEST_GROUP * min(report, both - report) * totals[self.strata[index]])
            index = index[self.sizes[index] <= limit]
        sizes = self.sizes[index]
        before = np.cumsum(sizes) - sizes
        _, start, inverse = np.unique(self.strata[index], return_index=True, return_inverse=True)
        # The middle of a group decides, so that shares are met without a bias towards either side.
        middle = (before - before[start][inverse] + sizes / 2) / totals[self.strata[index]]
        split[index[middle < both]] = TUNE
        split[index[middle < report]] = REPORT
