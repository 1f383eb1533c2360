"""Cleaning that is stated and reversible: every step is a list of edits, nothing is lower-cased or dropped.

Steps, in order: HTML entities are resolved (also those escaped twice), Unicode becomes NFC, and links, e-mail
addresses, phone numbers and user mentions become `<url>`, `<email>`, `<phone>` and `@user`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

from hatex.data.edits import Edit, Edited

URL_MASK: Final = "<url>"
EMAIL_MASK: Final = "<email>"
PHONE_MASK: Final = "<phone>"
USER_MASK: Final = "@user"
MASKS: Final = (URL_MASK, EMAIL_MASK, PHONE_MASK, USER_MASK)

_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_URL = re.compile(r"(?:https?://|(?<![\w.])www\.)[^\s<>\"]*[^\s<>\".,;:!?'()\[\]]", re.IGNORECASE)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}(?!\w)")
_PHONE = re.compile(
    r"(?<![\w.+-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){2,3}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?![\w-])"
)
_USER = re.compile(r"(?<![A-Za-z0-9_@.])@[A-Za-z0-9_]{1,50}")
_MAX_UNESCAPES = 4


def _entity_edits(text: str) -> list[Edit]:
    if "&" not in text:
        return []
    found = ((match, html.unescape(match.group())) for match in _ENTITY.finditer(text))
    return [Edit(*match.span(), new) for match, new in found if new != match.group()]


def _nfc_edits(text: str) -> list[Edit]:
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return []
    starts = [i for i, char in enumerate(text) if i == 0 or not _joins_predecessor(char)]
    edits = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        cluster = text[start:end]
        if not unicodedata.is_normalized("NFC", cluster):
            edits.append(Edit(start, end, unicodedata.normalize("NFC", cluster)))
    return edits


def _joins_predecessor(char: str) -> bool:
    """Whether NFC may merge the character into the one before: marks, and Hangul vowels and finals."""
    return unicodedata.category(char)[0] == "M" or "ᅠ" <= char <= "ᇿ"


def _mask_edits(pattern: re.Pattern[str], mask: str, hint: re.Pattern[str]) -> Callable[[str], list[Edit]]:
    """Edits of all matches; `hint` is cheap to search and matches wherever `pattern` does."""

    def find(text: str) -> list[Edit]:
        if hint.search(text) is None:
            return []
        return [Edit(*match.span(), mask) for match in pattern.finditer(text) if match.group() != mask]

    return find


STEPS: Final[dict[str, Callable[[str], list[Edit]]]] = {
    "entities": _entity_edits,
    "nfc": _nfc_edits,
    "links": _mask_edits(_URL, URL_MASK, re.compile(r"://|[wW]\.")),
    "emails": _mask_edits(_EMAIL, EMAIL_MASK, re.compile(r"\w@\w")),
    "phones": _mask_edits(_PHONE, PHONE_MASK, re.compile(r"\d[\d .()-]{5,}\d")),
    "users": _mask_edits(_USER, USER_MASK, re.compile("@")),
}
"""All cleaning steps by name, in the order in which they run."""


def clean(text: str, steps: Sequence[str] = tuple(STEPS)) -> Edited:
    """The cleaned text with its way back: `cleaned.text`, `cleaned.original_span(start, end)`.

    Raises:
        KeyError: a step that `STEPS` does not hold.
    """
    edited = Edited(text)
    for name in STEPS:
        if name not in steps:
            continue
        for _ in range(_MAX_UNESCAPES if name == "entities" else 1):
            after = edited.then(STEPS[name])
            if after is edited:
                break
            edited = after
    if unknown := set(steps) - set(STEPS):
        raise KeyError(*sorted(unknown))
    return edited
