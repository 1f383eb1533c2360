"""An output file that is whole or not there: it grows as `FILE.partial` and is renamed when complete."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from hatex.errors import UsageError
from hatex.types import OUTPUT_SCHEMA

_ALWAYS_COMPARED = ("model", "strategy")


class PartialFile:
    """JSONL on its way to `path`; as a context it closes the partial file and leaves it for `resume`.

    `lines` counts the complete lines of a run that is resumed, `failed` the bad ones among them by kind;
    `is_complete` says that it had already finished.
    Raises UsageError if another run left a partial file and `resume` is not asked for.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.lines = 0
        self.is_complete = False
        self.failed: Counter[str] = Counter()
        self._last: dict[str, Any] | None = None
        self._last_answer: dict[str, Any] | None = None
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
        if resume and not self.partial.exists() and path.exists():
            self.is_complete = True
            with path.open("rb") as stream:
                self._read(stream)
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        if not self.is_complete:
            self._stream = self.partial.open("r+b" if self.partial.exists() else "w+b")
            end = self._read(self._stream)
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

    def _read(self, stream: BinaryIO) -> int:
        """Count complete lines and remember the last ones; the end of the last complete line, in bytes."""
        end = 0
        for line in stream:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            self.lines += 1
            self._last = self._parse(line)
            if "error" in self._last:
                self.failed[self._last["error"]["kind"]] += 1
            else:
                self._last_answer = self._last
        return end

    def _parse(self, line: bytes) -> dict[str, Any]:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("schema") != OUTPUT_SCHEMA:
            raise self.mismatch(f"line {self.lines} is no answer of hatex")
        return record

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

    def check_last(self, post_id: object) -> None:
        """The line at which a resumed run stopped must be the same post as in the input."""
        if self._last is not None and self._last.get("id") != post_id:
            raise self.mismatch(f"its line {self.lines} answers another post than the input has there")

    def check_alike(self, records: Sequence[dict[str, Any]]) -> None:
        """New answers must come from the same model and carry the same fields as those before."""
        before = self._last_answer
        after = next((record for record in records if "error" not in record), None)
        if before is None or after is None:
            return
        for name in _ALWAYS_COMPARED:
            if before.get(name) != after.get(name):
                raise self.mismatch(f"its {name} is {before.get(name)}, now it is {after.get(name)}")
        if ("explanation" in before) != ("explanation" in after):
            raise self.mismatch("only one of the two runs has --explain")
        self._last_answer = None

    def mismatch(self, reason: str) -> UsageError:
        """The error for a partial file that this run cannot continue."""
        return UsageError(
            f"cannot be resumed: {reason}",
            where=str(self.partial),
            hint=f"use the same input and options, or delete {self.partial} to start afresh",
        )
