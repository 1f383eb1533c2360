"""stdin, stdout and stderr as they may be found: closed, or with a reader that has left."""

from __future__ import annotations

import os
import select
import sys
from typing import Any, Final, Literal, TextIO

STDIN_DESCRIPTOR: Final = 0
STDERR_DESCRIPTOR: Final = 2


class Narration:
    """stderr of a run that goes on where nobody listens: once a write fails, all of it goes to the null device."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's own, but never an OSError."""
        try:
            return self._stream.write(text)
        except OSError:
            discard(self._stream)
            return len(text)

    def flush(self) -> None:
        """As the stream's own, but never an OSError."""
        try:
            self._stream.flush()
        except OSError:
            discard(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """The null device as stdin and stderr where these are closed.

    It takes their descriptors, so that no file which is opened later is read or written in their place.
    """
    if sys.stdin is None:
        sys.stdin = _open_null(STDIN_DESCRIPTOR, "r")
    if sys.stderr is None:
        sys.stderr = _open_null(STDERR_DESCRIPTOR, "w")


def reader_has_left(stream: TextIO) -> bool:
    """Whether the other end of a pipe or socket is closed."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return bool(poll.poll(0))


def discard(stream: TextIO) -> None:
    """Send what the stream still holds, and whatever follows, to the null device."""
    _point_at_null(stream.fileno())


def _open_null(descriptor: int, mode: Literal["r", "w"]) -> TextIO:
    _point_at_null(descriptor)
    return open(descriptor, mode, encoding="utf-8", closefd=False)


def _point_at_null(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
