"""Two processes under `accelerate launch` train what one process trains, each with the whole base or half of it."""

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

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.mark.slow
# Without a GPU both options start processes on the processor; `--cpu` would start a single one.
# A base that is spread is unpacked layer by layer, so the one process that it is compared with does that as well.
@pytest.mark.parametrize(("option", "compute"), [("--multi_gpu", "auto"), ("--use_fsdp", "dequantize")])
def test_two_processes_train_what_one_does(tiny, tmp_path: Path, capsys, option: str, compute: str) -> None:
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
        for split in ("tune" if n % 5 == 0 else "report" if n % 9 == 0 else "train",)
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
        "report_posts": 3,
        "adapters": {"new": {"platforms": ["one"], "fully_labelled_share": 0}},
    }
    recipe = tmp_path / "new.yaml"
    settings = {"extends": str(tiny.recipe), "base": {"dtype": "float32", "compute": compute}}
    recipe.write_text(json.dumps({**settings, "train": section}))
    base = open_registry(tiny.registry).find("base", "tiny").path
    homes = [tmp_path / "alone", tmp_path / "together"]
    for home in homes:
        (home / "bases").mkdir(parents=True)
        shutil.copytree(base, home / "bases" / "tiny")
    assert main(["train", str(recipe), "--registry", str(homes[0]), "--json", "--quiet"]) == 0
    alone = json.loads(capsys.readouterr().out)
    command = [*LAUNCH, option, "-m", "hatex", "train", str(recipe), "--registry", str(homes[1]), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "in 2 processes" in (homes[1] / "adapters/tiny/new/README.md").read_text()
    assert ("spread over 2 processes" in done.stderr) == (option == "--use_fsdp")
    together = json.loads(done.stdout)  # one process speaks for both
    assert together["adapters"][0]["steps"] == alone["adapters"][0]["steps"] > 3
    assert together["adapters"][0]["best_tune_loss"] == pytest.approx(
        alone["adapters"][0]["best_tune_loss"], rel=1e-4
    )
    one, two = (load_adapter(open_registry(home).find("adapter", "new", base="tiny")) for home in homes)
    for path, update in one.modules.items():
        torch.testing.assert_close(update.A, two.modules[path].A, rtol=2e-2, atol=1e-3)
        torch.testing.assert_close(update.B, two.modules[path].B, rtol=2e-2, atol=1e-3)
