"""Prompt templates: from a post to the text that stands before its label, and from fields to the answer behind it.

A template is a YAML file with `prompt` (holds `{post}` once), `label` (holds `{label}`) and `answer` (holds
`{targets}` and `{words}`, and `{reason}` where adapters learnt to write one). A template that explains before it
labels has a `preface` (holds `{summary}`) between prompt and label. Every field of `preface` and `answer` ends its
line; runs of white space in a post become one space, so no post can imitate a template line. What looks like a
template's heading with its answer, or like a mark between a chat's speakers, is not shown to the model at all, nor is
what its tokenizer would take for a control token.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from hatex.data.cleaning import clean
from hatex.data.controls import control_pattern
from hatex.errors import UsageError
from hatex.types import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEMPLATES = Path(__file__).parent / "templates"
NONE = "none"
TARGET_SEPARATOR = ", "
WORD_SEPARATOR = " | "
_END = r"(?!\w)[\".,;]*"
_ANSWER = rf"(?:neutral|offensive|hate(?:ful)?|none|nobody){_END}"
_HEADINGS = "post|label|classification|targets|words|affected groups|harmful words|reason for harm"
_IMITATION = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|\[/?INST\]|<</?SYS>>"
    rf"|(?m:^)(?:system|human|assistant)\s*:\s*(?:{_ANSWER})?"
    rf"|(?<!\w)(?:{_HEADINGS})\"?\s*:\s*\"?(?:{_ANSWER})?"
    rf"|(?m:^\#+ +(?:{_HEADINGS})[ :]*$)\s*(?:{_ANSWER})?"
    rf"|(?<!\w)(?:label|classification|answer|say)(?:\s+(?:is|it))?\s+neutral{_END}",
    re.IGNORECASE,
)
"""Headings of the shipped templates, with the answer that may follow, and what parts the speakers of a chat."""


@dataclass(frozen=True, slots=True)
class PostView:
    """A post as the prompt shows it: cleaned words, each with the characters `start, end` it stands for; imitations of
    the template and control tokens are left out.

    Offsets count code points of the text as given; `" ".join(words)` is what the model reads.
    """

    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, text: str, tokenizer: PreTrainedTokenizerBase | None = None) -> PostView:
        """Split the cleaned text at white space and carry offsets back to `text`.

        The view of a model is that with its tokenizer; without one, control tokens are words like others.
        """
        cleaned = clean(text)
        bare = _blank(control_pattern(tokenizer), cleaned.text) if tokenizer else cleaned.text
        shown = _blank(_IMITATION, bare)
        if not shown.strip():
            shown = bare
        words, spans, position = [], [], 0
        for word in shown.split():
            start = shown.index(word, position)
            position = start + len(word)
            words.append(word)
            spans.append(cleaned.original_span(start, position))
        return cls(tuple(words), tuple(spans))

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def first(self, count: int) -> PostView:
        """The first `count` words."""
        return PostView(self.words[:count], self.spans[:count])

    def without(self, gone: Container[int]) -> PostView:
        """The words that are left without those of these indices."""
        left = [i for i in range(len(self.words)) if i not in gone]
        return PostView(tuple(self.words[i] for i in left), tuple(self.spans[i] for i in left))

    def words_within(self, start: int, end: int) -> range:
        """Indices of the words that overlap characters `start:end` of the text as given."""
        hit = [i for i, (s, e) in enumerate(self.spans) if s < end and start < e]
        return range(hit[0], hit[-1] + 1) if hit else range(0)


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: " " * len(match[0]), text)


Post = str | PostView
"""A post as given, or what is left of one that was read already: it is shown as it is."""


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Token ids up to the label position, whether the post was cut to fit, and how many words it shows whole."""

    ids: tuple[int, ...]
    truncated: bool
    words: int


