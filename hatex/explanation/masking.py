"""`--mask`: the words that the model marked are hidden but for their first letters, wherever they are
printed.

No word list is involved. Masks keep the number of code points, so every offset stays true. What stands at an offset
is hidden by it, however it is written; the same words elsewhere are found in the text as the model reads it, and in the
names and links that it does not read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from hatex.data.cleaning import DECODING, MASKS, clean
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
    cores = {form for word in words for form in _forms(PostView.of(word.text).words)}
    cores = {core for core in cores if len(core) > 1 and any(map(str.isalnum, core))}
    if not cores:
        return lambda text: text
    options = (option for core in sorted(cores, key=lambda c: (-len(c), c)) for option in _options(core))
    pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(options)})(?![^\W_])", re.IGNORECASE)

    def hide(text: str) -> str:
        found = [
            read.original_span(*match.span())
            for read in (clean(text), clean(text, tuple(DECODING)))
            for match in pattern.finditer(read.text)
        ]
        return _hide_spans(text, found)

    return hide


def _options(core: str) -> Iterator[str]:
    """Patterns of a word: as it is, and (a word of three letters or more) spelt out, `d.o n-k e y`."""
    yield r"\s+".join(map(re.escape, core.split()))
    if len(core) > 2 and all(map(_is_text, core)):
        yield r"[\W_]{1,3}".join(map(re.escape, core))


def _forms(words: Sequence[str]) -> Iterator[str]:
    """What is looked for elsewhere: words without the punctuation around them, their parts between any other, and
    spelt-out words with and without their spaces.
    """
    for word in {*words} - {*MASKS}:
        core = word[slice(*_core(word))]
        yield core
        for mask in MASKS:
            core = core.replace(mask, " ")
        yield from ("".join(part) for is_text, part in groupby(core, _is_text) if is_text)
    for run in _runs(words, range(len(words))):
        if len(run) > 1:
            spelt = " ".join(words[i] for i in run)
            yield spelt[slice(*_core(spelt))]
            yield "".join(filter(_is_text, spelt))


def _word_spans(text: str, words: Iterable[HarmfulWord]) -> list[tuple[int, int]]:
    """Where the marked words stand in the post, without the punctuation around them."""
    view = PostView.of(text)
    marked = {i for word in words for i in view.words_within(word.start, word.end)}
    spans = []
    for run in _runs(view.words, sorted(marked)):
        start, end = view.spans[run[0]][0], view.spans[run[-1]][1]
        low, high = _core(text[start:end])
        spans.append((start + low, start + high))
    return spans


def _runs(words: Sequence[str], marked: Iterable[int]) -> list[list[int]]:
    """Marked words that are hidden as one: neighbours of one letter each (`d o n k e y`), every other one alone."""
    runs: list[list[int]] = []
    for i in marked:
        is_spelt = _letters(words[i]) <= 1
        if is_spelt and runs and runs[-1][-1] == i - 1 and _letters(words[i - 1]) <= 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return [
        part
        for run in runs
        for part in ([run] if sum(_letters(words[i]) for i in run) > 1 else [[i] for i in run])
    ]


def _letters(word: str) -> int:
    """How many characters of a word are more than punctuation."""
    return sum(unicodedata.category(char) not in _PUNCTUATION for char in word)


def _is_text(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN"


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
