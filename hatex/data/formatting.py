"""Forms of the same post: case, punctuation, mentions, links and number masks.

Data sets differ in these forms (one has neither capitals nor punctuation, another masks every number), and
a model that reads them learns the data set instead of the platform. Training varies them; `common_form`
removes them.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from hatex.data.cleaning import MASKS, URL_MASK, USER_MASK, clean
from hatex.data.edits import Edit, Edited

NUMBER_MASKS: Final = ("<number>", "<percent>", "<money>", "<date>", "<time>")
"""Masks that come with the texts of some data sets; the numbers themselves are not known."""

_PROTECTED = re.compile("|".join(map(re.escape, (*MASKS, *NUMBER_MASKS))))
_RETWEET = re.compile(r"^(?:\W?RT @user:? ?)")
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s+)\W*(\w)|(?<!\w)(i)(?![\w])")
_WORD_END = re.compile(r"(?<=\w)(?= \w)")
_APOSTROPHES = frozenset("'’ʼ`")
_KEPT_SYMBOLS = frozenset(("So", "Sk"))


def common_form(text: str) -> str:
    """Lower case, no punctuation, one form for mentions, links and numbers, single spaces; emoji stay."""
    return common_form_of_clean(clean(text).text)


def common_form_of_clean(cleaned: str) -> str:
    """`common_form` of a text that is clean already."""
    parts: list[str] = []
    position = 0
    for match in _PROTECTED.finditer(cleaned):
        parts.append(cleaned[position : match.start()].lower().translate(_COMMON))
        parts.append(" 0 " if match.group() in NUMBER_MASKS else f" {match.group()} ")
        position = match.end()
    parts.append(cleaned[position:].lower().translate(_COMMON))
    return " ".join(re.sub(r"\d+", "0", "".join(parts)).split())


class _CommonTable(dict[int, int | str | None]):
    """Translation table filled on demand: apostrophes vanish, other punctuation becomes a space."""

    def __missing__(self, code: int) -> int | str | None:
        char = chr(code)
        category = unicodedata.category(char)
        value: int | str | None = code
        if char in _APOSTROPHES:
            value = None
        elif category[0] in "PSC" and category not in _KEPT_SYMBOLS and char != "\u200d":
            value = " "
        self[code] = value
        return value


_COMMON = _CommonTable()


def vary(text: str, rng: Random) -> str:
    """A random other form of a cleaned text: same words, other case, punctuation and masks."""
    return vary_mapped(text, rng).text


def vary_mapped(text: str, rng: Random) -> Edited:
    """Like `vary`; `result.edited_span(start, end)` says where a rationale of `text` stands afterwards."""
    edited = Edited(text)
    if rng.random() < 0.5:
        edited = edited.then(_edits_of(_RETWEET, lambda _: ""))
    for choose in (_choose_punctuation, _choose_case):
        if (find := choose(text, rng)) is not None:
            edited = edited.then(_outside_masks(find))
    for pattern, fill in _choose_masks(rng):
        edited = edited.then(_edits_of(pattern, fill))
    return edited


Finder = Callable[[str], Sequence[Edit]]


def _edits_of(pattern: re.Pattern[str], new: Callable[[str], str]) -> Finder:
    def find(text: str) -> list[Edit]:
        pairs = ((match, new(match.group())) for match in pattern.finditer(text))
        return [Edit(*match.span(), value) for match, value in pairs if value != match.group()]

    return find


def _outside_masks(find: Finder) -> Finder:
    def wrapped(text: str) -> list[Edit]:
        taken = [match.span() for match in _PROTECTED.finditer(text)]
        return [
            edit
            for edit in find(text)
            if not any(start <= edit.start < end or start < edit.end <= end for start, end in taken)
        ]

    return wrapped


def _choose_punctuation(text: str, rng: Random) -> Finder | None:
    mode = rng.random()
    if mode < 0.35:
        return _strip_punctuation
    if mode < 0.65 and not any(char in ".,!?" for char in text):
        return lambda now: _sprinkle_punctuation(now, rng)
    return None


def _strip_punctuation(text: str) -> list[Edit]:
    edits = []
    for i, char in enumerate(text):
        if unicodedata.category(char)[0] == "P":
            # "well-known" keeps two words, "don't" stays one.
            inside = 0 < i < len(text) - 1 and text[i - 1].isalnum() and text[i + 1].isalnum()
            edits.append(Edit(i, i + 1, " " if inside and char not in _APOSTROPHES else ""))
    return edits


def _sprinkle_punctuation(text: str, rng: Random) -> list[Edit]:
    marks = [(match.start(), ",") for match in _WORD_END.finditer(text) if rng.random() < 0.06]
    if text and text[-1].isalnum():
        marks.append((len(text), rng.choice((".", ".", "!", "..."))))
    return [Edit(position, position, mark) for position, mark in marks]


def _choose_case(text: str, rng: Random) -> Finder | None:
    mode = rng.random()
    if mode < 0.25:
        return lambda now: _case_edits(now, str.lower)
    if mode < 0.55:
        return lambda now: [
            Edit(*match.span(group), match.group(group).upper())
            for match in _SENTENCE_START.finditer(now)
            for group in (1, 2)
            if match.group(group) and match.group(group).islower()
        ]
    if mode < 0.6 and len(text) < 200:
        return lambda now: _case_edits(now, str.upper)
    return None


def _case_edits(text: str, change: Callable[[str], str]) -> list[Edit]:
    return [Edit(i, i + 1, change(char)) for i, char in enumerate(text) if change(char) != char]


def _choose_masks(rng: Random) -> list[tuple[re.Pattern[str], Callable[[str], str]]]:
    chosen: list[tuple[re.Pattern[str], Callable[[str], str]]] = []
    user = rng.choice((None, None, "<user>", "handle", ""))
    if user is not None:
        chosen.append(
            (re.compile(re.escape(USER_MASK)), lambda _: _handle(rng) if user == "handle" else user)
        )
    link = rng.choice((None, None, "[link]", "short", ""))
    if link is not None:
        chosen.append(
            (re.compile(re.escape(URL_MASK)), lambda _: _short_link(rng) if link == "short" else link)
        )
    if rng.random() < 0.7:
        numbers = re.compile("|".join(map(re.escape, NUMBER_MASKS)))
        chosen.append((numbers, lambda mask: _number(mask, rng)))
    return chosen


def _handle(rng: Random) -> str:
    letters = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 10)))
    name = letters.capitalize() if rng.random() < 0.5 else letters
    return f"@{name}{rng.choice(('', '', '_', rng.randint(1, 99)))}"


def _short_link(rng: Random) -> str:
    return "http://t.co/" + "".join(rng.choices(string.ascii_letters + string.digits, k=10))


def _number(mask: str, rng: Random) -> str:
    number = rng.choice((rng.randint(2, 20), rng.randint(2, 100), rng.randint(2, 5000)))
    return {
        "<percent>": f"{rng.randint(1, 100)}%",
        "<money>": f"${number}",
        "<date>": f"{rng.randint(1, 12)}/{rng.randint(1, 28)}",
        "<time>": f"{rng.randint(1, 12)}:{rng.randint(0, 59):02d}",
    }.get(mask, str(number))
