"""Rows per second and peak memory of the whole data half on synthetic rows.

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
        cpu = time.process_time()
        card = prepare_data(PrepareSection.model_validate(rules)).card
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count:,} rows in {wall:,.1f} s ({cpu:,.1f} s of CPU): {count / wall:,.0f} rows/s, peak {peak:,.0f} MB"
    )
    print(card["repeats"])


if __name__ == "__main__":
    main()
