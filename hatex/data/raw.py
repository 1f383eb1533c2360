"""What a source reader yields: raw posts with votes, and the problems it met, each with file and row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hatex.types import Rationale, Vote

Part = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table hold what; exactly one of label, annotators, votes and counts is given."""

    text: str
    id: str | None = None
    label: str | None = None
    annotator: str | None = None
    annotator_group: str | None = None
    annotators: tuple[str, ...] = ()
    votes: str | None = None
    counts: Mapping[str, str] = field(default_factory=dict)
    targets: str | None = None
    spans: str | None = None
    context: str | None = None
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """What a reader is told: where the rows are, and for tables what their columns mean."""

    source: str
    path: str | None = None
    hub: str | None = None
    revision: str | None = None
    name: str | None = None
    columns: Columns | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawPost:
    """One annotated post as its source has it, before cleaning; offsets count code points of `text`.

    `id` is unique within `dataset`. `keys` name what it shares with other posts of the data set (author,
    comment, thread): posts with a common key never straddle splits. `part` is the official split, if there
    is one.
    """

    id: str
    dataset: str
    text: str
    votes: tuple[Vote, ...]
    file: str
    row: int
    part: Part | None = None
    keys: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    has_targets: bool = False
    rationales: tuple[Rationale, ...] = ()
    has_rationales: bool = False
    context: str | None = None
    language: str | None = None
    explanation: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A row, or a part of one, that is not what its source promises. Never holds post text.

    `is_row` says that the row was to be a post, which is now missing; else it is a side table's row or a
    span.
    """

    file: str
    row: int | None
    kind: str
    message: str
    is_row: bool = True

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.row}: {self.message}"
            if self.row is not None
            else f"{self.file}: {self.message}"
        )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound row whose label is no judgement: left out by the source's own rules, counted in the card."""

    file: str
    row: int
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something the card should count though the row stays, such as an answer that contradicts itself."""

    file: str
    row: int
    what: str


Item = RawPost | Problem | LeftOut | Note


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What the data card says about a source."""

    name: str
    licence: str
    source: str
    cite: str
    files: tuple[str, ...]
    """Paths below the recipe's `path`; empty: `path` is the file."""
    votes: str
    """How source values become votes, in words."""
    rationales: str = "none"


@dataclass(frozen=True, slots=True)
class Source:
    """A reader with what is known about its data set."""

    info: SourceInfo
    read: Callable[[SourceSpec], Iterator[Item]]
    find_files: Callable[[SourceSpec], Sequence[Path]] | None = None
    """The files it reads, where they are not simply those of `info`."""
