"""An output file that is whole or not there: it grows as `FILE.partial` and is renamed when complete."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hatex.errors import HatexError, UsageError
from hatex.locks import lock_output
from hatex.types import OUTPUT_SCHEMA


def check_output(path: Path) -> None:
    """Raise UsageError where no file can be written: before the work whose outcome it is to hold."""
    if not path.parent.is_dir():
        raise UsageError(
            "the folder of the output file does not exist", where=str(path), hint="create it, or name another"
        )
    if path.is_dir():
        raise UsageError("the output file is a folder", where=str(path), hint="name a file in it")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one piece: a run that is killed leaves the old one, or none. Devices and pipes are written to."""
    path = _behind_link(path)
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    scratch = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with scratch.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _behind_link(path: Path) -> Path:
    """The file that a symbolic link leads to, so that it is this one which is replaced; any other path as it is."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


class PartialFile:
    """JSONL on its way to `path`; as a context it closes the partial file and leaves it for `resume`.

    `lines` counts the complete lines of a run that is resumed; `is_complete` says that it had already finished. The
    partial file is locked while it is open, and lies beside the file that `path` leads to, if it is a symbolic link.
    Raises UsageError if another run writes the partial file, or left one and `resume` is not asked for.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = _behind_link(path)
        check_output(self.path)
        if self.path.exists() and not self.path.is_file():
            raise UsageError(
                "is a device, a pipe or a socket, which the finished file would replace",
                where=str(path),
                hint="leave --output out and redirect stdout: > FILE",
            )
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.lines = 0
        self.is_complete = False
        self._resume = resume
        self._stream: BinaryIO | None = None

    @property
    def _found(self) -> Path:
        return self.path if self.is_complete else self.partial

    def __enter__(self) -> Self:
        self._stream = self._open()
        if self._stream is None:
            self.is_complete = True
            with self.path.open("rb") as stream:
                if self._count(stream) != self.path.stat().st_size:
                    raise self.mismatch("its last line has no end")
            return self
        end = self._count(self._stream)
        self._stream.truncate(end)
        self._stream.seek(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            with self._stream as stream:  # locked until the file has gone
                if os.fstat(stream.fileno()).st_size == 0 and self._is_in_place(stream):
                    self.partial.unlink()

    def _open(self) -> BinaryIO | None:
        """The partial file, locked; None if the output is complete. Looks again where another run was faster."""
        while True:
            is_left = self._is_left()
            if not is_left and self._resume and self.path.exists():
                return None
            try:
                flags = os.O_RDWR if is_left else os.O_RDWR | os.O_CREAT | os.O_EXCL
                stream = os.fdopen(os.open(self.partial, flags, 0o666), "r+b")
            except FileExistsError:
                continue
            except FileNotFoundError:
                if not is_left:
                    raise
                continue
            try:
                lock_output(stream, self.partial)
                if self._is_in_place(stream):
                    if is_left and not self._resume:
                        raise UsageError(
                            "an earlier run left its unfinished output",
                            where=str(self.partial),
                            hint=f"--resume continues it; to start afresh, delete {self.partial}",
                        )
                    return stream
            except BaseException:
                stream.close()
                raise
            stream.close()

    def _is_left(self) -> bool:
        """Whether there is a partial file; UsageError where something else has its name."""
        try:
            mode = self.partial.lstat().st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(mode):
            raise UsageError(
                "the unfinished output would have this name, which something else than a file has",
                where=str(self.partial),
                hint="name another output file",
            )
        return True

    def _is_in_place(self, stream: BinaryIO) -> bool:
        """Whether the open file is still the one of that name."""
        try:
            return os.path.samestat(os.fstat(stream.fileno()), self.partial.lstat())
        except FileNotFoundError:
            return False

    def _count(self, stream: BinaryIO) -> int:
        """Count complete lines; the end of the last one, in bytes."""
        end = 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self.lines += 1
        return end

    def records(self) -> Iterator[dict[str, Any]]:
        """The objects that the earlier run wrote; UsageError at a line that hatex never writes."""
        with self._found.open("rb") as stream:
            for number, line in enumerate(islice(stream, self.lines), 1):
                try:
                    record = json.loads(line)
                except ValueError:
                    record = None
                if (
                    not isinstance(record, dict)
                    or record.get("schema") != OUTPUT_SCHEMA
                    or not _is_whole(record)
                ):
                    raise self.mismatch(f"its line {number} is no answer of hatex")
                yield record

    def write(self, data: bytes) -> None:
        """Append whole lines, and have them out of this process before going on."""
        assert self._stream is not None
        self._stream.write(data)
        self._stream.flush()

    def finish(self) -> None:
        """Make the file whole: flushed to disk, under its final name."""
        assert self._stream is not None
        self._stream.flush()
        os.fsync(self._stream.fileno())
        if not self._is_in_place(self._stream):
            raise HatexError(
                "was deleted or replaced while this run wrote it",
                where=str(self.partial),
                hint="answer the posts again",
            )
        self.partial.replace(self.path)
        self._stream.close()  # and with it the lock: no other run ever has the finished file
        self._stream = None

    def mismatch(self, reason: str) -> UsageError:
        """The error for an output that this run cannot continue, or that is not of this run."""
        return UsageError(
            f"cannot be resumed: {reason}",
            where=str(self._found),
            hint=f"use the same input, model and options, or delete {self._found} to start afresh",
        )


def _is_whole(record: dict[str, Any]) -> bool:
    """Whether an output object has an id, and an error that says its kind if it has one."""
    error = record.get("error", {"kind": None})
    return "id" in record and isinstance(error, dict) and "kind" in error
