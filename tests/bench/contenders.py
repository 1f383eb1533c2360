"""Contenders measured in turn, each in a process of its own.

In one process they would share malloc's heap, its settings and oneDNN's cache of matmul shapes, and so measure each
other.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from multiprocessing.connection import Connection
from statistics import median

Case = tuple[int, Callable[[], None]]
"""How many posts a call of the function answers."""


def rates(contenders: Mapping[str, Callable[[], Case]], rounds: int) -> dict[str, float]:
    """Median posts per second behind one call to warm up.

    Rounds go through all contenders in turn, so that a busy minute hits them alike; who waits takes no processor time.
    Contenders are built in their process, so they are pickled functions of a module.
    """
    context = multiprocessing.get_context("spawn")
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    with ExitStack() as stack:
        lines: dict[str, Connection] = {}
        for name, build in contenders.items():
            lines[name], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(build, theirs), daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(lines[name].send, False)
            theirs.close()
            lines[name].recv()
            print(f"  warm: {name}", file=sys.stderr)
        for number in range(rounds):
            for name, line in lines.items():
                line.send(True)
                taken[name].append(line.recv())
                print(f"  round {number + 1}/{rounds}: {name}", file=sys.stderr)
    return {name: median(values) for name, values in taken.items()}


def _serve(build: Callable[[], Case], line: Connection) -> None:
    count, run = build()
    run()
    line.send(None)
    while line.recv():
        started = time.perf_counter()
        run()
        line.send(count / (time.perf_counter() - started))
