"""How long each `--help` takes, in a process of its own, median of five: python tests/bench/help_time.py"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from hatex.cli import VERBS


def seconds(words: list[str]) -> float:
    """Wall time of one `hatex WORDS --help`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hatex", *words, "--help"], check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    for words in ([], *([verb] for verb in VERBS)):
        median = statistics.median(seconds(words) for _ in range(5))
        print(f"{' '.join(['hatex', *words, '--help']):<24} {median:.3f} s")
