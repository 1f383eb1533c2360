"""Tokens of training rows: the prompt, and behind the label the answer as far as people gave it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from hatex.data.edits import Edited
from hatex.data.formatting import vary_mapped
from hatex.data.groups import GROUPS
from hatex.data.prompts import PostView, Prompt
from hatex.data.votes import plurality, tally, vote_shares
from hatex.errors import TrainingError
from hatex.training.rows import TrainingRow
from hatex.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label_tokens(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token at the label position that tells each label, in the order of `types.LABELS`.

    Raises TrainingError where two labels begin with the same token.
    """
    found = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompt.label_texts]
    first = [ids[0] for ids in found]
    if len(set(first)) < len(first):
        raise TrainingError(
            f"two labels of prompt template {prompt.name} begin with the same token of this base",
            where="prompt",
            hint="use a template whose labels differ in their first token",
        )
    return first


def encode_rows(
    examples: Sequence[Example],
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    weights: Sequence[float] = (),
    with_answers: bool,
    groups: Sequence[str] = GROUPS,
    formatting_noise: float = 0.0,
    seed: int = 0,
    majority: bool = False,
) -> list[TrainingRow]:
    """Tokens of every example; formatting is varied at random on a `formatting_noise` share of them.

    `weights` are the examples' loss weights (default: 1 each).
    With `majority`, only the label sets with most votes count. Answers name targets of the closed list `groups`, in
    its order: that is the order in which they are decoded.
    """
    labels = [_token_ids(tokenizer, text) for text in prompt.label_texts]
    shown, answers = [], []
    for example in examples:
        rng = Random(f"{seed}/{example.id}")
        edited = vary_mapped(example.text, rng) if rng.random() < formatting_noise else Edited(example.text)
        shown.append(edited.text)
        answers.append(_answer(example, prompt, groups, edited) if with_answers else None)
    prompts = prompt.encode(tokenizer, shown, max_tokens)
    rows = []
    weights = weights or [1.0] * len(examples)
    for example, tokens, answer, weight in zip(examples, prompts, answers, weights, strict=True):
        summary = _written(example, "summary")
        preface = _token_ids(tokenizer, prompt.render_preface(summary))
        pieces = [(list(tokens.ids), False), (preface, with_answers and bool(summary))]
        label_at = len(tokens.ids) + len(preface) - 1
        if answer is not None and not tokens.truncated:
            label, parts = answer
            # The label's first token is the label loss's; what may follow of it is part of the answer.
            pieces += [(labels[label][:1], False), (labels[label][1:], True)]
            pieces += [(_token_ids(tokenizer, text), is_supervised) for text, is_supervised in parts]
        flags = [flag for ids, flag in pieces for _ in ids]
        rows.append(
            TrainingRow(
                example.id,
                example.dataset,
                tuple(token for ids, _ in pieces for token in ids),
                label_at,
                tuple(at for at, flag in enumerate(flags) if flag),
                vote_shares(tally(plurality(example.votes)) if majority else example.votes),
                weight,
            )
        )
    return rows


def guess_rows(
    examples: Sequence[Example], prompt: Prompt, bytes_per_token: int, max_tokens: int
) -> list[TrainingRow]:
    """Rows that hold no tokens but have about the length they would have; for estimates without a tokenizer."""
    rows = []
    for example in examples:
        rendered = prompt.render(example.text) + prompt.render_preface(_written(example, "summary"))
        length = min(max_tokens, -(-len(rendered.encode()) // bytes_per_token))
        shares = vote_shares(example.votes)
        rows.append(TrainingRow(example.id, example.dataset, (0,) * length, length - 1, (), shares, 1.0))
    return rows


def _token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []


def _answer(
    example: Example, prompt: Prompt, groups: Sequence[str], edited: Edited
) -> tuple[int, list[tuple[str, bool]]] | None:
    """Label index and the answer in pieces, each with whether it is supervised; None where nothing is known."""
    label = _label_of(example)
    reason = _written(example, "reason") if "{reason}" in prompt.answer else ""
    if label == 0 or not (example.has_targets or (example.has_rationales and example.rationales) or reason):
        return None
    view = PostView.of(edited.text)
    words = _marked_words(example, view, edited)
    targets = [name for name in groups if name in example.targets]
    known = {"{targets}": example.has_targets, "{words}": example.has_rationales, "{reason}": bool(reason)}
    return label, [
        (
            replace(prompt, answer=line).render_answer(targets, words, reason),
            all(is_known for slot, is_known in known.items() if slot in line),
        )
        for line in re.split(r"(?=\n.)", prompt.answer)
        if line
    ]


def _written(example: Example, field: str) -> str:
    """A field of the explanation that somebody wrote for this post, on one line; empty if there is none."""
    return " ".join(str((example.explanation or {}).get(field) or "").split())


def _label_of(example: Example) -> int:
    """The label that stands before the answer: the plurality's; a tie or a coarse set takes its milder toxic label."""
    top = plurality(example.votes)[0]
    return {"neutral": 0, "offensive": 1, "hate": 2}["offensive" if len(top) > 1 else top[0]]


def _marked_words(example: Example, view: PostView, edited: Edited) -> list[str]:
    """Runs of words that at least half of the annotators with rationales marked, as they stand in the prompt."""
    by_annotator: dict[str | None, set[int]] = defaultdict(set)
    for rationale in example.rationales:
        start, end = edited.edited_span(rationale.start, rationale.end)
        by_annotator[rationale.annotator].update(view.words_within(start, end))
    counts = Counter(word for marked in by_annotator.values() for word in marked)
    marked = sorted(word for word, n in counts.items() if 2 * n >= len(by_annotator))
    runs: list[list[str]] = []
    for before, word in zip([-2, *marked], marked, strict=False):
        if word == before + 1 and runs:
            runs[-1].append(view.words[word])
        else:
            runs.append([view.words[word]])
    return [" ".join(run) for run in runs]
