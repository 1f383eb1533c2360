"""`hatex route` around a small real engine: lines, order, errors, output files, resuming, open pipes."""

from __future__ import annotations

import gzip
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatex.cli import main
from hatex.workflows.partial import PartialFile

FIELDS = ["schema", "id", "label", "probabilities", "gates", "strategy", "disagreement", "disagreement_basis"]
FIELDS += ["decision", "model"]
POSTS = [f"Team number {n} played {'very ' * (n % 7)}badly today" for n in range(40)]


def write_posts(path: Path, texts: list[str], first: int = 0) -> Path:
    """JSONL of `texts` with ids p0, p1, ... (from `first` on)."""
    records = ({"id": f"p{n}", "text": text} for n, text in enumerate(texts, first))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def route(
    capfdbinary: pytest.CaptureFixture[bytes], *arguments: str
) -> tuple[int, list[dict[str, Any]], str]:
    code = main(["route", *arguments])
    out, err = capfdbinary.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err.decode()


def test_one_line_out_for_each_line_in_and_in_order(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    code, records, err = route(capfdbinary, str(posts), *tiny.options)
    assert (code, err) == (0, "")
    assert [record["id"] for record in records] == [f"p{i}" for i in range(len(POSTS))]
    for record in records:
        assert list(record) == FIELDS
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert sum(record["gates"].values()) == pytest.approx(1, abs=1e-5)
        assert list(record["gates"]) == ["one", "two", "full"]
        assert record["label"] == max(record["probabilities"], key=record["probabilities"].get)
    assert len({json.dumps(record["gates"]) for record in records}) > 20


def test_the_same_command_gives_the_same_bytes(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    runs = []
    for _ in range(2):
        assert main(["route", str(posts), *tiny.options]) == 0
        runs.append(capfdbinary.readouterr().out)
    assert runs[0] == runs[1]


def test_bad_lines_are_answered_in_place_and_leave_the_others_alone(tiny, tmp_path, capfdbinary) -> None:
    lines = [
        b'{"id": "a", "text": "fine"}',
        b"",
        b'{"id": "b", "text": ""}',
        b"not json",
        b'{"id": "c", "text": "x \\ud800"}',
        b'{"id": "d"}',
        json.dumps({"id": "e", "text": "a\0b \u202e \N{THUMBS UP SIGN}"}).encode(),
        json.dumps({"id": "f", "text": "long " * 20_000}).encode(),
        b'{"text": "fine"}',
    ]
    posts = tmp_path / "posts.jsonl"
    posts.write_bytes(b"\n".join(lines))
    code, records, err = route(capfdbinary, str(posts), *tiny.options)
    assert code == 4
    assert (
        err.splitlines()[0]
        == f"error: 4 of 8 lines could not be answered (1 empty, 1 json, 1 surrogate, 1 text), first {posts}:3"
    )
    assert [record["id"] for record in records] == ["a", "b", None, "c", "d", "e", "f", 9]
    assert [record["line"] for record in records if "error" in record] == [3, 4, 5, 6]
    assert records[6]["truncated"] is True
    assert "truncated" not in records[5]
    alone = tmp_path / "alone.jsonl"
    alone.write_bytes(lines[0] + b"\n")
    _, (only,), _ = route(capfdbinary, str(alone), *tiny.options)
    assert only["probabilities"] == pytest.approx(records[0]["probabilities"], abs=0.01)


def test_bad_lines_of_several_files_name_file_and_line(tiny, tmp_path, capfdbinary) -> None:
    first, second = write_posts(tmp_path / "first.jsonl", POSTS[:2]), tmp_path / "second.jsonl"
    second.write_bytes(b'{"text": "fine"}\n\nnot json\n')
    code, records, err = route(capfdbinary, str(first), str(second), *tiny.options)
    assert code == 4
    assert err.splitlines()[0].endswith(f"(1 json), first {second}:3")
    assert records[2]["id"] == 3
    assert records[3]["line"] == 5
    assert records[3]["error"]["message"].startswith(f"{second}:3: the line is not JSON: ")


def test_json_failures_add_no_line_to_the_stream(tiny, tmp_path, capfdbinary) -> None:
    (tmp_path / "posts.jsonl").write_bytes(b'{"text": 5}\n')
    code, records, err = route(capfdbinary, str(tmp_path / "posts.jsonl"), "--json", *tiny.options)
    assert (code, len(records)) == (4, 1)
    assert err == f"1 of 1 lines could not be answered (1 text), first {tmp_path / 'posts.jsonl'}:1\n"


def test_strategy_space_and_kept_fields(tiny, tmp_path, capfdbinary) -> None:
    (tmp_path / "posts.jsonl").write_text('{"text": "fine", "user": {"n": 1.5}, "time": null, "more": 1}\n')
    name = str(tmp_path / "posts.jsonl")
    code, (record,), _ = route(
        capfdbinary, name, "--strategy", "single:two", "--keep", "user, time,gone", *tiny.options
    )
    assert code == 0
    assert record["strategy"] == "single:two"
    assert record["gates"] == {"one": 0.0, "two": 1.0, "full": 0.0}
    assert {key: record[key] for key in list(record)[-2:]} == {"user": {"n": 1.5}, "time": None}
    models = {record["model"]}
    for options in (["--strategy", "full"], ["--set", "route.strategy=uniform"], ["--space", "probability"]):
        code, (other,), _ = route(capfdbinary, name, *options, *tiny.options)
        assert code == 0
        models.add(other["model"])
    assert len(models) == 4


def test_a_gzip_file_is_read_like_a_plain_one_and_a_damaged_one_is_named(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    assert main(["route", str(posts), *tiny.options]) == 0
    plain = capfdbinary.readouterr().out
    packed = tmp_path / "posts.jsonl.gz"
    packed.write_bytes(gzip.compress(posts.read_bytes()))
    assert main(["route", str(packed), *tiny.options]) == 0
    assert capfdbinary.readouterr().out == plain
    whole = packed.read_bytes()
    for damaged in (whole[:-20], whole[:30] + b"????" + whole[34:]):
        packed.write_bytes(damaged)
        code, _, err = route(capfdbinary, str(packed), *tiny.options)
        assert code == 1
        assert err.startswith(f"error: {packed}: the gzip file is damaged or cut short\n")


def test_folders_named_like_files_and_options_without_another_are_told(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    for name in ("folder.jsonl", "taken.jsonl", "answers.jsonl.partial"):
        (tmp_path / name).mkdir()
    for arguments, message in (
        ([tmp_path / "folder.jsonl"], "folder.jsonl: is a folder: name its files"),
        ([posts, "--workers", "2"], "error: --workers: needs --engine ray"),
        ([posts, "-o", tmp_path / "taken.jsonl"], "taken.jsonl: the output file is a folder"),
        (
            [posts, "-o", tmp_path / "answers.jsonl", "--resume"],
            "answers.jsonl.partial: the unfinished output",
        ),
    ):
        code, _, err = route(capfdbinary, *map(str, arguments), *tiny.options)
        assert code == 2
        assert message in err


def test_posts_are_not_overwritten_by_their_answers(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:2])
    before = posts.read_bytes()
    code, _, err = route(capfdbinary, str(posts), "-o", str(tmp_path / "." / "posts.jsonl"), *tiny.options)
    assert code == 2
    assert "the output file is one of the inputs" in err
    assert posts.read_bytes() == before


def test_every_blend_space_mixes_in_its_own_way(tiny, tmp_path, capfdbinary) -> None:
    posts = str(write_posts(tmp_path / "posts.jsonl", POSTS[:8]))

    def answers(*options: str) -> tuple[np.ndarray, np.ndarray]:
        code, records, _ = route(capfdbinary, posts, *options, *tiny.options)
        assert code == 0
        read = [[list(r[field].values()) for r in records] for field in ("probabilities", "gates")]
        return np.array(read[0]), np.array(read[1])

    spaces = [answers("--space", space)[0] for space in ("delta", "probability", "reference")]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(spaces[i] - spaces[j]).max() > 1e-4
    delta, gates = answers()
    assert np.array_equal(delta, spaces[0])
    alone = [answers("--strategy", name)[0] for name in ("single:one", "single:two", "full")]
    mixed = np.einsum("na,anl->nl", gates, np.stack(alone))
    assert spaces[1] == pytest.approx(mixed, abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--strategy", "blendd"], "unknown strategy blendd"),
        (["--strategy", "single:three"], "there is no adapter three"),
        (["--set", "adapters=[one, two, three]"], "three"),
        (["--set", "router=other"], "other"),
        (["--set", "route.strategi=top-1"], "did you mean route.strategy?"),
    ],
)
def test_what_is_unknown_is_named_with_a_remedy(tiny, tmp_path, capfdbinary, options, message) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    code, records, err = route(capfdbinary, str(posts), *options, *tiny.options)
    assert code in {1, 2}
    assert records == []
    assert message in err
    assert err.startswith("error: ")


@pytest.mark.parametrize("strategy", ["blendd", "single:three", "top-3"])
def test_a_misspelt_strategy_is_told_before_anything_is_loaded(tiny, tmp_path, capfdbinary, strategy) -> None:
    home = tmp_path / "home"
    shutil.copytree(
        tiny.registry / "routers", home / "routers"
    )  # the rest would be missed once it is looked for
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    code, _, err = route(
        capfdbinary, str(posts), "--strategy", strategy, "-r", str(tiny.recipe), "--registry", str(home)
    )
    assert code == 2
    assert "hint: strategies: blend, top-1, top-2, ..., uniform, full, single:one" in err
    assert not (home / "bases").exists()


@pytest.mark.parametrize("command", ["route", "explain"])
def test_a_language_that_nothing_tells_is_refused_before_anything_is_loaded(
    tiny, tmp_path, capfdbinary, command
) -> None:
    home, output = tmp_path / "home", tmp_path / "answers.jsonl"
    shutil.copytree(tiny.registry / "routers", home / "routers")
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    options = ["-r", str(tiny.recipe), "--registry", str(home), "--set", "route.policy.languages=[en, EN]"]
    if command == "route":
        (tmp_path / "answers.jsonl.partial").write_text("{}\n")
        options += ["--output", str(output), "--resume"]
    assert main([command, str(posts), *options]) == 2
    err = capfdbinary.readouterr().err.decode()
    assert "error: --set route.policy.languages: route.policy.languages.1: 'EN' is no language" in err
    assert "did you mean 'en'?" in err
    assert not (home / "bases").exists()


def test_output_is_whole_or_not_there_and_resumes(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", [*POSTS, ""])
    output = tmp_path / "answers.jsonl"
    partial = tmp_path / "answers.jsonl.partial"
    arguments = [str(posts), "--output", str(output), "--deterministic", *tiny.options]
    assert route(capfdbinary, *arguments)[0] == 4
    whole = output.read_bytes()
    assert whole.count(b"\n") == len(POSTS) + 1
    assert not partial.exists()

    output.unlink()
    lines = whole.splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:17]) + lines[17][:30])
    code, _, err = route(capfdbinary, *arguments)
    assert code == 2
    assert "--resume continues it" in err
    code, (summary,), _ = route(capfdbinary, *arguments, "--resume", "--json")
    assert code == 4
    assert summary == {"schema": 1, "output": str(output), "answered": len(POSTS), "failed": {"empty": 1}}
    assert output.read_bytes() == whole
    assert not partial.exists()

    code, (summary,), _ = route(capfdbinary, *arguments, "--resume", "--json")
    assert (code, summary["answered"]) == (4, len(POSTS))


