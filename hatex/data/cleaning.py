"""Cleaning that is stated and reversible: every step is a list of edits, and nothing that a person sees is dropped.

Steps, in order: HTML entities are resolved (also those escaped twice), control characters become spaces, characters
that nobody sees go, Latin letters and digits in another form (fullwidth, mathematical, circled) become plain ones, as
do letters of other scripts that look like them inside a Latin word, and Unicode becomes NFC; then links, e-mail
addresses, phone numbers and user mentions become `<url>`, `<email>`, `<phone>` and `@user`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
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
# A plus or a bracket may stand right behind a digit, of another number for one.
_PHONE = re.compile(
    r"(?:(?<![\w.+-])|(?<=\d)(?=[+(]))(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){2,3}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4})(?![\w-])"
)
# A letter of another script may stand right before a mention, unless all of it looks like an address.
_USER = re.compile(r"(?<![\w@.])@[A-Za-z0-9_]+|(?<![A-Za-z0-9_@.])@[A-Za-z0-9_]++(?!\.[A-Za-z0-9-])")
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt): zero-width and bidirectional marks, tags, ...
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
IGNORABLES: Final = re.compile(rf"[{_IGNORABLE}]+")
# Those that shape what stands beside them, emoji or a script without capitals; beside a cased letter or behind a digit
# they only hide it.
_JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f]")
# Each run with a character that is seen, so that no span of the text can shrink to nothing.
_SEEN_AND_RUN = re.compile(
    rf"^[{_IGNORABLE}]+(?P<first>[^{_IGNORABLE}])(?P<behind_first>[{_IGNORABLE}]*)"
    rf"|(?P<seen>[^{_IGNORABLE}])(?P<behind>[{_IGNORABLE}]+)"
)
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]+")
_STYLE = re.compile("<(?:wide|font|circle|square)>")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")
MAX_MARKS: Final = 30
"""On one letter that are brought into order, as in Unicode's stream-safe format: the time grows with the square."""
_MAX_ROUNDS = 4
"""An entity may hold an entity, or a character that another step looks for."""


def _entity_edits(text: str) -> list[Edit]:
    if "&" not in text:
        return []
    found = ((match, html.unescape(match.group())) for match in _ENTITY.finditer(text))
    return [Edit(*match.span(), new) for match, new in found if new != match.group()]


def _ignorable_edits(text: str) -> list[Edit]:
    if text.isascii():
        return []
    edits = []
    for match in _SEEN_AND_RUN.finditer(text):
        seen, run = (found for found in match.groups() if found is not None)
        hides = _in_name(seen) or _is_cased(text[match.end() : match.end() + 1])
        new = seen if hides else seen + "".join(_JOINERS.findall(run))
        if new != match.group():
            edits.append(Edit(*match.span(), new))
    return edits


def _in_name(char: str) -> bool:
    return _is_cased(char) or char in "0123456789_"


def _is_cased(char: str) -> bool:
    return char.isupper() or char.islower()


def _control_edits(text: str) -> list[Edit]:
    edits = [Edit(*match.span(), " ") for match in _CONTROLS.finditer(text)]
    # A text of nothing else stays: the prompt shows at least something of every post.
    return edits if edits and _CONTROLS.sub("", text).strip() else []


class _PlainForms(dict[str, str]):
    """The ASCII letters or digits that a character is a variant of, else the character itself; filled on demand."""

    def __missing__(self, char: str) -> str:
        plain = unicodedata.normalize("NFKC", char)
        # "\u2122" is no word, and a superscript two no number beside the one before it.
        is_form = _STYLE.match(unicodedata.decomposition(char)) or unicodedata.category(char)[0] == "L"
        self[char] = value = plain if plain.isascii() and plain.isalnum() and is_form else char
        return value


_PLAIN_FORMS = _PlainForms()


def _compatibility_edits(text: str) -> list[Edit]:
    if text.isascii():
        return []
    plain = ((i, char, _PLAIN_FORMS[char]) for i, char in enumerate(text))
    return [Edit(i, i + 1, new) for i, char, new in plain if new != char]


class _LookAlikes(dict[str, str]):
    """The ASCII letter that a letter of another script looks like (Unicode TR 39), else itself; filled on demand."""

    def __missing__(self, char: str) -> str:
        from confusable_homoglyphs.confusables import is_confusable  # reads its tables at import

        found = is_confusable(char, greedy=True, preferred_aliases=["latin"])
        options = [each["c"] for each in found[0]["homoglyphs"]] if found else []
        plain = next((c for c in options if c.isascii() and c.isalpha()), char)
        # The report holds l, I and 1 to be one, and names the first.
        self[char] = value = "I" if plain == "l" and char.isupper() else plain
        return value


_LOOK_ALIKES = _LookAlikes()


def _confusable_edits(text: str) -> list[Edit]:
    if text.isascii():
        return []
    edits = []
    for word in _WORD.finditer(text):
        if not word.group().isascii() and _LATIN.search(word.group()):
            places = range(*word.span())
            edits += [Edit(i, i + 1, new) for i in places if (new := _LOOK_ALIKES[text[i]]) != text[i]]
    return edits


def _nfc_edits(text: str) -> list[Edit]:
    if text.isascii():
        return []
    marks = (len(list(run)) for is_mark, run in groupby(map(unicodedata.combining, text), bool) if is_mark)
    is_piled = max(marks, default=0) > MAX_MARKS
    if not is_piled and unicodedata.is_normalized("NFC", text):
        return []
    starts = [i for i, char in enumerate(text) if i == 0 or not _joins_predecessor(char)]
    edits = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        cluster = text[start:end]
        if len(cluster) <= MAX_MARKS and not unicodedata.is_normalized("NFC", cluster):
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
    "controls": _control_edits,
    "ignorables": _ignorable_edits,
    "compatibility": _compatibility_edits,
    "confusables": _confusable_edits,
    "nfc": _nfc_edits,
    "links": _mask_edits(_URL, URL_MASK, re.compile(r"://|[wW]\.")),
    "emails": _mask_edits(_EMAIL, EMAIL_MASK, re.compile(r"\w@\w")),
    "phones": _mask_edits(_PHONE, PHONE_MASK, re.compile(r"\d[\d .()-]{5,}\d")),
    "users": _mask_edits(_USER, USER_MASK, re.compile("@")),
}
"""All cleaning steps by name, in the order in which they run."""
DECODING: Final = frozenset(("entities", "controls", "ignorables", "compatibility", "confusables", "nfc"))
"""Steps that leave every word in place; they may make work for each other, and so are repeated."""


def clean(text: str, steps: Sequence[str] = tuple(STEPS)) -> Edited:
    """The cleaned text with its way back: `cleaned.text`, `cleaned.original_span(start, end)`.

    Raises:
        KeyError: a step that `STEPS` does not hold.
    """
    if unknown := set(steps) - set(STEPS):
        raise KeyError(*sorted(unknown))
    chosen = [name for name in STEPS if name in steps]
    edited = Edited(text)
    for _ in range(_MAX_ROUNDS):
        before = edited
        for name in chosen:
            if name in DECODING:
                edited = edited.then(STEPS[name])
        if edited is before:
            break
    for name in chosen:
        if name not in DECODING:
            edited = edited.then(STEPS[name])
    return edited
