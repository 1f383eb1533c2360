"""Anyone's CSV, JSONL or parquet, by a few lines of recipe: which column holds what, and what its labels mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.raw import Columns, Item, Part, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import AnnotatedPosts, bad_row, beside, folder_of
from hatex.data.tables import PART_NAMES, open_rows, table_files
from hatex.data.votes import parse_label_set
from hatex.errors import RecipeError
from hatex.types import LABELS, LabelSet, Rationale, Vote

INFO = SourceInfo(
    name="table",
    licence="as stated by whoever made the file",
    source="a table of your own",
    cite="",
    files=(),
    votes="as the recipe maps them",
    rationales="as the recipe maps them",
)

_MISSING: Final = (None, "")


def read(spec: SourceSpec) -> Iterator[Item]:
    if spec.columns is None:
        raise RecipeError([f"source {spec.name or spec.source!r}: a table needs `columns`"])
    reader = _TableReader(spec, spec.columns)
    joined = None if spec.columns.annotator is None else AnnotatedPosts()
    for place, number, part, row in open_rows(spec, reader.needed()):
        try:
            post = reader.post(place, number, part, row)
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            problem = bad_row(Path(place), number, error)
            yield problem if joined is None else beside(problem)
            continue
        if joined is None:
            yield post
        elif (misfit := joined.add(post)) is not None:
            yield misfit
    yield from joined or ()


class _TableReader:
    def __init__(self, spec: SourceSpec, columns: Columns) -> None:
        self.spec = spec
        self.columns = columns
        self.labels = {value: _label_set(names) for value, names in spec.labels.items()}
        self.labels |= {name: (name,) for name in LABELS if name not in self.labels}
        self.counts = {column: _label_set(names) for names, column in columns.counts.items()}

    def needed(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        names = ("text", "id", "label", "annotator", "annotator_group", "votes", "targets", "spans")
        single = (getattr(self.columns, name) for name in (*names, "context", "split", "group"))
        return tuple(filter(None, (*single, *self.columns.annotators, *self.counts)))

    def post(self, place: str, number: int, part: Part | None, row: Mapping[str, Any]) -> RawPost:
        columns, votes = self.columns, self._votes(row)
        text = row[columns.text]
        targets = _listed(row[columns.targets]) if columns.targets else []
        spans = _listed(row[columns.spans]) if columns.spans else []
        return RawPost(
            id=str(row[columns.id]) if columns.id else f"{Path(place).stem}-{number}",
            dataset=self.spec.name or INFO.name,
            text=text,
            votes=votes,
            file=place,
            row=number,
            part=self._part(row) if columns.split else part,
            keys=(f"group {row[columns.group]}",)
            if columns.group and row[columns.group] not in _MISSING
            else (),
            targets=self._targets(targets),
            has_targets=columns.targets is not None and row[columns.targets] is not None,
            rationales=tuple(
                _span(value, votes[0].annotator if columns.annotator else None) for value in spans
            ),
            has_rationales=columns.spans is not None and row[columns.spans] is not None,
            context=(row[columns.context] or None) if columns.context else None,
        )

    def _votes(self, row: Mapping[str, Any]) -> tuple[Vote, ...]:
        columns = self.columns
        if columns.label is not None:
            who, group = (
                None if name is None or row[name] in _MISSING else str(row[name])
                for name in (columns.annotator, columns.annotator_group)
            )
            return (Vote(self._labels(row[columns.label]), 1, who, group),)
        if columns.votes is not None:
            return tuple(Vote(self._labels(value)) for value in _listed(row[columns.votes]))
        if columns.annotators:
            given = ((name, row[name]) for name in columns.annotators if row[name] not in _MISSING)
            return tuple(Vote(self._labels(value), annotator=name) for name, value in given)
        numbers = {column: int(row[column] or 0) for column in self.counts}
        if any(number < 0 for number in numbers.values()):
            raise ValueError("vote counts must not be negative")
        return tuple(Vote(self.counts[column], number) for column, number in numbers.items() if number)

    def _targets(self, names: Sequence[Any]) -> tuple[str, ...]:
        found = (self.spec.groups.get(str(name), str(name)) for name in names)
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def _labels(self, value: Any) -> LabelSet:
        key = str(value).lower() if isinstance(value, bool) else str(value)
        if key not in self.labels:
            raise ValueError(f"unknown label {key!r}; the recipe maps {', '.join(sorted(self.labels))}")
        return self.labels[key]

    def _part(self, row: Mapping[str, Any]) -> Part | None:
        value = row[self.columns.split or ""]
        if value in _MISSING:
            return None
        if str(value).lower() not in PART_NAMES:
            raise ValueError(f"unknown split {value!r}; known: {', '.join(PART_NAMES)}")
        return PART_NAMES[str(value).lower()]


def _label_set(names: str) -> LabelSet:
    try:
        return parse_label_set(names)
    except ValueError as error:
        raise RecipeError([f"labels of a table: {error}"], hint="write hate, offensive|hate, ...") from error


def _listed(value: Any) -> list[Any]:
    """A list as it is, a JSON list in a string, or names parted by semicolons."""
    if value in _MISSING:
        return []
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            parsed = json.loads(value)
            return list(parsed)
        return [name.strip() for name in value.split(";") if name.strip()]
    return list(value)


def _span(value: Any, annotator: str | None = None) -> Rationale:
    if isinstance(value, Mapping):
        named, kind = (
            None if value.get(name) is None else str(value[name]) for name in ("annotator", "kind")
        )
        return Rationale(int(value["start"]), int(value["end"]), named or annotator, kind)
    start, end = value
    return Rationale(int(start), int(end), annotator)


def find_files(spec: SourceSpec) -> Sequence[Path]:
    return table_files(folder_of(spec))


SOURCE = Source(INFO, read, find_files)
