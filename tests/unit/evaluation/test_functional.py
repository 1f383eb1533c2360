"""Functional suites: the shipped one, its rules, and judging by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from hatex.errors import DataError
from hatex.evaluation.estimate import Bootstrap
from hatex.evaluation.functional import COLUMNS, find_suite, judge_suite, read_suite

FEW = Bootstrap(1, 100)


def write(path, *rows, columns=(*COLUMNS, "templ_id")):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return str(path)


def test_shipped_suite_keeps_its_rules():
    suite = read_suite("plain")
    assert {case.is_hateful for case in suite.cases} == {True, False}
    for case in suite.cases:
        if case.is_hateful:
            assert "[GROUP]" in case.text or "[SLUR]" in case.text
        if case.target:
            assert not case.is_hateful
            assert case.target in case.text
    per_function = {c.functionality: c.is_hateful for c in suite.cases}
    assert all(per_function[c.functionality] == c.is_hateful for c in suite.cases)
    assert len({c.template for c in suite.cases if c.template}) >= 5


def test_judged_by_hand(tmp_path):
    suite = read_suite(
        write(
            tmp_path / "s.csv",
            ["praise", "1", "kind words about A", "non-hateful", "A", "t1"],
            ["praise", "2", "kind words about B", "non-hateful", "B", "t1"],
            ["praise", "3", "kind words about C", "non-hateful", "C", "t1"],
            ["threat", "4", "words against [GROUP]", "hateful", "", ""],
            ["threat", "5", "more against [GROUP]", "hateful", "", ""],
        )
    )
    result = judge_suite(suite, "blend", np.array([0.1, 0.5, 0.2, 0.9, 0.49]), FEW)
    assert [(f.functionality, f.accuracy.value) for f in result.functions] == [
        ("threat", 0.5),
        ("praise", pytest.approx(2 / 3)),
    ]
    assert result.hateful.value == 0.5
    assert result.non_hateful.value == pytest.approx(2 / 3)
    assert result.flip_rate.value == pytest.approx(2 / 3)  # one of three flagged: 2 of 3 pairs differ
    with pytest.raises(ValueError, match="one probability per case"):
        judge_suite(suite, "blend", np.zeros(2), FEW)


def test_no_flip_in_two_templates_is_not_certainty(tmp_path):
    rows = [
        ["praise", f"{t}{g}", f"kind {t} {g}", "non-hateful", g, t] for t in ("t1", "t2") for g in ("A", "B")
    ]
    flips = judge_suite(read_suite(write(tmp_path / "s.csv", *rows)), "blend", np.zeros(4), FEW).flip_rate
    z = 1.959963984540054
    assert (flips.value, flips.n) == (0.0, 2)
    assert flips.high == pytest.approx(z * z / (2 + z * z), abs=1e-9)


def test_wilson_interval_by_hand(tmp_path):
    rows = [["praise", str(i), f"kind words {i}", "non-hateful", "", ""] for i in range(4)]
    result = judge_suite(read_suite(write(tmp_path / "s.csv", *rows)), "blend", np.zeros(4), FEW)
    z = 1.959963984540054
    low = (1 + z * z / 8 - z * np.sqrt(z * z / 64)) / (1 + z * z / 4)
    assert result.non_hateful.low == pytest.approx(low, abs=1e-9)
    assert result.non_hateful.high == pytest.approx(1.0)
    assert result.hateful.why_missing == "no cases"
    assert result.flip_rate.why_missing == "no template has two targets"


def test_variants_of_a_template_count_once(tmp_path):
    rows = [
        ["praise", f"{t}{g}", f"kind {t} {g}", "non-hateful", g, t] for t in ("t1", "t2") for g in "ABCDEFG"
    ]
    result = judge_suite(read_suite(write(tmp_path / "s.csv", *rows)), "blend", np.zeros(14), FEW)
    z = 1.959963984540054
    for share in (result.non_hateful, result.functions[0].accuracy):
        assert (share.value, share.n) == (1.0, 14)
        assert share.low == pytest.approx(2 / (2 + z * z), abs=1e-9)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["f", "1", "words", "rude", "", ""], "label_gold must be"),
        (["f", "1", "  ", "hateful", "", ""], "test_case is empty"),
    ],
)
def test_bad_rows_name_their_line(tmp_path, row, message):
    path = write(tmp_path / "s.csv", ["f", "0", "words", "hateful", "", ""], row)
    with pytest.raises(DataError, match=message) as caught:
        read_suite(path)
    assert caught.value.where == f"{path}:3"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("f,1,caf\xe9,hateful,,\n".encode("latin-1"), "not UTF-8"),
        (b"f,1,words,hateful\n", "4 fields instead of 6"),
    ],
)
def test_rows_that_cannot_be_read_name_their_place(tmp_path, line, message):
    path = write(tmp_path / "s.csv", ["f", "0", "words", "hateful", "", ""])
    with (tmp_path / "s.csv").open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match=message) as caught:
        read_suite(path)
    assert caught.value.where == f"{path}:3"
    assert "a UTF-8 CSV file with the columns" in (caught.value.hint or "")


def test_long_cases_are_read(tmp_path):
    text = "own goal " * 20_000
    limit = csv.field_size_limit(131_072)
    try:
        path = write(tmp_path / "s.csv", ["f", "0", text, "hateful", "", ""])
        assert read_suite(path).cases[0].text == text
    finally:
        csv.field_size_limit(limit)


def test_bad_files(tmp_path):
    with pytest.raises(DataError, match="missing column 'label_gold', 'target_ident'") as caught:
        read_suite(write(tmp_path / "a.csv", columns=("functionality", "case_id", "test_case")))
    assert "functionality, case_id, test_case, label_gold, target_ident" in (caught.value.hint or "")
    with pytest.raises(DataError, match="no cases"):
        read_suite(write(tmp_path / "b.csv"))
    twice = ["f", "1", "words", "hateful", "", ""]
    with pytest.raises(DataError, match="case_id repeats"):
        read_suite(write(tmp_path / "c.csv", twice, twice))
    with pytest.raises(DataError, match="no such suite") as caught:
        find_suite("nowhere")
    assert "plain" in (caught.value.hint or "")
