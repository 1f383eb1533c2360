"""`hatex route --engine ray` with a Ray that really runs: the same bytes as without, errors and all."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from hatex.cli import main
from hatex.workflows.route_answers import Asked, Batch
from hatex.workflows.route_chunks import chunk_of

pytest.importorskip("ray", reason="Ray is not installed (pip install 'hatex[ray]')")


def without_progress(err: str) -> list[str]:
    """Lines on stderr, but for those that tell how far a slow machine is."""
    return [line for line in err.splitlines() if not line.startswith("route: ")]


@pytest.fixture(scope="module")
def _ray_starts() -> None:
    """Skips where Ray itself cannot start, as in a container without shared memory."""
    start = "import ray; ray.init(include_dashboard=False, log_to_driver=False, num_cpus=1)"
    try:
        done = subprocess.run([sys.executable, "-c", start], capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        pytest.skip("Ray does not start on this machine within three minutes")
    if done.returncode != 0:
        pytest.skip(f"Ray does not start on this machine: {done.stderr.strip().splitlines()[-1:]}")


@pytest.mark.slow
@pytest.mark.usefixtures("_ray_starts")
def test_ray_gives_the_bytes_of_one_engine_and_goes_on_with_its_output(tiny, tmp_path, capfd) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    posts = [
        json.dumps({"id": f"p{n}", "text": f"Team number {n} played {'very ' * (n % 7)}badly", "user": n})
        for n in range(600)
    ]
    posts[400] = "not json"
    first.write_text("\n".join(posts[:200]))
    second.write_text("\n" + "\n".join(posts[200:]) + "\n")
    command = ["route", str(first), str(second), "--keep", "user", "--deterministic", *tiny.options]
    local, ray = tmp_path / "local.jsonl", tmp_path / "ray.jsonl"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as many as each of two workers has here: sums of floats depend on it
    try:
        assert main([*command, "-o", str(local)]) == 4
    finally:
        torch.set_num_threads(threads)
    told = without_progress(capfd.readouterr().err)
    lines = local.read_bytes().splitlines(keepends=True)
    assert len(lines) == 600
    (tmp_path / "ray.jsonl.partial").write_bytes(b"".join(lines[:100]))

    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "hatex",
            *command,
            "-o",
            str(ray),
            "--resume",
            "--engine",
            "ray",
            "--workers",
            "2",
        ],
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
    )
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    assert ray.read_bytes() == local.read_bytes()
    assert without_progress(done.stderr) == told
    assert told[0].endswith(f"first {second}:202")


def test_a_worker_tells_what_is_wrong_with_its_models_instead_of_raising_it(tiny, tmp_path) -> None:
    import pyarrow as pa

    from hatex.errors import HatexError, IntegrityError
    from hatex.jsonl import Line
    from hatex.recipe import load_recipe
    from hatex.registry import open_registry
    from hatex.workflows.route_ray import Job, Worker, _as_error
    from hatex.workflows.route_resume import expected_model

    home = tmp_path / "home"
    shutil.copytree(tiny.registry, home)
    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"text": "fine"}\n')
    asked = Asked((posts,), "blend", "delta", False, ())
    table = pa.table({"chunk": [json.dumps(chunk_of(Batch([Line(1, b"", 0, 1, 0, 17)])))]})
    job = Job(load_recipe(str(tiny.recipe)), home, (posts,), asked, "another-blend", torch.get_num_threads())

    def trouble(job: Job) -> HatexError:
        (counts,) = Worker(job)(table)["counts"].to_pylist()
        return _as_error(**json.loads(counts)["trouble"])

    assert "-blend, this process another-blend" in str(trouble(job))
    weights = home / "bases/tiny/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert isinstance(trouble(job), IntegrityError)
    model = expected_model(job.recipe, open_registry(tiny.registry), asked)
    job = replace(job, registry=tiny.registry, model=model, files=(tmp_path / "gone",))
    assert str(trouble(job)) == f"{tmp_path / 'gone'}: No such file or directory"
    table = pa.table({"chunk": ["{}"]})
    assert re.search("unexpected KeyError at route_chunks.py:[0-9]+ in a worker", str(trouble(job)))


def test_what_ray_raises_is_told_and_a_reader_that_left_is_not_ray() -> None:
    from ray.exceptions import RaySystemError

    from hatex.errors import HatexError
    from hatex.workflows.route_ray import _failures_of_ray

    for failure in (ConnectionError("no cluster"), RaySystemError("down")):
        with (
            pytest.raises(HatexError, match=f"Ray stopped with {type(failure).__name__}"),
            _failures_of_ray(),
        ):
            raise failure
    with pytest.raises(BrokenPipeError), _failures_of_ray():
        raise BrokenPipeError
