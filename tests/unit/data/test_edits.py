"""Edits carry every offset forth and back."""

from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hatex.data.cleaning import MASKS, STEPS, clean
from hatex.data.edits import Edit, Edited, Step
from hatex.data.formatting import common_form, vary, vary_mapped

PIECES = (
    *("The goalkeeper", " ", "&amp;", "&amp;lt;", "&#128514;", "e\u0301", "\u1112\u1161\u11ab", "@Fan_77"),
    *("RT @Fan_77: ", "http://t.co/abc1,", "www.example.org/x?y=1", "me.you@example.org", "+1 202 555 0143"),
    *(
        "\u200b",
        "\u200d",
        "\ufe0f",
        "\u202e",
        "\x00",
        "&#8203;",
        "\uff52\uff45\uff46",
        "\U0001d42b",
        "\u212a",
    ),
    *("555-0199", "!!", "\n", "Ünï", "<number>", "<url>", "don't", "offside", "A\u0308", "\U0001f600"),
)
posts = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=12).map("".join)


@given(posts)
def test_cleaning_can_be_undone_step_by_step(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.original == text
    for step in reversed(cleaned.steps):
        assert step.undone() == step.before
    assert (cleaned.steps[0].before if cleaned.steps else cleaned.text) == text


@given(posts)
@example("@Fan_77\u200d")
@example("@Fan_77\ufe0f\u20e3 7\ufe0f\u20e3")
@example("@Fan_77\u200d555-0199")
@example(f"@{'fan' * 20} scored")
@example("+1 202 555 0143+1 202 555 0143")
@example("202-555-0143(202) 555-0143")
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = clean(text).text
    assert clean(once).text == once


@given(posts, st.data())
def test_a_span_comes_back_at_least_as_wide(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    cleaned = clean(text)
    new_start, new_end = cleaned.edited_span(start, end)
    assert 0 <= new_start <= new_end <= len(cleaned.text)
    if start < end:
        assert new_start < new_end
        back_start, back_end = cleaned.original_span(new_start, new_end)
        assert back_start <= start
        assert back_end >= end


@given(posts, st.data())
def test_an_untouched_word_keeps_its_characters(text: str, data: st.DataObject) -> None:
    before = data.draw(posts)
    padded = f"{before} zebra {text}"
    start = len(before) + 1
    cleaned = clean(padded)
    new_start, new_end = cleaned.edited_span(start, start + 5)
    assert cleaned.text[new_start:new_end] == "zebra"
    assert cleaned.original_span(new_start, new_end) == (start, start + 5)


@given(posts, posts, st.integers(0, 9999))
def test_variation_carries_a_word_along(before: str, after: str, seed: int) -> None:
    text = f"{before} zebra {after}"
    start = len(before) + 1
    varied = vary_mapped(text, Random(seed))
    new_start, new_end = varied.edited_span(start, start + 5)
    assert varied.text[new_start:new_end].lower() == "zebra"
    assert varied.original_span(new_start, new_end) == (start, start + 5)


@given(posts)
def test_nfc_step_equals_unicodedata(text: str) -> None:
    import unicodedata

    assert clean(text, ("nfc",)).text == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Ref &amp;amp; linesman", "Ref & linesman"),
        ("@Fan_77: see http://t.co/x1!", "@user: see <url>!"),
        ("mail a.b@example.org or call 202-555-0143", "mail <email> or call <phone>"),
        ("202-555-0143(202) 555-0143+1 202 555 0143", "<phone><phone><phone>"),
        ("won 3-2 in 1998 at 12:30", "won 3-2 in 1998 at 12:30"),
        ("half @ time", "half @ time"),
    ],
)
def test_masks(raw: str, expected: str) -> None:
    assert clean(raw).text == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("The r\u200bef\u00ader\u200dee\ufe0f", "The referee"),
        ("\u202eThe referee\u202c\U000e0041\U000e0042", "The referee"),
        ("\ufeff\u200bT\u2060he &#8203;ref&amp;shy;eree", "The referee"),
        ("\uff34\uff48\uff45 \U0001d42b\U0001d422\U0001d41f\U0001d41e\u24de \uff13", "The rifeo 3"),
        ("The\x00\x08re&#129;feree", "The re feree"),
        ("Th\u0435 r\u0435f\u0435r\uff45\u0435, \u0406diot", "The referee, Idiot"),
        ("\u0441\u043e\u0440\u0435 \u0394t \u03b1-cut na\xefve \u0142ad", None),
        ("\u2764\ufe0f \U0001f469\u200d\U0001f467 goal\u2122 5 m\xb2 \xbd", None),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", None),
        ("\u200b\u200b", None),
        ("\x00 \x00", None),
    ],
)
def test_what_nobody_sees_hides_no_word(raw: str, expected: str | None) -> None:
    assert clean(raw).text == (raw if expected is None else expected)


def test_ignorable_characters_are_those_of_unicode() -> None:
    import regex  # has the property; comes with transformers

    chars = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    shown = regex.sub(r"\p{Default_Ignorable_Code_Point}", "", "".join(f"a{char}b" for char in chars))
    assert clean("".join(f"a{char}b" for char in chars), ("ignorables",)).text == shown


def test_piles_of_marks_are_left_as_they_are_and_take_no_time() -> None:
    pile = "e" + "\u0301\u0323" * 100_000
    assert clean(f"caf\u0065\u0301 {pile}").text == f"caf\u00e9 {pile}"


def test_masks_are_left_alone() -> None:
    text = " ".join(MASKS)
    assert clean(text).text == text
    assert clean(text).steps == ()


def test_unknown_steps_are_refused() -> None:
    with pytest.raises(KeyError):
        clean("x", ("entities", "lowercase"))
    assert "users" in STEPS


def test_overlapping_edits_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        Step("abcdef", [Edit(0, 3, "x"), Edit(2, 4, "y")])


def test_inserted_text_belongs_to_no_neighbour() -> None:
    edited = Edited("ab").then(lambda _: [Edit(1, 1, "--")])
    assert edited.text == "a--b"
    assert edited.edited_span(0, 1) == (0, 1)
    assert edited.edited_span(1, 2) == (3, 4)
    assert edited.edited_span(0, 2) == (0, 4)


def test_common_form_is_the_same_for_all_variations_of_plain_words() -> None:
    text = "The REFEREE, again: he's blind! See http://t.co/x @Fan_77"
    assert common_form(text) == "the referee again hes blind see <url> @user"
    rng = Random(3)
    for _ in range(200):
        kept = common_form(vary("The referee again is blind", rng)).split()
        assert kept == ["the", "referee", "again", "is", "blind"]


def test_variation_varies_and_is_seeded() -> None:
    text = "@user The referee, again! See <url> for <number> reasons."
    forms = [vary(text, Random(seed)) for seed in range(60)]
    assert len(set(forms)) > 20
    assert forms == [vary(text, Random(seed)) for seed in range(60)]
    assert any(form == form.lower() for form in forms)
    assert any("<number>" not in form for form in forms)
