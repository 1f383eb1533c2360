"""Strict lines, micro-batches from an open pipe, and records with fixed bytes."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hatex import jsonl
from hatex.jsonl import BadLine, Line, Post, dump_line, parse_line, read_batches, verdict_record
from hatex.types import AffectedGroup, Evidence, Explanation, HarmfulWord, Verdict

# The machine may be busy: what is checked is the result, not the time it takes.
calm = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parse(data: bytes, number: int = 7) -> Post | BadLine:
    return parse_line(Line(number, data))


@pytest.mark.parametrize(
    ("data", "kind", "post_id"),
    [
        (b'{"text": ""}', "empty", 7),
        (b'{"id": "a", "text": " \\n "}', "empty", "a"),
        (b'{"id": "a"}', "text", "a"),
        (b'{"id": "a", "text": null}', "text", "a"),
        (b'{"id": "a", "text": 5}', "text", "a"),
        (b'{"id": "a", "text": ["x"]}', "text", "a"),
        (b'{"id": "a", "text": "x"', "json", None),
        (b'{"id": "a", "text": "x"} {}', "json", None),
        (b"not json", "json", None),
        (b'["text"]', "object", None),
        (b'"text"', "object", None),
        (b'{"id": true, "text": "x"}', "id", None),
        (b'{"id": [1], "text": "x"}', "id", None),
        (b'{"id": "a", "text": "x \\ud800 y"}', "surrogate", "a"),
        (b'{"id": "a", "text": "\xed\xa0\x80"}', "encoding", None),
        (b'{"id": "a", "text": "\xff"}', "encoding", None),
        (b'{"text": "x", "text": "y"}', "json", None),
        (b'{"text": "x", "n": NaN}', "json", None),
        (b'{"text": "x", "n": 1e999}', "json", None),
        (b'{"text": "x", "n": ' + b"9" * 5000 + b"}", "json", None),
        (b'{"text": "x", "n": ' + b"[" * 100_000 + b"}", "json", None),
        (b'{"text": "tab\there"}', "json", None),
    ],
)
def test_bad_lines_say_why(data: bytes, kind: str, post_id: object) -> None:
    bad = parse(data)
    assert isinstance(bad, BadLine)
    assert (bad.kind, bad.id, bad.line) == (kind, post_id, 7)
    assert bad.kind in jsonl.LINE_ERROR_KINDS


@pytest.mark.parametrize(
    "line", ['{"text": "zyzzy"', '{"text": "zyzzy \\ud800"}', '{"text": ["zyzzy"]}', "zyzzy"]
)
def test_messages_never_quote_a_post(line: str) -> None:
    bad = parse(line.encode())
    assert isinstance(bad, BadLine)
    assert "zyzzy" not in bad.message


@pytest.mark.parametrize(
    "text",
    [
        "a\0b",
        "\u202eright to left",
        "\N{THUMBS UP SIGN}\N{EMOJI MODIFIER FITZPATRICK TYPE-3}",
        "long " * 20_000,
    ],
)
def test_odd_but_sound_texts_are_posts(text: str) -> None:
    post = parse(json.dumps({"text": text}).encode())
    assert isinstance(post, Post)
    assert (post.text, post.id) == (text, 7)


def test_a_surrogate_pair_in_escapes_is_one_character() -> None:
    post = parse(b'{"text": "\\ud83d\\ude00"}')
    assert isinstance(post, Post)
    assert post.text == "\N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("given_id", "expected"), [("0", 0), ("1.5", 1.5), ('""', ""), ("null", 7), ('"7"', "7")]
)
def test_ids_are_strings_or_numbers_and_default_to_the_line(given_id: str, expected: object) -> None:
    post = parse(f'{{"id": {given_id}, "text": "x"}}'.encode())
    assert isinstance(post, Post)
    assert post.id == expected
    assert type(post.id) is type(expected)


def pipe_of(data: bytes) -> int:
    read_end, write_end = os.pipe()

    def feed() -> None:
        with os.fdopen(write_end, "wb") as stream:
            stream.write(data)

    threading.Thread(target=feed, daemon=True).start()
    return read_end


@calm
@given(
    st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    st.booleans(),
    st.integers(min_value=1, max_value=5),
)
def test_batches_hold_every_non_blank_line_once(lines: list[bytes], ends: bool, max_lines: int) -> None:
    data = b"\n".join(lines) + (b"\n" if ends else b"")
    descriptor = pipe_of(data)
    try:
        batches = list(read_batches([descriptor], max_lines=max_lines, waits=True))
    finally:
        os.close(descriptor)
    expected = [Line(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    assert [line for batch in batches for line in batch] == expected
    assert all(len(batch) == max_lines for batch in batches[:-1])


def test_a_line_in_an_open_pipe_is_handed_on_at_once() -> None:
    read_end, write_end = os.pipe()
    batches = read_batches([read_end])
    try:
        os.write(write_end, b'{"text": "one"}\n\n{"text": "two"}\n{"te')
        first = next(batches)
        assert [line.number for line in first] == [1, 3]
        os.write(write_end, b'xt": "four"}\n')
        assert [(line.number, line.data) for line in next(batches)] == [(4, b'{"text": "four"}')]
    finally:
        os.close(write_end)
    assert list(batches) == []
    os.close(read_end)


def test_two_inputs_are_numbered_as_one_and_lines_know_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n\n2")
    (tmp_path / "b").write_bytes(b"5\n")
    with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("rb") as b:
        batches = list(read_batches([a.fileno(), iter([b"3\n", b"\nf", b"our"]), b.fileno()]))
    lines = [line for batch in batches for line in batch]
    assert [(line.number, line.data) for line in lines] == [
        (1, b"1"),
        (3, b"2"),
        (4, b"3"),
        (6, b"four"),
        (7, b"5"),
    ]
    assert [(line.source, line.row) for line in lines] == [(0, 1), (0, 3), (1, 1), (1, 3), (2, 1)]
    assert [(line.start, line.end) for line in lines] == [(0, 2), (3, 4), (0, 2), (3, 7), (0, 2)]


def test_a_huge_line_is_passed_over_and_the_next_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MAX_LINE_BYTES", 100_000)
    descriptor = pipe_of(b"x" * 300_000 + b"\n" + b'{"text": "next"}\n' + b"y" * 200_000)
    batches = read_batches([descriptor], waits=True)
    lines = [line for batch in batches for line in batch]
    os.close(descriptor)
    assert [(line.number, line.data) for line in lines] == [(1, None), (2, b'{"text": "next"}'), (3, None)]
    assert [(line.start, line.end) for line in lines] == [
        (0, 300_001),
        (300_001, 300_018),
        (300_018, 500_018),
    ]
    bad = parse_line(lines[0])
    assert isinstance(bad, BadLine)
    assert bad.kind == "too_long"


VERDICT = Verdict(
    label="hate",
    probabilities={"neutral": 0.1234567, "offensive": 0.2000001, "hate": 0.6765432},
    gates={"wiki": 1 / 3, "forums": 2 / 3, "full": 0.0},
    strategy="blend",
    disagreement=-0.0,
    disagreement_basis="model",
    decision="flag",
    model="abc",
)
EXPLANATION = Explanation(
    style="composed",
    summary="s",
    affected_groups=(AffectedGroup("players", 0.9),),
    harmful_words=(HarmfulWord("raffle", 3, 9, None, 0.5),),
    reason="r",
    evidence=(Evidence("raffle", 3, 9, 0.25),),
)


def test_a_verdict_is_written_in_the_order_of_the_contract() -> None:
    post = Post(3, "p", "text", {"id": "p", "text": "text", "user": "u", "label": "kept out"})
    record = verdict_record(VERDICT, post, keep=("user", "absent"))
    assert list(record) == [
        "schema",
        "id",
        "label",
        "probabilities",
        "gates",
        "strategy",
        "disagreement",
        "disagreement_basis",
        "decision",
        "model",
        "user",
    ]
    assert record["probabilities"] == {"neutral": 0.123457, "offensive": 0.2, "hate": 0.676543}
    assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert dump_line(record["disagreement"]) == b"0.0\n"
    assert list(record["gates"]) == ["wiki", "forums", "full"]


def test_truncated_and_explanation_appear_only_where_they_apply() -> None:
    from dataclasses import replace

    verdict = replace(VERDICT, truncated=True, explanation=EXPLANATION)
    record = jsonl.verdict_fields(verdict)
    assert list(record)[-2:] == ["truncated", "explanation"]
    assert record["explanation"] == {
        "style": "composed",
        "summary": "s",
        "affected_groups": [{"name": "players", "probability": 0.9}],
        "harmful_words": [{"text": "raffle", "start": 3, "end": 9, "group": None, "weight": 0.5}],
        "reason": "r",
        "evidence": [{"text": "raffle", "start": 3, "end": 9, "weight": 0.25}],
    }
    cut = replace(verdict, explanation=replace(EXPLANATION, is_complete=False))
    assert jsonl.verdict_fields(cut)["explanation"] == {**record["explanation"], "is_complete": False}


@calm
@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.text(), st.lists, max_leaves=5))
)
def test_a_dumped_value_is_one_line_that_reads_back(value: dict[str, object]) -> None:
    data = dump_line(value)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert json.loads(data.decode()) == value


def test_half_a_surrogate_pair_in_a_kept_field_comes_out_as_it_came() -> None:
    assert dump_line({"note": json.loads('"\\ud800 é"')}) == b'{"note": "\\ud800 \\u00e9"}\n'


def test_no_control_reaches_a_terminal() -> None:
    assert dump_line({"text": "a\x9b31m\x7f\u00e9"}) == '{"text": "a\\u009b31m\\u007f\u00e9"}\n'.encode()
