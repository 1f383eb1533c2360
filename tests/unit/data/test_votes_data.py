"""Votes name label sets; shares keep every one of them."""

import pytest

from hatex.data.groups import GROUPS, HATEXPLAIN_GROUPS, UnknownGroupError, canonical
from hatex.data.votes import (
    ANY,
    HATE,
    NEUTRAL,
    NOT_HATE,
    OFFENSIVE,
    TOXIC,
    counted,
    is_tied,
    mass,
    parse_label_set,
    plurality,
    vote_shares,
)
from hatex.types import LABEL_SETS, Vote


def test_shares_follow_the_order_of_label_sets() -> None:
    shares = vote_shares((Vote(HATE, 1), Vote(NOT_HATE, 2), Vote(ANY, 1)))
    assert dict(zip(LABEL_SETS, shares, strict=True)) == {
        **dict.fromkeys(LABEL_SETS, 0.0),
        HATE: 0.25,
        NOT_HATE: 0.5,
        ANY: 0.25,
    }


def test_no_votes_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        vote_shares(())


def test_ties_stay_visible() -> None:
    votes = counted({HATE: 1, OFFENSIVE: 1, NEUTRAL: 1})
    assert is_tied(votes)
    assert set(plurality(votes)) == {HATE, OFFENSIVE, NEUTRAL}
    assert not is_tied((Vote(HATE, 2), Vote(NEUTRAL, 1)))


def test_mass_counts_sets_that_lie_inside() -> None:
    votes = (Vote(HATE, 1), Vote(TOXIC, 1), Vote(NOT_HATE, 2))
    assert mass(votes, ("offensive", "hate")) == 0.5
    assert mass(votes, ("neutral", "offensive")) == 0.5


def test_label_sets_are_parsed_in_any_order() -> None:
    assert parse_label_set("hate | offensive") == TOXIC
    with pytest.raises(ValueError, match="unknown label 'rude'"):
        parse_label_set("hate|rude")


def test_groups_map_to_the_closed_list() -> None:
    assert canonical(["Women", "None", "Refugee", "Women"], HATEXPLAIN_GROUPS) == (
        "Women",
        "Refugees and migrants",
    )
    assert len(set(GROUPS)) == len(GROUPS) == 27
    with pytest.raises(UnknownGroupError):
        canonical(["Goalkeepers"], HATEXPLAIN_GROUPS)
