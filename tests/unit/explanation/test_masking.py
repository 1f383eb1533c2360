from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.data.cleaning import clean
from hatex.data.prompts import PostView
from hatex.explanation.compose import compose
from hatex.explanation.masking import build_mask, mask_report
from hatex.explanation.report import PostReport, report_record
from hatex.types import Change, Evidence, Explanation, HarmfulWord, Verdict


def report_of(
    text: str, spans: list[tuple[int, int]], style: str = "composed", reason: str = ""
) -> PostReport:
    words = tuple(HarmfulWord(text[a:b], a, b, None, 0.9) for a, b in spans)
    evidence = tuple(Evidence(text[a:b], a, b, 0.2) for a, b in PostView.of(text).spans)
    change = Change(tuple(spans), "neutral", 0.7)
    summary, composed = compose(text, (0.1, 0.2, 0.7), [], words, evidence, change)
    explanation = Explanation(
        style="generated" if style == "generated" else "composed",
        summary=summary,
        affected_groups=(),
        harmful_words=words,
        reason=reason or composed,
        evidence=evidence,
        change=change,
    )
    shares = {"neutral": 0.1, "offensive": 0.2, "hate": 0.7}
    verdict = Verdict(
        "hate", shares, {"full": 1.0}, "full", 0.7, "votes", "flag", "0", explanation=explanation
    )
    return PostReport(None, text, verdict)


def test_marked_words_are_hidden_everywhere_but_for_their_first_letter() -> None:
    text = "You clowns! A team of CLOWNS, my clownshoes say."
    masked = mask_report(report_of(text, [(4, 11)]))
    assert masked.text == "You c*****! A team of C*****, my clownshoes say."
    record = str(report_record(masked))
    assert "c*****" in record
    assert not re.search(r"\bclowns\b", record, re.IGNORECASE)


def test_offsets_stay_true() -> None:
    text = "what a bunch of très sad clowns \U0001f921 today"
    start = text.index("sad")
    masked = mask_report(report_of(text, [(start, start + 10)]))
    assert len(masked.text) == len(text)
    for item in (*masked.explanation.harmful_words, *masked.explanation.evidence):
        assert item.text == masked.text[item.start : item.end]


def test_generated_prose_is_masked_outside_quotation_marks_too() -> None:
    masked = mask_report(report_of("such clowns here", [(5, 11)], "generated", "It calls people clowns."))
    assert masked.explanation.reason == "It calls people c*****."


@pytest.mark.parametrize(
    ("text", "marked"),
    [("He said “you clowns” and fools all", "“you clowns” and fools"), ("they are ”clowns”", "”clowns”")],
)
def test_a_quotation_inside_the_post_hides_nothing_from_the_mask(text: str, marked: str) -> None:
    start = text.index(marked)
    masked = mask_report(report_of(text, [(start, start + len(marked))]))
    assert not re.search("clowns|fools", masked.explanation.reason)
    assert "c*****" in masked.explanation.reason


def test_nothing_marked_nothing_masked() -> None:
    report = report_of("such clowns here", [])
    assert mask_report(report) == report


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9), min_size=1, max_size=8
    ),
    st.integers(0, 7),
    st.integers(0, 7),
)
def test_no_marked_word_survives(parts: list[str], first: int, last: int) -> None:
    text = " ".join(parts)
    view = PostView.of(text)
    if not view.words:
        return
    low, high = sorted((first % len(view.words), last % len(view.words)))
    span = (view.spans[low][0], view.spans[high][1])
    report = report_of(text, [span])
    masked = mask_report(report)
    assert len(masked.text) == len(text)
    explanation = masked.explanation
    printed = [masked.text, *re.findall("“([^”]*)”", explanation.reason)]
    printed += [item.text for item in (*explanation.harmful_words, *explanation.evidence)]
    for word, (start, end) in zip(view.words[low : high + 1], view.spans[low : high + 1], strict=True):
        shown = masked.text[start:end]
        assert (
            sum(a == b for a, b in zip(text[start:end], shown, strict=True) if a.isalnum() and a != "*") <= 1
        )
        if sum(map(str.isalnum, word)) > 1:
            whole = re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")
            assert not any(whole.search(clean(each).text) for each in printed)


