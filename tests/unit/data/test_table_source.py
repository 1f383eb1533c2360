"""The `table` source: a few lines of recipe map anyone's columns."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hatex.data.raw import Columns, RawPost, SourceSpec
from hatex.data.sources import load_source
from hatex.errors import DataError, FetchError, RecipeError
from hatex.recipe.prepare import ColumnsSection, PrepareSection, SourceSection
from hatex.types import Rationale, Vote
from hatex.workflows.prepare_plan import plan_data

Put = Callable[[str, object], Path]
Reader = Callable[..., object]


def test_one_label_a_row(put: Put, read: Reader) -> None:
    path = put(
        "mine.csv", "n,body,verdict,who\n1,own goal,toxic,Women;Fans;nobody\n2,nice,ok,\n3,odd,maybe,\n"
    )
    columns = Columns(text="body", id="n", label="verdict", targets="who", group="who")
    found = read(
        "table",
        path,
        columns=columns,
        labels={"toxic": "offensive|hate", "ok": "neutral"},
        groups={"Fans": "Other group", "nobody": None},
    )
    assert found.votes == [[("offensive|hate", 1)], [("neutral", 1)]]
    assert found.posts[0].targets == ("Women", "Other group")
    assert (found.posts[0].keys, found.posts[1].keys) == (("group Women;Fans;nobody",), ())
    assert [p.message for p in found.problems] == [
        "unknown label 'maybe'; the recipe maps hate, neutral, offensive, ok, toxic"
    ]


def test_a_column_an_annotator(put: Put, read: Reader) -> None:
    path = put("mine.csv", "body,ann,ben\nown goal,hate,\nnice,neutral,offensive\n")
    found = read("table", path, columns=Columns(text="body", annotators=("ann", "ben")))
    assert [[(v.annotator, v.labels) for v in post.votes] for post in found.posts] == [
        [("ann", ("hate",))],
        [("ann", ("neutral",)), ("ben", ("offensive",))],
    ]


def test_a_row_an_annotation(put: Put, read: Reader) -> None:
    names = ("post", "text", "label", "who", "team", "spans", "about")
    rows = (
        ("p1", "silly clowns", "rude", "ann", "home", [[0, 5]], ["Women"]),
        ("p2", "nice goal", "fine", "ann", "home", None, None),
        ("p1", "silly clowns", "hate", "ben", "away", [{"start": 6, "end": 12}], ["Women", "Men"]),
        ("p1", "silly  clowns", "fine", "cat", "away", [], []),
        ("p2", "nice goal", "cold", "ben", "away", None, None),
        ("p2", "nice goal", "fine", "cat", "", None, None),
    )
    path = put("t.jsonl", [dict(zip(names, row, strict=True)) for row in rows])
    columns = Columns(
        text="text",
        id="post",
        label="label",
        annotator="who",
        annotator_group="team",
        spans="spans",
        targets="about",
    )
    labels = {"rude": "offensive", "fine": "neutral"}
    found = read("table", path, columns=columns, labels=labels)
    (first, second), (clowns, goal) = found.problems, found.posts
    assert (first.row, first.is_row) == (4, False)
    assert first.message == "the text differs from that of row 1, of the same id"
    assert (second.row, second.is_row) == (5, False)
    assert "unknown label 'cold'" in second.message
    assert clowns.votes == (Vote(("offensive",), 1, "ann", "home"), Vote(("hate",), 1, "ben", "away"))
    assert clowns.rationales == (Rationale(0, 5, "ann"), Rationale(6, 12, "ben"))
    assert clowns.targets == ("Women", "Men")
    assert goal.votes == (Vote(("neutral",), 1, "ann", "home"), Vote(("neutral",), 1, "cat", None))
    assert (goal.has_targets, goal.has_rationales) == (False, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotator": "who"}, "annotator needs label and id"),
        ({"id": "post", "annotator_group": "team"}, "annotator_group needs annotator"),
    ],
)
def test_annotators_need_posts_to_belong_to(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColumnsSection.model_validate({"text": "text", "label": "label", **changes})


def test_lists_of_votes_spans_and_splits(put: Put, read: Reader) -> None:
    rows = [
        {
            "t": "own goal",
            "v": ["hate", "neutral"],
            "s": [[0, 3], {"start": 4, "end": 8, "kind": "x"}],
            "p": "valid",
        },
        {"t": "nice", "v": "neutral; neutral", "s": None, "p": ""},
        {"t": "bad", "v": ["neutral"], "s": [[1]], "p": "train"},
        {"t": "bad", "v": ["neutral"], "s": [], "p": "maybe"},
    ]
    found = read("table", put("mine.jsonl", rows), columns=Columns(text="t", votes="v", spans="s", split="p"))
    assert found.votes == [[("hate", 1), ("neutral", 1)], [("neutral", 1), ("neutral", 1)]]
    assert found.posts[0].rationales == (Rationale(0, 3), Rationale(4, 8, kind="x"))
    assert [(post.part, post.has_rationales) for post in found.posts] == [("dev", True), (None, False)]
    assert [p.row for p in found.problems] == [3, 4]


def test_null_says_that_nobody_was_asked_for_targets_and_spans(put: Put, read: Reader) -> None:
    values = (None, [], ["Women"])
    rows = [{"t": "own goal", "l": "hate", "who": value, "s": value and [[0, 3]]} for value in values]
    columns = Columns(text="t", label="l", targets="who", spans="s")
    found = read("table", put("mine.jsonl", rows), columns=columns)
    assert [post.has_targets for post in found.posts] == [False, True, True]
    assert [post.has_rationales for post in found.posts] == [False, True, True]
    assert [post.targets for post in found.posts] == [(), (), ("Women",)]
    found = read("table", put("mine.csv", "t,l,who,s\nown goal,hate,,\n"), columns=columns)
    assert [(post.has_targets, post.has_rationales) for post in found.posts] == [(True, True)]


def test_counts_of_votes(put: Put, read: Reader) -> None:
    path = put("mine.csv", "t,h,o,n\nown goal,1,2,0\nnice,0,0,-1\n")
    found = read(
        "table", path, columns=Columns(text="t", counts={"hate": "h", "offensive|hate": "o", "neutral": "n"})
    )
    assert found.votes == [[("hate", 1), ("offensive|hate", 2)]]
    assert [p.message for p in found.problems] == ["vote counts must not be negative"]


def test_a_missing_column_names_those_there_are(put: Put, read: Reader) -> None:
    with pytest.raises(DataError, match=r"missing column 'post' \(has 'body', 'label'\)") as caught:
        read("table", put("mine.csv", "body,label\nx,hate\n"), columns=Columns(text="post", label="label"))
    assert str(caught.value.where).endswith("mine.csv:1")


def test_a_table_parted_by_semicolons_names_the_remedy(put: Put, read: Reader) -> None:
    with pytest.raises(DataError, match="missing column 'body', 'verdict'") as caught:
        read(
            "table",
            put("mine.csv", "body;verdict\nown goal;hate\n"),
            columns=Columns("body", label="verdict"),
        )
    assert caught.value.hint == "its fields are parted by `;`: save it with commas, or as .tsv with tabs"


def test_a_folder_of_tables_is_read_in_order_with_its_parts(put: Put, read: Reader, tmp_path: Path) -> None:
    for name in ("a_train.csv", "b_test.csv"):
        put(f"set/{name}", "t,l\nnice,neutral\n")
    found = read("table", tmp_path / "set", columns=Columns(text="t", label="l"))
    assert [(post.id, post.part) for post in found.posts] == [("a_train-1", "train"), ("b_test-1", "test")]
    with pytest.raises(DataError, match="no table here"):
        read("table", tmp_path / "none", columns=Columns(text="t", label="l"))


@pytest.mark.parametrize(
    "names", [("posts_test.csv",), ("a_train.csv", "b_train.csv"), ("test.csv", "more.csv")]
)
def test_names_that_divide_nothing_are_no_parts(
    put: Put, read: Reader, tmp_path: Path, names: tuple[str]
) -> None:
    paths = [put(f"set/{name}", "t,l\nnice,neutral\n") for name in names]
    for place in (tmp_path / "set", paths[0]):
        found = read("table", place, columns=Columns(text="t", label="l"))
        assert {post.part for post in found.posts} == {None}


def test_a_hub_set_with_one_split_has_no_parts(put: Put, tmp_path: Path) -> None:
    put("set/test.csv", "t,l\nnice,neutral\n")
    spec = SourceSpec("table", hub=str(tmp_path / "set"), columns=Columns(text="t", label="l"))
    [post] = load_source("table").read(spec)
    assert isinstance(post, RawPost)
    assert (post.part, post.id) == (None, "test-1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": {"yes": "hate"}, "groups": {"x": None}}, "only a table reads labels, groups"),
        ({"columns": {"text": "t", "label": "l"}}, "only a table reads columns"),
    ],
)
def test_keys_that_a_source_does_not_read_are_refused(fields: dict[str, object], message: str) -> None:
    source = {"source": "davidson", "path": "a", "platform": "microblog", **fields}
    with pytest.raises(RecipeError, match=f"source 'davidson': {message}"):
        plan_data(PrepareSection.model_validate({"output": "o", "sources": [source]}))


def test_only_hub_ids_have_revisions() -> None:
    with pytest.raises(ValueError, match="revision: only for a hub id"):
        SourceSection.model_validate({"source": "davidson", "path": "a", "platform": "p", "revision": "main"})


def test_wrong_mappings_are_recipe_errors(put: Put, read: Reader) -> None:
    path = put("mine.csv", "t,l\nnice,neutral\n")
    with pytest.raises(RecipeError, match="unknown label 'rude'"):
        read("table", path, columns=Columns(text="t", label="l"), labels={"x": "rude"})
    with pytest.raises(RecipeError, match="needs `columns`"):
        read("table", path)


def test_hub_layouts_are_streamed_with_their_splits(put: Put, tmp_path: Path) -> None:
    """A folder in the hub's layout loads like a hub id, without a network."""
    put("set/train.csv", "t,l\nown goal,hate\nnice,neutral\n")
    put("set/validation.csv", "t,l\nnice,neutral\n")
    spec = SourceSpec("table", hub=str(tmp_path / "set"), columns=Columns(text="t", label="l"))
    posts = [item for item in load_source("table").read(spec) if isinstance(item, RawPost)]
    assert [(post.text, post.part) for post in posts] == [
        ("own goal", "train"),
        ("nice", "train"),
        ("nice", "dev"),
    ]
    with pytest.raises(FetchError, match="cannot load the data set"):
        list(
            load_source("table").read(
                SourceSpec("table", hub=str(tmp_path / "none"), columns=Columns(text="t", label="l"))
            )
        )
