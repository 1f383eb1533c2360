"""de Gibert et al. 2018: sentences of a white supremacist forum; one label each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatex.data.files import csv_rows, jsonl_rows, open_text
from hatex.data.raw import Item, LeftOut, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import beside, file_of, folder_of
from hatex.data.votes import HATE, NOT_HATE
from hatex.types import Vote

INFO = SourceInfo(
    name="stormfront",
    licence="CC-BY-SA-3.0-ES",
    source="github.com/Vicomtech/hate-speech-dataset",
    cite="de Gibert, Perez, Garcia-Pablos, Cuadros. ALW2 2018",
    files=("all_files.jsonl.gz", "annotations_metadata.csv"),
    votes="hate / noHate: {hate} / {neutral, offensive}; relation and idk/skip are left out",
)

_VOTES = {"hate": HATE, "noHate": NOT_HATE}
_LEFT_OUT = ("relation", "idk/skip")


def read(spec: SourceSpec) -> Iterator[Item]:
    labels: dict[str, tuple[str, str]] = {}
    for item in csv_rows(file_of(spec, "annotations_metadata.csv"), ("file_id", "user_id", "label")):
        if isinstance(item, Problem):
            yield beside(item)
        else:
            labels[item[1]["file_id"]] = (item[1]["label"], item[1]["user_id"])
    path = file_of(spec, "all_files.jsonl.gz")
    for item in _sentences(spec, path):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        if "text" not in row or row.get("file_id") not in labels:
            yield Problem(str(path), number, "missing field", "no text, or no label for its file_id")
            continue
        label, user = labels[row["file_id"]]
        if label in _LEFT_OUT:
            yield LeftOut(str(path), number, f"label {label}")
        elif label not in _VOTES:
            yield Problem(str(path), number, "label", f"unknown label {label!r}")
        else:
            yield RawPost(
                id=row["file_id"],
                dataset=spec.name or INFO.name,
                text=row["text"],
                votes=(Vote(_VOTES[label]),),
                file=str(path),
                row=number,
                keys=(f"user {user}", f"comment {row['file_id'].partition('_')[0]}"),
            )


def _sentences(spec: SourceSpec, path: Path) -> Iterator[tuple[int, dict[str, Any]] | Problem]:
    """Rows of the one file, or, in the official distribution, one row a file of the folder `all_files`."""
    if path.is_file():
        yield from jsonl_rows(path)
        return
    for number, each in enumerate(_official_files(spec), start=1):
        with open_text(each) as stream:
            yield number, {"file_id": each.stem, "text": stream.read()}


def _official_files(spec: SourceSpec) -> list[Path]:
    return sorted((folder_of(spec) / "all_files").glob("*.txt"))


def find_files(spec: SourceSpec) -> Sequence[Path]:
    """The labels, and the sentences in one file or many."""
    path = file_of(spec, INFO.files[0])
    sentences = [path] if path.is_file() else _official_files(spec) or [path]
    return [file_of(spec, INFO.files[1]), *sentences]


SOURCE = Source(INFO, read, find_files)
