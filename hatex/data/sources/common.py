"""Small helpers that several readers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hatex.data.raw import Problem, RawPost, SourceSpec
from hatex.errors import RecipeError
from hatex.types import Rationale


def folder_of(spec: SourceSpec) -> Path:
    """The section's path.

    Raises:
        RecipeError: the section names a hub id, which this reader does not take.
    """
    if spec.path is None:
        raise RecipeError([f"source {spec.source!r} reads files: give `path`, not `hub`"])
    return Path(spec.path)


def file_of(spec: SourceSpec, name: str) -> Path:
    """`name` below the section's folder, gzipped or not; or the section's path where that is a file."""
    path = folder_of(spec)
    if path.is_file():
        return path
    other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
    return path / (other if (path / other).is_file() and not (path / name).is_file() else name)


def whole_numbers(row: dict[str, str], names: Sequence[str]) -> list[int]:
    """The named fields as whole numbers.

    Raises:
        ValueError: a field is something else.
    """
    values = []
    for name in names:
        if not row[name].strip().isdecimal():
            raise ValueError(f"{name} must be a whole number")
        values.append(int(row[name]))
    return values


def flag(row: dict[str, str], name: str) -> bool:
    """A 0/1 field.

    Raises:
        ValueError: the field is something else.
    """
    value = row[name].strip()
    if value not in ("0", "1"):
        raise ValueError(f"{name} must be 0 or 1")
    return value == "1"


def token_spans(
    tokens: Sequence[str], mask: Iterable[int], annotator: str | None = None
) -> tuple[Rationale, ...]:
    """Marked tokens of a text joined by single spaces as character spans; neighbours merge."""
    spans: list[Rationale] = []
    position = 0
    was_marked = False
    for token, marked in zip(tokens, mask, strict=True):
        end = position + len(token)
        if marked and was_marked:
            spans[-1] = Rationale(spans[-1].start, end, annotator)
        elif marked:
            spans.append(Rationale(position, end, annotator))
        was_marked = bool(marked)
        position = end + 1
    return tuple(spans)


class AnnotatedPosts:
    """Posts of a table with one row a person and post, in the order of their first rows."""

    def __init__(self) -> None:
        self._posts: dict[str, RawPost] = {}

    def __iter__(self) -> Iterator[RawPost]:
        return iter(self._posts.values())

    def add(self, row: RawPost) -> Problem | None:
        """Take in what one row says of its post; or say why it cannot be."""
        first = self._posts.setdefault(row.id, row)
        if first is row:
            return None
        if first.text != row.text:
            return Problem(
                row.file,
                row.row,
                "text",
                f"the text differs from that of row {first.row}, of the same id",
                False,
            )
        self._posts[row.id] = replace(
            first,
            votes=(*first.votes, *row.votes),
            targets=tuple(dict.fromkeys((*first.targets, *row.targets))),
            has_targets=first.has_targets or row.has_targets,
            rationales=(*first.rationales, *row.rationales),
            has_rationales=first.has_rationales or row.has_rationales,
        )
        return None


def beside(problem: Problem) -> Problem:
    """The same problem in a side table, whose rows are no posts."""
    return replace(problem, is_row=False)


def bad_row(file: Path, row: int, error: Exception) -> Problem:
    kind = "missing field" if isinstance(error, KeyError) else "value"
    message = f"missing field {error}" if isinstance(error, KeyError) else str(error)
    return Problem(str(file), row, kind, message)
