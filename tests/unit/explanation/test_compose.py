from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.explanation.compose import LIKELY, compose, describe_change, describe_split
from hatex.explanation.wording import join_words, name_groups, percent, points, quote, share_of_readers
from hatex.types import LABELS, AffectedGroup, Change, Evidence, HarmfulWord, Label

TEXT = "your club is a circus, and all of you are clowns"
PROBABILITIES = {"neutral": (0.9, 0.06, 0.04), "offensive": (0.1, 0.7, 0.2), "hate": (0.05, 0.15, 0.8)}


def word(text: str, quoted: str, group: str | None = None) -> HarmfulWord:
    start = text.index(quoted)
    return HarmfulWord(quoted, start, start + len(quoted), group, 0.8)


def evidence(text: str, quoted: str, weight: float) -> Evidence:
    start = text.index(quoted)
    return Evidence(quoted, start, start + len(quoted), weight)


def variants(label: Label, groups: list[str], quotes: list[str]) -> set[tuple[str, str]]:
    """All wordings that some post would get."""
    found = set()
    for i in range(60):
        text = f"{TEXT} {i}"
        marked = [word(text, q) for q in quotes]
        found.add(compose(text, PROBABILITIES[label], [AffectedGroup(g, 0.7) for g in groups], marked, ()))
    return found


def test_a_post_always_reads_the_same_and_posts_differ() -> None:
    assert len(variants("hate", ["Women"], ["circus"])) >= 6
    once = compose(TEXT, PROBABILITIES["hate"], [], [word(TEXT, "clowns")], ())
    assert once == compose(TEXT, PROBABILITIES["hate"], [], [word(TEXT, "clowns")], ())


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("groups", [[], ["Women"], ["Women", "Other group"]])
@pytest.mark.parametrize("quotes", [[], ["circus,"], ["a circus,"], ["circus,", "clowns"]])
def test_sentences_are_whole_and_accuse_nobody(label: Label, groups: list[str], quotes: list[str]) -> None:
    for summary, reason in variants(label, groups, quotes):
        for sentence in (summary, reason):
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert not re.search(r"\b(author|writer|poster|user|you|hater|racist)\b", sentence, re.IGNORECASE)
            assert "  " not in sentence
            assert "{" not in sentence
        if label != "neutral" and groups:
            assert "women" in summary
        if label != "neutral":
            for quoted in quotes:
                assert f"“{quoted.rstrip(',')}”" in reason


def test_verbs_follow_the_number_of_words() -> None:
    for _, reason in variants("hate", [], ["clowns"]):
        assert re.match(r"The word “clowns” (carries|makes) ", reason)
    for _, reason in variants("hate", [], ["circus,", "clowns"]):
        assert re.match(r"The words “circus” and “clowns” (carry|make) ", reason)


@pytest.mark.parametrize("label", ["hate", "offensive"])
def test_verbs_agree_with_a_group_that_is_one(label: Label) -> None:
    for summary, reason in variants(label, ["Other group"], ["circus,"]):
        assert "another group" in summary
        assert not re.search(r"another group (are|have|were)\b", f"{summary} {reason}")


def test_a_neutral_post_is_told_why() -> None:
    for summary, reason in variants("neutral", [], []):
        assert re.search(r"neutral|nothing offensive|ordinary", summary)
        assert re.search(r"[Nn]o word|Nothing|neither", reason)


def test_evidence_is_said_in_points_and_on_both_sides() -> None:
    found = [evidence(TEXT, "clowns", 0.31), evidence(TEXT, "club", -0.12)]
    _, reason = compose(TEXT, PROBABILITIES["hate"], [], [word(TEXT, "clowns")], found)
    assert "31 points" in reason
    assert "In contrast, “club” speaks against hate (12 points)." in reason
    _, weak = compose(TEXT, PROBABILITIES["neutral"], [], [], [evidence(TEXT, "club", 0.01)])
    assert "No single word decides" in weak
    _, spans = compose(TEXT, PROBABILITIES["neutral"], [], [], [evidence(TEXT, "club is", 0.01)])
    assert "No single passage decides" in spans


