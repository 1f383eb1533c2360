"""`--mask`: the words that the model marked are hidden but for their first letters, wherever they are
printed.

No word list is involved. Masks keep the number of code points, so every offset stays true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from hatex.explanation.compose import compose
from hatex.explanation.report import PostReport
from hatex.explanation.wording import quote
from hatex.types import LABELS, Explanation, HarmfulWord

MASK = "*"


def mask_report(report: PostReport) -> PostReport:
    """The same report with every marked word masked in the post and in all that quotes it."""
    explanations = (report.explanation, *report.samples)
    hide = build_mask(word for each in explanations for word in each.harmful_words)
    verdict = replace(report.verdict, explanation=_mask_explanation(report, report.explanation, hide))
    samples = tuple(_mask_explanation(report, sample, hide) for sample in report.samples)
    return replace(report, text=hide(report.text), verdict=verdict, samples=samples)


def build_mask(words: Iterable[HarmfulWord]) -> Callable[[str], str]:
    """A function that masks every occurrence of the marked words, in any letter case."""
    cores: set[str] = set()
    for word in words:
        for part in word.text.split():
            # A quotation may stop inside an overlong or unprintable word: its beginning has to be hidden too.
            for piece in (part, quote(part)[0].strip("“”")):
                core = _strip(piece)
                if len(core) > 1:
                    cores.add(core)
    if not cores:
        return lambda text: text
    options = "|".join(re.escape(core) for core in sorted(cores, key=lambda c: (-len(c), c)))
    pattern = re.compile(rf"(?<![^\W_])(?:{options})(?![^\W_])", re.IGNORECASE)
    return lambda text: pattern.sub(lambda match: _hide(match.group()), text)


def _hide(word: str) -> str:
    return word[0] + "".join(char if char.isspace() else MASK for char in word[1:])


def _strip(word: str) -> str:
    """A word without the punctuation around it."""
    inner = [i for i, char in enumerate(word) if char.isalnum()]
    return word[inner[0] : inner[-1] + 1] if inner else word


def _mask_explanation(
    report: PostReport, explanation: Explanation, hide: Callable[[str], str]
) -> Explanation:
    """Composed sentences are composed again from masked quotations: cut out of the prose, a quotation of a post that
    quotes could not be told from its end.
    """
    words = tuple(replace(word, text=hide(word.text)) for word in explanation.harmful_words)
    evidence = tuple(replace(item, text=hide(item.text)) for item in explanation.evidence)
    if explanation.style == "generated":
        summary, reason = hide(explanation.summary), hide(explanation.reason)
    else:
        summary, reason = compose(
            report.text,
            [report.verdict.probabilities[label] for label in LABELS],
            explanation.affected_groups,
            words,
            evidence,
            explanation.change,
            explanation.evidence_method,
        )
    return replace(explanation, summary=summary, reason=reason, harmful_words=words, evidence=evidence)
