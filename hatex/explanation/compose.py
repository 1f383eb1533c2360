"""Summary and reason in plain sentences, composed from the fields.

The sentences speak of the post and of how it is likely to be read, never of its author. Which of several
wordings a post gets depends on a hash of its text: a page of explanations varies, one post always reads the
same.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, Literal

from hatex.explanation.wording import (
    name_groups,
    percent,
    points,
    quote_all,
    quote_one,
    share_of_readers,
)
from hatex.types import LABELS, AffectedGroup, Change, Evidence, EvidenceMethod, HarmfulWord, Label

SURE: Final = 0.75
"""From this probability on a summary says `is likely to`; below it `may`."""
NOTABLE: Final = 0.05
"""Evidence below this many points of probability is not worth a sentence."""

LIKELY: Final = 0.5
"""Sentences, which a reader takes for granted, speak of a group that is harmed with this probability if anyone is. The
list holds others too.
"""

NEUTRAL: Final = LABELS.index("neutral")

_SUMMARIES: Final[Mapping[tuple[Label, bool], tuple[str, ...]]] = {
    ("hate", True): (
        "The post {would} read as hateful towards {groups}.",
        "{Readers} take this post as an attack on {groups}.",
        "The wording {would} come across as hate aimed at {groups}.",
    ),
    ("hate", False): (
        "The post {would} read as hateful, though no single group stands out.",
        "{Readers} take this post as hate; the model names no particular group.",
        "The wording {would} come across as hate without a clearly named group.",
    ),
    ("offensive", True): (
        "The post {would} read as offensive; it touches on {groups}.",
        "{Readers} find this post insulting; it is about {groups}.",
        "The wording {would} offend, with {groups} in view.",
    ),
    ("offensive", False): (
        "The post {would} read as offensive rather than hateful.",
        "{Readers} find this post insulting, but not an attack on a group.",
        "The wording {would} offend without being aimed at a group of people.",
    ),
    ("neutral", False): (
        "The post {would} read as neutral.",
        "{Readers} find nothing offensive in this post.",
        "The post {would} pass as ordinary talk.",
    ),
}

_HARM: Final[Mapping[tuple[Label, bool], tuple[str, ...]]] = {
    ("hate", True): (
        "{The} {quotes} {puts} {groups} down as a group.",
        "{The} {quotes} {carries} the harm: such wording degrades {groups} for who they are.",
        "{The} {quotes} {turns} the post against {groups}.",
    ),
    ("hate", False): (
        "{The} {quotes} {carries} the harm: such wording degrades people for who they are.",
        "{The} {quotes} {makes} the post read as contempt for a group of people.",
    ),
    ("offensive", True): (
        "{The} {quotes} {is} likely to insult, and may be taken to mean {groups}.",
        "{The} {quotes} {makes} the post rude, with {groups} in view.",
    ),
    ("offensive", False): (
        "{The} {quotes} {is} likely to insult, without degrading a group of people.",
        "{The} {quotes} {makes} the post rude rather than hateful.",
    ),
}

_UNMARKED: Final = (
    "No single word was marked; the post as a whole leads to this reading.",
    "The model marked no words: the reading rests on the post as a whole.",
)
_CALM: Final = (
    "No word or phrase points to an attack or an insult.",
    "Nothing in the wording demeans a person or a group.",
    "The wording holds neither an insult nor an attack on a group.",
)
_CALM_UNSURE: Final = (
    "No word was marked as harmful, though the model does not rule out other readings.",
    "The wording leans towards neutral, but other readings stay possible.",
)


def compose(
    text: str,
    probabilities: Sequence[float],
    groups: Sequence[AffectedGroup],
    words: Sequence[HarmfulWord],
    evidence: Sequence[Evidence],
    change: Change | None = None,
    method: EvidenceMethod = "leave-out",
) -> tuple[str, str]:
    """Summary and reason of one post; `probabilities` in the order of `types.LABELS`.

    `evidence` was found by `method`; `change` is what deletion found to turn the label, or came closest to it.
    """
    choose = random.Random(sha256(text.encode("utf-8", "surrogatepass")).digest())
    best = max(range(len(LABELS)), key=lambda i: probabilities[i])
    label, probability = LABELS[best], float(probabilities[best])
    groups = likely_groups(groups, 1 - float(probabilities[NEUTRAL]))
    named = bool(groups) and label != "neutral"
    summary = choose.choice(_SUMMARIES[label, named]).format(
        would="is likely to" if probability >= SURE else "may",
        Readers="Readers are likely to" if probability >= SURE else "Readers may",
        groups=name_groups([group.name for group in groups]),
    )
    if label == "neutral":
        harm = choose.choice(_CALM if probability >= SURE else _CALM_UNSURE)
    else:
        harm = _harm(choose, label, groups, words)
    if method == "gradient":
        support = _attributed(label, evidence)
    else:
        turns = change is not None and change.label != label
        support = _support(choose, label, probability, evidence, turns)
    return summary, " ".join(part for part in (harm, support) if part)


def likely_groups(groups: Sequence[AffectedGroup], harm: float) -> list[AffectedGroup]:
    """The groups that are likely to be meant if the post harms at all, which it does with probability `harm`."""
    return [group for group in groups if group.probability >= LIKELY * harm]


def _harm(
    choose: random.Random, label: Label, groups: Sequence[AffectedGroup], words: Sequence[HarmfulWord]
) -> str:
    if not words:
        return choose.choice(_UNMARKED)
    quotes, count = quote_all([word.text for word in words])
    if not quotes:
        return "What was marked are characters that cannot be printed here."
    noun = "words" if count > 1 else ("wording" if " " in quotes else "word")
    plural = noun == "words"
    verbs = {"puts": "put", "carries": "carry", "turns": "turn", "makes": "make", "is": "are"}
    return choose.choice(_HARM[label, bool(groups)]).format(
        The=f"The {noun}",
        quotes=quotes,
        groups=name_groups([g.name for g in groups]),
        **{one: (many if plural else one) for one, many in verbs.items()},
    )


def _support(
    choose: random.Random, label: Label, probability: float, evidence: Sequence[Evidence], turns: bool
) -> str:
    """What deletion showed: the strongest word for the label and, where one speaks against it, that too.

    `turns` says that some deletion turned the label.
    """
    strongest, against = _notable(evidence)
    sentences = []
    if strongest:
        fall = points(strongest.weight)
        sentences.append(
            choose.choice(
                (
                    f"Without {quote_one(strongest.text)}, the probability of {label} would fall by {fall}.",
                    f"Taking out {quote_one(strongest.text)} lowers the probability of {label} by {fall}.",
                )
            )
        )
    if against:
        rise = f"{quote_one(against.text)} speaks against {label} ({points(against.weight)})."
        sentences.append(f"In contrast, {rise}" if strongest else f"Only {rise}")
    if evidence and not sentences and not turns:
        sentences.append(
            f"No single {_part(evidence)} decides: taking any one out leaves {label} near {percent(probability)}."
        )
    return " ".join(sentences)


def _attributed(label: Label, evidence: Sequence[Evidence]) -> str:
    """What gradients attribute to words, none of which was taken out."""
    strongest, against = _notable(evidence)
    sentences = []
    if strongest:
        share = points(strongest.weight)
        sentences.append(
            f"By its gradients, {share} of the probability of {label} come from {quote_one(strongest.text)}."
        )
    if against:
        sentences.append(f"{quote_one(against.text)} speaks against {label} ({points(against.weight)}).")
    return " ".join(sentences)


def _notable(evidence: Sequence[Evidence]) -> tuple[Evidence | None, Evidence | None]:
    """What speaks most for the label and most against it, where that is worth a sentence and can be quoted."""
    printable = [each for each in evidence if quote_one(each.text)]
    strongest = max(printable, key=lambda e: e.weight, default=None)
    against = min(printable, key=lambda e: e.weight, default=None)
    return (
        strongest if strongest and strongest.weight >= NOTABLE else None,
        against if against and against.weight <= -NOTABLE else None,
    )


def _part(evidence: Sequence[Evidence]) -> str:
    """What one piece of evidence stands for: long posts are taken apart in passages."""
    return "word" if all(len(each.text.split()) == 1 for each in evidence) else "passage"


def describe_split(
    probabilities: Mapping[Label, float],
    disagreement: float,
    basis: Literal["votes", "model"],
    contested: float = 0.8,
) -> str:
    """The predicted split of annotators in words where votes stand behind it, else how sure the model is."""
    best = max(LABELS, key=lambda label: probabilities[label])
    if basis == "votes":
        said = f"{share_of_readers(probabilities[best])} would call this {_adjective(best)}"
        return said + ("; readers would split" if disagreement > contested else "")
    if disagreement > contested:
        return "the model is unsure"
    return f"the model {'leans towards' if probabilities[best] < SURE else 'is fairly sure of'} {best}"


def describe_change(
    text: str,
    label: Label,
    change: Change | None,
    evidence: Sequence[Evidence],
    method: EvidenceMethod = "leave-out",
) -> str:
    """What would change the verdict, as far as deletion can tell; gradients cannot."""
    if method == "gradient":
        return ""
    if change is None:
        return f"Taking out any single {_part(evidence)} would not change the label." if evidence else ""
    quotes, _ = quote_all([text[start:end] for start, end in change.spans])
    what = quotes or "the marked words"
    answer = f"{change.label} ({percent(change.probability)})"
    if change.label == label:
        return f"Even without {what} the label would stay {answer}."
    return f"Without {what} the label would be {answer}."


def _adjective(label: Label) -> str:
    return "hateful" if label == "hate" else label
