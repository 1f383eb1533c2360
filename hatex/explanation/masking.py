"""`--mask`: the words that the model marked are hidden but for their first letters, wherever they are
printed.

No word list is involved. Masks keep the number of code points, so every offset stays true. What stands at an offset
is hidden by it, however it is written; the same words elsewhere are found in the text as the model reads it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import replace

from hatex.data.cleaning import MASKS, clean
from hatex.data.prompts import PostView
from hatex.explanation.compose import compose
from hatex.explanation.report import PostReport
from hatex.types import LABELS, Explanation, HarmfulWord

MASK = "*"
_PUNCTUATION = frozenset(("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "Zs", "Cc", "Cf"))
"""Categories of what may stand around a word and need not be hidden with it."""


def mask_report(report: PostReport) -> PostReport:
    """The same report with every marked word masked in the post and in all that quotes it."""
    explanations = (report.explanation, *report.samples)
    words = [word for each in explanations for word in each.harmful_words]
    hide = build_mask(words)
    text = hide(_hide_spans(report.text, _word_spans(report.text, words)))
    verdict = replace(report.verdict, explanation=_mask_explanation(report, report.explanation, text, hide))
    samples = tuple(_mask_explanation(report, sample, text, hide) for sample in report.samples)
    return replace(report, text=text, verdict=verdict, samples=samples)


def build_mask(words: Iterable[HarmfulWord]) -> Callable[[str], str]:
    """A function that masks every occurrence of the marked words, in any letter case and any disguise that the model
    sees through.
    """
    read = {part for word in words for part in PostView.of(word.text).words} - set(MASKS)
    cores = {part[slice(*_core(part))] for part in read}
    cores = {core for core in cores if len(core) > 1 and any(map(str.isalnum, core))}
    if not cores:
        return lambda text: text
    options = "|".join(re.escape(core) for core in sorted(cores, key=lambda c: (-len(c), c)))
    pattern = re.compile(rf"(?<![^\W_])(?:{options})(?![^\W_])", re.IGNORECASE)

    def hide(text: str) -> str:
        cleaned = clean(text)
        found = [cleaned.original_span(*match.span()) for match in pattern.finditer(cleaned.text)]
        return _hide_spans(text, found)

    return hide


def _word_spans(text: str, words: Iterable[HarmfulWord]) -> list[tuple[int, int]]:
    """Where the marked words stand in the post, without the punctuation around them."""
    view = PostView.of(text)
    marked = {i for word in words for i in view.words_within(word.start, word.end)}
    spans = []
    for i in sorted(marked):
        start, end = view.spans[i]
        low, high = _core(text[start:end])
        spans.append((start + low, start + high))
    return spans


def _hide_spans(text: str, spans: Iterable[tuple[int, int]]) -> str:
    shown = list(text)
    for start, end in spans:
        shown[start + 1 : end] = [c if c.isspace() else MASK for c in text[start + 1 : end]]
    return "".join(shown)


def _core(word: str) -> tuple[int, int]:
    """Where a word stands without the punctuation around it; all of it where that would leave nothing to hide."""
    kept = [i for i, char in enumerate(word) if unicodedata.category(char) not in _PUNCTUATION]
    return (0, len(word)) if len(kept) < 2 else (kept[0], kept[-1] + 1)


def _mask_explanation(
    report: PostReport, explanation: Explanation, text: str, hide: Callable[[str], str]
) -> Explanation:
    """Composed sentences are composed again from masked quotations: cut out of the prose, a quotation of a post that
    quotes could not be told from its end.
    """
    words = tuple(replace(word, text=text[word.start : word.end]) for word in explanation.harmful_words)
    evidence = tuple(replace(item, text=text[item.start : item.end]) for item in explanation.evidence)
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
