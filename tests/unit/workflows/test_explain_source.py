"""What `hatex explain` takes its argument, or stdin, for."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from time import perf_counter
from typing import Any

import pytest

from hatex.errors import UsageError
from hatex.jsonl import BadLine, Post
from hatex.workflows.explain_source import open_source

Feed = Callable[[str], None]
GOOD = '{"id": "b", "text": "what a match"}\n'
BROKEN = '{"id": "a", "text": "clowns}\n'


@pytest.fixture
def feed(tmp_path: Path) -> Any:
    """Let file descriptor 0 read what is given."""
    saved = os.dup(0)

    def give(text: str) -> None:
        (tmp_path / "stdin").write_text(text, encoding="utf-8", newline="")
        with (tmp_path / "stdin").open("rb") as stream:
            os.dup2(stream.fileno(), 0)

    yield give
    os.dup2(saved, 0)
    os.close(saved)


def read(source: str) -> list[Any]:
    return [each for batch in open_source(source) for each in batch]


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (BROKEN + GOOD, ["json", None]),
        (BROKEN + BROKEN + GOOD + BROKEN, ["json", "json", None, "json"]),
        ("\n" + BROKEN + "\n" + GOOD, ["json", None]),
        ("id,text\n" + GOOD, ["json", None]),
        (BROKEN + '{"id": "b", "text": ""}\n', ["json", "empty"]),
        ('{"id": "a"}\n' + GOOD, ["text", None]),
    ],
)
def test_a_line_that_holds_a_text_makes_stdin_jsonl(feed: Feed, given: str, kinds: list[str | None]) -> None:
    feed(given)
    assert [getattr(each, "kind", None) for each in read("-")] == kinds


@pytest.mark.parametrize(
    "text",
    [
        "what a match",
        "two lines\nof one post",
        "{not json, but a post}",
        BROKEN.strip(),
        BROKEN + BROKEN.strip(),
        'he wrote\n{"goals": 3}\nand left',
        "numbers:\n3\n[4]",
        "\n above it is a blank line",
    ],
)
def test_stdin_without_such_a_line_is_one_post(feed: Feed, text: str) -> None:
    for given in (text, text + "\n"):
        feed(given)
        assert read("-") == [Post(1, 1, text, {})]


def test_lines_keep_their_numbers(feed: Feed) -> None:
    feed("\n" + BROKEN + "\n" + GOOD + GOOD.strip())
    assert [each.line for each in read("-")] == [2, 4, 5]


def test_a_post_is_handed_on_before_the_next_one_comes() -> None:
    saved = os.dup(0)
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    try:
        os.write(writer, (BROKEN + GOOD).encode())
        batches = open_source("-")
        started = perf_counter()
        Timer(2.0, os.write, (writer, GOOD.encode())).start()
        assert [each.line for each in next(batches)] == [1, 2]
        assert perf_counter() - started < 1.5
        assert [each.line for each in next(batches)] == [3]
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, reader, writer):
            os.close(descriptor)


@pytest.mark.parametrize(
    ("source", "where", "said", "hint"),
    [
        ("missing.jsonl", "missing.jsonl", "ends in .jsonl, but there is no such file", "correct the path"),
        (
            "missing.jsonl.gz",
            "missing.jsonl.gz",
            "ends in .gz, but there is no such file",
            "correct the path",
        ),
        ("posts.csv/a.jsonl", "posts.csv/a.jsonl", "there is no such file", "pipe them into hatex explain -"),
        ("look at my posts.jsonl", "TEXT", "there is no such file", "if these words are the post"),
        ("folder.jsonl", "folder.jsonl", "is a folder", "name one of its files"),
        ("sub/folder", "sub/folder", "is a folder", "name one of its files"),
        ("posts.jsonl.xz", "posts.jsonl.xz", "is compressed", "unxz -c posts.jsonl.xz | hatex explain -"),
        ("posts.csv", "posts.csv", "does not end in .jsonl", "hatex explain - < posts.csv"),
        ("my posts.txt", "my posts.txt", "does not end in .jsonl", "hatex explain - < 'my posts.txt'"),
    ],
)
def test_names_that_are_no_jsonl_files_are_refused_with_the_remedy(
    source: str, where: str, said: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("folder.jsonl", "sub/folder"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("posts.jsonl.xz", "posts.csv", "my posts.txt"):
        (tmp_path / name).write_text("what a match")
    with pytest.raises(UsageError) as raised:
        open_source(source)
    assert raised.value.where == where
    assert said in raised.value.message
    assert hint in (raised.value.hint or "")


@pytest.mark.parametrize(
    "source", ["clowns", "x" * 300 + ".jsonl", "posts.csv is a file", "and/or", "a\0b.jsonl", "3.5", "-1"]
)
def test_words_are_a_post(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clowns").mkdir()
    assert read(source) == [Post(1, 1, source, {})]


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_text(GOOD + BROKEN)
    assert [each.line for each in read(str(tmp_path / "posts.jsonl"))] == [1, 2]


def test_files_are_read_plain_or_gzipped(tmp_path: Path) -> None:
    plain, packed = tmp_path / "posts.jsonl", tmp_path / "posts.jsonl.gz"
    plain.write_text(GOOD + BROKEN + GOOD)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    read_plain = read(str(plain))
    assert [type(each) for each in read_plain] == [Post, BadLine, Post]
    assert read(str(packed)) == read_plain
