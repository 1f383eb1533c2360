"""From a decoded answer to the fields a reader sees, with offsets into the post as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hatex.data.prompts import PostView
from hatex.explanation.answer import parse_answer, runs_of
from hatex.explanation.compose import likely_groups
from hatex.explanation.grammar import AnswerGrammar
from hatex.explanation.inclusion import inclusion_probabilities
from hatex.types import AffectedGroup, HarmfulWord


@dataclass(frozen=True, slots=True)
class Fields:
    """What the model said of one post: picks with their probabilities, free text where the template asks for it.

    `groups` are those that the answer names and those it was likely to; `word_probabilities` holds P(the answer marks
    the word) for every word shown.
    """

    groups: tuple[AffectedGroup, ...] = ()
    words: tuple[HarmfulWord, ...] = ()
    word_probabilities: tuple[float, ...] = ()
    summary: str | None = None
    reason: str | None = None


def read_fields(grammar: AnswerGrammar, row_id: int, text: str, view: PostView) -> Fields:
    """The fields of one finished (or cut) row."""
    answer = parse_answer(grammar.form, grammar.answer(row_id), grammar.groups, view.words)
    of_groups = inclusion_probabilities(grammar, row_id, answer, "targets", grammar.groups)
    of_words = inclusion_probabilities(grammar, row_id, answer, "words", view.words)
    groups = list_groups(grammar.groups, answer.indices("targets"), of_groups.tolist())
    weights = tuple(float(w) for w in of_words)
    likely = likely_groups(groups)
    only_group = likely[0].name if len(groups) == len(likely) == 1 else None
    words = quote_words(text, view, answer.indices("words"), weights, only_group)
    return Fields(groups, words, weights, answer.texts.get("summary"), answer.texts.get("reason"))


def list_groups(
    names: Sequence[str], named: Sequence[int], probabilities: Sequence[float]
) -> tuple[AffectedGroup, ...]:
    """Groups that the answer named, and those it passed over although they were likely, in list order.

    One greedy answer stops where stopping is likeliest, so that of two groups at .4 each it names none or one.
    """
    every = [AffectedGroup(name, float(p)) for name, p in zip(names, probabilities, strict=True)]
    likely = set(likely_groups(every))
    return tuple(group for i, group in enumerate(every) if i in named or group in likely)


def quote_words(
    text: str, view: PostView, indices: Sequence[int], weights: Sequence[float], group: str | None
) -> tuple[HarmfulWord, ...]:
    """One `HarmfulWord` a run of neighbouring words; its weight is the mean of its words' weights.

    Words are directed at `group` where the post has one affected group and that is likely; with several it is
    not known which.
    """
    quoted = []
    for first, last in runs_of(indices):
        start, end = view.spans[first][0], view.spans[last][1]
        run = weights[first : last + 1]
        quoted.append(HarmfulWord(text[start:end], start, end, group, sum(run) / len(run)))
    return tuple(quoted)
