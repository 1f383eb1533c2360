"""Broken files are named with file and row; nothing is changed silently."""

import gzip
from pathlib import Path

import pytest

from hatex.data.files import csv_rows, file_sha256, json_file, jsonl_rows, open_text
from hatex.data.raw import Problem
from hatex.errors import DataError


def test_mixed_encodings_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    path.write_bytes("t,l\nschön,a\n".encode() + "schön,b\n".encode("latin-1") + b"plain,c\n")
    rows = list(csv_rows(path, ("t",)))
    assert [row if isinstance(row, Problem) else row[1]["t"] for row in rows] == [
        "schön",
        Problem(str(path), 2, "encoding", "the row is not UTF-8"),
        "plain",
    ]


def test_a_gzip_that_breaks_off_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "cut.jsonl.gz"
    text = "".join(f'{{"n": {i}, "x": "{i * 7919 % 1000003}"}}\n' for i in range(50_000))
    path.write_bytes(gzip.compress(text.encode())[:-5000])
    with pytest.raises(DataError, match="broken gzip") as caught:
        list(jsonl_rows(path))
    row = int(str(caught.value.where).rpartition(":")[2])
    assert 1000 < row <= 50_000


def test_no_gzip_at_all(tmp_path: Path) -> None:
    path = tmp_path / "plain.csv.gz"
    path.write_text("t\nnice\n")
    with pytest.raises(DataError, match="broken gzip"):
        list(csv_rows(path, ("t",)))


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text('a,b\n1,2\n1\n"x"y,2\n3,4\n')
    rows = list(csv_rows(path, ("a",)))
    assert [row.kind if isinstance(row, Problem) else row[0] for row in rows] == [1, "columns", "csv", 4]
    lines = tmp_path / "odd.jsonl"
    lines.write_text('{"a": 1}\n\n[1]\n{"a": \n')
    assert [item.row if isinstance(item, Problem) else item[1] for item in jsonl_rows(lines)] == [
        {"a": 1},
        3,
        4,
    ]


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"), open_text(tmp_path / "none.csv"):
        pass
    broken = tmp_path / "x.json"
    broken.write_text('{"a": }')
    with pytest.raises(DataError, match="not JSON") as caught:
        json_file(broken)
    assert str(caught.value.where).endswith("x.json:1:7")
    assert len(file_sha256(broken)) == 64
