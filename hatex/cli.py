"""The `hatex` command line: its verbs, lazily, and the boundary that turns failures into exit codes.

Exit codes: 0 done, 1 failed, 2 usage or recipe, 3 a requirement failed, 4 some input lines failed,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from hatex.commands.lazy import LazyGroup, Verb
from hatex.errors import HatexError, UsageError
from hatex.streams import Narration, discard, open_closed_streams, reader_has_left

VERBS: Final = {
    "prepare": Verb("hatex.commands.prepare:command", "Fetch the models and turn raw rows into examples."),
    "train": Verb("hatex.commands.train:command", "Train adapters and the router on prepared examples."),
    "merge": Verb(
        "hatex.commands.merge:command", "Merge adapters into one adapter, or a whole model to ship."
    ),
    "route": Verb(
        "hatex.commands.route:command", "Answer JSONL posts with labels, gate weights and decisions."
    ),
    "explain": Verb(
        "hatex.commands.explain:command", "Explain one post: verdict, gates, harmful words, reason."
    ),
    "eval": Verb(
        "hatex.commands.eval:command", "Measure strategies on data sets; fail on broken requirements."
    ),
    "registry": Verb("hatex.commands.registry:app", "List, show, verify, import and remove models."),
    "recipe": Verb("hatex.commands.recipe:app", "List, check and show recipes; print their JSON Schema."),
}

ERROR_KINDS: Final = (
    "failed",
    "usage",
    "recipe",
    "registry",
    "integrity",
    "fetch",
    "model",
    "data",
    "training",
    "requirement",
    "input",
    "interrupted",
    "internal",
)
"""Every `kind` that `{"error": {"kind": ...}}` can hold under `--json`."""

LIBRARY_CHATTER: Final = {
    "BITSANDBYTES_NOWELCOME": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


class HatexGroup(LazyGroup):
    """The top level: the table above."""

    verbs = VERBS


app = typer.Typer(cls=HatexGroup, add_completion=False, rich_markup_mode="rich")


def print_version(wanted: bool) -> None:
    """What `--version` does, before anything else is parsed."""
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"hatex {version('hatex')}\n")
        raise typer.Exit()


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=print_version),
    ] = False,
) -> None:
    """Detect hate speech with a per-post blend of LoRA adapters on one 4-bit base, and explain the answer.

    [bold]First steps[/bold]
      hatex explain "Your football club is a bunch of clueless donkeys."
      hatex route posts.jsonl > answers.jsonl
      hatex eval starter

    stdout is data, stderr is everything else. Every command takes --json and
    --quiet; hatex COMMAND --help teaches it with an example.
    """
    del version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hatex ARGUMENTS` (default: this process's) and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in takewhile(lambda argument: argument != "--", arguments)
    silence_libraries(os.environ)
    open_closed_streams()
    with redirect_stderr(Narration(sys.stderr)):
        try:
            if sys.stdout is None:
                as_json = False
                raise UsageError("stdout is closed", hint="send it to /dev/null where nobody is to read it")
            if not arguments:
                return show_help()
            run(arguments)
            sys.stdout.flush()
        except SystemExit as leaving:  # what Rich makes of a reader of stdout that has left
            if not isinstance(leaving.__context__, BrokenPipeError):
                raise
        except (Exception, KeyboardInterrupt) as error:
            if not isinstance(error, BrokenPipeError) or not reader_has_left(sys.stdout):
                return report(error, as_json=as_json)
            discard(sys.stdout)  # which Python flushes once more at exit
    return 0


def show_help() -> int:
    """A bare `hatex` is a usage error that teaches: the help, on stderr."""
    with redirect_stdout(sys.stderr), suppress(typer.Exit):
        run(["--help"])
    return 2


def run(arguments: Sequence[str]) -> None:
    """Parse and invoke one command; failures leave as exceptions."""
    group: Any = typer.main.get_command(app)
    with group.make_context("hatex", list(arguments)) as context:
        group.invoke(context)


def silence_libraries(environment: MutableMapping[str, str]) -> None:
    """Keep library chatter (bars, notices, warnings) out of the terminal, unless HATEX_DEBUG is set."""
    if environment.get("HATEX_DEBUG"):
        return
    import logging
    import warnings

    for name, value in LIBRARY_CHATTER.items():
        environment.setdefault(name, value)
    warnings.simplefilter("ignore")
    logging.getLogger().setLevel(logging.ERROR)


def report(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong, where, and the remedy; return the exit code. Never repeats the text of a post."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if os.environ.get("HATEX_DEBUG"):
        traceback.print_exception(error)
    kind, message, where, hint, code = describe(error)
    if as_json:
        from hatex.jsonl import dump_line

        record = {"error": {"kind": kind, "message": message, "where": where, "hint": hint}}
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(dump_line(record))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            discard(sys.stdout)
        return code
    for line in message.splitlines():
        sys.stderr.write(f"error: {where}: {line}\n" if where else f"error: {line}\n")
    if hint:
        sys.stderr.write(f"hint: {hint}\n")
    return code


def describe(error: BaseException) -> tuple[str, str, str | None, str | None, int]:
    """Kind, message, place, remedy and exit code of a failure."""
    if isinstance(error, HatexError):
        return error.kind, error.message, error.where, error.hint, error.exit_code
    if isinstance(error, typer.TyperException):
        return "usage", usage_message(error), None, usage_hint(error), 2
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted", None, None, 130
    if isinstance(error, OSError) and error.strerror:
        return "failed", error.strerror, None if error.filename is None else str(error.filename), None, 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    message = f"unexpected {type(error).__name__} at {place}"
    return "internal", message, None, "set HATEX_DEBUG=1 for the traceback", 1


def usage_message(error: typer.TyperException) -> str:
    """Typer's sentence, in hatex's shape: no capital, no full stop."""
    text = error.message if getattr(error, "possibilities", None) else error.format_message()
    text = text.strip().rstrip(".").replace("Value error, ", "")
    return text[:1].lower() + text[1:]


def usage_hint(error: typer.TyperException) -> str:
    """Which option was meant, if one is spelled nearly so, and where help is."""
    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "hatex"
    help_line = f"{path} --help"
    option = getattr(error, "option_name", None)
    if option and context is not None:
        known = [each for parameter in context.command.get_params(context) for each in parameter.opts]
        close = get_close_matches(option, known, n=1)
        if close:
            return f"did you mean {close[0]}? see {help_line}"
    return f"see {help_line}"