@pytest.fixture(scope="module")
def answered(tiny, tmp_path_factory) -> Path:
    """A folder with posts, their answers, and a registry whose base is damaged: what loads it fails."""
    folder = tmp_path_factory.mktemp("answered")
    write_posts(folder / "posts.jsonl", POSTS)
    with (folder / "posts.jsonl").open("a") as stream:
        stream.write('{"id": "last", "text": "fine", "user": "u"}\n')
    assert main(["route", str(folder / "posts.jsonl"), "-o", str(folder / "answers"), *tiny.options]) == 0
    shutil.copytree(tiny.registry, folder / "home")
    weights = folder / "home/bases/tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    return folder


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"post": (0, b'{"id": "q", "text": "fine"}')},
            'its line 1 answers post "p0", but {posts}:1 is post "q"',
        ),
        (
            {"post": (4, b'{"id": 4, "text": "fine"}')},
            'its line 5 answers post "p4", but {posts}:5 is post 4',
        ),
        ({"post": (3, b'{"id": "p3"}')}, 'its line 4 answers post "p3", but {posts}:4 is bad line 4 (text)'),
        ({"posts": 5}, "it has more lines than the input, from line 6 on"),
        ({"answer": (2, b'{"some": "thing"}')}, "its line 3 is no answer of hatex"),
        ({"answer": (2, b'{"schema": 1, "id": "p2", "error": 5}')}, "its line 3 is no answer of hatex"),
        ({"options": ["--strategy", "uniform"]}, "its line 1 has the strategy blend, now it is uniform"),
        ({"options": ["--space", "probability"]}, "-blend, now it is "),
        ({"options": ["--set", "route.fallback={to: full}"]}, "its line 1 has the model "),
        ({"options": ["--set", "route.policy.flag_hate=0.4"]}, "its line 1 has the model "),
        ({"options": ["--set", "route.max_tokens=95"]}, "its line 1 has the model "),
        ({"options": ["--set", "encoder.max_tokens=95"]}, "its line 1 has the model "),
        ({"options": ["--set", "groups=[Fans]"]}, "its line 1 has the model "),
        ({"options": ["--set", "explain.max_variants=7"]}, "its line 1 has the model "),
        ({"options": ["--explain"]}, "its line 1 is written without --explain"),
        ({"options": ["--keep", "user"]}, "its line 41 has other fields of the input than --keep names"),
    ],
)
def test_an_output_of_another_run_is_told_by_its_first_line_that_differs_before_anything_is_loaded(
    tiny, answered, tmp_path, capfdbinary, change, reason, is_complete
) -> None:
    posts = (answered / "posts.jsonl").read_bytes().splitlines()[: change.get("posts")]
    answers = (answered / "answers").read_bytes().splitlines()
    for lines, name in ((posts, "post"), (answers, "answer")):
        if name in change:
            index, lines[index] = change[name]
    given, output = tmp_path / "posts.jsonl", tmp_path / "answers"
    given.write_bytes(b"\n".join(posts) + b"\n")
    found = output if is_complete else tmp_path / "answers.partial"
    found.write_bytes(b"\n".join(answers) + b"\n")
    before = found.read_bytes()
    options = ["--recipe", str(tiny.recipe), "--registry", str(answered / "home"), *change.get("options", [])]
    code, _, err = route(capfdbinary, str(given), "-o", str(output), "--resume", *options)
    assert code == 2
    assert f"error: {found}: cannot be resumed: " in err
    assert reason.format(posts=given) in err
    assert f"delete {found} to start afresh" in err
    assert found.read_bytes() == before
    assert output.exists() == is_complete


