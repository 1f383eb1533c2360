"""What the model is asked about a post, and which answers are accepted.

Only text with every mask applied is sent. An answer must fit the schema, name groups of the closed list alone, and
quote words that stand in the post, verbatim.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from hatex.data.annotation.settings import AnnotateSettings
from hatex.data.cleaning import clean
from hatex.data.votes import ANY, plurality
from hatex.types import Example

VERSION: Final = 1
"""Part of the cache key: raise it when the wording below changes."""
MAX_WORDS: Final = 150

_SYSTEM: Final = """\
You write explanations for a research corpus on hate speech detection. Human annotators have judged a post; you
explain their judgement to a reader who has to check it. You do not judge anew, and you add no insults of your own.
Mentions, links, e-mail addresses and phone numbers are masked as @user, <url>, <email>, <phone>: leave them so.

Answer with one JSON object and nothing else:
{"summary": what the post says and why the annotators judged it so, at most 150 words,
 "affected_groups": names out of the list you are given, [] where the post attacks nobody,
 "harmful_words": [{"text": words copied character for character from the post, "group": a name of the list or null}],
 "reason": why the words can harm the people they are about, at most 150 words; "" where the post is neutral}
"""


class InvalidAnswerError(ValueError):
    """The answer does not fit; says why, without the text of post or answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """One post to be explained; `key` is a hash of everything that decides on the answer."""

    example: Example
    text: str
    messages: tuple[dict[str, str], ...]
    key: str


def is_explainable(example: Example) -> bool:
    """Whether the votes say anything that could be explained."""
    return any(vote.labels != ANY for vote in example.votes)


def build_question(example: Example, settings: AnnotateSettings) -> Question:
    masked = clean(example.text)
    facts = {
        "judgement": [" or ".join(labels) for labels in plurality(example.votes)],
        "votes": [{"labels": " or ".join(v.labels), "count": v.count} for v in example.votes],
        "groups named by annotators": list(example.targets) if example.has_targets else "not asked",
        "words marked by annotators": _marked(example, masked.text)
        if example.has_rationales
        else "not asked",
        "list of groups": list(settings.groups),
        "post": masked.text,
    }
    messages = (
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": json.dumps(facts, ensure_ascii=False, indent=1)},
    )
    decisive = [VERSION, settings.model, settings.temperature, settings.max_tokens, messages]
    key = hashlib.sha256(json.dumps(decisive, ensure_ascii=False, sort_keys=True).encode()).hexdigest()
    return Question(example, masked.text, messages, key)


def _marked(example: Example, masked: str) -> list[str]:
    """Marked words, each once; a piece that the masks changed stays at home."""
    pieces = (example.text[span.start : span.end] for span in example.rationales)
    return list(dict.fromkeys(piece for piece in pieces if piece in masked))


def parse_answer(content: str, question: Question, groups: Sequence[str]) -> dict[str, Any]:
    """The explanation of an answer.

    Raises:
        InvalidAnswerError: not the schema, an unknown group, or a quote that is not in the post.
    """
    try:
        answer = json.loads(content)
    except json.JSONDecodeError as error:
        raise InvalidAnswerError("the answer is not JSON") from error
    if not isinstance(answer, dict) or set(answer) != {
        "summary",
        "affected_groups",
        "harmful_words",
        "reason",
    }:
        raise InvalidAnswerError("the answer does not have the four fields")
    for name in ("summary", "reason"):
        if not isinstance(answer[name], str) or len(answer[name].split()) > MAX_WORDS:
            raise InvalidAnswerError(f"{name} is not a text of at most {MAX_WORDS} words")
    if not answer["summary"].strip():
        raise InvalidAnswerError("summary is empty")
    named = answer["affected_groups"]
    if not isinstance(named, list) or any(name not in groups for name in named):
        raise InvalidAnswerError("affected_groups holds something that is not in the list")
    words = answer["harmful_words"]
    if not isinstance(words, list):
        raise InvalidAnswerError("harmful_words is not a list")
    return {
        "summary": answer["summary"].strip(),
        "affected_groups": list(dict.fromkeys(named)),
        "harmful_words": [_quote(word, question, groups) for word in words],
        "reason": answer["reason"].strip(),
    }


def _quote(word: Any, question: Question, groups: Sequence[str]) -> dict[str, Any]:
    if not isinstance(word, dict) or not isinstance(word.get("text"), str) or not word["text"].strip():
        raise InvalidAnswerError("harmful_words holds something that is not a quote")
    group = word.get("group")
    if group is not None and group not in groups:
        raise InvalidAnswerError("a quote names a group that is not in the list")
    start = question.example.text.find(word["text"])
    if start < 0 or word["text"] not in question.text:
        raise InvalidAnswerError("a quote does not stand in the post")
    return {"text": word["text"], "start": start, "end": start + len(word["text"]), "group": group}
