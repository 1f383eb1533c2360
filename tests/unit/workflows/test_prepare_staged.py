"""On the staged data sets: every row of the data folder's table is accounted for."""

import os
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from hatex.data.examples import iter_examples
from hatex.recipe.prepare import PrepareSection
from hatex.workflows.prepare_data import Prepared, prepare_data

pytestmark = [pytest.mark.data, pytest.mark.slow]

SOURCES = {
    "davidson": "microblog",
    "hatexplain": "microblog",
    "hs_brexit": "microblog",
    "gab_hate_corpus": "microblog",
    "stormfront": "forums",
    "cad": "forums",
    "wiki_jigsaw": "wiki",
    "wiki_context": "wiki",
    "toxic_spans": "news",
}
ROWS_BY_FILE = {
    "labeled_data.csv": 22_323,
    "train_rebuilt.jsonl.gz": 15_347,
    "undecided_rebuilt.jsonl.gz": 913,
    "dev.json.gz": 1_920,
    "HS-Brexit_train.json": 784,
    "HS-Brexit_dev.json": 168,
    "dev.jsonl": 2_579,
    "all_files.jsonl.gz": 10_462,
    "train.json.gz": 13_561,
    "val.json.gz": 4_521,
    "CAT_LARGE_gc.csv.gz": 8_929,
    "CAT_LARGE_gn.csv.gz": 8_988,
    "cat_small.csv.gz": 882,
    "jigsaw_multilabel_5k.csv.gz": 4_482,
    "jigsaw_balanced_12k.csv.gz": 10_967,
    "comments.csv.gz": 16_094,
}
TOP_LABELS = {
    "davidson": {"hate": 1_299, "offensive": 17_285, "neutral": 3_739},
    "gab_hate_corpus": {"hate": 233, "neutral|offensive": 2_346},
    "jigsaw_balanced": {"offensive|hate": 5_481, "neutral": 5_486},
    "stormfront": {"hate": 957, "neutral|offensive": 9_264},
    "wiki_context_gc": {"offensive|hate": 133, "neutral": 8_796},
    "wiki_context_gn": {"offensive|hate": 53, "neutral": 8_935},
}
"""Label sets with most votes, of sets that lose no row."""


def rules(output: Path) -> PrepareSection:
    if "HATEX_DATA" not in os.environ:
        pytest.skip("HATEX_DATA is not set")
    data = Path(os.environ["HATEX_DATA"])
    sources = [
        {"source": name, "platform": platform, "path": str(data / name)} for name, platform in SOURCES.items()
    ]
    return PrepareSection.model_validate({"output": str(output), "sources": sources})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_data(rules(tmp_path_factory.mktemp("staged")))


def test_every_row_is_accounted_for(prepared: Prepared) -> None:
    sources = prepared.card["sources"]
    assert {file: rows for source in sources for file, rows in source["by_file"].items()} == ROWS_BY_FILE
    for source in sources:
        broken = source["rows"] - source["kept"] - sum(source["left_out"].values())
        assert broken == (1 if source["name"] == "cad" else 0), source["name"]
    kept = sum(source["kept"] for source in sources)
    dropped = sum(sum(by_set.values()) for by_set in prepared.card["dropped"].values())
    assert prepared.card["examples"]["rows"] == kept - dropped
    assert {s["name"]: s["problems"]["kinds"] for s in sources if s["problems"]["count"]} == {
        "cad": {"empty text": 1},
        "toxic_spans": {"span": 94},
    }


def test_votes_say_what_the_table_says(prepared: Prepared) -> None:
    for name, expected in TOP_LABELS.items():
        found: Counter[str] = Counter()
        for labels in prepared.card["datasets"][name]["labels"].values():
            found.update(labels)
        assert dict(found) == expected, name
    left_out = {s["name"]: s["left_out"] for s in prepared.card["sources"] if s["left_out"]}
    assert left_out == {"stormfront": {"label idk/skip": 73, "label relation": 168}}
    brexit = prepared.card["datasets"]["hs_brexit"]
    assert (brexit["annotators"], brexit["annotator_groups"].keys()) == (6, {"control group", "target group"})


def test_groups_never_straddle_and_rationales_quote_the_text(prepared: Prepared) -> None:
    splits: dict[str, set[str]] = {}
    for example in iter_examples(prepared.folder):
        splits.setdefault(example.group, set()).add(example.split)
        assert all(0 <= span.start < span.end <= len(example.text) for span in example.rationales)
    assert all(len(found) == 1 for found in splits.values())


def test_official_dev_posts_all_stay(prepared: Prepared) -> None:
    splits = prepared.card["datasets"]["hatexplain"]["splits"]
    assert splits["tune"] + splits["report"] == 1_920
    assert abs(splits["tune"] - splits["report"]) < 40


def test_a_holdout_of_edited_training_posts(prepared: Prepared, tmp_path: Path) -> None:
    rng = Random(8)
    train = [x for x in iter_examples(prepared.folder, splits=["train"]) if len(x.text.split()) >= 8]
    chosen = rng.sample(train, 300)
    forms, words = chosen[:150], chosen[150:]
    lines = [_other_form(x.text, i) for i, x in enumerate(forms)] + [
        _changed_words(x.text, rng) for x in words
    ]
    holdout = tmp_path / "held.txt"
    holdout.write_text("\n".join(" ".join(line.split()) for line in lines), "utf-8")
    again = prepare_data(rules(tmp_path / "out"), holdout=(holdout,))
    fitted = {x.id for x in iter_examples(again.folder, splits=["train", "tune"])}
    assert not [x.id for x in forms if x.id in fitted]
    assert sum(x.id in fitted for x in words) <= 0.05 * len(words)
    removed = sum(sum(n.values()) for reason, n in again.card["dropped"].items() if "holdout" in reason)
    assert 295 <= removed <= 1_200


def _other_form(text: str, number: int) -> str:
    """Another case, punctuation, entities, mentions or links."""
    forms = (
        text.upper(),
        "".join(char for char in text if char.isalnum() or char.isspace()),
        text.replace("&", "&amp;").replace("!", "&#33;").replace("'", "&#39;"),
        text.replace("@user", "@Some_Body"),
        text.replace("<url>", "https://example.org/a?b=1") + " www.example.com/c",
    )
    return forms[number % len(forms)]


def _changed_words(text: str, rng: Random) -> str:
    words = text.split()
    for place in rng.sample(range(len(words)), len(words) // 8):
        words[place] = f"other{rng.randrange(9999)}"
    return " ".join(words)
