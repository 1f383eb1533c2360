"""Splits: groups stay together, shares are met per stratum, official parts win."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.data.splits import DROPPED, REPORT, TEST, TRAIN, TUNE, Assigned, Shares, assign_splits

SHARES = Shares(tune=0.1, report=0.2)


def assign(
    groups: list[int], strata: list[int], parts: list[int], shares: Shares = SHARES, seed: int = 1
) -> Assigned:
    """Every ten strata are of one data set."""
    columns = (np.array(groups, np.int64), np.array(strata, np.int64), np.array(strata, np.int64) // 10)
    ids = np.arange(len(groups), dtype=np.uint64)
    return assign_splits(*columns, np.array(parts, np.int8), ids, shares, seed)


def split(groups: list[int], strata: list[int], parts: list[int], seed: int = 1) -> np.ndarray:
    return assign(groups, strata, parts, seed=seed).splits


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


@pytest.mark.parametrize(("shares", "wanted"), [(Shares(0, 0.2), REPORT), (Shares(0.2, 0), TUNE)])
def test_one_share_alone_gets_groups_as_well(shares: Shares, wanted: int) -> None:
    groups = [i // 3 for i in range(300)]
    found = assign(groups, [0] * 300, [0] * 300, shares)
    assert (found.splits == wanted).sum() == 60
    assert not found.is_capped.any()


def test_a_group_is_measured_by_the_whole_set_where_its_stratum_could_not_be_cut() -> None:
    """100 threads of 10 posts with one of three labels each: each share of the set is worth ten threads."""
    groups = [i // 10 for i in range(1000)]
    strata = [group % 3 for group in groups]
    found = assign(groups, strata, [0] * 1000, Shares(0.1, 0.1)).splits
    assert abs((found == REPORT).sum() - 100) <= 20
    assert abs((found == TUNE).sum() - 100) <= 20


def test_the_set_that_measures_a_group_is_its_own() -> None:
    """20 posts in pairs beside a set of 2,000 posts: half a post is a quarter of a cut of theirs."""
    groups = [i // 2 for i in range(20)] + list(range(20, 2020))
    found = assign(groups, [0] * 20 + [10] * 2000, [0] * 2020, Shares(0.1, 0.1))
    assert found.is_capped.tolist() == [True] * 20 + [False] * 2000


def test_a_stratum_that_can_be_cut_keeps_its_own_measure() -> None:
    """Posts enough stand alone, so that eight copies of one of them need not be what is measured on."""
    groups = [0] * 8 + list(range(8, 1000))
    strata = [0] * 100 + [1] * 900
    capped = assign(groups, strata, [0] * 1000, Shares(0.1, 0.1)).is_capped
    assert capped.tolist() == [True] * 8 + [False] * 992


def test_without_shares_nothing_is_too_large() -> None:
    found = assign([0] * 9, [0] * 9, [0] * 9, Shares(0, 0))
    assert (found.splits == TRAIN).all()
    assert not found.is_capped.any()
