"""Rows per second, CPU and peak memory of the whole data half on synthetic rows.

Run as `python tests/bench/prepare_rows.py [ROWS] [PROCESSES]`; one million rows by default.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from usage import cpu_s, peak_gb

from hatex.recipe.prepare import PrepareSection
from hatex.workflows.prepare_data import prepare_data

LABELS = ("neutral", "offensive", "hate")
REPEATED = 0.02
"""Share of rows that copy an earlier row with one word changed."""


def write_rows(path: Path, count: int) -> None:
    """Seeded posts of a skewed vocabulary of 50,000 invented words."""
    rng = Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnoprstuvw", k=rng.randint(3, 9))) for _ in range(50_000)]
    recent: list[list[str]] = []
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            if recent and rng.random() < REPEATED:
                words = list(rng.choice(recent))
                words[rng.randrange(len(words))] = rng.choice(vocabulary)
            else:
                words = [vocabulary[int(50_000 * rng.random() ** 3)] for _ in range(rng.randint(5, 40))]
                recent = [*recent[-999:], words]
            row = {"id": number, "text": " ".join(words), "label": rng.choice(LABELS)}
            stream.write(json.dumps(row) + "\n")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    processes = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        write_rows(file, count)
        columns = {"text": "text", "id": "id", "label": "label"}
        source = {"source": "table", "platform": "bench", "path": str(file), "columns": columns}
        rules = {"output": str(Path(folder) / "out"), "sources": [source], "num_proc": processes}
        started = time.perf_counter()
        before = cpu_s(resource.getrusage(resource.RUSAGE_SELF))
        card = prepare_data(PrepareSection.model_validate(rules)).card
        wall = time.perf_counter() - started
    # The workers have ended, so they are counted. Their peak is that of the largest (their sum is not known), and Linux
    # counts what the parent held when it started them.
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cpu = cpu_s(own) - before + cpu_s(workers)
    peak = f"peak {peak_gb(own):.2f} GB"
    if processes > 1:
        peak += f", of the largest of {processes} workers {peak_gb(workers):.2f} GB"
    print(f"{count:,} rows in {wall:,.1f} s ({cpu:,.1f} s of CPU): {count / wall:,.0f} rows/s, {peak}")
    print(card["repeats"])


if __name__ == "__main__":
    main()
