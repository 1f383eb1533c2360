"""Parquet as a table: read by path, whatever else it holds."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hatex.data.raw import Columns
from hatex.errors import DataError

Reader = Callable[..., object]


def put_parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_is_read_whatever_else_it_holds_and_however_it_is_called(
    read: Reader, tmp_path: Path
) -> None:
    far = 10_000_000  # a day of a year that Python has no date for
    pairs = pa.array([[("a", far)], [], []], pa.map_(pa.string(), pa.date32()))
    days = pa.array([far] * 3, pa.date32())
    votes = [["hate", "neutral"], ["neutral"], None]
    path = put_parquet(
        tmp_path / "a[1].parquet", t=["own goal", "nice", "odd"], v=votes, more=pairs, d=days, n=[3, 4, 5]
    )
    found = read("table", path, columns=Columns(text="t", id="n", votes="v"))
    assert [(post.id, post.text) for post in found.posts] == [("3", "own goal"), ("4", "nice"), ("5", "odd")]
    assert found.votes == [[("hate", 1), ("neutral", 1)], [("neutral", 1)], []]
    with pytest.raises(DataError, match=r"missing column 'l' \(has 't', 'v', 'more', 'd', 'n'\)"):
        read("table", path, columns=Columns(text="t", label="l"))


def test_parquet_rows_count_through_its_row_groups(read: Reader, tmp_path: Path) -> None:
    texts = [f"own goal {i}" for i in range(9_000)]
    path = put_parquet(tmp_path / "a.parquet", t=texts, l=["hate"] * len(texts))
    found = read("table", path, columns=Columns(text="t", label="l"))
    assert [post.text for post in found.posts] == texts
    assert [post.row for post in found.posts] == list(range(1, 9_001))


def test_a_parquet_without_rows_is_no_broken_one(read: Reader, tmp_path: Path) -> None:
    columns = Columns(text="t", label="l")
    none = pa.array([], pa.string())
    put_parquet(tmp_path / "set" / "a.parquet", t=none, l=none)
    put_parquet(tmp_path / "set" / "b.parquet", t=["nice"], l=["neutral"])
    assert [post.id for post in read("table", tmp_path / "set", columns=columns).posts] == ["b-1"]
    whole = put_parquet(tmp_path / "c.parquet", t=["nice"], l=["neutral"]).read_bytes()
    for name, data in (("cut", whole[:-20]), ("odd", b"own goal")):
        (tmp_path / f"{name}.parquet").write_bytes(data)
        with pytest.raises(DataError, match="not a parquet file") as caught:
            read("table", tmp_path / f"{name}.parquet", columns=columns)
        assert caught.value.where == str(tmp_path / f"{name}.parquet")
