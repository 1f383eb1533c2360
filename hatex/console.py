"""The one sink for output: data on stdout; progress, notes and hints on stderr.

Under `quiet` only data and errors remain. Bars are drawn where stderr is a terminal; elsewhere a long task
says a plain line now and then. Rich honours `NO_COLOR` and the width of the terminal. Rich itself is imported
when it is first needed, because `--json` never needs it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO

from hatex.jsonl import dump_line
from hatex.types import NO_PROGRESS, Progress

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

CONTENT_NOTE: Final = "content note: hatex quotes the posts it explains; some hold hateful or strong language"
FIRST_LINE_S: Final = 5.0
"""A task that is not drawn says its first plain line after this many seconds."""
LINE_EVERY_S: Final = 15.0
PIPE_WIDTH: Final = 10_000


class Console:
    """Where a command emits; `stdout` and `stderr` default to the process's own."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._noted = False

    @cached_property
    def _out(self) -> RichConsole:
        return _open_rich(self._stdout)

    @cached_property
    def _err(self) -> RichConsole:
        return _open_rich(self._stderr)

    def data(self, renderable: RenderableType) -> None:
        """Print text (as it is, no markup) or a Rich renderable on stdout."""
        if isinstance(renderable, str):
            self._stdout.write(renderable if renderable.endswith("\n") else f"{renderable}\n")
            self._stdout.flush()
        else:
            self._out.print(renderable)

    def table(self, renderable: RenderableType) -> None:
        """`data` that is as wide as its contents where nobody looks on: a pipe has no edge to break names at, unless
        `COLUMNS` names one.
        """
        is_wide = not self.is_terminal and "COLUMNS" not in os.environ
        out = _open_rich(self._stdout, PIPE_WIDTH) if is_wide else self._out
        out.print(renderable)

    def json(self, value: Any) -> None:
        """Print one JSON value as one line on stdout, keys in their order: equal values give equal bytes."""
        self.lines(dump_line(value))

    def lines(self, data: bytes) -> None:
        """Write whole UTF-8 lines to stdout and flush, so that a reader at the other end has them now."""
        self._stdout.flush()
        self._stdout.buffer.write(data)
        self._stdout.buffer.flush()

    def note(self, message: str) -> None:
        """One line for a person, on stderr."""
        if not self.quiet:
            self._say(message)

    def hint(self, message: str) -> None:
        """What a person could do next, on stderr."""
        self.note(f"hint: {message}")

    def content_note(self) -> None:
        """Warn, once, before the first output that may quote strong language."""
        if not self._noted:
            self._noted = True
            self.note(CONTENT_NOTE)

    def progress(self, *, streams: bool = False) -> Progress:
        """Bars on a terminal, now and then a line elsewhere, nothing under `quiet`.

        `streams`: data will be written meanwhile, which would tear bars on the same terminal.
        """
        if self.quiet:
            return NO_PROGRESS
        if self._stderr.isatty() and not (streams and self.is_terminal):
            return Bars(self._err)
        return PlainProgress(self._say)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads stdout as it comes."""
        return self._stdout.isatty()

    def _say(self, message: str) -> None:
        if "_err" in self.__dict__:  # bars may be up: Rich prints above them
            self._err.print(message, soft_wrap=True)
        else:
            self._stderr.write(f"{message}\n")
            self._stderr.flush()


def _open_rich(file: TextIO, width: int | None = None) -> RichConsole:
    """Rich on a stream, for strings that come from elsewhere: their brackets and colons are no markup and no emoji."""
    from rich.console import Console as RichConsole

    return RichConsole(file=file, width=width, highlight=False, markup=False, emoji=False)


class Bars:
    """Progress for a terminal: one live display that holds a bar for each open task."""

    def __init__(self, console: RichConsole) -> None:
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._console = console
        self._open = 0
        self._display = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console,
        )

    def say(self, message: str) -> None:
        """One line of narration, above the bars."""
        self._console.print(message, soft_wrap=True)

    @contextmanager
    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        """A bar with count, rate and time left; it stays as a line when the last open task ends."""
        if self._open == 0:
            self._display.start()
        self._open += 1
        handle = self._display.add_task(description, total=total, count="")
        shown = self._display.tasks[-1]

        def advance(amount: float) -> None:
            done = shown.completed + amount
            count = describe_count(done, total, unit, shown.elapsed or 0.0)
            self._display.update(handle, advance=amount, count=count)

        try:
            yield advance
        finally:
            self._display.stop_task(handle)
            self._open -= 1
            if self._open == 0:
                self._display.stop()
                for task_id in self._display.task_ids:
                    self._display.remove_task(task_id)


class PlainProgress:
    """Progress for logs and pipes: a line every `LINE_EVERY_S` seconds, for tasks that take that long."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = say
        self._clock = clock

    def say(self, message: str) -> None:
        """One line of narration."""
        self._write(message)

    @contextmanager
    def task(
        self, description: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        """A task that says how far it is, how fast, and how long it will still take."""
        started = self._clock()
        next_line_at = started + FIRST_LINE_S
        done, spoke = 0.0, False

        def advance(amount: float) -> None:
            nonlocal done, next_line_at, spoke
            done += amount
            now = self._clock()
            if now >= next_line_at:
                self._write(describe_progress(description, done, total, unit, now - started))
                next_line_at, spoke = now + LINE_EVERY_S, True

        yield advance
        if spoke:
            elapsed = self._clock() - started
            self._write(f"{describe_progress(description, done, None, unit, elapsed)}, done")


def describe_progress(description: str, done: float, total: float | None, unit: str, elapsed_s: float) -> str:
    """`embed: 1,200 of 9,000 posts, 120 posts/s, 1:05 left`."""
    text = f"{description}: {describe_count(done, total, unit, elapsed_s)}"
    if total is not None and 0 < done < total:
        text += f", {clock_time((total - done) * elapsed_s / done)} left"
    return text


def describe_count(done: float, total: float | None, unit: str, elapsed_s: float) -> str:
    """`1,200 of 9,000 posts, 120 posts/s`."""
    name = f" {unit}" if unit else ""
    of_total = f" of {total:,.0f}" if total is not None else ""
    count = f"{done:,.0f}{of_total}{name}"
    if elapsed_s <= 0 or done <= 0:
        return count
    rate = done / elapsed_s
    return f"{count}, {rate:,.0f}{name}/s" if rate >= 100 else f"{count}, {rate:.3g}{name}/s"


def clock_time(seconds: float) -> str:
    """`1:05` for 65 seconds, `2:00:00` for two hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