def test_a_complete_output_is_compared_without_loading_and_must_be_whole(
    tiny, answered, tmp_path, capfdbinary
) -> None:
    output = tmp_path / "answers"
    options = ["-o", str(output), "--resume", "-r", str(tiny.recipe), "--registry", str(answered / "home")]
    posts = answered / "posts.jsonl"
    whole = (answered / "answers").read_bytes()
    output.write_bytes(whole)
    code, _, err = route(capfdbinary, str(posts), *options)
    assert (code, err) == (0, f"{output} is complete already, with 41 lines; delete it to answer anew\n")
    for damaged, reason in (
        (whole[:-9], "its last line has no end"),
        (b"".join(whole.splitlines(True)[:-1]), f"it ends where the input goes on, at {posts}:41"),
    ):
        output.write_bytes(damaged)
        code, _, err = route(capfdbinary, str(posts), *options)
        assert code == 2
        assert reason in err


@pytest.mark.parametrize("options", [[], ["--resume"], ["--resume", "--engine", "ray"]], ids=" ".join)
def test_an_output_that_another_run_writes_is_refused(tiny, answered, tmp_path, capfdbinary, options) -> None:
    if "ray" in options:
        pytest.importorskip("ray", reason="Ray is not installed (pip install 'hatex[ray]')")
    output, line = tmp_path / "answers", (answered / "answers").read_bytes().splitlines(keepends=True)[0]
    with PartialFile(output, resume=False) as other:
        other.write(line + line[:9])
        code, _, err = route(
            capfdbinary, str(answered / "posts.jsonl"), "-o", str(output), *options, *tiny.options
        )
        assert code == 2
        assert err.startswith(f"error: {output}.partial: another run is writing it\nhint: ")
        assert (tmp_path / "answers.partial").read_bytes() == line + line[:9]


