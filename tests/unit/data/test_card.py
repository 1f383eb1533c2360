"""Languages, agreement and the card's tables."""

import numpy as np
import pytest

from hatex.data.card import card_markdown
from hatex.data.languages import detect_language
from hatex.data.statistics import SET_NAMES, krippendorff_alpha


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The referee was blind again and the goal should have counted.", "en"),
        ("Der Schiedsrichter war heute wirklich blind, das Tor hätte zählen müssen.", "de"),
        ("@user <url> 12:30 !!!", "zxx"),
        ("", "zxx"),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert detect_language(text, 0.8) == code
    assert detect_language(text, 1.0) in ("und", "zxx")


def ballots(*rows: dict[str, int]) -> np.ndarray:
    return np.array([[row.get(name, 0) for name in SET_NAMES] for row in rows])


def test_alpha_by_hand() -> None:
    # Two posts, two votes each, one disagreement: D_o = 2/4, D_e = 2*3*1/(4*3) = 1/2, alpha = 0.
    assert krippendorff_alpha(ballots({"hate": 2}, {"hate": 1, "neutral": 1})) == 0.0
    assert krippendorff_alpha(ballots({"hate": 2}, {"neutral": 3})) == 1.0


def test_alpha_needs_votes_that_can_be_compared() -> None:
    assert krippendorff_alpha(ballots({"hate": 1}, {"neutral": 1})) is None
    assert krippendorff_alpha(ballots({"hate": 2}, {"hate": 2})) is None
    everything = "neutral|offensive|hate"
    assert krippendorff_alpha(ballots({"hate": 1, everything: 2}, {"neutral": 1, everything: 1})) is None


def test_markdown_escapes_label_sets() -> None:
    data = {
        "platform": "wiki",
        "splits": {"train": 1},
        "rows": 1,
        "tied": 0,
        "agreement": None,
        "votes_per_post": {"mean": 1.0},
        "votes": {"offensive|hate": 1},
        "words": {"median": 3, "p95": 3, "max": 3},
        "with_targets": 0,
        "with_rationales": 0,
        "annotators": 0,
    }
    card = {
        "examples": {"rows": 1, "file": "examples.parquet", "sha256": "0"},
        "hatex": "1",
        "seed": 1,
        "splits": ["train"],
        "datasets": {"mine": data},
        "dropped": {},
        "repeats": {},
        "capped": {"mine": 1200},
        "unknown_targets": {"mine": {"women": 1200, **{f"club {i}": 1 for i in range(12)}}},
        "languages": {"en": 1},
        "warnings": ["mine has no rows in tune"],
        "sources": [],
    }
    text = card_markdown(card)
    assert "| mine | {offensive, hate} | 1 |" in text
    assert "Nothing." in text
    assert "- mine has no rows in tune" in text
    assert "- mine: 1,200 posts in groups larger than a quarter of what tune or report may hold" in text
    assert (
        "- mine: targets outside the list of groups, which no explanation will name: women (1,200), club 0"
        in text
    )
    assert "club 8 (1), 3 more; map them by `groups` of the source, or" in text
