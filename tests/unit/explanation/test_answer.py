from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.data.prompts import load_prompt
from hatex.explanation.answer import AnswerForm, parse_answer, runs_of

FORM = AnswerForm.parse("\nTargets: {targets}\nWords: {words}\n")
GROUPS = ("Women", "Men", "Older people")


def test_the_form_keeps_the_space_with_the_value() -> None:
    assert FORM.fields == ("targets", "words")
    assert (FORM.lead(0), FORM.gap(0), FORM.tail(0)) == ("\nTargets:", " ", "\nWords:")
    lead, rest = FORM.opened()
    assert lead + rest.literals[0] == "\nTargets: "


@pytest.mark.parametrize(
    "template", ["\nTargets: {targets} {words}\n", "\nTargets: {targets}\nMood: {mood}\n"]
)
def test_a_form_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"field"):
        AnswerForm.parse(template)


def test_every_shipped_template_has_a_readable_form() -> None:
    for name in ("compact", "five-part"):
        prompt = load_prompt(name)
        assert {"targets", "words"} <= set(AnswerForm.parse(prompt.answer).fields)
        if prompt.preface:
            assert AnswerForm.parse(prompt.preface).fields == ("summary",)


@pytest.mark.parametrize(
    ("answer", "targets", "words"),
    [
        ("\nTargets: none\nWords: none\n", (), ()),
        ("\nTargets: Women, Older people\nWords: a | a\n", (0, 2), (0, 2)),
        ("\nTargets: Men\nWords: a c\n", (1,), (2, 3)),
        # " | " never joins neighbours: the last a is out of reach, what stood before it is kept.
        ("\nTargets: Men\nWords: b a c | a\n", (1,), (1, 2, 3)),
    ],
)
def test_an_answer_is_read_at_its_earliest_fit(
    answer: str, targets: tuple[int, ...], words: tuple[int, ...]
) -> None:
    parsed = parse_answer(FORM, answer, GROUPS, ("a", "b", "a", "c", "a"))
    assert parsed.indices("targets") == targets
    assert parsed.indices("words") == words


@pytest.mark.parametrize(
    ("cut", "targets", "words"),
    [
        ("\nTarg", (), ()),
        ("\nTargets: Women, Old", (0,), ()),
        ("\nTargets: Women\nWords: big fo", (0,), (0,)),
        ("\nTargets: Women\nWords: big fool | a", (0,), (0, 1)),
    ],
)
def test_a_cut_answer_keeps_what_is_complete(
    cut: str, targets: tuple[int, ...], words: tuple[int, ...]
) -> None:
    parsed = parse_answer(FORM, cut, GROUPS, ("big", "fool", "of", "a", "team"))
    assert parsed.indices("targets") == targets
    assert parsed.indices("words") == words


@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 2)))
def test_rendering_and_reading_agree(chosen: set[int], groups: set[int]) -> None:
    words = tuple(f"w{i}" for i in range(12))
    runs = [" ".join(words[a : b + 1]) for a, b in runs_of(sorted(chosen))]
    answer = load_prompt("compact").render_answer([GROUPS[i] for i in sorted(groups)], runs)
    parsed = parse_answer(FORM, answer, GROUPS, words)
    assert parsed.indices("words") == tuple(sorted(chosen))
    assert parsed.indices("targets") == tuple(sorted(groups))
    assert parsed.picks["words"].is_closed


def test_offsets_point_at_the_items() -> None:
    answer = "\nTargets: Women\nWords: größe und | fußball\n"
    picks = parse_answer(FORM, answer, GROUPS, ("größe", "und", "der", "fußball")).picks["words"]
    data = answer.encode()
    assert [data[a:b].decode() for a, b in zip(picks.starts, picks.ends, strict=True)] == [
        " größe",
        " und",
        " fußball",
    ]
