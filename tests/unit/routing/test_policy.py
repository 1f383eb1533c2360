"""Decisions: bounds of the policy, and posts that the adapters cannot read."""

import pytest

from hatex.data.languages import check_language, rank_languages
from hatex.errors import UsageError
from hatex.routing.policy import decide, unread
from hatex.types import Policy

HARMLESS = {"neutral": 0.9, "offensive": 0.07, "hate": 0.03}
GERMAN = "Das Spiel am Samstag war wieder einmal viel zu lang und ohne ein einziges Tor."


@pytest.mark.parametrize(
    ("probabilities", "disagreement", "decision"),
    [
        (HARMLESS, 0.2, "allow"),
        (HARMLESS, 0.81, "review"),
        ({"neutral": 0.45, "offensive": 0.3, "hate": 0.25}, 0.2, "review"),
        ({"neutral": 0.3, "offensive": 0.2, "hate": 0.5}, 0.9, "flag"),
    ],
)
def test_bounds(probabilities, disagreement, decision) -> None:
    assert decide("What a lovely goal on Saturday!", probabilities, disagreement, Policy()) == (decision, ())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GERMAN, "language: de"),
        ("谢谢大家在体育场度过的美好夜晚,我们下周再见", "language: zh"),
        ("スタジアムでの素晴らしい夜をありがとうございました", "language: ja"),
        # No single language is sure of it, but English is out of the question.
        ("شكرا لكم جميعا على الأمسية الرائعة في الملعب، نراكم الأسبوع المقبل", "language: ar"),
        ("谢谢大家", None),
        ("⚽⚽ 2:1 ⚽", "not readable"),
        ("Das ist gut", None),
        ("lol", None),
        ("\u3164\u3164", "not readable"),
        ("Ｔｈｅ ｍａｔｃｈ ｏｎ Ｓａｔｕｒｄａｙ ｗａｓ ｆａｒ ｔｏｏ ｌｏｎｇ", None),
        ("The match on Saturday was far too long again, and nobody scored.", None),
    ],
)
def test_posts_that_cannot_be_read_are_reviewed_with_the_reason(text, reason) -> None:
    assert unread(text, ("en",)) == reason
    assert decide(text, HARMLESS, 0.2, Policy()) == (
        ("allow", ()) if reason is None else ("review", (reason,))
    )
    assert decide(text, HARMLESS, 0.2, Policy(languages=())) == ("allow", ())


def test_a_flag_stays_and_other_languages_may_be_named() -> None:
    assert decide(GERMAN, {"neutral": 0.1, "offensive": 0.1, "hate": 0.8}, 0.2, Policy())[0] == "flag"
    assert unread(GERMAN, ("en", "de")) is None


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("EN", "'en'?"),
        ("eng", "'en'?"),
        ("english", "'en'?"),
        ("en-US", "'en'?"),
        ("Swedish", "'sv'?"),
        ("", "ISO 639-1"),
    ],
)
def test_a_language_that_no_post_is_told_to_be_in_is_refused(code, hint) -> None:
    with pytest.raises(UsageError, match="is no language") as caught:
        check_language(code)
    assert hint in caught.value.hint


def test_what_posts_are_told_to_be_in_can_be_named() -> None:
    for code in rank_languages(GERMAN):
        check_language(code)
