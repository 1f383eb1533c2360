"""Files that one run has to itself. A lock goes with its process: a killed run never leaves one held."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hatex.errors import HatexError, UsageError


@contextmanager
def hold(lock: Path, busy: HatexError, *, timeout_s: float = 0.0) -> Iterator[None]:
    """The lock file, held while the block runs; raises `busy` where another run holds it, still after `timeout_s`."""
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=timeout_s)
    try:
        held.acquire()
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        held.release()


def lock_output(stream: BinaryIO, path: Path) -> None:
    """Keep other runs away from an output file until its stream is closed.

    Raises UsageError where another run has it, HatexError where its file system knows no locks.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(
            "another run is writing it",
            where=str(path),
            hint="wait until that run has ended, or name another output file",
        ) from None
    except OSError as error:
        raise HatexError(
            f"cannot be locked: {error.strerror}",
            where=str(path),
            hint="name an output file on another file system",
        ) from None