def test_no_sentence_denies_what_the_fields_show() -> None:
    weak, strong = evidence(TEXT, "clowns", 0.03), evidence(TEXT, "club", -0.3)
    turned = Change(((weak.start, weak.end),), "neutral", 0.42)
    _, reason = compose(TEXT, PROBABILITIES["hate"], [], [], [weak], turned)
    assert "No single word decides" not in reason
    _, reason = compose(TEXT, PROBABILITIES["hate"], [], [], [weak, strong])
    assert "No single word decides" not in reason
    assert "Only “club” speaks against hate (30 points)." in reason
    turning = "\u200fclowns"
    _, reason = compose(turning, PROBABILITIES["hate"], [], [word(turning, turning)], [])
    assert "The word “clowns”" in reason
    alike = "clowns! clowns, clowns"
    words = [word(alike, text) for text in ("clowns!", "clowns,", "clowns")]
    assert "The word “clowns” " in compose(alike, PROBABILITIES["hate"], [], words, [])[1]


def test_gradients_are_not_told_as_deletions() -> None:
    found = [evidence(TEXT, "clowns", 0.31), evidence(TEXT, "club", -0.12)]
    _, reason = compose(TEXT, PROBABILITIES["hate"], [], [], found, None, "gradient")
    assert "By its gradients, 31 points of the probability of hate come from “clowns”." in reason
    assert not re.search(r"Without|Taking out|taking", reason)
    assert describe_change(TEXT, "hate", None, found, "gradient") == ""


def test_the_split_is_said_of_readers_only_where_votes_stand_behind_it() -> None:
    shares = {"neutral": 0.2, "offensive": 0.14, "hate": 0.66}
    assert describe_split(shares, 0.7, "votes") == "about 2 in 3 readers would call this hateful"
    assert describe_split(shares, 0.9, "votes").endswith("; readers would split")
    assert describe_split(shares, 0.9, "model") == "the model is unsure"
    assert describe_split(shares, 0.5, "model") == "the model leans towards hate"


def test_what_would_change_the_verdict() -> None:
    span = (TEXT.index("clowns"), len(TEXT))
    turned = describe_change(TEXT, "hate", Change((span,), "offensive", 0.61), ())
    assert turned == "Without “clowns” the label would be offensive (61 %)."
    kept = describe_change(TEXT, "hate", Change((span,), "hate", 0.55), ())
    assert kept == "Even without “clowns” the label would stay hate (55 %)."
    assert describe_change(TEXT, "hate", None, ()) == ""


@given(st.text(max_size=200))
def test_quotations_are_verbatim(text: str) -> None:
    quoted, whole = quote(text)
    inner = quoted.removeprefix("“").removesuffix("”")
    assert inner in text
    assert len(inner) <= 60
    assert "\n" not in inner
    if whole:
        assert not [c for c in text[: text.index(inner)] if c.isprintable() and c != " "]


def test_quotations_run_through_what_nobody_sees_but_not_through_what_turns_a_line() -> None:
    assert quote("cl\u00adow\u200bns,") == ("“cl\u00adow\u200bns”", True)
    assert quote("cl\u202eowns") == ("“cl”", False)


def test_small_wordings() -> None:
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert name_groups(["Women", "Muslims", "Other group"]) == "women, Muslims and another group"
    assert [percent(p) for p in (0, 0.004, 0.5, 0.997, 1)] == [
        "0 %",
        "under 1 %",
        "50 %",
        "over 99 %",
        "100 %",
    ]
    assert [points(p) for p in (0.001, 0.01, -0.2)] == ["less than 1 point", "1 point", "20 points"]


@given(st.floats(0, 1))
def test_shares_in_words_are_near_the_share(share: float) -> None:
    said = share_of_readers(share)
    found = re.search(r"(\d+) in (\d+)", said)
    near = int(found[1]) / int(found[2]) if found else {"h": 0.0, "n": 1.0, "a": 0.5}[said[0]]
    assert abs(near - share) <= 0.066


def test_a_group_that_is_unlikely_gets_no_sentence() -> None:
    said = " ".join(compose("text", PROBABILITIES["offensive"], [AffectedGroup("Women", LIKELY / 2)], (), ()))
    assert "women" not in said.lower()
    said = " ".join(compose("text", PROBABILITIES["offensive"], [AffectedGroup("Women", LIKELY)], (), ()))
    assert "women" in said.lower()