@pytest.mark.parametrize(
    ("text", "marked", "masked"),
    [
        ("Such donkeys. A bunch of don\u00adkeys!", "donkeys", "Such d******. A bunch of d*******!"),
        ("You \u3164donkeys, you", "\u3164donkeys", "You \u3164d******, you"),
        ("you clueless&nbsp;donkeys", "clueless&nbsp;donkeys", "you c*******&nbsp;d******"),
        ("you clueless\x00donkeys", "clueless\x00donkeys", "you c*******\x00d******"),
        (
            "you d\u24de\u24dd\u24da\u24d4\u24e8\u24e2!",
            "d\u24de\u24dd\u24da\u24d4\u24e8\u24e2!",
            "you d******!",
        ),
        ("you d@#$ and d@#$", "d@#$", "you d*** and d***"),
    ],
)
def test_no_disguise_gets_through(text: str, marked: str, masked: str) -> None:
    start = text.index(marked)
    report = mask_report(report_of(text, [(start, start + len(marked))], "generated", f"It says {marked}."))
    assert report.text == masked
    for item in (*report.explanation.harmful_words, *report.explanation.evidence):
        assert item.text == masked[item.start : item.end]
    assert marked not in report.explanation.reason


def test_the_longest_word_wins() -> None:
    words = [HarmfulWord(text, 0, len(text), None, 1.0) for text in ("clown", "clown-car")]
    assert build_mask(words)("a clown-car, a clown") == "a c********, a c****"


@pytest.mark.parametrize(
    ("text", "marked", "masked"),
    [
        # Spelt-out words are one word, there and elsewhere.
        ("your club is d o n k e y s today", "d o n k e y s", "your club is d * * * * * * today"),
        (
            "d o n k e y s! D  o n k e y s, donkeys",
            "d o n k e y s!",
            "d * * * * * *! D  * * * * * *, d******",
        ),
        ("you d - o - n k. e y s", "d - o - n k. e y s", "you d * * * * ** * * *"),
        (
            "you donkeys, D.O.N.K.E.Y.S, d - o n_k e y s! d o n k e y 5",
            "donkeys",
            "you d******, D************, d * * *** * * *! d o n k e y 5",
        ),
        ("an ox is an ox, o x", "ox", "an o* is an o*, o x"),
        ("no club - a fool", "no club - a fool", "n* c*** - a f***"),
        # Names and links are not read, but printed.
        (
            "You donkeys! hi @donkeys http://x.org/donkeys?q donkeys@x.org #donkeys",
            "donkeys!",
            "You d******! hi @d****** http://x.org/d******?q d******@x.org #d******",
        ),
        ("You donkeys:@fan hi user, donkeys", "donkeys:@fan", "You d*********** hi user, d******"),
        # Parts of a marked word are words.
        (
            "such donkeys/clowns. The clowns, donkeys",
            "donkeys/clowns.",
            "such d*************. The c*****, d******",
        ),
        (
            "these clowns\U0001f921 and clowns of 2/24, 24",
            "clowns\U0001f921",
            "these c****** and c***** of 2/24, 24",
        ),
        (
            "such \u0917\u0927\u0947-x, \u0917\u0927\u093e",
            "\u0917\u0927\u0947-x",
            "such \u0917****, \u0917\u0927\u093e",
        ),
    ],
)
def test_a_marked_word_is_found_in_all_its_forms(text: str, marked: str, masked: str) -> None:
    start = text.index(marked)
    report = mask_report(report_of(text, [(start, start + len(marked))], "generated", f"It says {text}."))
    assert report.text == masked
    assert report.explanation.reason == f"It says {masked}."
