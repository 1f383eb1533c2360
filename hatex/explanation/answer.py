"""The answer that stands behind the label: which fields a template asks for, and what a finished answer says.

An answer is literal text with fields between (`\\nTargets: {targets}\\nWords: {words}\\n`). Targets are names
of a closed list, in list order; words are runs of the post's words, in post order; summary and reason are
free lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from string import Formatter
from typing import Final, Literal, cast, get_args

from hatex.data.prompts import NONE, TARGET_SEPARATOR, WORD_SEPARATOR

Field = Literal["targets", "words", "summary", "reason"]
PICKED: Final[tuple[Field, ...]] = ("targets", "words")
"""Fields that are picks from a list; the others are free text."""
MAX_FREE_WORDS: Final = 150


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """`literals[i]` stands before `fields[i]`; the last literal ends the answer.

    A space at the end of a literal belongs to what follows it, as tokenizers have it.
    """

    literals: tuple[str, ...]
    fields: tuple[Field, ...]

    @classmethod
    def parse(cls, template: str) -> AnswerForm:
        """Take a template's answer apart; raises ValueError for an unknown field or one that does not end its
        line.
        """
        literals: list[str] = []
        fields: list[Field] = []
        rest = ""
        for literal, name, _, _ in Formatter().parse(template):
            if name is None:
                rest = literal
                continue
            if name not in get_args(Field):
                raise ValueError(f"unknown field {{{name}}}")
            literals.append(literal)
            fields.append(cast(Field, name))
        literals.append(rest)
        if any(not text.startswith("\n") for text in literals[1:]):
            raise ValueError("every field of an answer must end its line")
        return cls(tuple(literals), tuple(fields))

    def opened(self) -> tuple[str, AnswerForm]:
        """The literal up to the first value, and the form of what remains to be written."""
        lead, gap = self.lead(0), self.gap(0)
        return lead, AnswerForm((gap, *self.literals[1:]), self.fields)

    def lead(self, index: int) -> str:
        """The literal before field `index` without the space that its value carries."""
        return self.literals[index].removesuffix(" ")

    def gap(self, index: int) -> str:
        """The space (or nothing) between the literal and the value of field `index`."""
        return " " if self.literals[index].endswith(" ") else ""

    def tail(self, index: int) -> str:
        """The literal that ends field `index`."""
        return self.lead(index + 1) if index + 1 < len(self.fields) else self.literals[index + 1]


@dataclass(frozen=True, slots=True)
class Picks:
    """What one pick field chose: indices in order, and where in the answer each choice began.

    `starts[i]` and `ends[i]` are byte offsets of item i (its leading space included) within the answer;
    `at` is where the field's first item could begin. `is_closed` tells whether the field came to its end.
    """

    indices: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    at: int
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A parsed answer; a field that the answer did not reach is missing."""

    picks: dict[Field, Picks]
    texts: dict[Field, str]

    def indices(self, field: Field) -> tuple[int, ...]:
        return self.picks[field].indices if field in self.picks else ()


def runs_of(indices: Sequence[int]) -> list[tuple[int, int]]:
    """Group ascending indices into runs `(first, last)` of neighbours."""
    if not indices:
        return []
    breaks = [i for i, (a, b) in enumerate(pairwise(indices), start=1) if b != a + 1]
    edges = [0, *breaks, len(indices)]
    return [(indices[a], indices[b - 1]) for a, b in pairwise(edges)]


def parse_answer(form: AnswerForm, answer: str, groups: Sequence[str], words: Sequence[str]) -> Answer:
    """Read an answer that follows the grammar, whole or cut off; what follows a cut is dropped."""
    picks: dict[Field, Picks] = {}
    texts: dict[Field, str] = {}
    data = answer.encode()
    position = 0
    for index, field in enumerate(form.fields):
        lead = form.lead(index).encode()
        if data[position : position + len(lead)] != lead:
            break
        position += len(lead)
        tail = form.tail(index).encode()
        end = data.find(tail, position)
        is_closed = end >= 0
        value = data[position : end if is_closed else len(data)]
        if field in PICKED:
            items = groups if field == "targets" else words
            picks[field] = _read_picks(field, value, items, form.gap(index), position, is_closed)
        else:
            texts[field] = value.decode(errors="ignore").strip()
        if not is_closed:
            break
        position = end
    return Answer(picks, texts)


def _read_picks(
    field: Field, value: bytes, items: Sequence[str], gap: str, at: int, is_closed: bool
) -> Picks:
    """The earliest reading of a pick field: at every item a set of indices may fit, the least complete path
    wins.
    """
    if value == f"{gap}{NONE}".encode() or not value:
        return Picks((), (), (), at, is_closed)
    separator = (TARGET_SEPARATOR if field == "targets" else WORD_SEPARATOR).rstrip(" ").encode()
    best: tuple[tuple[int, int, int], ...] = ()
    # Each state is (bytes read, first index allowed, exact index or not); paths are few, since items follow
    # the post.
    stack: list[tuple[int, int, bool, tuple[tuple[int, int, int], ...]]] = [(0, 0, False, ())]
    seen: set[tuple[int, int, bool]] = set()
    while stack:
        offset, low, exact, path = stack.pop()
        if (offset, low, exact) in seen:
            continue
        seen.add((offset, low, exact))
        following: list[tuple[int, int, bool, tuple[tuple[int, int, int], ...]]] = []
        for index in range(low, min(low + 1, len(items)) if exact else len(items)):
            text = f"{gap if not path else ' '}{items[index]}".encode()
            stop = offset + len(text)
            if not value.startswith(text, offset):
                continue
            longer = (*path, (index, at + offset, at + stop))
            if stop == len(value):
                if is_closed:
                    return _as_picks(longer, at, is_closed)
                best = max(best, path, key=len)
            elif value.startswith(separator, stop):
                best = max(best, longer, key=len)
                skip = 1 if field == "targets" else 2
                following.append((stop + len(separator), index + skip, False, longer))
            if field == "words" and value.startswith(b" ", stop):
                best = max(best, longer, key=len)
                following.append((stop, index + 1, True, longer))
        stack.extend(reversed(following))
    return _as_picks(best, at, is_closed)


def _as_picks(path: tuple[tuple[int, int, int], ...], at: int, is_closed: bool) -> Picks:
    indices, starts, ends = zip(*path, strict=True) if path else ((), (), ())
    return Picks(indices, starts, ends, at, is_closed)
