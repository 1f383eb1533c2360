"""Civil Comments (Borkan et al. 2019): news comments with the shares of raters who found them toxic.

Public column layout: `text`, `toxicity` and `identity_attack` as shares of raters; the challenge's csv also has `id`,
`toxicity_annotator_count` and a column per identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.raw import Item, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, folder_of
from hatex.data.tables import named_part, open_rows, table_files
from hatex.data.votes import HATE, NEUTRAL, TOXIC, counted
from hatex.types import LabelSet

INFO = SourceInfo(
    name="civil_comments",
    licence="CC0-1.0",
    source="hub google/civil_comments, kaggle.com/c/jigsaw-unintended-bias-in-toxicity-classification",
    cite="Borkan, Dixon, Sorensen, Thain, Vasserman. WWW Companion 2019",
    files=(),
    votes="shares of raters times their number (10 where it is not given): identity_attack: {hate}; further "
    "toxicity: {offensive, hate}; the rest: {neutral}",
)

IDENTITIES: Final[Mapping[str, str]] = {
    "black": "Black people",
    "female": "Women",
    "male": "Men",
    "muslim": "Muslims",
    "jewish": "Jewish people",
    "christian": "Christians",
    "hindu": "Hindus",
    "buddhist": "Buddhists",
    "atheist": "Non-religious people",
    "white": "White people",
    "asian": "Asian people",
    "latino": "Hispanic people",
    "homosexual_gay_or_lesbian": "Gay and lesbian people",
    "bisexual": "Bisexual people",
    "heterosexual": "Heterosexual people",
    "transgender": "Transgender people",
    "physical_disability": "Disabled people",
    "intellectual_or_learning_disability": "Disabled people",
    "psychiatric_or_mental_illness": "Disabled people",
}
_RATERS: Final = 10
"""Raters of a comment where the file does not say: most comments of the set had ten."""


def read(spec: SourceSpec) -> Iterator[Item]:
    for place, number, part, row in open_rows(spec, ("toxicity",)):
        try:
            identities = [key for key in IDENTITIES if row.get(key) not in (None, "")]
            names = (IDENTITIES[key] for key in identities if float(row[key]) >= 0.5)
            yield RawPost(
                id=str(row.get("id") or f"{named_part(place) or 'row'}-{number}"),
                dataset=spec.name or INFO.name,
                text=row["text"] if "text" in row else row["comment_text"],
                votes=counted(_votes(row)),
                file=place,
                row=number,
                part=part,
                targets=tuple(dict.fromkeys(names)),
                has_targets=bool(identities),
                keys=(f"article {row['article_id']}",) if row.get("article_id") else (),
            )
        except (KeyError, ValueError, TypeError) as error:
            yield bad_row(Path(place), number, error)


def _votes(row: Mapping[str, Any]) -> dict[LabelSet, int]:
    raters = int(row.get("toxicity_annotator_count") or _RATERS)
    toxic, identity = (float(row.get(name) or 0) for name in ("toxicity", "identity_attack"))
    if not 0 <= toxic <= 1 or not 0 <= identity <= 1:
        raise ValueError("toxicity and identity_attack must be shares from 0 to 1")
    hate = round(raters * identity)
    offensive = max(0, round(raters * toxic) - hate)
    return {HATE: hate, TOXIC: offensive, NEUTRAL: max(0, raters - hate - offensive)}


def find_files(spec: SourceSpec) -> Sequence[Path]:
    return table_files(folder_of(spec))


SOURCE = Source(INFO, read, find_files)
