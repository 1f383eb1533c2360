"""Tokens of training rows: the prompt, and behind the label the answer as far as people gave it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING

from hatex.data.edits import Edited
from hatex.data.formatting import vary_mapped
from hatex.data.groups import GROUPS
from hatex.data.prompts import PostView, Prompt
from hatex.data.votes import plurality, tally, vote_shares
from hatex.errors import TrainingError
from hatex.training.rows import TrainingRow
from hatex.types import LABELS, Example, Rationale

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label_tokens(prompt: Prompt, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token at the label position that tells each label, in the order of `types.LABELS`.

    Raises TrainingError where two labels begin with the same token.
    """
    found = prompt.label_ids(tokenizer)
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
    with_answers: bool,
    groups: Sequence[str] = GROUPS,
    formatting_noise: float = 0.0,
    seed: int = 0,
    majority: bool = False,
) -> list[TrainingRow]:
    """Tokens of every example; formatting is varied at random on a `formatting_noise` share of them.

    With `majority`, only the label sets with most votes count. Answers name targets of the closed list `groups`, in
    its order: that is the order in which they are decoded.
    """
    shown, answers = [], []
    for example in examples:
        rng = Random(f"{seed}/{example.id}")
        edited = vary_mapped(example.text, rng) if rng.random() < formatting_noise else Edited(example.text)
        shown.append(edited.text)
        answers.append(_answer(example, prompt, tokenizer, groups, edited) if with_answers else None)
    prompts = prompt.encode(tokenizer, shown, max_tokens)
    rows = []
    for example, tokens, answer in zip(examples, prompts, answers, strict=True):
        summary = written(example, "summary")
        preface = _tokenise(tokenizer, [(prompt.render_preface(summary), with_answers and bool(summary))])
        encoded = [*((token, False) for token in tokens.ids), *preface]
        label_at = len(encoded) - 1
        if answer is not None and not tokens.truncated:
            (first, _), *rest = _tokenise(tokenizer, answer)
            # The label's first token is the label loss's; what may follow of it is part of the answer.
            encoded += [(first, False), *rest]
        rows.append(
            TrainingRow(
                example.id,
                example.dataset,
                tuple(token for token, _ in encoded),
                label_at,
                tuple(at for at, (_, is_supervised) in enumerate(encoded) if is_supervised),
                vote_shares(tally(plurality(example.votes)) if majority else example.votes),
                1.0,
            )
        )
    return rows


def guess_rows(
    examples: Sequence[Example], prompt: Prompt, bytes_per_token: int, max_tokens: int
) -> list[TrainingRow]:
    """Rows that hold no tokens but have about the length they would have; for estimates without a tokenizer."""
    rows = []
    for example in examples:
        rendered = prompt.render(example.text) + prompt.render_preface(written(example, "summary"))
        length = min(max_tokens, -(-len(rendered.encode()) // bytes_per_token))
        shares = vote_shares(example.votes)
        rows.append(TrainingRow(example.id, example.dataset, (0,) * length, length - 1, (), shares, 1.0))
    return rows


def _tokenise(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[tuple[str, bool]]
) -> list[tuple[int, bool]]:
    """Tokens of the pieces as one string, each with what is said of the piece that it ends in.

    One string, as decoding reads it: some tokenizers put a token of their own before every string.
    """
    text = "".join(piece for piece, _ in pieces)
    if not text:
        return []
    ends = list(accumulate(len(piece) for piece, _ in pieces))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    return [
        (token, pieces[bisect_right(ends, max(end - 1, 0))][1])
        for token, (_, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    ]


def _answer(
    example: Example,
    prompt: Prompt,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[str],
    edited: Edited,
) -> list[tuple[str, bool]] | None:
    """Label and answer in pieces, each with whether it is supervised; None where nothing is known."""
    label = _label_of(example)
    targets, marked, reason = _targets(example, groups), _marked(example), written(example, "reason")
    has_reason = bool(reason) and "{reason}" in prompt.answer
    if label == 0 or not (targets is not None or marked or has_reason):
        return None
    words = _marked_words(marked or (), PostView.of(edited.text, tokenizer), edited)
    known = {"{targets}": targets is not None, "{words}": marked is not None, "{reason}": has_reason}
    return [(prompt.label_texts[label], True)] + [
        (
            replace(prompt, answer=line).render_answer(targets or (), words, reason),
            all(is_known for slot, is_known in known.items() if slot in line),
        )
        for line in re.split(r"(?=\n.)", prompt.answer)
        if line
    ]


def _targets(example: Example, groups: Sequence[str]) -> list[str] | None:
    """Groups of the closed list that the annotators named, or else the one who wrote the explanation.

    None where nobody was asked, or what they named is not in the list: "none" would be false then.
    """
    named = example.targets if example.has_targets else (example.explanation or {}).get("affected_groups")
    if named is None:
        return None
    targets = [name for name in groups if name in named]
    return targets if targets or not named else None


def _marked(example: Example) -> Sequence[Rationale] | None:
    """What annotators marked, or else the one who wrote the explanation; None where nobody was asked."""
    if example.has_rationales:
        return example.rationales
    quotes = (example.explanation or {}).get("harmful_words")
    return None if quotes is None else [Rationale(quote["start"], quote["end"]) for quote in quotes]


def written(example: Example, field: str) -> str:
    """A field of the explanation that somebody wrote for this post, on one line; empty if there is none."""
    return " ".join(str((example.explanation or {}).get(field) or "").split())


def _label_of(example: Example) -> int:
    """The label that stands before the answer: the plurality's; a tie or a coarse set takes its mildest one.

    Of a set that holds `neutral` too, that is a toxic one only where people marked words or named groups.
    """
    top = plurality(example.votes)[0]
    is_harmful = "neutral" not in top or (len(top) > 1 and (example.rationales or example.targets))
    return min(LABELS.index(label) for label in top if not is_harmful or label != "neutral")


def _marked_words(rationales: Sequence[Rationale], view: PostView, edited: Edited) -> list[str]:
    """Runs of words that at least half of the annotators with rationales marked, as they stand in the prompt."""
    by_annotator: dict[str | None, set[int]] = defaultdict(set)
    for rationale in rationales:
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
