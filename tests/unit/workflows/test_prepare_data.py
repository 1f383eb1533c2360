"""The whole data half on small invented tables: same bytes, nothing leaked, nothing lost."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hatex.data.examples import FILE_NAME, read_examples
from hatex.data.raw import RawPost
from hatex.data.tally import Tally, sound_posts
from hatex.errors import DataError, IntegrityError
from hatex.recipe.prepare import PrepareSection
from hatex.types import Example, Vote
from hatex.workflows.prepare_data import plan_data, prepare_data

STEMS = [
    "ball",
    "goal",
    "fan",
    "club",
    "kick",
    "pass",
    "team",
    "game",
    "flag",
    "line",
    "coach",
    "bench",
    "stand",
    "rule",
    "card",
    "corner",
    "keeper",
]
WORDS = [stem + end for stem in STEMS for end in ("", "s", "er", "ing", "y", "less")]
LABELS = ("neutral", "offensive", "hate")


def posts(count: int, seed: int) -> list[dict[str, Any]]:
    rng = Random(seed)
    return [
        {
            "id": f"p{i}",
            "text": f"@Fan{i} {' '.join(rng.sample(WORDS, rng.randint(8, 16)))}",
            "label": rng.choice(LABELS),
        }
        for i in range(count)
    ]


def put(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def section(
    folder: Path, *files: Path, columns: dict[str, str] | None = None, **changes: Any
) -> PrepareSection:
    sources = [
        {
            "source": "table",
            "name": f.stem,
            "path": str(f),
            "platform": "forums",
            "columns": {"text": "text", "id": "id", "label": "label", **(columns or {})},
        }
        for f in files
    ]
    return PrepareSection.model_validate({"output": str(folder), "sources": sources, **changes})


def edit(text: str, rng: Random) -> str:
    """Another case, punctuation, entity, mention or link."""
    words = text.split()[1:]
    how = rng.randrange(5)
    if how == 0:
        return " ".join(words).upper()
    if how == 1:
        return ", ".join(words) + "!!!"
    if how == 2:
        return f"{text} &amp; &#33;"
    if how == 3:
        return f"RT @Someone_Else: {' '.join(words)}"
    return f"{' '.join(words)} https://example.org/{rng.randrange(99)}"


def change_words(text: str, rng: Random) -> str:
    words = text.split()
    for place in rng.sample(range(1, len(words)), max(1, len(words) // 8)):
        words[place] = f"changed{rng.randrange(999)}"
    return " ".join(words)


class Watched:
    """Progress that keeps what was begun and said, and calls `on_advance` with every step of it."""

    def __init__(self, on_advance: Callable[[str], None] = lambda _: None) -> None:
        self.begun: list[str] = []
        self.said: list[str] = []
        self.on_advance = on_advance

    @contextmanager
    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        del total, unit
        self.begun.append(description)
        yield lambda _: self.on_advance(description)

    def say(self, message: str) -> None:
        self.said.append(message)


def by_split(rows: list[Example]) -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for row in rows:
        found.setdefault(row.split, []).append(row)
    return found


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(150, 1))
    first = prepare_data(section(tmp_path / "one", file))
    second = prepare_data(section(tmp_path / "two", file))
    for name in (FILE_NAME, "card.json", "card.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["card.json", "card.md", FILE_NAME]
    assert first.card == second.card == json.loads((tmp_path / "one" / "card.json").read_text())
    rows = by_split(read_examples(tmp_path / "one"))
    assert {split: len(found) for split, found in rows.items()} == first.card["datasets"]["a"]["splits"]
    assert len(rows["tune"]) == len(rows["report"]) == 15
    assert all(row.text.startswith("@user ") for row in rows["train"])


def test_of_two_runs_one_writes_to_a_folder(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(60, 1))

    def prepare_beside(_: str) -> None:
        with pytest.raises(DataError, match="another run is writing to this folder") as caught:
            prepare_data(section(tmp_path / "out", file))
        assert caught.value.hint == "wait until it has ended, or name another folder in prepare.output"
        beside.append(caught.value.where)

    beside: list[str | None] = []
    prepare_data(section(tmp_path / "out", file), progress=Watched(prepare_beside))
    assert set(beside) == {str(tmp_path / "out")}
    assert (tmp_path / "out" / FILE_NAME).is_file()


def test_rows_of_one_post_and_several_people_name_the_remedy(tmp_path: Path) -> None:
    rows = [
        row | {"label": label, "who": who}
        for row in posts(60, 1)
        for who, label in zip("ab", LABELS, strict=False)
    ]
    file = put(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match="the id occurs twice") as caught:
        prepare_data(section(tmp_path / "out", file))
    assert str(caught.value.hint).endswith("name who gave it in columns.annotator")
    prepare_data(section(tmp_path / "out", file, columns={"annotator": "who"}))
    read = read_examples(tmp_path / "out")
    assert len(read) == 60
    assert {tuple(vote.annotator for vote in row.votes) for row in read} == {("a", "b")}


def test_pins_of_other_files_name_those_that_are_read(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(60, 1))
    changed = section(tmp_path / "out", file).model_dump(mode="json", exclude_unset=True)
    changed["sources"][0]["sha256"] = {"b.jsonl": "0" * 64}
    with pytest.raises(DataError, match=r"sha256 names b\.jsonl, which table does not read") as caught:
        plan_data(PrepareSection.model_validate(changed))
    assert caught.value.hint == "it reads a.jsonl there; pin those, or take the pins away (sha256: {})"


def test_the_card_has_no_post_text(tmp_path: Path) -> None:
    prepare_data(section(tmp_path / "out", put(tmp_path / "a.jsonl", posts(60, 2))))
    for name in ("card.json", "card.md"):
        words = set((tmp_path / "out" / name).read_text().replace('"', " ").split())
        assert not words & {word for word in WORDS if len(word) > 5 and word not in ("line", "rules")}


def test_planted_copies_never_straddle_splits(tmp_path: Path) -> None:
    rng = Random(3)
    rows = posts(400, 3)
    copies = [{**row, "id": f"copy-{row['id']}", "text": edit(row["text"], rng)} for row in rows[:150]]
    nearly = [
        {**row, "id": f"near-{row['id']}", "text": change_words(row["text"], rng)} for row in rows[150:300]
    ]
    files = put(tmp_path / "a.jsonl", rows), put(tmp_path / "b.jsonl", [*copies, *nearly])
    prepared = prepare_data(section(tmp_path / "out", *files))
    found = {row.id: row for row in read_examples(tmp_path / "out")}
    for row in copies:
        original, copy = found[f"a:{row['id'].removeprefix('copy-')}"], found[f"b:{row['id']}"]
        assert (copy.split, copy.group) == (original.split, original.group)
    together = [
        found[f"a:{row['id'].removeprefix('near-')}"].group == found[f"b:{row['id']}"].group for row in nearly
    ]
    assert sum(together) >= 0.95 * len(together)
    assert prepared.card["repeats"]["same text as a post of another set"] == 150


def test_a_lower_threshold_joins_posts_of_which_it_asks_less(tmp_path: Path) -> None:
    """Pairs with 12 of 28 words in common: an overlap of .43, of which bands of four words find four in ten."""
    rng = Random(18)
    rows = []
    for i in range(200):
        words = rng.sample(WORDS, 20)
        new = ["".join(rng.choices("bcdfghklmnp", k=9)) for _ in range(8)]
        for name, these in (("p", words), ("q", [*words[:12], *new])):
            rows.append({"id": f"{name}{i}", "text": " ".join(these), "label": "hate"})
    file = put(tmp_path / "a.jsonl", rows)
    shares = []
    for threshold in (0.65, 0.3):
        prepare_data(section(tmp_path / "out", file, duplicates={"threshold": threshold}))
        group = {row.id: row.group for row in read_examples(tmp_path / "out")}
        shares.append(sum(group[f"a:p{i}"] == group[f"a:q{i}"] for i in range(200)) / 200)
    assert shares[0] < 0.05
    assert shares[1] > 0.95


def test_official_train_copies_of_dev_posts_are_dropped(tmp_path: Path) -> None:
    rows = posts(40, 4)
    dev = [{**row, "part": "dev"} for row in rows[:20]]
    train = [{**row, "part": "train"} for row in rows[20:]]
    leak = {**dev[0], "id": "leak", "part": "train", "text": dev[0]["text"].upper()}
    file = put(tmp_path / "a.jsonl", [*dev, *train, leak])
    columns = {"text": "text", "id": "id", "label": "label", "split": "part"}
    source = {"source": "table", "name": "a", "path": str(file), "platform": "wiki", "columns": columns}
    prepared = prepare_data(
        PrepareSection.model_validate({"output": str(tmp_path / "out"), "sources": [source]})
    )
    assert prepared.card["dropped"] == {
        "official train post in one group with an official dev or test post": {"a": 1}
    }
    splits = prepared.card["datasets"]["a"]["splits"]
    assert splits["train"] == splits["tune"] + splits["report"] == 20
    again = {**source, "official_splits": False}
    prepared = prepare_data(
        PrepareSection.model_validate({"output": str(tmp_path / "own"), "sources": [again]})
    )
    assert prepared.card["dropped"] == {}


def test_posts_of_one_thread_stay_together_and_only_within_their_set(tmp_path: Path) -> None:
    """Both sets number their threads alike: that makes no thread of one a thread of the other."""
    threads = {}
    files = []
    for seed, name in enumerate("ab", start=11):
        rows = [{**row, "label": "neutral", "thread": f"t{i % 60}"} for i, row in enumerate(posts(120, seed))]
        threads[name] = {f"{name}:{row['id']}": row["thread"] for row in rows}
        files.append(put(tmp_path / f"{name}.jsonl", rows))
    prepare_data(section(tmp_path / "out", *files, columns={"group": "thread"}))
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for row in read_examples(tmp_path / "out"):
        found.setdefault((row.dataset, threads[row.dataset][row.id]), set()).add((row.group, row.split))
    assert len(found) == 120
    assert all(len(places) == 1 for places in found.values())
    assert len({group for [(group, _)] in found.values()}) == 120


def test_marked_words_stand_where_the_cleaned_text_has_them_and_contexts_are_cleaned_too(
    tmp_path: Path,
) -> None:
    text = "@Fan_77 &amp; cafe\u0301 friends: https://example.org/long/way the clowns lost again"
    marked = {
        "id": "marked",
        "text": text,
        "label": "offensive",
        "spans": [[text.index(word), text.index(word) + len(word)] for word in ("friends", "clowns lost")],
        "asked": "what did @Coach_9 say on https://example.org/match",
    }
    rows = [{**row, "spans": [], "asked": ""} for row in posts(40, 12)]
    file = put(tmp_path / "a.jsonl", [*rows, marked])
    prepare_data(section(tmp_path / "out", file, columns={"spans": "spans", "context": "asked"}))
    [post] = [row for row in read_examples(tmp_path / "out") if row.id == "a:marked"]
    assert post.text == "@user & caf\u00e9 friends: <url> the clowns lost again"
    assert [post.text[span.start : span.end] for span in post.rationales] == ["friends", "clowns lost"]
    assert post.context == "what did @user say on <url>"


def test_files_of_the_recipes_holdout_cost_train_and_tune_their_copies_and_report_none(
    tmp_path: Path,
) -> None:
    rows = posts(200, 13)
    file = put(tmp_path / "a.jsonl", rows)
    prepare_data(section(tmp_path / "all", file))
    before = by_split(read_examples(tmp_path / "all"))
    held = {"files": [str(put(tmp_path / "held.jsonl", [{"text": row["text"]} for row in rows[:120]]))]}
    prepared = prepare_data(section(tmp_path / "out", file, holdout=held))
    after = by_split(read_examples(tmp_path / "out"))
    assert prepared.card["holdout"]["texts"] == 120
    copies = {f"a:p{i}" for i in range(120)}
    for split in ("train", "tune"):
        assert {row.id for row in after[split]} == {row.id for row in before[split]} - copies
    assert after["report"] == before["report"]
    assert copies & {row.id for row in after["report"]}


def test_the_order_of_rows_decides_on_no_split(tmp_path: Path) -> None:
    rows = posts(120, 14)
    splits = []
    for name, ordered in (("one", rows), ("two", rows[::-1])):
        (tmp_path / name).mkdir()
        prepare_data(section(tmp_path / name, put(tmp_path / name / "a.jsonl", ordered)))
        splits.append({row.id: row.split for row in read_examples(tmp_path / name)})
    assert splits[0] == splits[1]


def test_holdout_removes_every_copy_from_train_and_tune(tmp_path: Path) -> None:
    rng = Random(5)
    rows = posts(600, 5)
    file = put(tmp_path / "a.jsonl", rows)
    held = [{"text": edit(row["text"], rng)} for row in rows[:150]]
    held += [{"text": change_words(row["text"], rng)} for row in rows[150:300]]
    holdout = put(tmp_path / "held.jsonl", held)
    prepared = prepare_data(section(tmp_path / "out", file), holdout=(holdout,))
    left = by_split(read_examples(tmp_path / "out"))
    fitted = {row.id for split in ("train", "tune") for row in left[split]}
    assert not fitted & {f"a:p{i}" for i in range(150)}
    assert len(fitted & {f"a:p{i}" for i in range(150, 300)}) <= 0.05 * 150
    dropped = prepared.card["dropped"]
    assert set(dropped) == {"equal text in the holdout", "near-copy of a holdout text"}
    assert sum(sum(counts.values()) for counts in dropped.values()) <= 300
    assert prepared.card["holdout"] == {"texts": 300, "threshold": 0.5}


def test_repeats_and_languages_leave_by_recipe(tmp_path: Path) -> None:
    rows = posts(60, 6)
    rows += [
        {**rows[0], "id": "again"},
        {**rows[1], "id": "other-vote", "label": "hate", "text": rows[1]["text"]},
    ]
    rows[1]["label"] = "neutral"
    rows.append(
        {
            "id": "de",
            "text": "Der Schiedsrichter war heute wirklich blind und das Tor zählte nicht.",
            "label": "neutral",
        }
    )
    rows.append({"id": "none", "text": "!!! 12:30", "label": "neutral"})
    changes = {"duplicates": {"exact": "drop"}, "languages": {"keep": ["en", "und"]}}
    prepared = prepare_data(section(tmp_path / "out", put(tmp_path / "a.jsonl", rows), **changes))
    ids = {row.id for row in read_examples(tmp_path / "out")}
    assert "a:other-vote" in ids
    assert not ids & {"a:again", "a:de", "a:none"}
    assert prepared.card["dropped"]["same text and same votes as an earlier post of the set"] == {"a": 1}


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [put(tmp_path / f"{name}.jsonl", posts(50, seed)) for seed, name in enumerate("ab", start=7)]
    rules = section(tmp_path / "out", *files)
    whole = prepare_data(section(tmp_path / "whole", *files))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hatex.workflows.prepare_data.divide", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(rules)
    assert not (tmp_path / "out" / FILE_NAME).exists()
    assert plan_data(rules).done == ("a", "b")
    put(files[1], posts(51, 9))
    assert plan_data(rules).done == ("a",)
    put(files[1], posts(50, 8))
    watched = Watched()
    resumed = prepare_data(rules, progress=watched)
    assert resumed.resumed == ("a", "b")
    assert resumed.card == whole.card
    assert watched.begun == ["join posts", "write examples"], "what is whole is not read again"


def test_a_source_that_was_read_in_part_is_read_again(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{name}.jsonl", posts(50, seed)) for seed, name in enumerate("ab", start=7)]
    rules = section(tmp_path / "out", *files)
    whole = prepare_data(section(tmp_path / "whole", *files))

    def interrupt(task: str) -> None:
        if task == "read b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_data(rules, progress=Watched(interrupt))
    assert plan_data(rules).done == ("a",)
    watched = Watched()
    assert prepare_data(rules, progress=watched).card == whole.card
    assert watched.begun[0] == "read b"


def test_bad_rows_are_skipped_up_to_the_allowed_share(tmp_path: Path) -> None:
    rows = posts(200, 10)
    rows[3]["label"] = "rude"
    rows[7]["text"] = ""
    file = put(tmp_path / "a.jsonl", rows)
    card = prepare_data(section(tmp_path / "out", file)).card
    assert card["sources"][0]["problems"] == {"count": 2, "kinds": {"empty text": 1, "value": 1}}
    assert card["sources"][0]["first_problems"][0]["row"] == 4
    assert (card["sources"][0]["rows"], card["sources"][0]["kept"]) == (200, 198)
    with pytest.raises(DataError, match=r"too many bad rows \(a 1.00%; allowed 0.00%\)") as caught:
        prepare_data(section(tmp_path / "strict", file, on_error="fail"))
    assert f"{file}:4: unknown label 'rude'" in str(caught.value)
    assert f"{file}:8: the text is empty" in str(caught.value)
    assert not (tmp_path / "strict" / FILE_NAME).exists()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "p0", "text": "own goal", "label": "hate"}, "the id occurs twice"),
        ({"id": "x", "text": "own \ud800 goal", "label": "hate"}, "lone surrogate"),
        ({"id": "x", "text": 5, "label": "hate"}, "the text is missing or not a string"),
    ],
)
def test_rows_that_no_set_may_hold(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    file = put(tmp_path / "a.jsonl", [*posts(5, 1), row])
    with pytest.raises(DataError, match=message):
        prepare_data(section(tmp_path / "out", file, on_error="fail"))


def test_a_source_without_rows_changes_nothing(tmp_path: Path) -> None:
    file, empty = put(tmp_path / "a.jsonl", posts(50, 21)), tmp_path / "b.parquet"
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in ("id", "text", "label")}), empty)
    prepare_data(section(tmp_path / "one", file))
    card = prepare_data(section(tmp_path / "two", file, empty)).card
    assert read_examples(tmp_path / "one") == read_examples(tmp_path / "two")
    assert (card["sources"][1]["rows"], list(card["datasets"])) == (0, ["a"])


def test_one_bad_field_costs_its_row_and_not_the_run(tmp_path: Path) -> None:
    """A lone surrogate is what JavaScript leaves of an emoji that it cut."""
    rows = [{**row, "asked": None, "who": [], "spans": []} for row in posts(300, 19)]
    bad: list[tuple[dict[str, Any], str]] = [
        ({"asked": ["own goal"]}, "the context is missing or not a string"),
        ({"asked": 7}, "the context is missing or not a string"),
        ({"asked": "own \ud83d goal"}, "the context holds a lone surrogate"),
        ({"id": "p\ud83d"}, "the id holds a lone surrogate"),
        ({"who": ["Women", "Fans \ud83d"]}, "the target holds a lone surrogate"),
        ({"spans": [{"start": 0, "end": 3, "kind": "\ud83d"}]}, "the kind of a span holds a lone surrogate"),
        (
            {"spans": [{"start": 0, "end": 3, "annotator": "\ud83d"}]},
            "the annotator of a span holds a lone surrogate",
        ),
        ({"spans": [[0, float("inf")]]}, "cannot convert float infinity to integer"),
    ]
    for row, (changes, _) in zip(rows, bad, strict=False):
        row |= changes
    columns = {"context": "asked", "targets": "who", "spans": "spans"}
    file = put(tmp_path / "a.jsonl", rows)
    card = prepare_data(section(tmp_path / "out", file, columns=columns, max_error_share=0.03)).card
    found = [(each["row"], each["message"]) for each in card["sources"][0]["first_problems"]]
    assert found == list(enumerate((message for _, message in bad), start=1))
    assert card["sources"][0]["kept"] == 300 - len(bad)


def test_counts_that_no_example_can_hold_are_a_bad_row(tmp_path: Path) -> None:
    rows = [{**row, "h": 1} for row in posts(200, 20)]
    rows[4]["h"] = 2**31
    rules = section(tmp_path / "out", put(tmp_path / "a.jsonl", rows)).model_dump()
    rules["sources"][0]["columns"] = {"text": "text", "counts": {"hate": "h"}}
    card = prepare_data(PrepareSection.model_validate(rules)).card
    assert card["sources"][0]["problems"] == {"count": 1, "kinds": {"votes": 1}}


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"votes": (Vote(("hate",), annotator="\ud83d"),)}, "annotator"),
        ({"votes": (Vote(("hate",), group="\ud83d"),)}, "annotator's group"),
        ({"explanation": {"summary": "\ud83d"}}, "explanation"),
    ],
)
def test_what_readers_add_to_a_post_is_looked_at_too(changes: dict[str, Any], name: str) -> None:
    tally = Tally()
    post = RawPost("p", "fans", "own goal", (Vote(("hate",)),), "a.jsonl", 1)
    assert list(sound_posts([post, replace(post, id="q", **changes)], tally)) == [post]
    assert [each.message for each in tally.problems] == [f"the {name} holds a lone surrogate"]


def test_targets_outside_the_list_of_groups_are_told(tmp_path: Path) -> None:
    names = ["women", "Women", "Fans of the other club", ""]
    rows = [{**row, "who": names[i % 4]} for i, row in enumerate(posts(60, 22))]
    rules = section(tmp_path / "out", put(tmp_path / "a.jsonl", rows), columns={"targets": "who"})
    watched = Watched()
    card = prepare_data(rules, progress=watched).card
    assert card["unknown_targets"] == {"a": {"Fans of the other club": 15, "women": 15}}
    [warning] = watched.said
    assert warning.startswith("warning: a: targets outside the list of groups")
    assert warning.removeprefix("warning: ") in (tmp_path / "out" / "card.md").read_text()
    own = prepare_data(rules, groups=("Women", "women", "Fans of the other club")).card
    assert own["unknown_targets"] == {}
    mapped = rules.model_dump()
    mapped["sources"][0]["groups"] = {"women": "Women", "Fans of the other club": None}
    silent = Watched()
    card = prepare_data(PrepareSection.model_validate(mapped), progress=silent).card
    assert (card["unknown_targets"], silent.said) == ({}, [])
    assert card["datasets"]["a"]["targets"] == {"Women": 30}


def test_every_broken_source_is_reported_at_once(tmp_path: Path) -> None:
    files = [put(tmp_path / f"{name}.jsonl", [{"body": "x"}]) for name in "ab"]
    columns = {"text": "text", "label": "label"}
    sources = [
        {
            "source": "table",
            "name": f.stem,
            "path": str(f.with_suffix(".csv")),
            "platform": "wiki",
            "columns": columns,
        }
        for f in files
    ]
    for file in files:
        file.with_suffix(".csv").write_text("text,rating\nnice,1\n")
    with pytest.raises(DataError) as caught:
        prepare_data(PrepareSection.model_validate({"output": str(tmp_path / "out"), "sources": sources}))
    assert str(caught.value).count("missing column 'label'") == 2


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split '(tune|report)' is empty: 2 posts stand in 2 groups"):
        prepare_data(section(tmp_path / "out", put(tmp_path / "a.jsonl", posts(2, 1))))


def test_an_empty_split_is_explained_by_groups_that_must_not_be_parted(tmp_path: Path) -> None:
    text = "the referee must have been asleep again in the second half"
    rows = [{"id": f"p{i}", "text": text, "label": "offensive"} for i in range(30)]
    with pytest.raises(DataError, match="30 posts stand in 1 groups") as caught:
        prepare_data(section(tmp_path / "out", put(tmp_path / "a.jsonl", rows)))
    assert "prepare.duplicates.threshold" in str(caught.value.hint)


def test_groups_that_are_too_large_are_named_by_the_error_and_by_the_card(tmp_path: Path) -> None:
    threads = [{**row, "label": "hate", "thread": f"t{i // 20}"} for i, row in enumerate(posts(60, 15))]
    file = put(tmp_path / "a.jsonl", threads)
    columns = {"group": "thread"}
    with pytest.raises(DataError, match="among them 60 posts in groups larger than a quarter of what tune"):
        prepare_data(section(tmp_path / "out", file, columns=columns))
    other = put(tmp_path / "b.jsonl", [{**row, "thread": None} for row in posts(60, 16)])
    card = prepare_data(section(tmp_path / "out", file, other, columns=columns)).card
    assert card["capped"] == {"a": 60}
    assert card["warnings"][0].startswith("a has no rows in tune (60 posts in groups larger than")


def test_threads_are_cut_where_report_is_the_only_share(tmp_path: Path) -> None:
    rows = [{**row, "thread": f"t{i // 3}"} for i, row in enumerate(posts(150, 17))]
    rules = {"columns": {"group": "thread"}, "tune_share": 0, "report_share": 0.2}
    card = prepare_data(section(tmp_path / "out", put(tmp_path / "a.jsonl", rows), **rules)).card
    assert abs(card["datasets"]["a"]["splits"]["report"] - 30) <= 6


def test_a_file_named_like_a_part_is_cut_anew_and_an_official_part_alone_is_explained(tmp_path: Path) -> None:
    rows = posts(60, 1)
    prepare_data(section(tmp_path / "out", put(tmp_path / "posts_train.jsonl", rows)))
    assert set(by_split(read_examples(tmp_path / "out"))) == {"train", "tune", "report"}
    file = put(tmp_path / "parted.jsonl", [row | {"part": "train"} for row in rows])
    with pytest.raises(DataError, match="is empty") as caught:
        prepare_data(section(tmp_path / "other", file, columns={"split": "part"}))
    assert "official_splits: false" in str(caught.value.hint)


def test_pinned_files_are_checked(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(5, 1))
    rules = section(tmp_path / "out", file).model_dump(mode="json")
    rules["sources"][0]["sha256"] = {"a.jsonl": "0" * 64}
    with pytest.raises(IntegrityError, match="the recipe expects 0000"):
        plan_data(PrepareSection.model_validate(rules))
    rules["sources"][0] |= {"path": str(tmp_path / "none.jsonl"), "sha256": {}}
    with pytest.raises(DataError, match="no table here"):
        plan_data(PrepareSection.model_validate(rules))


def test_limit_keeps_a_seeded_sample(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(100, 1))
    rules = section(tmp_path / "one", file).model_dump()
    rules["sources"][0]["limit"] = 30
    ids = []
    for seed, name in ((1, "one"), (1, "two"), (2, "three")):
        prepare_data(PrepareSection.model_validate({**rules, "output": str(tmp_path / name), "seed": seed}))
        ids.append([row.id for row in read_examples(tmp_path / name)])
    assert len(ids[0]) == 30
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(tmp_path: Path) -> None:
    file = put(tmp_path / "a.jsonl", posts(2500, 1))
    prepare_data(section(tmp_path / "one", file))
    workers: set[int | None] = set()
    watched = Watched(lambda _: workers.update(child.pid for child in active_children()))
    prepare_data(section(tmp_path / "two", file, num_proc=2), progress=watched)
    assert len(workers) == 2
    assert (tmp_path / "one" / FILE_NAME).read_bytes() == (tmp_path / "two" / FILE_NAME).read_bytes()
