"""The table of `hatex train`, at width 80."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hatex.render.train import render_train

ADAPTER = {"name": "forums", "rows": {"stormfront": 1200, "davidson": 400}, "steps": 75, "tokens": 64000}

ESTIMATE = {
    "base_bytes": 27_000_000_000,
    "adapter_bytes": 3_200_000_000,
    "activation_bytes": 900_000_000,
    "tokens_per_s": 12.3,
    "basis": "one block was timed; tokens counted as 4 bytes each",
}
FIGURES = {
    "mine": {"macro_f1": {"value": 0.71234, "low": 0.65, "high": 0.7701, "n": 1200}},
    "forums": {"macro_f1": {"value": 0.7, "low": None, "high": None, "n": 3}},
}
THEIRS = {"mine": {"macro_f1": {"value": 0.6, "low": -0.1, "high": 1.0, "n": 1200}}}
COMPARISON = {"other": "starter", "strategy": "blend", "ours": FIGURES, "theirs": THEIRS}


@pytest.mark.parametrize("dry_run", [False, True])
def test_train(dry_run: bool, snapshot) -> None:
    trained = {"seconds": 612.0, "best_tune_loss": None if dry_run else 0.61234}
    router = {"adapters": "forums", "posts": 900} | ({} if dry_run else {"accuracy": 0.91234})
    record = {"schema": 1, "dry_run": dry_run, "adapters": [{**ADAPTER, **trained}], "router": router}
    record |= {"estimate": ESTIMATE} if dry_run else {"comparison": COMPARISON}
    stream = io.StringIO()
    Console(file=stream, width=80).print(render_train(record))
    assert stream.getvalue() == snapshot
