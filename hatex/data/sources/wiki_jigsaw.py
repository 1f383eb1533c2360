"""Jigsaw's Wikipedia talk page comments: a multi-label sample at the natural rate, and a balanced one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hatex.data.files import csv_records, csv_rows
from hatex.data.raw import Item, Note, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, file_of, flag
from hatex.data.votes import HATE, NEUTRAL, TOXIC
from hatex.types import LabelSet, Vote

INFO = SourceInfo(
    name="wiki_jigsaw",
    licence="labels CC0-1.0, Wikipedia text CC-BY-SA-3.0",
    source="github.com/jeckseveg/nlp_project, github.com/thunlp/RobTest",
    cite="Wulczyn, Thain, Dixon. WWW 2017; Jigsaw Toxic Comment Challenge 2018; RobTest, ACL Findings 2023",
    files=("jigsaw_multilabel_5k.csv.gz", "jigsaw_balanced_12k.csv.gz"),
    votes="identity_hate / toxic without it / not toxic: {hate} / {offensive, hate} / {neutral}; "
    "balanced: toxic / not: {offensive, hate} / {neutral}",
)

FLAGS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")


def read(spec: SourceSpec) -> Iterator[Item]:
    prefix = f"{spec.name}_" if spec.name else "jigsaw_"
    yield from read_multilabel(f"{prefix}multilabel", file_of(spec, INFO.files[0]))
    yield from _balanced(f"{prefix}balanced", file_of(spec, INFO.files[1]))


def read_multilabel(dataset: str, path: Path) -> Iterator[Item]:
    """Rows of the challenge's own column layout, also of its whole train.csv."""
    for item in csv_rows(path, ("id", "comment_text", *FLAGS)):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            flags = {name: flag(row, name) for name in FLAGS}
        except ValueError as error:
            yield bad_row(path, number, error)
            continue
        if not flags["toxic"] and any(flags.values()):
            yield Note(
                str(path), number, "flagged " + ", ".join(n for n in FLAGS if flags[n]) + " but not toxic"
            )
        yield RawPost(
            id=row["id"],
            dataset=dataset,
            text=row["comment_text"],
            votes=(Vote(_vote(flags)),),
            file=str(path),
            row=number,
        )


def _vote(flags: dict[str, bool]) -> LabelSet:
    if flags["identity_hate"]:
        return HATE
    return TOXIC if flags["toxic"] else NEUTRAL


def _balanced(dataset: str, path: Path) -> Iterator[Item]:
    for item in csv_records(path, width=2):
        if isinstance(item, Problem):
            yield item
            continue
        number, (text, label) = item
        if label not in ("0", "1"):
            yield Problem(str(path), number, "label", "the label must be 0 or 1")
            continue
        yield RawPost(
            id=str(number),
            dataset=dataset,
            text=text,
            votes=(Vote(TOXIC if label == "1" else NEUTRAL),),
            file=str(path),
            row=number,
        )


SOURCE = Source(INFO, read)
