"""Constrained decoding: one grammar a row, so that every answer parses, quotes the post and names listed
groups.

The grammar of a row is written in llguidance's Lark dialect. Picks are right-linear rules over the list: a
group or word can only follow those before it, so nothing is said twice and every run of words stands in the
post as quoted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hatex.data.prompts import NONE, TARGET_SEPARATOR, WORD_SEPARATOR
from hatex.errors import ModelError
from hatex.explanation.answer import MAX_FREE_WORDS, AnswerForm, Field

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MAX_ROW_ITEMS = 20_000
"""Parser states that a position may hold: enough for a post of some thousand words."""
MAX_WORDS = 1_000
"""Words of a post that can be marked, from its beginning: the parser recurses over them, and some thousand end the
process by overflowing its stack.
"""
MAX_REPEATS = 50
"""How often one word can be marked: every repetition is one more reading that the parser has to keep."""
MAX_ITEM_CHARACTERS = 128
"""Longer words (links, keyboard runs) are not quotable: they would only fill the answer."""


def build_grammar(form: AnswerForm, groups: Sequence[str], words: Sequence[str]) -> str:
    """The Lark grammar of one post's answer."""
    start: list[str] = []
    rules: list[str] = []
    for index, name in enumerate(form.fields):
        start += _literal(form.lead(index))
        start.append(name)
        gap = form.gap(index)
        if name == "targets":
            rules += _pick_rules("targets", list(groups), gap, TARGET_SEPARATOR, has_runs=False)
        elif name == "words":
            rules += _pick_rules("words", list(words), gap, WORD_SEPARATOR, has_runs=True)
        else:
            rules.append(f"{name}: /{gap}[^\\s]{{1,40}}( [^\\s]{{1,40}}){{0,{MAX_FREE_WORDS - 1}}}/")
    start += _literal(form.literals[-1])
    return "\n".join([f"start: {' '.join(start)}", *dict.fromkeys(rules), ""])


def _literal(text: str) -> list[str]:
    return [_quoted(text)] if text else []


