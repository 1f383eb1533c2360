"""Every help is quick to import, teaches with an example, and agrees with the table of verbs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from hatex.cli import VERBS
from hatex.commands.lazy import load_command

HEAVY = ["accelerate", "bitsandbytes", "datasets", "gguf", "matplotlib", "numpy", "pandas", "peft", "pyarrow"]
HEAVY += ["ruamel", "scipy", "sklearn", "torch", "transformers"]
REPORT_HEAVY = f"""
import sys
from hatex.cli import main
code = main(sys.argv[1:])
loaded = [name for name in {HEAVY!r} if name in sys.modules]
sys.exit(code or (f"imported {{loaded}}" if loaded else 0))
"""
SUBCOMMANDS = [
    (group, name) for group in ("recipe", "registry") for name in load_command(group, VERBS[group]).commands
]
COMMANDS = [(), *((verb,) for verb in VERBS), *SUBCOMMANDS]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy_and_teaches_with_an_example(words: tuple[str, ...]) -> None:
    run = subprocess.run(
        [sys.executable, "-c", REPORT_HEAVY, *words, "--help"],
        capture_output=True,
        text=True,
        env={"COLUMNS": "80", "NO_COLOR": "1"},
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    example = " ".join(["hatex", *words])
    assert any(example in line and "Usage:" not in line for line in run.stdout.splitlines())
    assert max(map(len, run.stdout.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_the_table_of_verbs_says_what_each_verb_says(verb: str) -> None:
    command = load_command(verb, VERBS[verb])
    assert command.help.splitlines()[0] == VERBS[verb].summary


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"registry", "recipe"}))
def test_every_verb_has_the_common_options(verb: str) -> None:
    command = load_command(verb, VERBS[verb])
    options = {name for parameter in command.params for name in parameter.opts}
    assert {"--json", "--quiet", "--registry", "--set"} <= options
    assert "--recipe" in options or "recipe" in options


def test_group_is_a_typer_command() -> None:
    assert isinstance(load_command("recipe", VERBS["recipe"]), typer.core.TyperGroup)
