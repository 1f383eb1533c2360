"""What processes took: peak memory in GB of 10^9 bytes, and seconds of CPU.

As a script (`usage.py DESCRIPTOR COMMAND...`) it is the small parent of `run_measured`'s command.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence


def peak_gb(usage: resource.struct_rusage) -> float:
    """Linux counts peak memory in KiB, macOS in bytes."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def cpu_s(usage: resource.struct_rusage) -> float:
    """In user and system mode together."""
    return usage.ru_utime + usage.ru_stime


def run_measured(command: Sequence[str], text: str | None = None) -> tuple[str, float]:
    """What a command prints when given `text`, and its own peak memory in GB; CalledProcessError where it fails.

    RUSAGE_CHILDREN would be the largest of all children so far, and Linux counts the memory of whoever starts a
    process into that process's peak: hence a parent of its own, which is small.
    """
    read, write = os.pipe()
    with os.fdopen(read, encoding="ascii") as line:
        try:
            small_parent = [sys.executable, "-IS", __file__, str(write)]
            done = subprocess.run(
                [*small_parent, *command],
                input=text,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                pass_fds=[write],
            )
        finally:
            os.close(write)
        return done.stdout, float(line.read())


def _main() -> None:
    descriptor, *command = sys.argv[1:]
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(process, 0)
    os.write(int(descriptor), json.dumps(peak_gb(usage)).encode())
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    _main()
