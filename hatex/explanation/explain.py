"""Explanations for many posts at once: decode the fields under a grammar, weigh the evidence, put both into
words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hatex.data.prompts import Post, PostView
from hatex.explanation.answer import AnswerForm, parse_answer
from hatex.explanation.compose import NEUTRAL, compose
from hatex.explanation.evidence import Finding, find_evidence, weigh_words
from hatex.explanation.fields import LISTED, Fields, read_fields
from hatex.explanation.grammar import AnswerGrammar, build_grammar_tokenizer
from hatex.explanation.protocol import DEFAULT_OPTIONS, GREEDY, ExplainEngine, ExplainOptions
from hatex.types import Explanation

Floats = NDArray[np.floating]


class Explainer:
    """Explains through one engine."""

    def __init__(self, engine: ExplainEngine) -> None:
        self.engine = engine
        self.grammar_tokenizer = build_grammar_tokenizer(engine.tokenizer, engine.vocabulary_size)

    def explain(
        self,
        texts: Sequence[str],
        gates: NDArray[np.float32],
        probabilities: Floats,
        options: ExplainOptions = DEFAULT_OPTIONS,
    ) -> list[Explanation]:
        """One explanation a post.

        Args:
            texts: the posts as given.
            gates: gate weights, shape (posts, adapters).
            probabilities: P(label) of the posts, shape (posts, labels), as `engine.score` gave them.
            options: decoding and evidence.
        """
        return [samples[0] for samples in self.sample(texts, gates, probabilities, options, 1)]

    def sample(
        self,
        texts: Sequence[str],
        gates: NDArray[np.float32],
        probabilities: Floats,
        options: ExplainOptions,
        sequences: int,
    ) -> list[tuple[Explanation, ...]]:
        """`sequences` explanations a post, decoded apart and sharing the evidence of the first."""
        counts = self.engine.count_shown_words(texts)
        views = (PostView.of(text, self.engine.tokenizer) for text in texts)
        read = [view.first(count) for view, count in zip(views, counts, strict=True)]
        drawn = self._decode(texts, read, gates, probabilities, options, sequences)
        marked = [fields[0].words for fields in drawn]
        findings = find_evidence(self.engine, texts, read, gates, probabilities, marked, options)
        return [
            tuple(_explanation(text, read[i], probabilities[i], fields, findings[i]) for fields in drawn[i])
            for i, text in enumerate(texts)
        ]

    def write_prefaces(
        self,
        posts: Sequence[Post],
        gates: NDArray[np.float32],
        options: ExplainOptions = DEFAULT_OPTIONS,
    ) -> list[str]:
        """What stands between each post's prompt and its label: empty, or the explanation that is written
        first, always by its likeliest tokens.
        """
        return [preface for preface, _ in self._write_prefaces(posts, gates, options)]

    def _write_prefaces(
        self, posts: Sequence[Post], gates: NDArray[np.float32], options: ExplainOptions
    ) -> list[tuple[str, bool]]:
        """Prefaces, and whether each came to its end within the token budget."""
        preface = self.engine.prompt.preface
        if not preface:
            return [("", True)] * len(posts)
        lead, form = AnswerForm.parse(preface).opened()
        grammar = AnswerGrammar(self.grammar_tokenizer, form, self.engine.groups)
        for _ in posts:
            grammar.add_row(())
        greedy = replace(options, sampling=GREEDY)
        self.engine.generate(posts, [lead] * len(posts), gates, grammar, greedy, [0] * len(posts))
        return [
            (lead + _completed(form, grammar.answer(i)), grammar.rows[i].is_finished)
            for i in range(len(posts))
        ]

    def _decode(
        self,
        texts: Sequence[str],
        views: Sequence[PostView],
        gates: NDArray[np.float32],
        probabilities: Floats,
        options: ExplainOptions,
        sequences: int,
    ) -> list[list[Fields]]:
        """Fields of every post and sequence.

        A neutral post has no harmful words. What groups it would be about is asked under the likelier of the harmful
        labels, unless they are so unlikely that no group could be listed.
        """
        prefaces = self._write_prefaces(texts, gates, options)
        written = [self._read_preface(*preface) for preface in prefaces]
        drawn = [[first] * sequences for first in written]
        is_neutral = np.argmax(probabilities, axis=1) == NEUTRAL
        harm = 1 - probabilities[:, NEUTRAL]
        labels = np.argmax(np.where(np.arange(probabilities.shape[1]) == NEUTRAL, -1, probabilities), axis=1)
        posts = [i for i in range(len(texts)) if harm[i] >= LISTED for _ in range(sequences)]
        if not posts:
            return drawn
        lead, form = AnswerForm.parse(self.engine.prompt.answer).opened()
        grammar = AnswerGrammar(self.grammar_tokenizer, form, self.engine.groups)
        for post in posts:
            grammar.add_row(views[post].words)
        label_texts = self.engine.prompt.label_texts
        suffixes = [prefaces[post][0] + label_texts[labels[post]] + lead for post in posts]
        draws = [row % sequences for row in range(len(posts))]
        asked = [texts[post] for post in posts]
        self.engine.generate(asked, suffixes, gates[posts], grammar, options, draws)
        for row, post in enumerate(posts):
            fields = read_fields(grammar, row, texts[post], views[post], float(harm[post]))
            is_complete = fields.is_complete and written[post].is_complete
            if is_neutral[post]:
                fields = replace(written[post], groups=fields.groups)
            summary = fields.summary or written[post].summary
            drawn[post][draws[row]] = replace(fields, summary=summary, is_complete=is_complete)
        return drawn

    def _read_preface(self, preface: str, is_complete: bool) -> Fields:
        if not preface:
            return Fields()
        texts = parse_answer(AnswerForm.parse(self.engine.prompt.preface), preface, (), ()).texts
        return Fields(summary=texts.get("summary"), reason=texts.get("reason"), is_complete=is_complete)


def explain_posts(
    engine: ExplainEngine,
    texts: Sequence[str],
    gates: NDArray[np.float32],
    probabilities: Floats,
    options: ExplainOptions = DEFAULT_OPTIONS,
) -> list[Explanation]:
    """`Explainer.explain` for a single call; build an `Explainer` to explain batch after batch."""
    return Explainer(engine).explain(texts, gates, probabilities, options)


def _completed(form: AnswerForm, answer: str) -> str:
    """A preface cut off by the token budget still has to end where the label stands."""
    tail = form.literals[-1]
    if answer.endswith(tail):
        return answer
    begun = next((n for n in range(len(tail) - 1, 0, -1) if answer.endswith(tail[:n])), 0)
    return answer[: len(answer) - begun].rstrip() + tail


def _explanation(
    text: str, view: PostView, probabilities: Floats, fields: Fields, finding: Finding
) -> Explanation:
    summary, reason = compose(
        text,
        probabilities.tolist(),
        fields.groups,
        fields.words,
        finding.evidence,
        finding.change,
        finding.method,
    )
    return Explanation(
        style="generated" if fields.summary or fields.reason else "composed",
        summary=fields.summary or summary,
        affected_groups=fields.groups,
        harmful_words=fields.words,
        reason=fields.reason or reason,
        evidence=finding.evidence,
        word_weights=weigh_words(view, fields.word_probabilities, finding.evidence),
        word_spans=view.spans,
        change=finding.change,
        evidence_method=finding.method,
        is_complete=fields.is_complete,
    )
