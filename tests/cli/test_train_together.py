"""Two processes under `accelerate launch` train what one process trains."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hatex.cli import main
from hatex.data.examples import write_examples
from hatex.registry import open_registry
from hatex.registry.adapters import load_adapter
from hatex.types import Example, Vote


@pytest.mark.slow
def test_two_processes_train_what_one_does(tiny, tmp_path: Path, capsys) -> None:
    labels = ("neutral", "offensive", "hate")
    words = ("Lovely match", "You silly clowns", "Fans of <team> must leave")
    rows = [
        Example(
            f"boards:{n}",
            "boards",
            "one",
            f"{words[n % 3]}, number {n}",
            (Vote((labels[n % 3],), 2),),
            split,
            f"{n}",
        )
        for n in range(40)
        for split in ("tune" if n % 5 == 0 else "train",)
    ]
    write_examples(tmp_path / "data" / "examples.parquet", rows)
    section = {
        "data": str(tmp_path / "data"),
        "threads": 1,
        "lora": {"r": 2},
        # An odd row is left over: one process has more rows than the other, and sometimes none.
        "batch_rows": 3,
        "accumulate": 2,
        "evaluations": 2,
        "adapters": {"new": {"platforms": ["one"], "fully_labelled_share": 0}},
    }
    recipe = tmp_path / "new.yaml"
    recipe.write_text(
        json.dumps({"extends": str(tiny.recipe), "train": section, "base": {"dtype": "float32"}})
    )
    base = open_registry(tiny.registry).find("base", "tiny").path
    homes = [tmp_path / "alone", tmp_path / "together"]
    for home in homes:
        (home / "bases").mkdir(parents=True)
        shutil.copytree(base, home / "bases" / "tiny")
    assert main(["train", str(recipe), "--registry", str(homes[0]), "--json", "--quiet"]) == 0
    alone = json.loads(capsys.readouterr().out)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    launch += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "--main_process_port",
        "0",
    ]
    command = [*launch, "-m", "hatex", "train", str(recipe), "--registry", str(homes[1]), "--json", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    together = json.loads(done.stdout)  # one process speaks for both
    assert together["adapters"][0]["steps"] == alone["adapters"][0]["steps"] > 3
    assert together["adapters"][0]["best_tune_loss"] == pytest.approx(
        alone["adapters"][0]["best_tune_loss"], rel=1e-4
    )
    one, two = (load_adapter(open_registry(home).find("adapter", "new", base="tiny")) for home in homes)
    for path, update in one.modules.items():
        torch.testing.assert_close(update.A, two.modules[path].A, rtol=2e-2, atol=1e-3)
        torch.testing.assert_close(update.B, two.modules[path].B, rtol=2e-2, atol=1e-3)
