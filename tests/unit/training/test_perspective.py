"""Adapters that answer as one annotator group would: votes, refusals, card, and that they stay at home."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hatex.data.examples import write_examples
from hatex.errors import RegistryError, TrainingError
from hatex.recipe.merge import MergeSection
from hatex.training.perspective import group_examples
from hatex.types import Example, Vote
from hatex.workflows.merge import merge
from hatex.workflows.train import train


def voted(examples: list[Example], people: int) -> list[Example]:
    """Every example with a vote of one of `people` readers of group `near`, and one vote of group `far`."""
    labels = (("neutral",), ("offensive",), ("hate",))
    return [
        replace(
            example,
            votes=(Vote(labels[i % 3], 1, f"r{i % people}", "near"), Vote(("neutral",), 1, "f", "far")),
        )
        for i, example in enumerate(examples)
    ]


def test_only_the_groups_votes_are_left(make_example) -> None:
    examples = [*voted([make_example(i) for i in range(12)], 5), make_example(12)]
    found = group_examples(examples, "near", "a")
    assert [e.id for e in found] == [e.id for e in examples[:12]]
    assert all([vote.group for vote in e.votes] == ["near"] for e in found)


@pytest.mark.parametrize(
    ("group", "message"), [("near", "4 annotators of group near"), ("north", "0 annotators")]
)
def test_small_and_unknown_groups_are_refused(make_example, group: str, message: str) -> None:
    examples = voted([make_example(i) for i in range(12)], 4)
    with pytest.raises(TrainingError, match=message) as caught:
        group_examples(examples, group, "a")
    assert "far, near" in (caught.value.hint or "")
    assert caught.value.where == "train.adapters.a.perspective"


def test_a_platform_where_one_person_speaks_for_the_group_is_refused(
    make_example, recipe_of, registry, tmp_path
) -> None:
    many = voted([make_example(i, dataset="talk", platform="wiki") for i in range(24)], 6)
    one = voted([make_example(i) for i in range(12)], 1)
    write_examples(tmp_path / "data" / "examples.parquet", [*many, *one])
    section = {"perspective": "near", "platforms": ["forums"], "fully_labelled_share": 0}
    with pytest.raises(TrainingError, match="1 annotators of group near"):
        train(recipe_of({"near": section}, data=str(tmp_path / "data")), registry)


def test_the_adapter_says_so_and_is_not_merged(make_example, recipe_of, registry, tmp_path) -> None:
    splits = ["train"] * 36 + ["tune"] * 12
    examples = [make_example(i, split=split) for i, split in enumerate(splits)]
    write_examples(tmp_path / "data" / "examples.parquet", voted(examples, 6))
    adapters = {"near": {"perspective": "near", "fully_labelled_share": 0}}
    recipe = recipe_of(adapters, data=str(tmp_path / "data"))
    train(recipe, registry)
    artefact = registry.find("adapter", "near", base="tiny")
    assert artefact.manifest.extra["votes_per_post"] == 1
    assert (
        "**Experimental**: learnt from annotators of group near alone"
        in (artefact.path / "README.md").read_text()
    )
    follower = recipe_of(
        adapters | {"next": {"init": "near", "fully_labelled_share": 0}}, data=recipe.train.data
    )
    train(follower, registry, only=("next",))
    assert registry.find("adapter", "next", base="tiny").manifest.extra["perspective"] == "near"
    section = MergeSection(name="mixed", weights={"near": 1.0})
    with pytest.raises(RegistryError, match="near answers as one group of annotators"):
        merge(recipe.model_copy(update={"merge": section}), registry)
