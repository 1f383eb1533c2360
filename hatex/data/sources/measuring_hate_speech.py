"""Measuring Hate Speech (Kennedy et al. 2020): one row an annotator, with a hate answer of 0, 1 or 2 and ratings.

Public column layout: `comment_id`, `annotator_id`, `platform`, `text`, `hatespeech`, `insult`, `humiliate` and columns
`target_*`. All rows of a comment become one post with one vote an annotator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.raw import Item, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import AnnotatedPosts, bad_row, beside, folder_of
from hatex.data.tables import open_rows, table_files
from hatex.data.votes import ANY, HATE, NEUTRAL, OFFENSIVE
from hatex.types import LabelSet, Vote

INFO = SourceInfo(
    name="measuring_hate_speech",
    licence="CC-BY-4.0",
    source="hub ucberkeley-dlab/measuring-hate-speech",
    cite="Kennedy, Bacon, Sahn, von Vacano: Constructing interval variables via faceted Rasch measurement. 2020; "
    "Sachdeva et al. NLPerspectives 2022",
    files=(),
    votes="hatespeech 2: {hate}; 1 (unclear): all three labels; 0 with insult or humiliate of 3 or more (agree): "
    "{offensive}; 0 without: {neutral}",
)

TARGETS: Final[Mapping[str, str]] = {
    "target_race_black": "Black people",
    "target_race_white": "White people",
    "target_race_asian": "Asian people",
    "target_race_latinx": "Hispanic people",
    "target_race_middle_eastern": "Arab people",
    "target_race_native_american": "Indigenous people",
    "target_religion_muslim": "Muslims",
    "target_religion_jewish": "Jewish people",
    "target_religion_christian": "Christians",
    "target_religion_hindu": "Hindus",
    "target_religion_buddhist": "Buddhists",
    "target_religion_atheist": "Non-religious people",
    "target_origin_immigrant": "Refugees and migrants",
    "target_origin_migrant_worker": "Refugees and migrants",
    "target_gender_women": "Women",
    "target_gender_men": "Men",
    "target_gender_transgender_women": "Transgender people",
    "target_gender_transgender_men": "Transgender people",
    "target_gender_transgender_unspecified": "Transgender people",
    "target_sexuality_gay": "Gay and lesbian people",
    "target_sexuality_lesbian": "Gay and lesbian people",
    "target_sexuality_bisexual": "Bisexual people",
    "target_sexuality_straight": "Heterosexual people",
    "target_disability": "Disabled people",
}
_AGREES: Final = 3


def read(spec: SourceSpec) -> Iterator[Item]:
    posts = AnnotatedPosts()
    for place, number, _, row in open_rows(spec, ("comment_id", "annotator_id", "text", "hatespeech")):
        try:
            vote = Vote(_labels(row), annotator=str(row["annotator_id"]))
            named = (
                name for column, name in TARGETS.items() if str(row.get(column)) in ("True", "true", "1")
            )
            key, targets = str(row["comment_id"]), tuple(dict.fromkeys(named))
            name = spec.name or INFO.name
            post = RawPost(key, name, row["text"], (vote,), place, number, targets=targets, has_targets=True)
            problem = posts.add(post)
        except (KeyError, ValueError, TypeError) as error:
            problem = beside(bad_row(Path(place), number, error))
        if problem is not None:
            yield problem
    yield from posts


def _labels(row: Mapping[str, Any]) -> LabelSet:
    answer = float(row["hatespeech"])
    if answer not in (0, 1, 2):
        raise ValueError("hatespeech must be 0, 1 or 2")
    if answer == 2:
        return HATE
    if answer == 1:
        return ANY
    ratings = [float(row[name]) for name in ("insult", "humiliate") if row.get(name) not in (None, "")]
    return OFFENSIVE if any(rating >= _AGREES for rating in ratings) else NEUTRAL


def find_files(spec: SourceSpec) -> Sequence[Path]:
    return table_files(folder_of(spec))


SOURCE = Source(INFO, read, find_files)
