"""Each reader on a few invented rows: votes, keys, rationales, and rows that are wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hatex.data.raw import SourceSpec
from hatex.data.sources import SOURCES, load_source
from hatex.errors import RecipeError
from hatex.types import Rationale

Put = Callable[[str, object], Path]
Reader = Callable[..., object]

JIGSAW = "id,comment_text,toxic,severe_toxic,obscene,threat,insult,identity_hate\n"


def test_every_source_has_a_card() -> None:
    for name in SOURCES:
        info = load_source(name).info
        assert info.name == name
        assert info.licence
        assert info.votes


def test_unknown_sources_are_named() -> None:
    with pytest.raises(RecipeError, match="unknown source 'davidsen'") as caught:
        load_source("davidsen")
    assert "davidson" in str(caught.value.hint)


def test_davidson(put: Put, read: Reader, tmp_path: Path) -> None:
    rows = [
        '0,3,0,2,1,1,"the referee,\nagain"',
        "1,3,3,0,0,0,boo",
        "2,3,0,0,2,2,few",
        "3,3,3,0,0,2,odd",
        "4,x,0,0,3,2,bad",
    ]
    put("labeled_data.csv", ",count,hate_speech,offensive_language,neither,class,tweet\n" + "\n".join(rows))
    found = read("davidson", tmp_path)
    assert found.votes == [[("neutral", 1), ("offensive", 2)], [("hate", 3)]]
    assert found.posts[0].text == "the referee,\nagain"
    assert [(p.row, p.message) for p in found.problems] == [
        (3, "2 votes, but count is 3"),
        (4, "class 2 contradicts the votes"),
        (5, "count must be a whole number"),
    ]


HX = {"post_tokens": ["<user>", "what", "a", "blind", "referee"], "targets": ["Women"]}


def test_hatexplain_rebuilt_and_native(put: Put, read: Reader, tmp_path: Path) -> None:
    def train(name: str, votes: list[str], majority: str, mask: object, source: str) -> dict[str, object]:
        more = {"votes": votes, "majority": majority, "rationale_union": mask, "rationale_source": source}
        return {**HX, **more, "post_id": name, "votes_source": "unanimous"}

    three = ["hatespeech", "offensive", "normal"]
    put(
        "train_rebuilt.jsonl.gz",
        [
            train("a", ["offensive"] * 3, "offensive", [0, 0, 0, 1, 1], "spans"),
            train("b", ["normal"] * 3, "normal", [0] * 5, "normal"),
            train("c", ["hatespeech"] * 3, "hatespeech", None, "unknown"),
            train("d", ["normal"] * 3, "offensive", None, "unknown"),
            train("e", ["rude"] * 3, "rude", None, "unknown"),
        ],
    )
    put("undecided_rebuilt.jsonl.gz", [train("u", three, "undecided", None, "unknown")])
    annotators = [
        {"label": x, "annotator_id": i, "target": ["None"]}
        for i, x in enumerate(three[:2] * 1 + ["offensive"])
    ]
    native = {"post_id": "n", "annotators": annotators, "post_tokens": HX["post_tokens"]}
    put("dev.json.gz", {"n": {**native, "rationales": [[0, 1, 0, 1, 0], [0, 0, 0, 0, 1]]}})
    found = read("hatexplain", tmp_path)
    assert [post.id for post in found.posts] == ["a", "b", "c", "u", "n"]
    assert [post.part for post in found.posts] == ["train"] * 4 + ["dev"]
    first, normal, unknown, undecided, dev = found.posts
    assert first.text == "@user what a blind referee"
    assert [first.text[r.start : r.end] for r in first.rationales] == ["blind referee"]
    assert (normal.has_rationales, normal.rationales) == (True, ())
    assert not unknown.has_rationales
    assert len(undecided.votes) == 3
    assert [v.annotator for v in dev.votes] == ["0", "1", "2"]
    assert {r.annotator for r in dev.rationales} == {"rationale 1", "rationale 2"}
    assert [dev.text[r.start : r.end] for r in dev.rationales] == ["what", "blind", "referee"]
    assert first.targets == ("Women",)
    assert dev.targets == ()
    assert [p.row for p in found.problems] == [4, 5]


def test_hatexplain_official_files(put: Put, read: Reader, tmp_path: Path) -> None:
    annotators = [{"label": "normal", "annotator_id": 7, "target": []}] * 3
    post = {"annotators": annotators, "rationales": [], "post_tokens": ["nice", "save"]}
    put("dataset.json", dict.fromkeys(("p", "q", "r", "s"), post))
    put("post_id_divisions.json", {"train": ["p"], "val": ["q"], "test": ["r"]})
    found = read("hatexplain", tmp_path)
    assert {post.id: post.part for post in found.posts} == {
        "p": "train",
        "q": "dev",
        "r": "test",
        "s": "train",
    }


def test_stormfront_groups_and_left_out_rows(put: Put, read: Reader, tmp_path: Path) -> None:
    labels = ["9_1,u1,noHate", "9_2,u1,hate", "9_3,u1,relation", "8_1,u2,idk/skip", "7_1,u3,maybe"]
    put("annotations_metadata.csv", "file_id,user_id,label\n" + "\n".join(labels))
    names = [line.partition(",")[0] for line in labels]
    put(
        "all_files.jsonl.gz",
        [*({"file_id": n, "text": "own goal"} for n in names), {"file_id": "x", "text": "?"}],
    )
    found = read("stormfront", tmp_path)
    assert found.votes == [[("neutral|offensive", 1)], [("hate", 1)]]
    assert found.posts[0].keys == ("user u1", "comment 9")
    assert [each.reason for each in found.left_out] == ["label relation", "label idk/skip"]
    assert [p.row for p in found.problems] == [5, 6]


def test_jigsaw_multilabel(put: Put, read: Reader, tmp_path: Path) -> None:
    rows = [
        "a,fine,0,0,0,0,0,0",
        "b,rude,1,0,1,0,1,0",
        "c,worse,1,0,0,0,0,1",
        "d,odd,0,0,1,0,0,0",
        "e,bad,2,0,0,0,0,0",
    ]
    put("train.csv", JIGSAW + "\n".join(rows))
    found = read("jigsaw", tmp_path)
    assert found.votes == [[("neutral", 1)], [("offensive|hate", 1)], [("hate", 1)], [("neutral", 1)]]
    assert [note.what for note in found.notes] == ["flagged obscene but not toxic"]
    assert [p.row for p in found.problems] == [5]


def test_wiki_context_raters_keep_their_groups(put: Put, read: Reader, tmp_path: Path) -> None:
    put("CAT_LARGE_gc.csv.gz", "id,text,parent,label,api\n5.1.1,hi,hello,1,.2\n")
    put("CAT_LARGE_gn.csv.gz", "id,text,parent,label,api\n6.1.1,hi,,0,.2\n")
    put(
        "cat_small.csv.gz",
        "text,parent_text,tox_codes_oc,label_oc,tox_codes_ic,label_ic\n"
        "own goal,hm,[0. 0. 1.],0,[0.5 1.  1. ],1\nagain,hm,[1. 1. 1.],0,[1.],1\n",
    )
    found = read("wiki_context", tmp_path)
    assert [post.dataset for post in found.posts] == [
        "wiki_context_gc",
        "wiki_context_gn",
        "wiki_context_small",
    ]
    assert [post.context for post in found.posts] == ["hello", None, "hm"]
    assert [(vote.group, "|".join(vote.labels), vote.count) for vote in found.posts[2].votes] == [
        ("without context", "neutral", 2),
        ("without context", "offensive|hate", 1),
        ("with context", "offensive|hate", 2),
        ("with context", "neutral|offensive|hate", 1),
    ]
    assert [p.message for p in found.problems] == ["label_oc contradicts tox_codes_oc"]


def test_toxic_spans_boxes_and_spans(put: Put, read: Reader, tmp_path: Path) -> None:
    put("comments.csv.gz", "comment_id,comment_text\n1,what a blind referee\n2,nobody was asked\n")
    boxes = ["0,1,w0,X,False,False", "1,1,w1,X,True,True", "2,1,w2,X,False,True", "3,1,w3,X,True,False"]
    boxes += ["4,1,w4,X,False,False", "5,1,w5,X,False,False", "6,1,w6,X,False,True"]
    put("annotations.csv.gz", "annotation,comment_id,worker,country,all toxic,not toxic\n" + "\n".join(boxes))
    spans = ["0,Insult,7,12", "4,Identity based ,13,20", "5,Insult,13,99", "6,Insult,0,4"]
    put("spans.csv.gz", "annotation,type,start,end\n" + "\n".join(spans))
    found = read("toxic_spans", tmp_path)
    assert {v.annotator: "|".join(v.labels) for v in found.posts[0].votes} == {
        "w0": "offensive|hate",
        "w1": "neutral|offensive|hate",
        "w2": "neutral",
        "w3": "offensive|hate",
        "w4": "hate",
        "w5": "offensive|hate",
        "w6": "neutral|offensive|hate",
    }
    assert found.posts[0].rationales == (
        Rationale(7, 12, "w0", "Insult"),
        Rationale(13, 20, "w4", "Identity based Attack"),
    )
    assert [(Path(p.file).name, p.row, p.is_row) for p in found.problems] == [
        ("spans.csv.gz", 3, False),
        ("comments.csv.gz", 2, True),
    ]


def test_hs_brexit_annotators_and_groups(put: Put, read: Reader, tmp_path: Path) -> None:
    def row(hate: str, hard: str) -> dict[str, object]:
        others = {"aggressive language detection": "0,0,0,0", "offensive language detection": "1,0,No,0"}
        info = {
            "annotators group": "group1,group1,group2,group2",
            "group1": "target group",
            "group2": "control group",
        }
        info["other annotations"] = others  # type: ignore[assignment]
        return {
            "text": "offside",
            "annotations": hate,
            "annotators": "A,B,C,D",
            "hard_label": hard,
            "other_info": info,
        }

    put(
        "HS-Brexit_train.json", {"1": row("0,1,0,0", "0"), "2": row("1,1,0,0", "1"), "3": row("0,0,0,0", "1")}
    )
    put("HS-Brexit_dev.json", {"1": row("0,0,0", "0")})
    found = read("hs_brexit", tmp_path)
    assert [("|".join(v.labels), v.annotator, v.group) for v in found.posts[0].votes] == [
        ("offensive", "A", "target group"),
        ("hate", "B", "target group"),
        ("neutral", "C", "control group"),
        ("neutral", "D", "control group"),
    ]
    assert {note.what for note in found.notes} == {"hate votes tie", "an answer spelled out as No or Yes"}
    assert [p.message for p in found.problems] == [
        "hard_label '1' contradicts the votes",
        "expected 4 answers of 0 or 1",
    ]


def test_gab_majority_and_official_table(put: Put, read: Reader, tmp_path: Path) -> None:
    row = {
        "text_id": 5,
        "Text": "own goal",
        "hd": 0,
        "cv": 1,
        **dict.fromkeys(("rel", "rae", "sxo", "gen"), 0),
    }
    put("dev.jsonl", [{**row, **dict.fromkeys(("idl", "nat", "pol"), 0), "mph": 1}])
    found = read("gab_hate_corpus", tmp_path)
    assert (found.votes, found.posts[0].targets, found.posts[0].part) == (
        [[("hate", 1)]],
        ("Disabled people",),
        "dev",
    )
    lines = ["1\t9\town goal\t1\t0", "1\t8\town goal\t0\t0", "2\t9\tnice\t0\t0", "1\t7\tother\t0\t0"]
    put("GabHateCorpus_annotations.tsv", "ID\tAnnotator\tText\tHD\tCV\n" + "\n".join(lines))
    found = read("gab_hate_corpus", tmp_path)
    assert found.votes == [[("hate", 1), ("neutral|offensive", 1)], [("neutral|offensive", 1)]]
    assert [p.row for p in found.problems] == [4]


def test_cad_copy_and_official_table(put: Put, read: Reader, tmp_path: Path) -> None:
    put("train.json.gz", [["own[linebreak]goal", "hatespeech"], ["nice", "rude"], ["nice"]])
    put("val.json.gz", [["nice", "normal"]])
    found = read("cad", tmp_path)
    assert [(post.text, post.part) for post in found.posts] == [("own\ngoal", "train"), ("nice", "dev")]
    assert [p.row for p in found.problems] == [2, 3]
    lines = [
        "a\tt1\tNeutral\tnice\ttrain",
        "b\tt1\tSlur\tboo\tdev",
        "b\tt1\tIdentityDirectedAbuse\tboo\tdev",
        "c\tt2\tNeutral\tx\texclude_bot",
    ]
    put("cad_v1_1.tsv", "id\tinfo_thread.id\tannotation_Primary\tmeta_text\tsplit\n" + "\n".join(lines))
    found = read("cad", tmp_path)
    assert found.votes == [[("neutral", 1)], [("hate", 1)]]
    assert found.posts[0].keys == ("thread t1",)
    assert [each.reason for each in found.left_out] == ["split exclude_bot"]


def test_civil_comments(put: Put, read: Reader, tmp_path: Path) -> None:
    head = "id,comment_text,toxicity,identity_attack,toxicity_annotator_count,female,article_id\n"
    put("train.csv", head + "1,own goal,0.75,0.25,4,1.0,77\n2,nice,0,0,4,,77\n3,odd,1.5,0,4,,78\n")
    put("test.csv", head + "4,late goal,0,0,4,,79\n")
    found = read("civil_comments", tmp_path)
    assert found.votes == [
        [("neutral", 4)],
        [("neutral", 1), ("hate", 1), ("offensive|hate", 2)],
        [("neutral", 4)],
    ]
    assert found.posts.pop(0).part == "test"
    assert (found.posts[0].targets, found.posts[0].part, found.posts[1].has_targets) == (
        ("Women",),
        "train",
        False,
    )
    assert [p.row for p in found.problems] == [3]


def test_measuring_hate_speech_from_parquet(read: Reader, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (1, 10, "own goal", 2.0, 4.0, True),
        (2, 11, "nice", 0.0, 0.0, False),
        (1, 12, "own goal", 0.0, 3.0, False),
    ]
    names = ("comment_id", "annotator_id", "text", "hatespeech", "insult", "target_gender_women")
    table = pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})
    pq.write_table(table, tmp_path / "mhs.parquet")
    found = read("measuring_hate_speech", tmp_path)
    assert found.votes == [[("hate", 1), ("offensive", 1)], [("neutral", 1)]]
    assert [v.annotator for v in found.posts[0].votes] == ["10", "12"]
    assert found.posts[0].targets == ("Women",)


def test_text_files_of_prompt_and_answer(put: Put, read: Reader, tmp_path: Path) -> None:
    answer = "Explanation: a jab at a club.\nClassification: Offensive\nAffected groups: Fans, Clubs\n"
    answer += 'Harmful words per group: Fans: "a joke", "a clown"\nReason for harm: it mocks fans.'
    rows = [
        {"text": f"### Instruction: judge the post.\nPost: your club\nis a joke\n### Response:\n{answer}"},
        {"text": "Post: nice save\nResponse:\nno field here"},
        {"text": f"judge this: nice save\n{answer}"},
        {"text": "Post: x\nExplanation: y\nClassification: rude"},
    ]
    put("train.jsonl", rows)
    put("validation.jsonl", rows[:1])
    found = read("text", tmp_path)
    assert [(post.id, post.text, post.part) for post in found.posts] == [
        ("train-1", "your club\nis a joke", "train"),
        ("dev-1", "your club\nis a joke", "dev"),
    ]
    assert found.votes == [[("offensive", 1)]] * 2
    assert found.posts[0].explanation == {
        "summary": "a jab at a club.",
        "affected_groups": ["Fans", "Clubs"],
        "harmful_words": [{"text": "a joke", "start": 13, "end": 19, "group": None}],
        "reason": "it mocks fans.",
    }
    assert [p.row for p in found.problems] == [2, 3, 4]


def test_hub_ids_are_refused_by_file_readers() -> None:
    with pytest.raises(RecipeError, match="give `path`"):
        list(load_source("davidson").read(SourceSpec("davidson", hub="owner/name")))
