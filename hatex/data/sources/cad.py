"""Vidgen et al. 2021: Reddit entries, binary copy; or the official table with one row a label and whole threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from hatex.data.files import csv_rows, json_file
from hatex.data.raw import Item, LeftOut, Part, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import beside, file_of, folder_of
from hatex.data.votes import ANY, HATE, NEUTRAL, NOT_HATE, TOXIC
from hatex.types import LabelSet, Vote

INFO = SourceInfo(
    name="cad",
    licence="CC-BY-4.0 (as published; the copy states none)",
    source="github.com/ChrisIsKing/Rule-By-Example, doi 10.5281/zenodo.4881008",
    cite="Vidgen, Nguyen, Margetts, Rossini, Tromble: Introducing CAD. NAACL 2021",
    files=("train.json.gz", "val.json.gz"),
    votes="copy: hatespeech / normal: {hate} / {neutral, offensive}; official table: IdentityDirectedAbuse and "
    "AffiliationDirectedAbuse: {hate} / {offensive, hate}; PersonDirectedAbuse: {offensive, hate}; Slur, "
    "CounterSpeech: all three labels; Neutral: {neutral}",
)

LABELS: Final[Mapping[str, LabelSet]] = {"hatespeech": HATE, "normal": NOT_HATE}
OFFICIAL_LABELS: Final[Mapping[str, LabelSet]] = {
    "IdentityDirectedAbuse": HATE,
    "AffiliationDirectedAbuse": TOXIC,
    "PersonDirectedAbuse": TOXIC,
    "Slur": ANY,
    "CounterSpeech": ANY,
    "Neutral": NEUTRAL,
}
OFFICIAL_TABLE: Final = "cad_v1_1.tsv"
_SPLITS: Final[Mapping[str, Part]] = {"train": "train", "dev": "dev", "test": "test"}
_SEVERITY: Final = (HATE, TOXIC, ANY, NEUTRAL)
_LINE_BREAK: Final = "[linebreak]"


def read(spec: SourceSpec) -> Iterator[Item]:
    paths = find_files(spec)
    if paths[0].suffix == ".tsv":
        yield from _official(spec, paths[0])
        return
    parts: tuple[Part, ...] = ("train", "dev")
    for path, part in zip(paths, parts, strict=True):
        for number, row in enumerate(json_file(path), start=1):
            if not isinstance(row, list) or len(row) != 2 or not isinstance(row[0], str):
                yield Problem(str(path), number, "value", "expected [text, label]")
            elif row[1] not in LABELS:
                yield Problem(
                    str(path), number, "label", f"unknown label {row[1]!r}; known: {', '.join(LABELS)}"
                )
            else:
                yield RawPost(
                    id=f"{part}-{number}",
                    dataset=spec.name or INFO.name,
                    text=row[0].replace(_LINE_BREAK, "\n"),
                    votes=(Vote(LABELS[row[1]]),),
                    file=str(path),
                    row=number,
                    part=part,
                )


def find_files(spec: SourceSpec) -> Sequence[Path]:
    """The official table where it is, else both files of the binary copy."""
    folder = folder_of(spec)
    if folder.is_file() or (folder / OFFICIAL_TABLE).is_file():
        return [folder if folder.is_file() else folder / OFFICIAL_TABLE]
    return [file_of(spec, name) for name in INFO.files]


def _official(spec: SourceSpec, path: Path) -> Iterator[Item]:
    """Entries with several labels keep the most abusive one; a thread never straddles splits."""
    posts: dict[str, RawPost] = {}
    columns = ("id", "info_thread.id", "annotation_Primary", "meta_text", "split")
    for item in csv_rows(path, columns, delimiter="\t"):
        if isinstance(item, Problem):
            yield beside(item)
            continue
        number, row = item
        if row["split"] not in _SPLITS:
            yield LeftOut(str(path), number, f"split {row['split']}")
            continue
        if row["annotation_Primary"] not in OFFICIAL_LABELS:
            message = f"unknown label {row['annotation_Primary']!r}; known: {', '.join(OFFICIAL_LABELS)}"
            yield Problem(str(path), number, "label", message, is_row=False)
            continue
        labels = OFFICIAL_LABELS[row["annotation_Primary"]]
        if (known := posts.get(row["id"])) is not None:
            labels = min(labels, known.votes[0].labels, key=_SEVERITY.index)
        posts[row["id"]] = RawPost(
            id=row["id"],
            dataset=spec.name or INFO.name,
            text=row["meta_text"].replace(_LINE_BREAK, "\n"),
            votes=(Vote(labels),),
            file=str(path),
            row=known.row if known else number,
            part=_SPLITS[row["split"]],
            keys=(f"thread {row['info_thread.id']}",),
        )
    yield from posts.values()


SOURCE = Source(INFO, read, find_files)
