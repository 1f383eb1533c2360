"""The research system's own files: prompt and answer of a post in one string, column `text`.

The answer names the classification (neutral, offensive or hate) on a line of its own; what stands between the last
`Post:` (or `Text:`, `Input:`) heading and the first heading of the answer is the post. Headings that a row lacks are
not guessed: such a row is a problem, named with file and row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.raw import Item, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, folder_of
from hatex.data.tables import named_part, open_rows, table_files
from hatex.data.votes import HATE, NEUTRAL, OFFENSIVE
from hatex.types import Vote

INFO = SourceInfo(
    name="text",
    licence="as stated by whoever made the file",
    source="files of prompt and answer in one string",
    cite="",
    files=(),
    votes="the classification of the answer: one vote of {neutral}, {offensive} or {hate}",
)

_LABELS: Final = {
    "neutral": NEUTRAL,
    "offensive": OFFENSIVE,
    "hate": HATE,
    "hateful": HATE,
    "hate speech": HATE,
}
_MARK = r"[ \t]*(?:[#*>\-\d.)\[\]]+[ \t]*)*"
_POST = re.compile(rf"^{_MARK}(?:post|text|input|comment|tweet)\W*?:[ \t]*", re.IGNORECASE | re.MULTILINE)
_ANSWER = re.compile(
    rf"^{_MARK}(?:\[/INST\]|(?:response|answer|output|holistic explanation|explanation|classification)\b)",
    re.IGNORECASE | re.MULTILINE,
)
_FIELD = re.compile(
    rf"^{_MARK}(holistic explanation|explanation|classification|affected groups?|harmful words?(?: per group)?|"
    r"reasons? for harm)[ \t*]*[:\-][ \t*]*",
    re.IGNORECASE | re.MULTILINE,
)
_KEYS: Final = {
    "holistic explanation": "summary",
    "explanation": "summary",
    "affected group": "affected_groups",
    "affected groups": "affected_groups",
    "harmful word": "harmful_words",
    "harmful words": "harmful_words",
    "harmful words per group": "harmful_words",
    "harmful word per group": "harmful_words",
    "reason for harm": "reason",
    "reasons for harm": "reason",
}


def read(spec: SourceSpec) -> Iterator[Item]:
    for place, number, part, row in open_rows(spec, ("text",)):
        try:
            post, fields = parse_text(row["text"])
            label = fields.pop("classification", "").strip(" .*\"'[]").lower()
            if label not in _LABELS:
                raise ValueError("the answer has no classification of neutral, offensive or hate")
            yield RawPost(
                id=f"{named_part(place) or 'row'}-{number}",
                dataset=spec.name or INFO.name,
                text=post,
                votes=(Vote(_LABELS[label]),),
                file=place,
                row=number,
                part=part,
                explanation=_explanation(fields, post),
            )
        except (ValueError, TypeError) as error:
            yield bad_row(Path(place), number, error)


def parse_text(text: str) -> tuple[str, dict[str, str]]:
    """The post and the fields of the answer, by lower-case heading.

    Raises:
        ValueError: no heading before the post, or no answer behind it.
    """
    answers = list(_ANSWER.finditer(text))
    classification = [m for m in _FIELD.finditer(text) if m[1].lower() == "classification"]
    if not answers or not classification:
        raise ValueError("no answer with a classification")
    starts = [m for m in _POST.finditer(text) if m.end() < classification[-1].start()]
    if not starts:
        raise ValueError("no heading such as `Post:` before the post")
    begin = starts[-1].end()
    end = next((m.start() for m in answers if m.start() >= begin), None)
    if end is None or not text[begin:end].strip():
        raise ValueError("no post between its heading and the answer")
    heads = [m for m in _FIELD.finditer(text) if m.start() >= end]
    ends = [*(m.start() for m in heads[1:]), len(text)]
    fields = {m[1].lower(): text[m.end() : stop].strip() for m, stop in zip(heads, ends, strict=True)}
    return text[begin:end].strip(), fields


def _explanation(fields: dict[str, str], post: str) -> dict[str, Any] | None:
    """The fields in the shape that annotation writes; quotes that do not stand in the post are left out."""
    found: dict[str, Any] = {_KEYS[name]: value for name, value in fields.items() if name in _KEYS}
    if "affected_groups" in found:
        found["affected_groups"] = [
            name for name in _pieces(found["affected_groups"]) if name.lower() != "none"
        ]
    if "harmful_words" in found:
        found["harmful_words"] = [
            {"text": word, "start": post.find(word), "end": post.find(word) + len(word), "group": None}
            for word in _pieces(found["harmful_words"])
            if word in post
        ]
    return found or None


def _pieces(text: str) -> list[str]:
    """Items of a list in prose: parted by commas, semicolons, colons or lines, without bullets and quotation marks."""
    pieces = (piece.strip(" \t-*.\"'“”‘’[]()") for piece in re.split(r"[,;:\n]", text))
    return list(dict.fromkeys(filter(None, pieces)))


def find_files(spec: SourceSpec) -> Sequence[Path]:
    return table_files(folder_of(spec))


SOURCE = Source(INFO, read, find_files)
