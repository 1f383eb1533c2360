"""Values that a source does not know: each is a problem at its row, and never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hatex.data.holdout import load_texts
from hatex.data.prompts import load_prompt
from hatex.errors import DataError, UsageError

Put = Callable[[str, object], Path]
Reader = Callable[..., object]

HS_BREXIT = {
    "text": "own goal",
    "annotators": "Ann1,Ann2",
    "annotations": "0,1",
    "split": "train",
    "lang": "en",
    "soft_label": {"0": 0.5, "1": 0.5},
    "hard_label": "",
    "other_info": {"annotators group": "T,T,C"},
}
SPANS = {
    "comments.csv": "comment_id,comment_text\nc1,own goal\n",
    "annotations.csv": "annotation,comment_id,worker,all toxic,not toxic\na1,c1,w1,False,False\n",
    "spans.csv": "annotation,type,start,end\na1,Insult,0,3\n",
}
CAD = "id\tinfo_thread.id\tannotation_Primary\tmeta_text\tsplit\n"
MHS = {"comment_id": 1, "annotator_id": 2, "text": "own goal"}


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        (
            "hs_brexit",
            {"HS-Brexit_train.json": {"1": HS_BREXIT}, "HS-Brexit_dev.json": {}},
            "3 groups for 2 annotators",
        ),
        ("cad", {"cad_v1_1.tsv": f"{CAD}1\tt1\tBoring\town goal\ttrain\n"}, "unknown label 'Boring'"),
        (
            "gab_hate_corpus",
            {"dev.jsonl": [{"text_id": 1, "Text": "own goal", "hd": 2, "cv": 0}]},
            "hd must be 0 or 1",
        ),
        (
            "toxic_spans",
            SPANS | {"annotations.csv": SPANS["annotations.csv"].replace("False,False", "maybe,False")},
            "all toxic and not toxic must be True or False",
        ),
        (
            "toxic_spans",
            SPANS | {"spans.csv": SPANS["spans.csv"].replace("0,3", "0,end")},
            "start and end must be whole numbers",
        ),
        (
            "wiki_jigsaw",
            {
                "jigsaw_multilabel_5k.csv": "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate\n",
                "jigsaw_balanced_12k.csv": "own goal,2\n",
            },
            "the label must be 0 or 1",
        ),
    ],
)
def test_unknown_values_are_problems(
    put: Put, read: Reader, tmp_path: Path, source: str, files: dict[str, object], message: str
) -> None:
    for name, content in files.items():
        put(name, content)
    found = read(source, tmp_path)
    assert [problem.message for problem in found.problems if message in problem.message]
    assert all("own goal" not in problem.message for problem in found.problems)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"hatespeech": 3}, "hatespeech must be 0, 1 or 2"),
        ({"hatespeech": 0, "text": "another text"}, "the text differs from that of row 1, of the same id"),
    ],
)
def test_rows_of_measuring_hate_speech(
    read: Reader, tmp_path: Path, row: dict[str, object], message: str
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [MHS | {"hatespeech": 0}, MHS | row]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))
    found = read("measuring_hate_speech", path)
    assert len(found.posts) == 1
    assert [(p.row, p.message, p.is_row) for p in found.problems] == [(2, message, False)]


def test_a_folder_without_any_file_of_the_corpus(read: Reader, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"neither GabHateCorpus_annotations\.tsv nor train\.jsonl nor dev\.jsonl"
    ):
        read("gab_hate_corpus", tmp_path)


def test_an_answer_right_behind_its_heading_is_no_post(put: Put, read: Reader) -> None:
    found = read("text", put("a.jsonl", [{"text": "Post:\nAnswer: rude\nClassification: offensive"}]))
    assert [problem.message for problem in found.problems] == ["no post between its heading and the answer"]


def test_holdout_texts_of_parquet_files(tmp_path: Path) -> None:
    path = tmp_path / "test.parquet"
    pq.write_table(pa.table({"text": ["own goal", None, "offside"], "n": [1, 2, 3]}), path)
    assert list(load_texts(path)) == ["own goal", "offside"]
    pq.write_table(pa.table({"body": ["own goal"]}), path)
    with pytest.raises(DataError, match="no column `text`"):
        list(load_texts(path))
    path.write_bytes(b"no such table")
    with pytest.raises(DataError, match="not a parquet file"):
        list(load_texts(path))


def test_a_broken_row_of_a_holdout_file_has_its_place(put: Put) -> None:
    path = put("test.jsonl", '{"text": "own goal"}\n{"text": \n')
    with pytest.raises(DataError, match="not JSON") as caught:
        list(load_texts(path))
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "not a YAML file"),
        ("version: 2\nprompt: '{post}'\nlabel: '{label}'\nanswer: '{targets} {words}'", "is of version 1"),
        (
            "version: 1\nprompt: '{post}'\nlabel: '{label}'",
            "a prompt template has the keys answer, label, prompt",
        ),
        (
            "version: 1\nprompt: '{post} {post}'\nlabel: '{label}'\nanswer: '{targets} {words}'",
            "`prompt` must hold {post} exactly once",
        ),
    ],
)
def test_templates_that_are_none(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        load_prompt(str(path))
    assert message in caught.value.message
    assert caught.value.where == str(path)


def test_an_unknown_template_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="no prompt template compcat") as caught:
        load_prompt("compcat")
    assert "compact" in str(caught.value.hint)