def _quoted(text: str) -> str:
    """A Lark string; the dialect's lexer refuses some control characters that JSON lets through."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() or ord(c) > 0xFFFF else f"\\u{ord(c):04x}" for c in quoted)


def _pick_rules(name: Field, items: list[str], gap: str, separator: str, *, has_runs: bool) -> list[str]:
    """Rules `NAME_from_i` (any item from i on) and `NAME_at_i` (item i, then what may follow)."""
    seen: Counter[str] = Counter()
    quotable = []
    for i, item in enumerate(items):
        seen[item] += 1
        if len(item) <= MAX_ITEM_CHARACTERS and seen[item] <= MAX_REPEATS:
            quotable.append(i)
    may_follow = set(quotable)
    nothing = _quoted(gap + NONE)
    rules = [f"{name}: {nothing} | {name}_first_{quotable[0]}" if quotable else f"{name}: {nothing}"]
    for prefix, space in (("first", gap), ("from", " ")):
        for place, i in enumerate(quotable):
            later = f" | {name}_{prefix}_{quotable[place + 1]}" if place + 1 < len(quotable) else ""
            rules.append(f"{name}_{prefix}_{i}: {_quoted(space + items[i])} {name}_after_{i}{later}")
    for place, i in enumerate(quotable):
        options = ['""']
        jump = next((j for j in quotable[place + 1 : place + 3] if j > i + (1 if has_runs else 0)), None)
        if jump is not None:
            options.append(f"{_quoted(separator.rstrip(' '))} {name}_from_{jump}")
        if has_runs and i + 1 in may_follow:
            options.append(f"{_quoted(' ' + items[i + 1])} {name}_after_{i + 1}")
        rules.append(f"{name}_after_{i}: {' | '.join(options)}")
    return rules


@lru_cache(maxsize=2)
def build_grammar_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary: int | None = None) -> Any:
    """The grammar library's view of a fast tokenizer, kept for the next call since it takes about .3 s; `vocabulary` =
    rows of the logits.
    """
    from llguidance.hf import from_tokenizer

    try:
        return from_tokenizer(tokenizer, n_vocab=vocabulary)
    except ValueError as error:
        raise ModelError(
            "explanations need a fast tokenizer (tokenizer.json)",
            hint="convert the base's tokenizer with transformers",
        ) from error


@dataclass(frozen=True, slots=True)
class Step:
    """One decoding step of one row: where in the answer it stood, what was allowed, and how likely each was.

    `probabilities` are the model's over the allowed tokens alone (they sum to 1), before any temperature. Both are
    empty in free text.
    """

    offset: int
    tokens: NDArray[np.int32]
    probabilities: NDArray[np.float32]


@dataclass(slots=True)
class Row:
    """The state of one row: its matcher, the words it may mark, the answer so far and the steps that led there.

    `offered` are the tokens of the step that is being taken; a row is stuck where its matcher offers none, or refuses
    what it offered: its answer ends there, unfinished.
    """

    matcher: Any
    words: tuple[str, ...] = ()
    answer: bytearray = field(default_factory=bytearray)
    steps: list[Step] = field(default_factory=list)
    offered: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    is_finished: bool = False
    is_stuck: bool = False


class AnswerGrammar:
    """Masks a batch's logits row by row and remembers what the model would have chosen among the allowed
    tokens.
    """

    def __init__(self, grammar_tokenizer: Any, form: AnswerForm, groups: Sequence[str]) -> None:
        self.tokenizer = grammar_tokenizer
        self.form = form
        self.groups = tuple(groups)
        self.rows: list[Row] = []

    def add_row(self, words: Sequence[str]) -> int:
        """Start a row for a post of these words, of which the first `MAX_WORDS` can be marked; returns its row id.

        Raises ModelError if no grammar can be built.
        """
        from llguidance import LLMatcher, LLParserLimits

        markable = tuple(words[:MAX_WORDS])
        lark = build_grammar(self.form, self.groups, markable)
        limits = LLParserLimits(
            max_items_in_row=MAX_ROW_ITEMS, step_max_items=10 * MAX_ROW_ITEMS, verbose_errors=False
        )
        matcher = LLMatcher(self.tokenizer, LLMatcher.grammar_from_lark(lark), log_level=0, limits=limits)
        if matcher.is_error():
            raise ModelError(
                "the grammar of a post's explanation could not be built", hint=_first_line(matcher)
            )
        self.rows.append(Row(matcher, markable))
        return len(self.rows) - 1

    def mask(self, step_logits: Tensor, row_ids: Sequence[int]) -> Tensor:
        """Logits, shape (rows, vocabulary), with every token that the row's grammar forbids at -inf; those of a row
        that is stuck stay as they are.
        """
        import torch

        masked = torch.full_like(step_logits, float("-inf"))
        for place, row_id in enumerate(row_ids):
            row = self.rows[row_id]
            row.offered = allowed = _allowed(row.matcher, step_logits.shape[-1])
            if allowed.size == 0:
                row.is_stuck = True
                masked[place] = step_logits[place]
                continue
            index = torch.from_numpy(allowed)
            logits = step_logits[place, index]
            masked[place, index] = logits
            probabilities = torch.softmax(logits.float(), dim=0).numpy()
            if len(allowed) > step_logits.shape[-1] // 2:
                # Free text: nobody asks what else could have been said, and a step would take a vocabulary.
                allowed, probabilities = allowed[:0], probabilities[:0]
            row.steps.append(Step(len(row.answer), allowed.astype(np.int32), probabilities))
        return masked

    def accept(self, row_id: int, token_id: int) -> bool:
        """Take the token that was chosen; True once the row's answer is complete, or cannot go on.

        Raises ModelError for a token that was not offered.
        """
        row = self.rows[row_id]
        if row.is_stuck:
            return True
        if not row.matcher.consume_token(token_id):
            if token_id not in row.offered:
                raise ModelError("decoding left the grammar of an explanation", hint=_first_line(row.matcher))
            row.is_stuck = True
            row.steps.pop()
            return True
        row.answer += self.tokenizer.decode_bytes([token_id])
        row.is_finished = bool(row.matcher.is_stopped())
        return row.is_finished

    def answer(self, row_id: int) -> str:
        """What the row says so far; an unfinished character at a cut is dropped."""
        return self.rows[row_id].answer.decode(errors="ignore")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes(self.tokenizer.decode_bytes([token_id]))


def _allowed(matcher: Any, vocabulary: int) -> NDArray[np.int64]:
    """The tokens that may come next, ascending; none where the matcher cannot go on."""
    bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
    allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:vocabulary])
    return allowed[:0] if matcher.is_error() else allowed


def _first_line(matcher: Any) -> str:
    """The library's own complaint without the grammar (which quotes the post)."""
    reason = str(matcher.stop_reason())
    return f"the constrained decoder stopped with {reason}"
