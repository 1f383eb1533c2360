"""Whole explanations through a real (tiny, random) model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatex.data.prompts import PostView
from hatex.errors import UsageError
from hatex.explanation import Explainer, ExplainOptions, explain_posts
from hatex.explanation.answer import AnswerForm
from hatex.explanation.evidence import find_evidence, single_deletions, weigh_words
from hatex.explanation.explain import _completed
from hatex.explanation.fields import LISTED
from hatex.explanation.grammar import MAX_WORDS
from hatex.types import LABELS, Evidence, HarmfulWord, Sampling

HATE = np.array([[0.1, 0.2, 0.7]])


def gates_for(count: int) -> np.ndarray[Any, Any]:
    return np.tile(np.array([[0.7, 0.3]], dtype=np.float32), (count, 1))


def test_fields_quotes_and_offsets(engine: Any, posts: tuple[str, ...]) -> None:
    explanations = explain_posts(engine, posts, gates_for(3), np.repeat(HATE, 3, axis=0))
    for text, explanation in zip(posts, explanations, strict=True):
        assert explanation.style == "composed"
        assert {group.name for group in explanation.affected_groups} <= set(engine.groups)
        for item in (*explanation.harmful_words, *explanation.evidence):
            assert item.text == text[item.start : item.end] != ""
        assert [e.text for e in explanation.evidence] == text.split()
        assert len(explanation.word_weights) == len(text.split())
    assert any(explanation.harmful_words for explanation in explanations)


def test_the_same_post_gets_the_same_explanation(engine: Any, posts: tuple[str, ...]) -> None:
    first = explain_posts(engine, posts, gates_for(3), np.repeat(HATE, 3, axis=0))
    assert first == explain_posts(engine, posts, gates_for(3), np.repeat(HATE, 3, axis=0))


def test_neutral_posts_mark_nothing_and_say_why(engine: Any, posts: tuple[str, ...]) -> None:
    neutral = np.array([[0.9, 0.06, 0.04]])
    (explanation,) = explain_posts(engine, posts[1:2], gates_for(1), neutral)
    assert explanation.harmful_words == ()
    assert explanation.affected_groups == ()
    assert explanation.summary
    assert explanation.reason
    assert len(explanation.evidence) == len(posts[1].split())


def test_a_group_is_no_more_likely_to_be_harmed_than_anyone_is(engine: Any, posts: tuple[str, ...]) -> None:
    sure, split = np.array([[0.0, 0.0, 1.0]]), np.array([[0.6, 0.1, 0.3]])
    (hateful,) = explain_posts(engine, posts[:1], gates_for(1), sure)
    (neutral,) = explain_posts(engine, posts[:1], gates_for(1), split)
    harmed = {group.name: group.probability for group in hateful.affected_groups}
    listed = {group.name: group.probability for group in neutral.affected_groups}
    assert listed == {name: pytest.approx(0.4 * p) for name, p in harmed.items() if 0.4 * p >= LISTED} != {}
    assert neutral.harmful_words == ()


def test_a_post_of_many_thousand_words_can_be_hateful(engine: Any) -> None:
    text = "clowns " * 9000
    options = ExplainOptions(max_variants=4, max_new_tokens=20)
    (explanation,) = explain_posts(engine, [text], gates_for(1), HATE, options)
    assert len(explanation.word_weights) == 9000
    assert all(word.end <= len("clowns ") * MAX_WORDS for word in explanation.harmful_words)


def test_words_point_at_a_group_only_where_there_is_one(engine: Any, posts: tuple[str, ...]) -> None:
    for explanation in explain_posts(engine, posts, gates_for(3), np.repeat(HATE, 3, axis=0)):
        groups = {word.group for word in explanation.harmful_words}
        named = [group.name for group in explanation.affected_groups if group.probability >= 0.5]
        assert groups <= ({named[0]} if len(named) == 1 else {None})


def test_evidence_is_the_fall_of_the_label_and_takes_one_call(engine: Any, posts: tuple[str, ...]) -> None:
    gates = gates_for(3)
    before = engine.score(posts, gates)
    engine.calls.clear()
    views = [PostView.of(text) for text in posts]
    marked = [[HarmfulWord(posts[0][:4], 0, 4, None, 1.0)], [], []]
    findings = find_evidence(engine, posts, views, gates, before, marked, ExplainOptions())
    assert engine.calls == [sum(len(text.split()) for text in posts) + 1]
    label = int(np.argmax(before[0]))
    without_first = engine.score([posts[0].split(" ", 1)[1]], gates[:1])[0]
    assert findings[0].evidence[0].weight == pytest.approx(before[0, label] - without_first[label])
    assert any(e.weight < 0 for f in findings for e in f.evidence)
    assert any(e.weight > 0 for f in findings for e in f.evidence)


def test_the_change_names_the_label_that_the_engine_gives(engine: Any, posts: tuple[str, ...]) -> None:
    gates = gates_for(3)
    before = engine.score(posts, gates)
    explained = explain_posts(engine, posts, gates, before)
    assert any(explanation.change is not None for explanation in explained)
    for text, explanation in zip(posts, explained, strict=True):
        change = explanation.change
        if change is None:
            continue
        view = PostView.of(text)
        gone = {i for span in change.spans for i in view.words_within(*span)}
        rest = " ".join(w for i, w in enumerate(view.words) if i not in gone)
        after = engine.score([rest], gates[:1])[0]
        assert change.label == LABELS[int(np.argmax(after))]
        assert change.probability == pytest.approx(float(after.max()))


def test_long_posts_lose_spans() -> None:
    view = PostView.of(" ".join(f"w{i}" for i in range(100)))
    deletions = single_deletions(view, 48)
    assert len(deletions) == 48
    assert [i for d in deletions for r in d.words for i in r] == list(range(100))
    assert single_deletions(PostView.of("one two"), 48)[0].apply(PostView.of("one two")).text == "two"


def test_only_words_that_the_model_reads_are_taken_out_or_marked(engine: Any, posts: tuple[str, ...]) -> None:
    engine.context = 4
    (explanation,) = explain_posts(engine, posts[:1], gates_for(1), HATE)
    read = posts[0].split()[:4]
    assert [each.text for each in explanation.evidence] == read
    assert engine.calls == [4 + bool(explanation.harmful_words)]
    assert all(word.end <= len(" ".join(read)) for word in explanation.harmful_words)


def test_an_answer_cut_by_its_budget_is_not_complete(engine: Any, posts: tuple[str, ...]) -> None:
    whole, cut = (
        explain_posts(engine, posts[:1], gates_for(1), HATE, ExplainOptions(count, evidence="none"))[0]
        for count in (400, 2)
    )
    assert (whole.is_complete, cut.is_complete) == (True, False)


def test_a_control_token_in_a_post_is_read_over(engine: Any) -> None:
    text = "only<end> fools and <end>clowns<end>again"
    one, plain = explain_posts(
        engine, [text, "only fools and clowns again"], gates_for(2), np.repeat(HATE, 2, axis=0)
    )
    read = [text[start:end] for start, end in one.word_spans]
    assert read == ["only", "fools", "and", "clowns", "again"] == [each.text for each in one.evidence]
    assert one.is_complete
    assert one.word_weights == plain.word_weights
    assert one.harmful_words
    assert all(word.text == text[word.start : word.end] for word in one.harmful_words)


def test_gradients_need_an_engine_that_has_them(engine: Any, posts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no gradients"):
        explain_posts(engine, posts[:1], gates_for(1), HATE, ExplainOptions(evidence="gradient"))


def test_evidence_can_be_left_out(engine: Any, posts: tuple[str, ...]) -> None:
    (explanation,) = explain_posts(engine, posts[:1], gates_for(1), HATE, ExplainOptions(evidence="none"))
    assert explanation.evidence == ()
    assert engine.calls == []


def test_sampling_draws_different_answers_reproducibly(engine: Any, posts: tuple[str, ...]) -> None:
    options = ExplainOptions(evidence="none", sampling=Sampling(temperature=3.0, seed=7))
    explainer = Explainer(engine)
    (drawn,) = explainer.sample(posts[:1], gates_for(1), HATE, options, 6)
    assert len(drawn) == 6
    assert len({(e.harmful_words, e.affected_groups) for e in drawn}) > 1
    assert explainer.sample(posts[:1], gates_for(1), HATE, options, 6) == [drawn]
    other = replace(options, sampling=Sampling(temperature=3.0, seed=8))
    assert explainer.sample(posts[:1], gates_for(1), HATE, other, 6) != [drawn]


def test_a_template_that_explains_first_is_generated(five_part_engine: Any, posts: tuple[str, ...]) -> None:
    explainer = Explainer(five_part_engine)
    options = ExplainOptions(max_new_tokens=40, evidence="none")
    prefaces = explainer.write_prefaces(posts[:2], gates_for(2), options)
    for preface in prefaces:
        assert preface.endswith("\nClassification (neutral, offensive or hate):")
        assert preface.count("\n") == 1
    assert _completed(AnswerForm((" ", "\nKind:"), ("summary",)), " so it is\nKi") == " so it is\nKind:"
    explanations = explainer.explain(posts[:2], gates_for(2), np.repeat(HATE, 2, axis=0), options)
    for text, preface, explanation in zip(posts, prefaces, explanations, strict=False):
        assert explanation.style == "generated"
        assert explanation.summary == preface.split("\n")[0].strip()
        assert all(word.text == text[word.start : word.end] for word in explanation.harmful_words)


hostile = st.text(
    st.one_of(
        st.sampled_from('\u05d0\u0627\u202e\u200d\u00a0\u2028\n\t\u0301\U0001f600&#;<>@|"\\'),
        st.characters(exclude_categories=["Cs"], max_codepoint=0x2FFFF),
    ),
    min_size=1,
    max_size=40,
).filter(str.strip)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
def test_offsets_hold_for_any_text(text: str, engine: Any) -> None:
    (explanation,) = explain_posts(engine, [text], gates_for(1), HATE, ExplainOptions(max_new_tokens=40))
    for item in (*explanation.harmful_words, *explanation.evidence):
        assert item.text == text[item.start : item.end] != ""
    starts = [item.start for item in explanation.harmful_words]
    assert starts == sorted(starts)


WRAPPERS = json.loads((Path(__file__).parents[2] / "bench" / "wrappers.json").read_text(encoding="utf-8"))


def test_no_wrapper_escapes_the_grammar(engine: Any, posts: tuple[str, ...]) -> None:
    assert len(WRAPPERS) == 30
    wrapped = [wrapper.format(post=post) for wrapper in WRAPPERS for post in posts[:1]]
    options = ExplainOptions(max_new_tokens=50, evidence="none")
    explanations = explain_posts(
        engine, wrapped, gates_for(len(wrapped)), np.repeat(HATE, len(wrapped), axis=0), options
    )
    for text, explanation in zip(wrapped, explanations, strict=True):
        assert {group.name for group in explanation.affected_groups} <= set(engine.groups)
        assert all(word.text == text[word.start : word.end] for word in explanation.harmful_words)
        for quoted in explanation.reason.split("“")[1:]:
            assert quoted.split("”")[0] in text


def test_words_weigh_what_the_answer_and_deletion_say() -> None:
    view = PostView.of("you silly goose")
    evidence = (Evidence("you", 0, 3, -0.2), Evidence("silly goose", 4, 15, 0.3))
    assert weigh_words(view, (0.2, 0.4, 1.0), evidence) == pytest.approx((0.1, 0.7, 1.0))
    assert weigh_words(view, (0.2, 0.4, 1.0), ()) == (0.2, 0.4, 1.0)
    assert weigh_words(view, (), evidence) == ()
