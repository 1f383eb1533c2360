"""Davidson et al. 2017: tweets with vote counts per class."""

from __future__ import annotations

from collections.abc import Iterator

from hatex.data.files import csv_rows
from hatex.data.raw import Item, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, file_of, whole_numbers
from hatex.data.votes import HATE, NEUTRAL, OFFENSIVE, counted

INFO = SourceInfo(
    name="davidson",
    licence="MIT",
    source="github.com/t-davidson/hate-speech-and-offensive-language",
    cite="Davidson, Warmsley, Macy, Weber. ICWSM 2017",
    files=("labeled_data.csv",),
    votes="counts of hate / offensive / neither: {hate} / {offensive} / {neutral}",
)

_COUNTS = ("count", "hate_speech", "offensive_language", "neither", "class")


def read(spec: SourceSpec) -> Iterator[Item]:
    path = file_of(spec, "labeled_data.csv")
    for item in csv_rows(path, ("", "tweet", *_COUNTS)):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            total, *votes, label = whole_numbers(row, _COUNTS)
            if sum(votes) != total or total == 0:
                raise ValueError(f"{sum(votes)} votes, but count is {total}")
            if label > 2 or votes[label] != max(votes):
                raise ValueError(f"class {label} contradicts the votes")
        except ValueError as error:
            yield bad_row(path, number, error)
            continue
        yield RawPost(
            id=row[""],
            dataset=spec.name or INFO.name,
            text=row["tweet"],
            votes=counted(dict(zip((HATE, OFFENSIVE, NEUTRAL), votes, strict=True))),
            file=str(path),
            row=number,
        )


SOURCE = Source(INFO, read)
