"""`hatex route --engine ray`: batches answered by several engines, on one machine or on many, through Ray Data.

Posts do not travel through Ray: a row of its data set says which bytes of the input files make up a batch, and the
worker that gets the row reads them itself. Batches are those that one engine would make, so the answers are the same.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hatex import errors
from hatex.errors import HatexError, UsageError
from hatex.types import Progress
from hatex.workflows.inputs import STDIN, is_compressed
from hatex.workflows.route_answers import Answers, Asked, Batch, answer
from hatex.workflows.route_chunks import chunk_of, read_chunk
from hatex.workflows.route_resume import expected_model

if TYPE_CHECKING:
    import pyarrow as pa

    from hatex.engine import Engine
    from hatex.recipe import Recipe
    from hatex.registry import Registry

OPTION: Final = "--engine ray"
ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Nothing is sent home, and nothing of Ray's is written between the lines on stderr."""
TASKS_AT_MOST: Final = 10_000
"""A longer input gives every task several batches: Ray's driver keeps some state of each."""


@dataclass(frozen=True, slots=True)
class Share:
    """How many workers there are, and what each takes of its machine."""

    workers: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads of one worker's engine."""
        return max(1, int(self.cpus))


def check_ray(inputs: Sequence[Path]) -> None:
    """UsageError where Ray is not installed, or an input is not a plain file that any worker can open."""
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed", where=OPTION, hint="pip install 'hatex[ray]'")
    for path in inputs:
        if path == STDIN or not path.is_file():
            name = "stdin" if path == STDIN else str(path)
            raise UsageError(
                f"{name} cannot be shared among workers", where=OPTION, hint="write the posts to a file first"
            )
        if is_compressed(path):
            raise UsageError(f"{path} is compressed", where=OPTION, hint="decompress it first")


def share_out(machines: Iterable[Mapping[str, float]], workers: int | None, *, on_gpus: bool) -> Share:
    """What each of `workers` gets; by default there is one for every GPU, else one for every machine.

    machines: Ray's resources of each (`CPU`, `GPU`). A machine twice as large as the smallest gets two workers.
    """
    sizes = [machine["CPU"] for machine in machines if machine.get("CPU")]
    gpus = sum(machine.get("GPU", 0) for machine in machines) if on_gpus else 0
    count = workers or int(gpus) or int(sum(size // min(sizes) for size in sizes))
    cpus = sum(sizes) / count
    return Share(count, min(min(sizes), cpus // 1) if cpus >= 1 else cpus, min(1.0, gpus / count))


@contextmanager
def answer_with_ray(
    recipe: Recipe,
    registry: Registry,
    asked: Asked,
    batches: Iterator[Batch],
    workers: int | None,
    progress: Progress,
) -> Iterator[Iterator[Answers]]:
    """Answers in order, as they come; Ray is started, unless `RAY_ADDRESS` names a cluster, and left at the end."""
    model = expected_model(recipe, registry, asked, progress)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray
    import ray.data

    tables = list(_plan(batches))
    is_ours = not ray.is_initialized()
    try:
        with _failures_of_ray():
            with progress.task("Starting Ray"), _without_stderr():
                ray.init(
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    ignore_reinit_error=True,
                )
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            share = share_out(machines, workers, on_gpus=recipe.base.device != "cpu")
            job = Job(
                recipe=recipe,
                registry=registry.root.absolute(),
                files=tuple(path.absolute() for path in asked.inputs),
                asked=asked,
                model=model,
                threads=share.threads,
            )
            yield _run(tables, job, share)
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def _failures_of_ray() -> Iterator[None]:
    """What Ray raises as a HatexError; a BrokenPipeError is stdout's, whose reader has left."""
    from ray.exceptions import RayError

    try:
        yield
    except BrokenPipeError:
        raise
    except (ConnectionError, RayError) as error:
        raise HatexError(
            f"Ray stopped with {type(error).__name__}",
            where=OPTION,
            hint="Ray's own logs of this session say why",
        ) from None


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Ray's C++ part says on file descriptor 2 which log level it was told, before it goes by it."""
    if os.environ.get("HATEX_DEBUG"):
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _run(tables: list[pa.Table], job: Job, share: Share) -> Iterator[Answers]:
    if not tables:
        return
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    answered = ray.data.from_arrow(tables).map_batches(
        Worker,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(share.workers, len(tables))),
        num_cpus=share.cpus,
        num_gpus=share.gpus,
    )
    for row in answered.iter_rows():
        counts = json.loads(row["counts"])
        if trouble := counts.get("trouble"):
            raise _as_error(**trouble)
        yield Answers(row["data"], counts["lines"], Counter(counts["failed"]), counts["first_failed"])


def _plan(batches: Iterable[Batch]) -> Iterator[pa.Table]:
    """A table for each task, with a row for each batch: where its lines are."""
    import pyarrow as pa

    rows = [json.dumps(chunk_of(batch)) for batch in batches]
    size = -(-len(rows) // TASKS_AT_MOST) or 1
    for start in range(0, len(rows), size):
        yield pa.table({"chunk": rows[start : start + size]})


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to know."""

    recipe: Recipe
    registry: Path
    files: tuple[Path, ...]
    asked: Asked
    model: str
    threads: int


class Worker:
    """One engine, loaded for the first batch. What goes wrong is told in its answer.

    Ray would write an exception into its logs, with whatever the message quotes.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._engine: Engine | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """One row of answers for each row that names a chunk."""
        import pyarrow as pa

        answered = [self._answer(chunk) for chunk in table["chunk"].to_pylist()]
        data = pa.array([data for data, _ in answered], pa.large_binary())
        return pa.table({"data": data, "counts": [json.dumps(counts) for _, counts in answered]})

    def _answer(self, chunk: str) -> tuple[bytes, dict[str, Any]]:
        try:
            self._engine = self._engine or self._load()
            answers = answer(self._engine, self._job.asked, read_chunk(json.loads(chunk), self._job.files))
        except Exception as error:
            return b"", {"trouble": _as_record(error)}
        return answers.data, {
            "lines": answers.lines,
            "failed": answers.failed,
            "first_failed": answers.first_failed,
        }

    def _load(self) -> Engine:
        import torch

        from hatex.engine import load_engine
        from hatex.registry import open_registry

        torch.set_num_threads(self._job.threads)
        engine = load_engine(self._job.recipe, open_registry(self._job.registry))
        found = engine.model_id(self._job.asked.strategy, self._job.asked.space)
        if found != self._job.model:
            raise HatexError(
                f"a worker has the model {found}, this process {self._job.model}",
                where=OPTION,
                hint="every machine needs the same registry at the same path",
            )
        return engine


def _as_record(error: Exception) -> dict[str, str | None]:
    """An error of a worker in plain values, without what other errors than hatex's own may quote."""
    if isinstance(error, HatexError):
        return _record(type(error).__name__, error.message, error.where, error.hint)
    if isinstance(error, OSError) and error.strerror:
        return _record("HatexError", error.strerror, error.filename and str(error.filename))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    message = f"unexpected {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno} in a worker"
    return _record("HatexError", message, OPTION)


def _record(name: str, message: str, where: str | None, hint: str | None = None) -> dict[str, str | None]:
    return {"name": name, "message": message, "where": where, "hint": hint}


def _as_error(name: str, message: str, where: str | None, hint: str | None) -> HatexError:
    found: HatexError = getattr(errors, name)(message, where=where, hint=hint)
    return found
