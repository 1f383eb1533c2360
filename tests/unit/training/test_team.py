"""What processes that train together share out, and what a launch may not ask for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hatex.errors import TrainingError
from hatex.training.team import PATIENCE, Team, join_team


@pytest.mark.parametrize(("count", "size"), [(7, 3), (6, 3), (1, 4), (5, 1)])
def test_every_process_takes_as_many_steps_and_every_item_counts_once(count: int, size: int) -> None:
    teams = [Team(SimpleNamespace(process_index=rank, num_processes=size)) for rank in range(size)]
    shares = [team.even_share(range(count)) for team in teams]
    assert {len(share) for share in shares} == {-(-count // size)}
    assert sorted(item for share in shares for item, counts in share if counts) == list(range(count))


@pytest.mark.parametrize(
    ("flag", "named"), [("ACCELERATE_USE_DEEPSPEED", "DeepSpeed"), ("FSDP_OFFLOAD_PARAMS", "offloaded")]
)
def test_what_a_launch_asks_in_vain_is_refused(
    monkeypatch: pytest.MonkeyPatch, flag: str, named: str
) -> None:
    monkeypatch.setenv(flag, "true")
    assert join_team("cpu").size == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=named) as caught:
        join_team("cpu")
    assert "--use_fsdp" in str(caught.value.hint)


ASK = """
import torch
from hatex.training.team import join_team
team = join_team("cpu")
backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
print(team.size, backend.options._timeout.days)
torch.distributed.destroy_process_group()
"""


def test_processes_wait_for_the_main_one_as_long_as_it_may_work_alone() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert out.split() == ["2", str(PATIENCE.days)], err[-2000:]
