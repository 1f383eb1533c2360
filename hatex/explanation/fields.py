"""From a decoded answer to the fields a reader sees, with offsets into the post as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hatex.data.prompts import PostView
from hatex.explanation.answer import parse_answer, runs_of
from hatex.explanation.compose import likely_groups
from hatex.explanation.grammar import AnswerGrammar
from hatex.explanation.inclusion import inclusion_probabilities
from hatex.types import AffectedGroup, HarmfulWord

LISTED: Final = 0.15
"""A group is listed as affected from this probability on.

Chosen on 240 tune posts of HateXplain: micro-F1 against the groups that annotators named is .65 here, .63 at .1, .64 at
.2 and .58 at .3.
"""


@dataclass(frozen=True, slots=True)
class Fields:
    """What the model said of one post: picks with their probabilities, free text where the template asks for it.

    `groups` are those that the post harms with a probability from `LISTED` on; `word_probabilities` holds P(the answer
    marks the word) for every word shown; `is_complete` is False where the token budget cut the answer, or it could
    not go on.
    """

    groups: tuple[AffectedGroup, ...] = ()
    words: tuple[HarmfulWord, ...] = ()
    word_probabilities: tuple[float, ...] = ()
    summary: str | None = None
    reason: str | None = None
    is_complete: bool = True


def read_fields(grammar: AnswerGrammar, row_id: int, text: str, view: PostView, harm: float) -> Fields:
    """The fields of one finished (or cut) row, which was written for a harmful label; `harm` is 1 - P(neutral)."""
    markable = grammar.rows[row_id].words
    answer = parse_answer(grammar.form, grammar.answer(row_id), grammar.groups, markable)
    of_groups = inclusion_probabilities(grammar, row_id, answer, "targets", grammar.groups)
    of_words = inclusion_probabilities(grammar, row_id, answer, "words", markable)
    groups = list_groups(grammar.groups, (harm * of_groups).tolist())
    weights = (*of_words.tolist(), *[0.0] * (len(view.words) - len(markable)))
    likely = likely_groups(groups, harm)
    only_group = likely[0].name if len(likely) == 1 else None
    words = quote_words(text, view, answer.indices("words"), weights, only_group)
    is_complete = grammar.rows[row_id].is_finished
    return Fields(
        groups, words, weights, answer.texts.get("summary"), answer.texts.get("reason"), is_complete
    )


def list_groups(names: Sequence[str], probabilities: Sequence[float]) -> tuple[AffectedGroup, ...]:
    """The groups from `LISTED` on, likeliest first, whether or not the one greedy answer went through them; equally
    likely ones stand in list order.
    """
    listed = (
        AffectedGroup(name, float(p)) for name, p in zip(names, probabilities, strict=True) if p >= LISTED
    )
    return tuple(sorted(listed, key=lambda group: -group.probability))


def quote_words(
    text: str, view: PostView, indices: Sequence[int], weights: Sequence[float], group: str | None
) -> tuple[HarmfulWord, ...]:
    """One `HarmfulWord` a run of neighbouring words; its weight is the mean of its words' weights.

    Words are directed at `group` where one affected group is likely; with several it is not known which.
    """
    quoted = []
    for first, last in runs_of(indices):
        start, end = view.spans[first][0], view.spans[last][1]
        run = weights[first : last + 1]
        quoted.append(HarmfulWord(text[start:end], start, end, group, sum(run) / len(run)))
    return tuple(quoted)
