"""Whatever the model wants, the answer parses, quotes the post and names listed groups."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatex.data.prompts import PostView
from hatex.errors import ModelError
from hatex.explanation.answer import AnswerForm, parse_answer, runs_of
from hatex.explanation.fields import LISTED, list_groups, read_fields
from hatex.explanation.grammar import AnswerGrammar, build_grammar_tokenizer
from hatex.explanation.inclusion import inclusion_probabilities

FORM = AnswerForm.parse("\nTargets: {targets}\nWords: {words}\n")
GROUPS = ("Women", "Men", "Older people", "Other group")
ODD = (
    "\u200f\u202e\u05e9\u05dc\u05d5\u05dd \u0627\u0644\u0639 e\u0301\u0323 \U0001f468\u200d\U0001f469\u200d\U0001f467"
    '\x00\x1b[31m|\u00a0| , none \n\t\r\u2028\ufeffa"\\/%[]{}'
)

texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])), max_size=60)


@pytest.fixture(scope="session")
def grammar_tokenizer(tokenizer: Any) -> Any:
    return build_grammar_tokenizer(tokenizer, len(tokenizer))


def decode(grammar: AnswerGrammar, rows: int, vocabulary: int, seed: int, max_tokens: int = 400) -> None:
    """Greedy decoding under random logits."""
    generator = torch.Generator().manual_seed(seed)
    live = list(range(rows))
    for _ in range(max_tokens):
        if not live:
            return
        logits = 4 * torch.randn(len(live), vocabulary, generator=generator)
        tokens = grammar.mask(logits, live).argmax(-1).tolist()
        live = [row for row, token in zip(live, tokens, strict=True) if not grammar.accept(row, token)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, seed=st.integers(0, 2**31))
def test_every_answer_is_made_of_the_post_and_the_list(text: str, seed: int, grammar_tokenizer: Any) -> None:
    view = PostView.of(text)
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    row = grammar.add_row(view.words)
    decode(grammar, 1, grammar_tokenizer.vocab_size, seed)
    assert grammar.rows[row].is_finished
    answer = grammar.answer(row)
    parsed = parse_answer(FORM, answer, GROUPS, view.words)
    assert all(parsed.picks[field].is_closed for field in ("targets", "words"))
    fields = read_fields(grammar, row, text, view, 1.0)
    for word in fields.words:
        assert word.text == text[word.start : word.end] != ""
        assert 0 <= word.weight <= 1
    assert all(LISTED <= group.probability <= 1 for group in fields.groups)
    assert len(fields.word_probabilities) == len(view.words)
    quoted = answer.split("\nWords: ")[1].removesuffix("\n")
    if quoted != "none" and "|" not in view.words:
        runs = [" ".join(view.words[a : b + 1]) for a, b in runs_of(parsed.indices("words"))]
        assert quoted == " | ".join(runs)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, seed=st.integers(0, 2**31), budget=st.integers(0, 30))
def test_a_cut_answer_still_quotes_the_post(
    text: str, seed: int, budget: int, grammar_tokenizer: Any
) -> None:
    view = PostView.of(text)
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    row = grammar.add_row(view.words)
    decode(grammar, 1, grammar_tokenizer.vocab_size, seed, budget)
    fields = read_fields(grammar, row, text, view, 1.0)
    assert all(word.text == text[word.start : word.end] for word in fields.words)
    assert {group.name for group in fields.groups} <= set(GROUPS)


def test_rows_of_a_batch_do_not_meet(grammar_tokenizer: Any) -> None:
    posts = [("alpha", "beta"), (), ("gamma",), tuple(f"word{i}" for i in range(300))]
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    for words in posts:
        grammar.add_row(words)
    decode(grammar, len(posts), grammar_tokenizer.vocab_size, seed=3)
    for row, words in enumerate(posts):
        alone = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
        alone.add_row(words)
        for token in grammar_tokenizer.tokenize_str(grammar.answer(row)):
            alone.accept(0, token)
        assert alone.rows[0].is_finished


@pytest.mark.parametrize(
    "answer",
    [
        "\nTargets: Nobody\n",
        "\nTargets: Men, Women\n",
        "\nTargets: Women, Women\n",
        "\nTargets: none\nWords: clown\n",
        "\nTargets: none\nWords: clowns are\n",
        "\nTargets: none\nWords: are | are\n",
        "\nTargets: none\nWords:\n",
    ],
)
def test_what_the_grammar_refuses(answer: str, grammar_tokenizer: Any) -> None:
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    grammar.add_row(("you", "are", "clowns"))
    tokens = grammar_tokenizer.tokenize_str(answer)
    with pytest.raises(ModelError, match="left the grammar"):
        any(grammar.accept(0, token) for token in tokens)


def test_a_row_that_cannot_go_on_ends_alone(grammar_tokenizer: Any) -> None:
    """The library holds the bytes of a control token to be the token, and then refuses it."""
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    stuck, whole = grammar.add_row(("you", "x<end>x")), grammar.add_row(("you", "are", "clowns"))
    wanted = [grammar_tokenizer.tokenize_str(f"\nTargets: none\nWords: {word}") for word in ("x", "are\n")]
    live = [stuck, whole]
    for step in range(60):
        logits = torch.zeros(len(live), grammar_tokenizer.vocab_size)
        for place, row in enumerate(live):
            logits[place, wanted[row][step : step + 1]] = 9.0
        tokens = grammar.mask(logits, live).argmax(-1).tolist()
        live = [row for row, token in zip(live, tokens, strict=True) if not grammar.accept(row, token)]
        if not live:
            break
    assert (grammar.rows[stuck].is_stuck, grammar.rows[stuck].is_finished) == (True, False)
    assert grammar.answer(stuck) == "\nTargets: none\nWords: x"
    assert grammar.answer(whole) == "\nTargets: none\nWords: are\n"
    assert grammar.rows[whole].is_finished
    fields = read_fields(grammar, stuck, "you x<end>x", PostView.of("you x<end>x"), 1.0)
    assert not fields.is_complete
    assert fields.words == ()


def test_a_row_of_which_nothing_may_follow_ends_as_well(
    grammar_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatex.explanation.grammar.MAX_ROW_ITEMS", 1)
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    grammar.add_row(("you", "are", "clowns"))
    decode(grammar, 1, grammar_tokenizer.vocab_size, seed=1)
    assert grammar.rows[0].is_stuck
    assert not read_fields(grammar, 0, "you are clowns", PostView.of("you are clowns"), 1.0).is_complete


def test_the_mask_leaves_only_what_may_follow(grammar_tokenizer: Any) -> None:
    grammar = AnswerGrammar(grammar_tokenizer, FORM.opened()[1], ("Women",))
    grammar.add_row(("clowns",))
    masked = grammar.mask(torch.zeros(1, grammar_tokenizer.vocab_size), [0])
    allowed = {grammar.token_bytes(i) for i in torch.isfinite(masked[0]).nonzero()[:, 0].tolist()}
    assert allowed
    assert all(b" Women\n".startswith(t) or b" none\n".startswith(t) for t in allowed)
    assert grammar.rows[0].steps[0].probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_word_that_would_fill_the_answer_is_not_quotable(grammar_tokenizer: Any) -> None:
    grammar = AnswerGrammar(grammar_tokenizer, FORM, GROUPS)
    grammar.add_row(("x" * 5000,))
    decode(grammar, 1, grammar_tokenizer.vocab_size, seed=1)
    assert grammar.answer(0).endswith("\nWords: none\n")


def steer(grammar: AnswerGrammar, vocabulary: int, answer: str, tokenizer: Any, strength: float) -> None:
    """Decode `answer`, each of its tokens preferred by `strength` nats."""
    for token in tokenizer.tokenize_str(answer):
        logits = torch.zeros(1, vocabulary)
        logits[0, token] = strength
        grammar.mask(logits, [0])
        grammar.accept(0, token)


def test_inclusion_follows_the_model(grammar_tokenizer: Any) -> None:
    words = ("your", "club", "is", "a", "circus")
    form = FORM.opened()[1]
    answer = " Men\nWords: club | circus\n"
    sure, unsure = [], []
    for strength, weights in ((9.0, sure), (2.0, unsure)):
        grammar = AnswerGrammar(grammar_tokenizer, form, GROUPS)
        grammar.add_row(words)
        steer(grammar, grammar_tokenizer.vocab_size, answer, grammar_tokenizer, strength)
        parsed = parse_answer(form, answer, GROUPS, words)
        weights += inclusion_probabilities(grammar, 0, parsed, "words", words).tolist()
    assert min(sure[1], sure[4]) > 0.9 > 0.1 > max(sure[0], sure[2], sure[3])
    assert sure[1] > unsure[1]
    assert sure[0] < unsure[0]


def test_inclusion_is_exact_where_every_item_is_one_token(grammar_tokenizer: Any) -> None:
    """With one-token words a step is a decision: the hazards can be worked out by hand."""
    words = ("a", "b", "c")
    form = FORM.opened()[1]
    grammar = AnswerGrammar(grammar_tokenizer, form, ("Women",))
    grammar.add_row(words)
    vocabulary = grammar_tokenizer.vocab_size
    steer(grammar, vocabulary, " none\nWords:", grammar_tokenizer, 0.0)
    logits = torch.full((1, vocabulary), -30.0)
    tokens = {text: grammar_tokenizer.tokenize_str(text) for text in (" a", " b", " c", " none")}
    assert all(len(ids) == 1 for text, ids in tokens.items() if text != " none")
    for text, probability in {" a": 0.2, " b": 0.4, " c": 0.3, " none": 0.1}.items():
        logits[0, tokens[text][0]] = float(torch.log(torch.tensor(probability)))
    grammar.mask(logits, [0])
    grammar.accept(0, tokens[" b"][0])
    steer(grammar, vocabulary, "\n", grammar_tokenizer, 30.0)
    parsed = parse_answer(form, grammar.answer(0), ("Women",), words)
    weights = inclusion_probabilities(grammar, 0, parsed, "words", words)
    assert weights[0] == pytest.approx(0.2, abs=1e-3)
    assert weights[1] == pytest.approx(0.4 / 0.8, abs=1e-3)
    assert weights[2] == pytest.approx(0, abs=1e-3)


def test_groups_are_listed_by_their_probability() -> None:
    groups = list_groups(GROUPS, [LISTED / 2, LISTED, 0.9, 0.0])
    assert [group.name for group in groups] == ["Older people", "Men"]
    equal = list_groups(GROUPS, [0.5, 0.6, 0.5, 0.6])
    assert [group.name for group in equal] == [GROUPS[1], GROUPS[3], GROUPS[0], GROUPS[2]]
