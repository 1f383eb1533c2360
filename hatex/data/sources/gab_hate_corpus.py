"""Kennedy et al. 2022: posts of Gab, majority labels with targets; or the official table with one row an annotator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.files import csv_rows, jsonl_rows
from hatex.data.raw import Item, Part, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, beside, folder_of
from hatex.data.votes import HATE, NOT_HATE
from hatex.errors import DataError
from hatex.types import LabelSet, Vote

INFO = SourceInfo(
    name="gab_hate_corpus",
    licence="see osf.io/edua3 (repository MIT)",
    source="github.com/BrendanKennedy/contextualizing-hate-speech-models-with-explanations, osf.io/edua3",
    cite="Kennedy et al.: Introducing the Gab Hate Corpus. LRE 2022",
    files=("train.jsonl", "dev.jsonl"),
    votes="hd or cv: {hate}; neither: {neutral, offensive}",
)

TARGETS: Final[Mapping[str, str]] = {
    "rel": "Religious groups",
    "rae": "Ethnic groups",
    "sxo": "LGBTQ people",
    "gen": "Gender groups",
    "idl": "Ideological groups",
    "nat": "National groups",
    "pol": "Political groups",
    "mph": "Disabled people",
}
"""Columns that say what kind of group is meant; the corpus does not say which group."""

OFFICIAL_TABLE: Final = "GabHateCorpus_annotations.tsv"
_PARTS: Final[Mapping[str, Part]] = {"train.jsonl": "train", "dev.jsonl": "dev"}


def read(spec: SourceSpec) -> Iterator[Item]:
    for path in find_files(spec):
        if path.suffix == ".tsv":
            yield from _annotations(spec, path)
        else:
            yield from _majority(spec, path, _PARTS.get(path.name))


def find_files(spec: SourceSpec) -> Sequence[Path]:
    """The official table where it is, else the majority files that are there."""
    folder = folder_of(spec)
    if folder.is_file():
        return [folder]
    if (folder / OFFICIAL_TABLE).is_file():
        return [folder / OFFICIAL_TABLE]
    found = [folder / name for name in INFO.files if (folder / name).is_file()]
    if not found:
        raise DataError(f"neither {OFFICIAL_TABLE} nor {' nor '.join(INFO.files)}", where=str(folder))
    return found


def _majority(spec: SourceSpec, path: Path, part: Part | None) -> Iterator[Item]:
    for item in jsonl_rows(path):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            yield RawPost(
                id=str(row["text_id"]),
                dataset=spec.name or INFO.name,
                text=row["Text"],
                votes=(Vote(_labels(row)),),
                file=str(path),
                row=number,
                part=part,
                targets=tuple(name for key, name in TARGETS.items() if _flag(row, key)),
                has_targets=_labels(row) == HATE,
            )
        except (KeyError, ValueError) as error:
            yield bad_row(path, number, error)


def _annotations(spec: SourceSpec, path: Path) -> Iterator[Item]:
    """Rows of one annotator each; those of one post become one post with that many votes."""
    posts: dict[str, RawPost] = {}
    columns = ("ID", "Annotator", "Text", "HD", "CV")
    for item in csv_rows(path, columns, delimiter="\t"):
        if isinstance(item, Problem):
            yield beside(item)
            continue
        number, row = item
        try:
            vote = Vote(_labels({"hd": row["HD"], "cv": row["CV"]}), annotator=row["Annotator"])
        except ValueError as error:
            yield beside(bad_row(path, number, error))
            continue
        known = posts.get(row["ID"])
        if known is not None and known.text != row["Text"]:
            yield Problem(
                str(path), number, "text", "the text differs from the first row with this ID", is_row=False
            )
            continue
        posts[row["ID"]] = RawPost(
            id=row["ID"],
            dataset=spec.name or INFO.name,
            text=row["Text"],
            votes=(*(known.votes if known else ()), vote),
            file=str(path),
            row=known.row if known else number,
        )
    yield from posts.values()


def _labels(row: Mapping[str, Any]) -> LabelSet:
    return HATE if _flag(row, "hd") or _flag(row, "cv") else NOT_HATE


def _flag(row: Mapping[str, Any], name: str) -> bool:
    value = str(row[name]).strip() or "0"
    if value not in ("0", "1"):
        raise ValueError(f"{name} must be 0 or 1")
    return value == "1"


SOURCE = Source(INFO, read, find_files)