@dataclass(frozen=True, slots=True)
class LocatedTokens:
    """Token ids up to the label position; those at `post` hold the post, one of `spans` each.

    A span is `(start, end)` in characters of the post as the prompt shows it.
    """

    ids: tuple[int, ...]
    post: range
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Prompt:
    """One template."""

    name: str
    prompt: str
    label: str
    answer: str
    preface: str = ""

    @cached_property
    def _parts(self) -> tuple[str, str]:
        before, after = self.prompt.split("{post}")
        return before, after

    @property
    def label_texts(self) -> tuple[str, ...]:
        """What stands at the label position, one string a label of `types.LABELS`."""
        return tuple(self.label.format(label=label) for label in LABELS)

    def label_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        """The fewest tokens that tell each label from the others, in the order of `types.LABELS`.

        What follows of a longer word says nothing more, and no loss over votes teaches it.
        """
        encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in self.label_texts]
        return [
            next((ids[:n] for n in range(1, len(ids)) if sum(ids[:n] == e[:n] for e in encoded) == 1), ids)
            for ids in encoded
        ]

    def render(self, post: Post, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
        """The prompt of a post, up to the label position; what is to be tokenised is rendered for its tokenizer."""
        before, after = self._parts
        view = PostView.of(post, tokenizer) if isinstance(post, str) else post
        return f"{before}{view.text}{after}"

    def render_preface(self, summary: str) -> str:
        """What is written between prompt and label by a template that explains first; otherwise empty."""
        return self.preface.format(summary=summary)

    def render_answer(self, targets: Sequence[str], words: Sequence[str], reason: str = "") -> str:
        """The explanation fields as they stand behind the label; `targets` in the order of the closed list."""
        return self.answer.format(
            targets=TARGET_SEPARATOR.join(targets) or NONE,
            words=WORD_SEPARATOR.join(words) or NONE,
            reason=reason,
        )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, posts: Sequence[Post], max_tokens: int
    ) -> list[PromptTokens]:
        """Token ids of every prompt, at most `max_tokens` each; posts that do not fit lose their end.

        The whole prompt is tokenised as one string, as a user of plain transformers would do.
        """
        if not posts:
            return []
        rendered = [self.render(post, tokenizer) for post in posts]
        encoded = tokenizer(rendered)["input_ids"]
        return [
            PromptTokens(tuple(ids), False, self._post(text).count(" ") + 1)
            if len(ids) <= max_tokens
            else self._cut(tokenizer, text, max_tokens)
            for text, ids in zip(rendered, encoded, strict=True)
        ]

    def locate(self, tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int) -> LocatedTokens:
        """Which token of the prompt stands for which characters of the post; posts that do not fit lose their end."""
        before, after = self._parts
        rendered = self.render(text, tokenizer)
        encoded = tokenizer(rendered, return_offsets_mapping=True)
        low, high = len(before), len(rendered) - len(after)
        offsets = encoded["offset_mapping"]
        inside = [i for i, (start, end) in enumerate(offsets) if start < high and end > low and end > start]
        first = inside[0] if inside else len(offsets)
        tail = encoded["input_ids"][inside[-1] + 1 :] if inside else []
        inside = inside[: max(0, max_tokens - first - len(tail))]
        ids = (*encoded["input_ids"][: first + len(inside)], *tail)
        spans = tuple((max(offsets[i][0] - low, 0), min(offsets[i][1], high) - low) for i in inside)
        return LocatedTokens(ids, range(first, first + len(inside)), spans)

    def _post(self, rendered: str) -> str:
        before, after = self._parts
        return rendered[len(before) : len(rendered) - len(after)]

    def _cut(self, tokenizer: PreTrainedTokenizerBase, rendered: str, max_tokens: int) -> PromptTokens:
        before, after = self._parts
        post = self._post(rendered)
        frame = len(tokenizer(before + after)["input_ids"]) + 2
        # No token stands for more than a few hundred characters: a huge post need not be tokenised whole.
        post = post[: max_tokens * 64]
        ends = [
            end
            for _, end in tokenizer(post, return_offsets_mapping=True, add_special_tokens=False)[
                "offset_mapping"
            ]
        ]
        keep = min(len(ends), max_tokens - frame)
        while keep > 0:
            shown = post[: ends[keep - 1]]
            ids = tokenizer(before + shown + after)["input_ids"]
            if len(ids) <= max_tokens:
                is_whole = post[len(shown) : len(shown) + 1] in {"", " "}
                return PromptTokens(tuple(ids), True, len(shown.split()) - (not is_whole))
            keep -= max(1, len(ids) - max_tokens)
        raise UsageError(
            f"prompt template {self.name} alone needs more than {max_tokens} tokens",
            hint="raise max_tokens in the recipe, or use a shorter template",
        )


def load_prompt(name_or_path: str) -> Prompt:
    """Read a template by bare name (shipped) or path; raises UsageError naming file and remedy."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = TEMPLATES / f"{name_or_path}.yaml"
    try:
        fields = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in TEMPLATES.glob("*.yaml")))
        raise UsageError(f"no prompt template {name_or_path}", hint=f"hatex ships {known}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UsageError(
            "not a YAML file", where=str(path), hint="see hatex/data/templates/compact.yaml"
        ) from error
    return _parse_prompt(path, fields)


def _parse_prompt(path: Path, fields: object) -> Prompt:
    required = {"version", "prompt", "label", "answer"}
    if not isinstance(fields, dict) or set(fields) - {"preface"} != required or fields["version"] != 1:
        raise UsageError(
            f"a prompt template has the keys {', '.join(sorted(required))}, may have preface, and is of version 1",
            where=str(path),
        )
    slots = {"prompt": ("{post}",), "label": ("{label}",), "answer": ("{targets}", "{words}")}
    if "preface" in fields:
        slots["preface"] = ("{summary}",)
    for key, names in slots.items():
        for slot in names:
            if str(fields[key]).count(slot) != 1:
                raise UsageError(f"`{key}` must hold {slot} exactly once", where=str(path))
    texts = {key: str(value) for key, value in fields.items() if key != "version"}
    return Prompt(name=path.stem, **texts)
