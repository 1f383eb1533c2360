"""Broken files are named with file and row; nothing is changed silently."""

import gzip
from pathlib import Path

import pytest

from hatex.data.files import csv_rows, json_file, jsonl_rows, open_text
from hatex.data.raw import Problem
from hatex.errors import DataError
from hatex.hashing import hash_file


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


def test_every_row_that_a_stray_quotation_mark_swallows_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "stray.csv"
    lines = ["1,nice,ok", '2,"own goal,toxic', "3,fans,ok", '4,he said "no" to it,ok', "5,club,ok"]
    path.write_text("\n".join(["n,t,l", *lines, '6,"own goal', "7,fans", ""]))
    rows = list(csv_rows(path, ("t",)))
    assert [row.row if isinstance(row, Problem) else row[1]["n"] for row in rows] == ["1", 2, 3, 4, "5", 6, 7]
    messages = [row.message for row in rows if isinstance(row, Problem)]
    assert messages[:3] == ["lines 3 to 5: ',' expected after '\"'"] * 3
    assert messages[3:] == ["lines 7 to 8: unexpected end of data"] * 2


def test_rows_that_end_as_fields_of_another_row_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "stray.csv"
    path.write_text('t,l\n"own goal,toxic\nso he said no"\nclub,"ok"\nnice,ok\n')
    rows = list(csv_rows(path, ("t",)))
    assert [row.row if isinstance(row, Problem) else row[0] for row in rows] == [1, 2, 3, 4]
    assert str(rows[1]) == f"{path}:2: lines 2 to 3: 1 fields instead of 2"


def tsv_texts(path: Path, *lines: str) -> list[object]:
    path.write_text("\n".join(lines) + "\n")
    return [
        row if isinstance(row, Problem) else row[1]["t"] for row in csv_rows(path, ("t",), delimiter="\t")
    ]


def test_quotation_marks_of_a_plain_tsv_are_text(tmp_path: Path) -> None:
    """The second post would else end behind the fourth, and hold the third with its label."""
    lines = ["t\tl", "nice\tok", '"own goal\ttoxic', "fans\tok", 'so he said no"\tok', '"Oh"\tok']
    assert tsv_texts(tmp_path / "a.tsv", *lines) == ["nice", '"own goal', "fans", 'so he said no"', '"Oh"']


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        (("t\tl", '"own ""goal"""\ttoxic', "fans\tok"), ['own "goal"', "fans"]),
        (
            ("t\tl", '"own ""goal"""\ttoxic', '"for\nlong"\tok', '"fans\tok'),
            ['own "goal"', "for\nlong", "csv"],
        ),
        (('"t"\t"l"', '"own ""goal"""\t"toxic"', '"fans\t"ok"'), ['own "goal"', "csv"]),
        (
            ("t\tl", '"own ""goal"""\ttoxic', '"one\tgoal"\tok', '"fans\tok'),
            ['own "goal"', "one\tgoal", "csv"],
        ),
        (("t\tl", '"own goal"\ttoxic'), ["own goal"]),
        (("t", '"own goal', 'of the day"'), ["own goal\nof the day"]),
    ],
)
def test_a_tsv_that_quotes_as_csv_does_is_read_so(
    tmp_path: Path, lines: tuple[str, ...], texts: list[str]
) -> None:
    rows = tsv_texts(tmp_path / "a.tsv", *lines)
    assert [row.kind if isinstance(row, Problem) else row for row in rows] == texts


def test_values_that_no_reader_takes_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    path.write_text('{"n": 1}\n{"n": ' + "9" * 5000 + '}\n{"n": ' + "[" * 100_000 + "\n" + '{"n": 4}\n')
    rows = list(jsonl_rows(path))
    assert [row.row if isinstance(row, Problem) else row[1]["n"] for row in rows] == [1, 2, 3, 4]
    assert all("cannot be read" in str(row) for row in rows[1:3])


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_a_json_file_that_no_reader_takes_is_told(tmp_path: Path, value: str) -> None:
    path = tmp_path / "large.json"
    path.write_text(f'{{"n": {value}')
    with pytest.raises(DataError, match="cannot be read: ") as caught:
        json_file(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_utf_16_is_told_by_name(tmp_path: Path, encoding: str, name: str) -> None:
    data = "text,label\nown goal,toxic\n".encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(DataError, match="UTF-16 where UTF-8 is expected") as caught:
        list(jsonl_rows(tmp_path / name) if "jsonl" in name else csv_rows(tmp_path / name, ("text",)))
    assert (caught.value.where, caught.value.hint) == (str(tmp_path / name), "save the file as UTF-8")


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"), open_text(tmp_path / "none.csv"):
        pass
    broken = tmp_path / "x.json"
    broken.write_text('{"a": }')
    with pytest.raises(DataError, match="not JSON") as caught:
        json_file(broken)
    assert str(caught.value.where).endswith("x.json:1:7")
    assert len(hash_file(broken)) == 64
