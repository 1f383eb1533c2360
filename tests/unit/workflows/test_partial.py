"""Output files: one run at a time writes one, a finished one is never touched, and only files are replaced."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from hatex.errors import HatexError, UsageError
from hatex.workflows.partial import PartialFile, write_whole

LINE = b'{"schema": 1, "id": 1}\n'


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("over_a_complete_one", [False, True])
def test_a_second_run_is_refused_and_leaves_the_first_alone(tmp_path, resume, over_a_complete_one) -> None:
    path = tmp_path / "answers.jsonl"
    if over_a_complete_one:
        path.write_bytes(LINE)
    with PartialFile(path, resume=False) as first:
        first.write(LINE + LINE[:9])
        with (
            pytest.raises(UsageError, match="another run is writing it") as caught,
            PartialFile(path, resume=resume),
        ):
            pass
        assert caught.value.hint == "wait until that run has ended, or name another output file"
        first.write(LINE[9:])
        first.finish()
    assert path.read_bytes() == LINE * 2
    assert [each.name for each in tmp_path.iterdir()] == ["answers.jsonl"]


def test_a_run_goes_on_where_one_that_has_ended_stopped_but_only_if_it_is_asked_to(tmp_path) -> None:
    path = tmp_path / "answers.jsonl"
    with PartialFile(path, resume=False) as first:
        first.write(LINE + LINE[:9])
    with (
        pytest.raises(UsageError, match="an earlier run left its unfinished output"),
        PartialFile(path, resume=False),
    ):
        pass
    assert partial_of(path).read_bytes() == LINE + LINE[:9]
    with PartialFile(path, resume=True) as second:
        assert second.lines == 1
        second.write(LINE)
        second.finish()
    assert path.read_bytes() == LINE * 2


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_that_its_run_finished_before_it_was_locked_is_left_alone(
    tmp_path, monkeypatch, resume
) -> None:
    path = tmp_path / "answers.jsonl"
    flock = fcntl.flock

    def flock_late(stream: object, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        first.write(LINE)
        first.finish()
        flock(stream, operation)

    with PartialFile(path, resume=False) as first:
        second = PartialFile(path, resume=resume)
        monkeypatch.setattr(fcntl, "flock", flock_late)
        with second:
            assert second.is_complete == resume
            assert path.read_bytes() == LINE
            assert partial_of(path).exists() != resume
    assert path.read_bytes() == LINE


@pytest.mark.parametrize(
    ("ends", "message"),
    [(False, "another run is writing it"), (True, "an earlier run left its unfinished output")],
)
def test_of_two_runs_that_find_nothing_one_creates_the_file(tmp_path, monkeypatch, ends, message) -> None:
    path = tmp_path / "answers.jsonl"
    first, second = PartialFile(path, resume=False), PartialFile(path, resume=False)
    open_file = os.open

    def open_late(*arguments: object) -> int:
        monkeypatch.setattr(os, "open", open_file)
        first.__enter__()
        first.write(LINE)
        if ends:
            first.__exit__(None, None, None)
        return open_file(*arguments)

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(UsageError, match=message), second:
        pass
    if not ends:
        first.__exit__(None, None, None)
    assert partial_of(path).read_bytes() == LINE


def test_the_lock_is_held_until_the_file_has_its_final_name(tmp_path, monkeypatch) -> None:
    path = tmp_path / "answers.jsonl"
    replace = Path.replace

    def replace_late(self: Path, target: Path) -> Path:
        with (
            pytest.raises(UsageError, match="another run is writing it"),
            PartialFile(path, resume=True),
        ):
            pass
        return replace(self, target)

    with PartialFile(path, resume=False) as first:
        first.write(LINE)
        monkeypatch.setattr(Path, "replace", replace_late)
        first.finish()
    assert path.read_bytes() == LINE


def test_a_run_whose_file_was_replaced_leaves_that_of_its_successor(tmp_path) -> None:
    path = tmp_path / "answers.jsonl"
    first = PartialFile(path, resume=False).__enter__()
    partial_of(path).unlink()
    with PartialFile(path, resume=False) as second:
        with pytest.raises(HatexError, match="was deleted or replaced while this run wrote it"):
            first.finish()
        first.__exit__(None, None, None)
        second.write(LINE)
        second.finish()
    assert path.read_bytes() == LINE


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch) -> None:
    def refuse(stream: object, operation: int) -> None:
        del stream, operation
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(HatexError, match="cannot be locked: Operation not supported") as caught,
        PartialFile(tmp_path / "answers.jsonl", resume=False),
    ):
        pass
    assert caught.value.hint == "name an output file on another file system"


@pytest.mark.parametrize("exists", [False, True])
def test_a_symbolic_link_is_followed(tmp_path, exists) -> None:
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "target.jsonl", tmp_path / "answers.jsonl"
    if exists:
        target.write_bytes(b"older\n")
    link.symlink_to("disk/target.jsonl")
    with PartialFile(link, resume=False) as output:
        output.write(LINE)
        assert partial_of(target).read_bytes() == LINE
        output.finish()
    assert link.is_symlink()
    assert target.read_bytes() == LINE
    assert not partial_of(target).exists()


def test_devices_and_pipes_are_not_replaced(tmp_path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path in (Path(os.devnull), pipe, link):
        with pytest.raises(UsageError, match="which the finished file would replace") as caught:
            PartialFile(path, resume=False)
        assert caught.value.where == str(path)
        assert caught.value.hint == "leave --output out and redirect stdout: > FILE"
    answers = tmp_path / "answers"
    os.mkfifo(partial_of(answers))
    with pytest.raises(UsageError, match="the unfinished output would have this name"):
        PartialFile(answers, resume=True).__enter__()


def test_a_file_written_whole_replaces_what_a_link_leads_to_and_leaves_nothing_beside(tmp_path) -> None:
    (tmp_path / "real.md").write_bytes(b"before")
    (tmp_path / "link.md").symlink_to("real.md")
    write_whole(tmp_path / "link.md", b"after")
    assert (tmp_path / "real.md").read_bytes() == b"after"
    assert (tmp_path / "link.md").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.md", "real.md"]


def test_a_file_that_cannot_be_written_whole_keeps_what_it_held(tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "report.md"
    path.write_bytes(b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert [each.name for each in tmp_path.iterdir()] == ["report.md"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_whole(pipe, b"all of it")
    assert os.read(reader, 99) == b"all of it"
    os.close(reader)
    assert pipe.is_fifo()
