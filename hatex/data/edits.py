"""Text edits that remember where every character came from, so that rationale offsets survive them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters `start:end` of the text before become `new`."""

    start: int
    end: int
    new: str


class Step:
    """One pass of non-overlapping edits in ascending order, and its way forth and back."""

    def __init__(self, before: str, edits: Sequence[Edit]) -> None:
        self.before = before
        self.edits = tuple(edits)
        pieces: list[str] = []
        position = length = 0
        self._old: list[tuple[int, int]] = []
        self._new: list[tuple[int, int]] = []
        for edit in self.edits:
            if not position <= edit.start <= edit.end <= len(before):
                raise ValueError(f"edit {edit.start}:{edit.end} overlaps its predecessor or leaves the text")
            pieces += before[position : edit.start], edit.new
            length += edit.start - position
            self._old.append((edit.start, edit.end))
            self._new.append((length, length + len(edit.new)))
            length += len(edit.new)
            position = edit.end
        pieces.append(before[position:])
        self.after = "".join(pieces)

    def forward(self, start: int, end: int) -> tuple[int, int]:
        return _map_span(start, end, self._old, self._new)

    def back(self, start: int, end: int) -> tuple[int, int]:
        return _map_span(start, end, self._new, self._old)

    def undone(self) -> str:
        """The text before, rebuilt from the text after and the edits alone."""
        inverse = [Edit(s, e, self.before[a:b]) for (s, e), (a, b) in zip(self._new, self._old, strict=True)]
        return Step(self.after, inverse).after


@dataclass(frozen=True)
class Edited:
    """A text and the steps that led to it from `original`.

    Spans count code points. A span that cuts into an edited place grows to the whole of it.
    """

    original: str
    steps: tuple[Step, ...] = ()

    @cached_property
    def text(self) -> str:
        return self.steps[-1].after if self.steps else self.original

    def then(self, find_edits: Callable[[str], Sequence[Edit]]) -> Edited:
        """The same text after one more pass; `find_edits` sees the present text."""
        edits = find_edits(self.text)
        return Edited(self.original, (*self.steps, Step(self.text, edits))) if edits else self

    def edited_span(self, start: int, end: int) -> tuple[int, int]:
        """Where characters `start:end` of `original` stand in `text`."""
        for step in self.steps:
            start, end = step.forward(start, end)
        return start, end

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Which characters of `original` characters `start:end` of `text` stand for."""
        for step in reversed(self.steps):
            start, end = step.back(start, end)
        return start, end


Spans = list[tuple[int, int]]


def _map_span(start: int, end: int, source: Spans, target: Spans) -> tuple[int, int]:
    if not source:
        return start, end
    new_start = _map_start(start, source, target)
    # An empty span has no inside: it goes where its start goes.
    return (
        (new_start, max(new_start, _map_end(end, source, target))) if end > start else (new_start, new_start)
    )


def _map_start(position: int, source: Spans, target: Spans) -> int:
    index = bisect_right(source, position, key=lambda span: span[0]) - 1
    if index < 0:
        return position
    if position < source[index][1]:
        return target[index][0]
    return position - source[index][1] + target[index][1]


def _map_end(position: int, source: Spans, target: Spans) -> int:
    index = bisect_left(source, position, key=lambda span: span[0]) - 1
    if index < 0:
        return position
    if position <= source[index][1]:
        return target[index][1]
    return position - source[index][1] + target[index][1]
