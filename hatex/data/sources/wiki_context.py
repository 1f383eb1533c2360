"""Pavlopoulos et al. 2020: Wikipedia talk page comments rated with and without the comment they answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hatex.data.files import csv_rows
from hatex.data.raw import Item, Note, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, file_of, flag
from hatex.data.votes import ANY, NEUTRAL, TOXIC, tally
from hatex.types import Vote

INFO = SourceInfo(
    name="wiki_context",
    licence="Apache-2.0, Wikipedia text CC-BY-SA-3.0",
    source="github.com/ipavlopoulos/context_toxicity",
    cite="Pavlopoulos, Sorensen, Dixon, Thain, Androutsopoulos. ACL 2020",
    files=("CAT_LARGE_gc.csv.gz", "CAT_LARGE_gn.csv.gz", "cat_small.csv.gz"),
    votes="toxic / not: {offensive, hate} / {neutral}; a rating of 0.5 (not documented) names all three; "
    "raters of the small set carry their group (with context, without context)",
)

_RATINGS = {"0": NEUTRAL, "0.": NEUTRAL, "1.": TOXIC, "1": TOXIC, "0.5": ANY}
_GROUPS = {"oc": "without context", "ic": "with context"}


def read(spec: SourceSpec) -> Iterator[Item]:
    name = spec.name or INFO.name
    yield from _large(f"{name}_gc", file_of(spec, "CAT_LARGE_gc.csv.gz"))
    yield from _large(f"{name}_gn", file_of(spec, "CAT_LARGE_gn.csv.gz"))
    yield from _small(f"{name}_small", file_of(spec, "cat_small.csv.gz"))


def _large(dataset: str, path: Path) -> Iterator[Item]:
    for item in csv_rows(path, ("id", "text", "parent", "label")):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            vote = Vote(TOXIC if flag(row, "label") else NEUTRAL)
        except ValueError as error:
            yield bad_row(path, number, error)
            continue
        yield RawPost(
            id=row["id"],
            dataset=dataset,
            text=row["text"],
            votes=(vote,),
            file=str(path),
            row=number,
            keys=(f"revision {row['id'].partition('.')[0]}",),
            context=row["parent"] or None,
        )


def _small(dataset: str, path: Path) -> Iterator[Item]:
    for item in csv_rows(
        path, ("text", "parent_text", "tox_codes_oc", "tox_codes_ic", "label_oc", "label_ic")
    ):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            votes = _ratings(row, "oc") + _ratings(row, "ic")
        except ValueError as error:
            yield bad_row(path, number, error)
            continue
        if any(vote.labels == ANY for vote in votes):
            yield Note(str(path), number, "a rating of 0.5")
        yield RawPost(
            id=str(number),
            dataset=dataset,
            text=row["text"],
            votes=votes,
            file=str(path),
            row=number,
            context=row["parent_text"] or None,
        )


def _ratings(row: dict[str, str], kind: str) -> tuple[Vote, ...]:
    """Votes from a list such as `[0. 0.5 1.]`, checked against the label of the same raters."""
    codes = row[f"tox_codes_{kind}"].strip("[] \n").split()
    if not codes or any(code not in _RATINGS for code in codes):
        raise ValueError(f"tox_codes_{kind} must list 0, 0.5 and 1")
    mean = sum(float(code) for code in codes) / len(codes)
    if mean != 0.5 and flag(row, f"label_{kind}") != (mean > 0.5):
        raise ValueError(f"label_{kind} contradicts tox_codes_{kind}")
    votes = tally(_RATINGS[code] for code in codes)
    return tuple(Vote(vote.labels, vote.count, group=_GROUPS[kind]) for vote in votes)


SOURCE = Source(INFO, read)
