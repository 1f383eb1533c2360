"""The shipped sentences in contrast: every side is there, groups decide nothing, hostility names nobody real."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from hatex.data.raw import RawPost, SourceSpec
from hatex.data.sources.contrast import SENTENCES, read
from hatex.errors import DataError


def posts(path: Path | str | None = None) -> list[RawPost]:
    found = list(read(SourceSpec("contrast", path=str(path) if path else None)))
    return [post for post in found if isinstance(post, RawPost)]


def test_shipped_sentences_differ_and_are_for_training() -> None:
    found = posts()
    assert len({post.text for post in found}) == len(found) > 1000
    assert {post.part for post in found} == {"train"}
    assert posts() == found


def test_hostile_sentences_name_no_real_group() -> None:
    book = YAML(typ="safe").load(SENTENCES.read_text())
    real = set(book["slots"]["people"]) | set(book["slots"]["kind"])
    for family in book["families"]:
        if family["label"] == "hate":
            assert not any("{people}" in text or "{kind}" in text for text in family["sentences"])
    assert real & set(book["slots"]["invented"]) <= {"[GROUP]", "Zelmarians", "Orbish people", "the Quenderi"}


def test_invented_groups_stand_on_both_sides() -> None:
    sides = {label for post in posts() if "Zelmarian" in post.text for label in post.votes[0].labels}
    assert {"neutral", "hate"} <= sides


def test_insults_are_no_hatred_and_name_no_group() -> None:
    found = posts("insults")
    assert len({post.text for post in found}) == len(found) > 250
    assert {label for post in found for label in post.votes[0].labels} == {"neutral", "offensive"}
    assert not {post.text for post in found} & {post.text for post in posts()}
    slots = YAML(typ="safe").load(SENTENCES.read_text())["slots"]
    names = {name.lower() for slot in ("people", "kind", "invented", "sort", "word") for name in slots[slot]}
    assert not [post.id for post in found if any(f" {name} " in f" {post.text.lower()} " for name in names)]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "slots: {club: [Rovers, United]}\n"
        "families: [{name: banter, label: [neutral, offensive], per_sentence: 2, sentences: ['{club} are clowns']}]\n"
    )
    assert sorted(post.text for post in posts(path)) == ["Rovers are clowns", "United are clowns"]
    path.write_text(path.read_text().replace("{club}", "{team}"))
    with pytest.raises(DataError, match="slots without fillings: team"):
        posts(path)
    path.write_text("families: none\n")
    with pytest.raises(DataError, match="not a file of contrast sentences"):
        posts(path)
