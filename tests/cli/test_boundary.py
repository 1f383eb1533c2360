"""The error boundary: words, hints, kinds and exit codes; never a traceback, never the text of a post."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hatex import cli, errors
from hatex.cli import ERROR_KINDS, main, report
from hatex.errors import HatexError, InputLinesError, ModelError, RequirementError
from hatex.recipe import shipped_names


def hatex_error_classes(base: type[HatexError] = HatexError) -> list[type[HatexError]]:
    return [base, *(below for each in base.__subclasses__() for below in hatex_error_classes(each))]


def test_kinds_are_a_closed_vocabulary() -> None:
    assert {each.kind for each in hatex_error_classes()} | {"interrupted", "internal"} == set(ERROR_KINDS)
    assert errors.HatexError.kind == "failed"


def test_an_error_says_what_where_and_the_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    error = ModelError("has no adapter `wikis`", where="starter", hint="did you mean wiki?")
    assert report(error, as_json=False) == 1
    assert capfd.readouterr() == ("", "error: starter: has no adapter `wikis`\nhint: did you mean wiki?\n")


def test_the_same_error_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert report(ModelError("m", where="w"), as_json=True) == 1
    out, err = capfd.readouterr()
    assert json.loads(out) == {"error": {"kind": "model", "message": "m", "where": "w", "hint": None}}
    assert err == ""


@pytest.mark.parametrize(("error", "code"), [(RequirementError("r"), 3), (InputLinesError("i"), 4)])
def test_exit_codes(error: HatexError, code: int) -> None:
    assert report(error, as_json=False) == code


def test_an_unexpected_failure_is_one_line_without_the_post(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("zyzzy is the text of a post")

    monkeypatch.delenv("HATEX_DEBUG", raising=False)
    with pytest.raises(ValueError, match="zyzzy") as caught:
        fail()
    assert report(caught.value, as_json=False) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("error: unexpected ValueError at test_boundary.py:")
    assert err.splitlines()[1:] == ["hint: set HATEX_DEBUG=1 for the traceback"]
    monkeypatch.setenv("HATEX_DEBUG", "1")
    assert report(caught.value, as_json=True) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["kind"] == "internal"
    assert "Traceback" in err


def test_a_file_that_cannot_be_written_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    assert report(PermissionError(13, "Permission denied", "/some/file"), as_json=False) == 1
    assert capfd.readouterr().err == "error: /some/file: Permission denied\n"


def test_interruption_is_130(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(arguments: object) -> None:
        raise KeyboardInterrupt(arguments)

    monkeypatch.setattr(cli, "run", interrupt)
    assert main(["route"]) == 130
    assert capfd.readouterr() == ("", "error: interrupted\n")
    assert main(["route", "--json"]) == 130
    assert json.loads(capfd.readouterr().out)["error"]["kind"] == "interrupted"


def test_interrupted_training_says_how_to_go_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("HATEX_DATA", str(tmp_path))
    monkeypatch.setattr("hatex.workflows.train.make_plan", interrupt)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build" / "starter").mkdir(parents=True)
    (tmp_path / "build" / "starter" / "examples.parquet").touch()
    arguments = ["train", "starter", "--registry", str(tmp_path / "home")]
    assert main(arguments) == 130
    assert "--resume goes on from the last checkpoint" in capfd.readouterr().err
    assert main([*arguments, "--dry-run"]) == 130
    assert "--resume" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["recpie", "show"], "no such command 'recpie'. Did you mean 'recipe'", "see hatex --help"),
        (["recipe", "shw"], "no such command 'shw'. Did you mean 'show'?", "see hatex recipe --help"),
        (
            ["route", "--strateg", "x"],
            "no such option: --strateg",
            "did you mean --strategy? see hatex route --help",
        ),
        (
            ["route", "--space", "delt"],
            "invalid value for '--space': 'delt' is not one of",
            "see hatex route --help",
        ),
        (["route", "--resume"], "--resume: needs --output FILE", None),
        (["route", "--keep", "user,label"], "--keep: the answer has a field label of its own", None),
        (["route", "nowhere.jsonl"], "nowhere.jsonl: there is no such input file", None),
        (["recipe", "show"], "missing argument 'RECIPE'", "see hatex recipe show --help"),
        (["recipe", "show", "startr"], "hatex ships no recipe 'startr'", "did you mean starter?"),
    ],
)
def test_usage_errors(
    arguments: list[str],
    message: str,
    hint: str | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith(f"error: {message}")
    assert lines[1:] == ([f"hint: {hint}"] if hint else [])
    assert main([*arguments, "--json"]) == 2
    out, err = capfd.readouterr()
    assert err == ""
    assert json.loads(out)["error"]["kind"] in {"usage", "recipe"}


def test_no_verb_at_all_shows_the_help_and_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "hatex explain" in err


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out.startswith("hatex 0.")


def test_every_mistake_of_a_recipe_has_its_own_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text("extends: starter\nnam: x\nroute: {max_tokens: 1}\n")
    assert main(["recipe", "check", str(tmp_path / "bad.yaml")]) == 2
    err = capfd.readouterr().err.splitlines()
    assert [
        line.startswith(f"error: {tmp_path}/bad.yaml:{row}:") for row, line in zip((2, 3), err, strict=True)
    ] == [
        True,
        True,
    ]


def test_recipe_show_prints_a_recipe_that_can_be_used(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipe", "show", "starter", "--set", "route.strategy=top-2"]) == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(capfd.readouterr().out)
    assert main(["recipe", "show", str(shown), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["route"]["strategy"] == "top-2"


def test_recipe_list_says_what_each_is_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "list", "--json"]) == 0
    recipes = json.loads(capfd.readouterr().out)["recipes"]
    assert [each["name"] for each in recipes] == shipped_names()
    assert all(each["summary"].endswith(".") for each in recipes)
    assert main(["recipe", "list"]) == 0
    printed = capfd.readouterr().out
    assert all(f"{each['name']} " in printed and each["summary"] in printed for each in recipes)


def test_a_parent_that_reads_another_folder_is_remarked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    child = {"extends": "own-data", "prepare": {"output": "elsewhere"}, "train": {"data": "elsewhere"}}
    (tmp_path / "mine.yaml").write_text(json.dumps(child))
    assert (
        main(["recipe", "check", str(tmp_path / "mine.yaml"), "--set", "prepare.sources.0.path=a.csv"]) == 0
    )
    err = capfd.readouterr().err
    assert err == "note: eval.data is build/own-data, but hatex prepare writes to elsewhere\n"
    assert main(["recipe", "check", "own-data", "--set", "prepare.sources.0.path=a.csv"]) == 0
    assert capfd.readouterr().err == ""


def test_recipe_schema_is_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "schema"]) == 0
    assert json.loads(capfd.readouterr().out)["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("words", [["recipe", "schema"], ["registry", "list"], ["--help"]], ids=" ".join)
def test_a_closed_pipe_ends_quietly(words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hatex", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (0, b"")


def test_a_closed_stdout_is_said() -> None:
    script = "import sys; sys.stdout = None; from hatex.cli import main; sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: stdout is closed\nhint: ")


def run_with_dead_stderr(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-m", "hatex", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=write, check=False)
    finally:
        os.close(write)


@pytest.mark.parametrize(
    "words", [[], ["route", "nowhere.jsonl"], ["route", "--space", "delt"]], ids=" ".join
)
def test_a_failure_keeps_its_exit_code_where_nobody_reads_stderr(words: list[str]) -> None:
    done = run_with_dead_stderr(words)
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_failure_keeps_its_exit_code_where_nobody_reads_its_json(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "hatex", "recipe", "show", str(tmp_path / "no.yaml"), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert (process.returncode, err) == (2, b"")


def test_a_broken_pipe_that_is_not_stdout_is_a_failure(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_to_a_pipe_of_its_own(arguments: object) -> None:
        del arguments
        read, write = os.pipe()
        os.close(read)
        try:
            os.write(write, b"to a process that has ended")
        finally:
            os.close(write)

    monkeypatch.setattr(cli, "run", write_to_a_pipe_of_its_own)
    assert main(["route"]) == 1
    assert capfd.readouterr() == ("", "error: Broken pipe\n")


@pytest.mark.parametrize(
    ("command", "code", "err"),
    [
        ("explain - <&-", 2, "error: stdin: the text is empty\n"),
        ("route nowhere.jsonl 2>&-", 2, ""),
        ("recipe schema 2>&- >&-", 2, ""),
    ],
)
def test_a_closed_stdin_is_empty_and_a_closed_stderr_takes_everything(
    command: str, code: int, err: str
) -> None:
    shell = f'"{sys.executable}" -m hatex {command}'
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", err)
