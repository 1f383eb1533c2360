"""Time and memory of `hatex eval starter` with ten strategies on all report splits (budget: 12 minutes, 1.5 GB).

Run on an otherwise idle machine: python tests/bench/evaluation.py [RECIPE] [--registry DIR] [--posts N]
"""

from __future__ import annotations

import json
import sys
import time

from usage import run_measured

STRATEGIES = ("blend", "top-1", "top-2", "top-3", "single:*", "uniform", "full", "oracle")
"""Ten with three adapters behind the router."""


def main() -> None:
    arguments = sys.argv[1:] or ["starter"]
    chosen = [part for name in STRATEGIES for part in ("--strategy", name)]
    command = [sys.executable, "-m", "hatex", "eval", *arguments, *chosen, "--json"]
    started = time.perf_counter()
    printed, peak = run_measured(command)
    seconds = time.perf_counter() - started
    run = json.loads(printed)
    posts = sum(info["n"] for info in run["data"].values())
    print(f"{len(run['results'])} strategies on {posts:,} posts of {len(run['data'])} sets")
    print(f"{run['passes_run']:,} passes run, {run['passes_asked']:,} asked for")
    print(f"{seconds / 60:.1f} minutes (budget 12), peak {peak:.2f} GB (budget 1.5)")


if __name__ == "__main__":
    main()