def test_a_table_names_the_way_to_jsonl(tiny, tmp_path, capfdbinary) -> None:
    (tmp_path / "posts.csv").write_text("id,text\n1,own goal\n")
    code, records, err = route(capfdbinary, str(tmp_path / "posts.csv"), *tiny.options)
    assert (code, records) == (2, [])
    assert err.startswith(
        f"error: {tmp_path / 'posts.csv'}: is a table, not JSONL\nhint: with pandas: read_csv("
    )


def test_a_failing_run_leaves_no_empty_partial_file(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    arguments = (str(posts), "-o", str(tmp_path / "out.jsonl"), "--recipe", str(tiny.recipe))
    code, _, _ = route(capfdbinary, *arguments, "--registry", str(tiny.registry), "--strategy", "none")
    assert code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["posts.jsonl"]
    # ... nor one that fails with the file open already, before its first answer.
    shutil.copytree(tiny.registry, tmp_path / "home")
    (weights,) = (tmp_path / "home" / "adapters").glob("*/one/adapter_model.safetensors")
    weights.write_bytes(b"damaged")
    code, _, err = route(capfdbinary, *arguments, "--registry", str(tmp_path / "home"))
    assert code == 1
    assert "one" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "posts.jsonl"]


def test_explain_adds_an_explanation(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:1])
    code, (record,), err = route(capfdbinary, str(posts), "--explain", *tiny.options)
    assert code == 0
    assert list(record["explanation"]) == (
        ["style", "summary", "affected_groups", "harmful_words", "reason", "evidence"]
    )
    assert err.startswith("content note: ")


