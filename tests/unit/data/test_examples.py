"""Examples survive the way through parquet."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hatex.data.examples import FILE_NAME, read_examples, write_examples
from hatex.errors import DataError
from hatex.types import LABEL_SETS, Example, Rationale, Vote

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
names = st.none() | texts
votes = st.builds(Vote, st.sampled_from(LABEL_SETS), st.integers(1, 9), names, names)
spans = st.builds(Rationale, st.integers(0, 5), st.integers(6, 9), names, names)
examples = st.builds(
    Example,
    texts,
    texts,
    texts,
    texts,
    st.lists(votes, max_size=3).map(tuple),
    st.sampled_from(("train", "tune", "report", "test")),
    texts,
    st.lists(texts, max_size=2).map(tuple),
    st.booleans(),
    st.lists(spans, max_size=2).map(tuple),
    st.booleans(),
    names,
    names,
    st.none() | st.dictionaries(texts, texts, max_size=2),
)


@settings(max_examples=30)
@given(st.lists(examples, max_size=6))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[Example]) -> None:
    path = tmp_path_factory.mktemp("rows") / FILE_NAME
    assert write_examples(path, rows) == len(rows)
    assert read_examples(path.parent) == rows
    first = path.read_bytes()
    write_examples(path, rows)
    assert path.read_bytes() == first


def _example(name: str, split: str, dataset: str, platform: str) -> Example:
    return Example(name, dataset, platform, "nice", (Vote(("neutral",)),), split, name)  # type: ignore[arg-type]


def test_filters(tmp_path: Path) -> None:
    rows = [
        _example("a", "train", "x", "wiki"),
        _example("b", "tune", "x", "forums"),
        _example("c", "tune", "y", "wiki"),
    ]
    write_examples(tmp_path / FILE_NAME, rows)
    assert [x.id for x in read_examples(tmp_path, splits=["tune"])] == ["b", "c"]
    assert [x.id for x in read_examples(tmp_path, datasets=["x"], platforms=["wiki"])] == ["a"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def rows() -> object:
        yield _example("a", "train", "x", "wiki")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_examples(tmp_path / FILE_NAME, rows())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(DataError, match="no prepared examples"):
        read_examples(tmp_path)
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / FILE_NAME)
    with pytest.raises(DataError, match="schema 1 expected, found none"):
        read_examples(tmp_path)
    (tmp_path / FILE_NAME).write_text("no parquet")
    with pytest.raises(DataError, match="not a parquet file"):
        read_examples(tmp_path)
