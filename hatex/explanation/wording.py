"""Small change of composed sentences: lists, quotes, shares in words, names of groups inside a sentence."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final

from hatex.data.cleaning import IGNORABLES

MAX_QUOTES: Final = 3
MAX_QUOTE_CHARACTERS: Final = 60

_LOWERED: Final = frozenset(
    {"women", "men", "minorities", "refugees", "gay", "disabled", "poor", "older", "young", "transgender"}
    | {"bisexual", "heterosexual", "asexual", "non-religious", "people"}
)
"""First words of group names that are common nouns or adjectives."""
_RENAMED: Final = {"Other group": "another group"}

_SHARES: Final = (
    (0.035, "hardly any reader"),
    (0.15, "about 1 in 10 readers"),
    (0.225, "about 1 in 5 readers"),
    (0.29, "about 1 in 4 readers"),
    (0.365, "about 1 in 3 readers"),
    (0.45, "about 2 in 5 readers"),
    (0.55, "about half of the readers"),
    (0.635, "about 3 in 5 readers"),
    (0.71, "about 2 in 3 readers"),
    (0.775, "about 3 in 4 readers"),
    (0.85, "about 4 in 5 readers"),
    (0.965, "about 9 in 10 readers"),
    (1.01, "nearly every reader"),
)


def join_words(parts: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def quote(text: str) -> tuple[str, bool]:
    """A quotation from a post and whether it is whole: verbatim from the first character that can be printed to the
    first one behind it that would break a line.

    Whatever stands between the quotation marks stands in the post; punctuation at its end is left out.
    """
    text = text[next((i for i, char in enumerate(text) if char.isprintable() and char != " "), len(text)) :]
    kept = text
    for i, char in enumerate(text):
        if char != " " and not char.isprintable() and not _is_unseen(char):
            kept = text[:i]
            break
    is_whole = kept == text
    if len(kept) > MAX_QUOTE_CHARACTERS:
        is_whole = False
        cut = kept.rfind(" ", 0, MAX_QUOTE_CHARACTERS)
        kept = kept[: cut if cut > 0 else MAX_QUOTE_CHARACTERS]
    kept = kept.rstrip(" ,.;:!?") or kept.rstrip()
    return (f"“{kept}”" if kept else ""), is_whole


def _is_unseen(char: str) -> bool:
    """Whether a character may stand in a sentence because nobody sees it, nor what it does to those around it."""
    return bool(IGNORABLES.fullmatch(char)) and unicodedata.bidirectional(char) in {"BN", "NSM"}


def quote_one(text: str) -> str:
    """A quotation that says with dots where it is not whole; empty where nothing can be printed."""
    quoted, is_whole = quote(text)
    return quoted if is_whole or not quoted else f"{quoted} …"


def quote_all(texts: Sequence[str]) -> tuple[str, int]:
    """Up to three different quotations in a list, and how many different ones there are."""
    quotes = list(dict.fromkeys(quoted for quoted in map(quote_one, texts) if quoted))
    shown = quotes[:MAX_QUOTES]
    if len(quotes) > len(shown):
        shown.append(f"{len(quotes) - len(shown)} more")
    return join_words(shown), len(quotes)


def name_groups(names: Sequence[str]) -> str:
    """Group names as they stand inside a sentence."""
    return join_words([_inside(name) for name in names])


def _inside(name: str) -> str:
    if name in _RENAMED:
        return _RENAMED[name]
    first = name.split(" ", 1)[0]
    return name[:1].lower() + name[1:] if first.lower() in _LOWERED else name


def share_of_readers(share: float) -> str:
    """A share in words: .66 is `about 2 in 3 readers`."""
    return next(words for bound, words in _SHARES if share < bound)


def percent(probability: float) -> str:
    """A probability as a whole percentage that never claims certainty it does not have."""
    value = round(100 * probability)
    if value == 100 and probability < 1:
        return "over 99 %"
    if value == 0 and probability > 0:
        return "under 1 %"
    return f"{value} %"


def points(difference: float) -> str:
    """A difference of probabilities in percentage points."""
    value = round(100 * abs(difference))
    if value == 0:
        return "less than 1 point"
    return f"{value} point{'' if value == 1 else 's'}"
