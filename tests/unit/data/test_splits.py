"""Splits: groups stay together, shares are met per stratum, official parts win."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hatex.data.splits import DROPPED, REPORT, TEST, TRAIN, TUNE, Shares, assign_splits

SHARES = Shares(tune=0.1, report=0.2)


def split(groups: list[int], strata: list[int], parts: list[int], seed: int = 1) -> np.ndarray:
    columns = (np.array(groups, np.int64), np.array(strata, np.int64), np.array(parts, np.int8))
    return assign_splits(*columns, np.arange(len(groups), dtype=np.uint64), SHARES, seed)


def test_shares_are_met_in_every_stratum() -> None:
    strata = [0] * 1000 + [1] * 100
    found = split(list(range(1100)), strata, [0] * 1100)
    for rows, size in ((found[:1000], 1000), (found[1000:], 100)):
        assert (rows == REPORT).sum() == size * 0.2
        assert (rows == TUNE).sum() == size * 0.1


def test_the_seed_decides() -> None:
    rows = list(range(500)), [0] * 500, [0] * 500
    assert (split(*rows, seed=1) == split(*rows, seed=1)).all()
    assert (split(*rows, seed=1) != split(*rows, seed=2)).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(0, 2), st.sampled_from((0, 0, 1, 2, 3))),
        min_size=1,
        max_size=80,
    )
)
def test_groups_never_straddle_and_official_parts_win(rows: list[tuple[int, int, int]]) -> None:
    groups, strata, parts = (list(column) for column in zip(*rows, strict=True))
    found = split(groups, strata, parts)
    by_group: dict[int, set[int]] = {}
    for group, code in zip(groups, found.tolist(), strict=True):
        if code != DROPPED:
            by_group.setdefault(group, set()).add(code)
    assert all(len(codes) == 1 for codes in by_group.values())
    for part, code in zip(parts, found.tolist(), strict=True):
        assert part != 1 or code in (TRAIN, DROPPED)
        assert part != 2 or code in (TUNE, REPORT, DROPPED)
        assert part != 3 or code == TEST
        assert part != 0 or code != DROPPED


def test_dev_data_is_cut_into_tune_and_report() -> None:
    found = split(list(range(300)), [0] * 300, [2] * 300)
    assert ((found == REPORT).sum(), (found == TUNE).sum()) == (200, 100)


def test_a_giant_group_goes_to_train() -> None:
    found = split([0] * 60 + list(range(60, 100)), [0] * 100, [0] * 100)
    assert (found[:60] == TRAIN).all()
    assert (found[60:] != TRAIN).any()
