"""The closed list of groups that a post may be about, and how data sets name them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

HATEXPLAIN_GROUPS: Final[Mapping[str, str | None]] = {
    "None": None,
    "African": "Black people",
    "Women": "Women",
    "Islam": "Muslims",
    "Other": "Other group",
    "Jewish": "Jewish people",
    "Homosexual": "Gay and lesbian people",
    "Arab": "Arab people",
    "Refugee": "Refugees and migrants",
    "Caucasian": "White people",
    "Men": "Men",
    "Asian": "Asian people",
    "Hispanic": "Hispanic people",
    "Christian": "Christians",
    "Disability": "Disabled people",
    "Minority": "Minorities",
    "Heterosexual": "Heterosexual people",
    "Economic": "Poor people",
    "Indigenous": "Indigenous people",
    "Hindu": "Hindus",
    "Nonreligious": "Non-religious people",
    "Indian": "Indian people",
    "Buddhism": "Buddhists",
    "Bisexual": "Bisexual people",
    "Asexual": "Asexual people",
}
"""Every target that HateXplain names (all 25 occur), by falling count; None: no group is meant."""

FURTHER_GROUPS: Final = ("Transgender people", "Older people", "Young people")
"""Groups that other public sets name and HateXplain does not."""

GROUPS: Final[tuple[str, ...]] = tuple(name for name in HATEXPLAIN_GROUPS.values() if name) + FURTHER_GROUPS
"""The list that hatex ships; a recipe may name its own."""


class UnknownGroupError(ValueError):
    """A data set names a group that its mapping does not hold."""


def canonical(names: Iterable[str], mapping: Mapping[str, str | None]) -> tuple[str, ...]:
    """Display names of the groups a data set names, without repeats, in first-seen order.

    Raises:
        UnknownGroupError: a name that `mapping` does not hold.
    """
    found: dict[str, None] = {}
    for name in names:
        if name not in mapping:
            raise UnknownGroupError(f"unknown target group {name!r}")
        if (display := mapping[name]) is not None:
            found[display] = None
    return tuple(found)