def test_an_output_is_completed_where_nobody_reads_stderr(tiny, tmp_path, capfdbinary, monkeypatch) -> None:
    posts, output = write_posts(tmp_path / "posts.jsonl", POSTS[:2]), tmp_path / "answers.jsonl"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as dead:
        monkeypatch.setattr(sys, "stderr", dead)
        assert main(["route", str(posts), "--explain", "-o", str(output), *tiny.options]) == 0
    assert [json.loads(line)["id"] for line in output.read_bytes().splitlines()] == ["p0", "p1"]
    assert capfdbinary.readouterr() == (b"", b"")


def test_an_open_pipe_is_answered_line_by_line(tiny) -> None:
    def line_within(seconds: float) -> dict[str, Any]:
        assert process.stdout is not None
        deadline = time.monotonic() + seconds
        assert select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0], "no answer"
        return json.loads(process.stdout.readline())

    with subprocess.Popen(
        [sys.executable, "-m", "hatex", "route", "--quiet", *tiny.options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"id": 1, "text": "one"}\n{"id": 2, "te')
        assert line_within(120)["id"] == 1
        process.stdin.write(b'xt": "two"}\n')
        assert line_within(2)["id"] == 2
        process.stdin.write(b"broken\n")
        assert line_within(2)["error"]["kind"] == "json"
        process.stdin.close()
        assert process.wait(30) == 4


@pytest.mark.parametrize(
    "file",
    [
        "routers/tiny/router.safetensors",
        "routers/tiny/calibration.json",
        "bases/tiny/model.safetensors",
        "encoders/tiny/model.safetensors",
        "adapters/tiny/one/adapter_model.safetensors",
    ],
)
def test_a_file_that_changed_in_the_registry_is_refused(tiny, tmp_path, capfdbinary, file) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny.registry, home)
    data = bytearray((home / file).read_bytes())
    data[-1] ^= 1
    (home / file).write_bytes(data)
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:2])
    code, records, err = route(capfdbinary, str(posts), "--recipe", str(tiny.recipe), "--registry", str(home))
    assert (code, records) == (1, [])
    assert Path(file).name in err
    assert "manifest" in err


def test_a_router_may_be_imported_before_its_encoder_is_fetched(tiny, tmp_path, capfdbinary) -> None:
    home = tmp_path / "home"
    shutil.copytree(tiny.registry, home, ignore=shutil.ignore_patterns("encoders", "routers"))
    file = tiny.registry / "routers/tiny/router.safetensors"
    options = ["--name", "tiny", "--classes", "one,two", "--encoder", "tiny", "--registry", str(home)]
    assert main(["registry", "import", str(file), *options]) == 0
    capfdbinary.readouterr()
    posts = write_posts(tmp_path / "posts.jsonl", POSTS[:2])
    code, records, err = route(
        capfdbinary, str(posts), "--quiet", "--recipe", str(tiny.recipe), "--registry", str(home)
    )
    assert (code, err) == (0, "")
    _, expected, _ = route(capfdbinary, str(posts), *tiny.options)
    assert [each["gates"] for each in records] == [each["gates"] for each in expected]


def test_a_recipe_may_let_unplaced_posts_fall_back_to_full(tiny, tmp_path, capfdbinary) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    _, plain, _ = route(capfdbinary, str(posts), *tiny.options)
    largest = [max(record["gates"].values()) for record in plain]
    below = sum(sorted(largest)[len(plain) // 2 - 1 :][:2]) / 2
    fallback = f"fallback: {{to: full, below: {below}}}"
    recipe = tmp_path / "fallback.yaml"
    recipe.write_text(tiny.recipe.read_text().replace("max_tokens: 96", f"max_tokens: 96, {fallback}"))
    _, fallen, _ = route(capfdbinary, str(posts), "--recipe", str(recipe), "--registry", str(tiny.registry))
    assert {record["gates"]["full"] for record in plain} == {0}
    unsure = [weight < below for weight in largest]
    assert 0 < sum(unsure) < len(unsure)
    assert [record["gates"]["full"] > 0 for record in fallen] == unsure
    assert all(sum(record["gates"].values()) == pytest.approx(1, abs=1e-5) for record in fallen)
    assert plain[0]["model"] != fallen[0]["model"]
