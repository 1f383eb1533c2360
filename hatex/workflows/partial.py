"""An output file that is whole or not there: it grows as `FILE.partial` and is renamed when complete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hatex.errors import UsageError
from hatex.types import OUTPUT_SCHEMA


class PartialFile:
    """JSONL on its way to `path`; as a context it closes the partial file and leaves it for `resume`.

    `lines` counts the complete lines of a run that is resumed; `is_complete` says that it had already finished.
    Raises UsageError if another run left a partial file and `resume` is not asked for.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.lines = 0
        if not path.parent.is_dir():
            raise UsageError("the folder of the output file does not exist", where=str(path))
        if path.is_dir():
            raise UsageError("the output file is a folder", where=str(path))
        if self.partial.is_dir():
            raise UsageError(
                "the unfinished output would have this name, which is a folder's",
                where=str(self.partial),
                hint="name another output file",
            )
        if self.partial.exists() and not resume:
            hint = f"--resume continues it; to start afresh, delete {self.partial}"
            raise UsageError("an earlier run left its unfinished output", where=str(self.partial), hint=hint)
        self.is_complete = resume and not self.partial.exists() and path.exists()
        self._stream: BinaryIO | None = None

    @property
    def _found(self) -> Path:
        return self.path if self.is_complete else self.partial

    def __enter__(self) -> Self:
        if self.is_complete:
            with self.path.open("rb") as stream:
                if self._count(stream) != self.path.stat().st_size:
                    raise self.mismatch("its last line has no end")
            return self
        self._stream = self.partial.open("r+b" if self.partial.exists() else "w+b")
        end = self._count(self._stream)
        self._stream.truncate(end)
        self._stream.seek(end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            if self.lines == 0 and self.partial.exists() and self.partial.stat().st_size == 0:
                self.partial.unlink()

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
        self._stream.close()
        self._stream = None
        self.partial.replace(self.path)

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
