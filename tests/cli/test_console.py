"""stdout is data, stderr is everything else; plain progress where nobody watches."""

from __future__ import annotations

import io

import pytest
from rich.console import Group
from rich.table import Table

from hatex.console import CONTENT_NOTE, Console, PlainProgress, clock_time, describe_progress
from hatex.types import NO_PROGRESS


class Terminal(io.TextIOWrapper):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def pair(*, terminal: bool = False) -> tuple[io.TextIOWrapper, io.TextIOWrapper]:
    kind = Terminal if terminal else io.TextIOWrapper
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), kind(io.BytesIO(), encoding="utf-8")


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


def test_data_goes_to_stdout_and_narration_to_stderr() -> None:
    out, err = pair()
    console = Console(stdout=out, stderr=err)
    console.data("[bold]as it is[/bold]")
    console.json({"b": 1, "a": "é"})
    console.lines(b"{}\n")
    console.note("noted")
    console.hint("do this")
    assert written(out) == '[bold]as it is[/bold]\n{"b": 1, "a": "é"}\n{}\n'
    assert written(err) == "noted\nhint: do this\n"


def test_quiet_leaves_data_alone() -> None:
    out, err = pair(terminal=True)
    console = Console(quiet=True, stdout=out, stderr=err)
    console.content_note()
    console.hint("do this")
    assert console.progress() is NO_PROGRESS
    console.data("data")
    assert (written(out), written(err)) == ("data\n", "")


def test_the_content_note_is_said_once() -> None:
    out, err = pair()
    console = Console(stdout=out, stderr=err)
    console.content_note()
    console.content_note()
    assert written(err) == f"{CONTENT_NOTE}\n"


def test_bars_are_drawn_on_a_terminal_only() -> None:
    for terminal in (True, False):
        out, err = pair(terminal=terminal)
        console = Console(stdout=out, stderr=err)
        with console.progress().task("embed [x]", 4, "posts") as advance:
            advance(4)
            console.note("meanwhile")
        assert ("embed [x]" in written(err)) is terminal
        assert ("4 of 4 posts" in written(err)) is terminal
        assert "meanwhile" in written(err)
        assert written(out) == ""


def test_brackets_and_colons_of_foreign_strings_are_no_markup() -> None:
    foreign = "mit [/x] [red]a :fire:"
    out, err = pair(terminal=True)
    console = Console(stdout=out, stderr=err)
    table = Table(foreign, title=foreign)
    table.add_row(foreign)
    console.data(table)
    console.table(Group(foreign, table))
    with console.progress().task(foreign):
        console.note(foreign)
        console.progress().say(foreign)
    assert written(out).count(foreign) == 7
    assert written(err).count(f"{foreign}\n") == 2
    assert written(err).count(foreign) > 2  # the bar's


def test_plain_progress_speaks_now_and_then_and_only_of_long_tasks() -> None:
    now = 0.0
    said: list[str] = []
    progress = PlainProgress(said.append, clock=lambda: now)
    with progress.task("short", 2, "posts") as advance:
        advance(2)
    assert said == []
    with progress.task("embed", 100, "posts") as advance:
        for _ in range(100):
            now += 0.25
            advance(1)
    assert said == [
        "embed: 20 of 100 posts, 4 posts/s, 0:20 left",
        "embed: 80 of 100 posts, 4 posts/s, 0:05 left",
        "embed: 100 posts, 4 posts/s, done",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (7200, "2:00:00")])
def test_clock_time(seconds: float, text: str) -> None:
    assert clock_time(seconds) == text


def test_progress_before_anything_is_done() -> None:
    assert describe_progress("fetch", 0, None, "MB", 0.0) == "fetch: 0 MB"


def test_tables_in_a_pipe_are_as_wide_as_their_contents(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table("name", "folder", box=None)
    table.add_row("an adapter", "/".join(["folder"] * 30))
    out, err = pair()
    Console(stdout=out, stderr=err).table(table)
    assert "/".join(["folder"] * 30) in written(out)
    assert max(map(len, written(out).splitlines())) < 300
