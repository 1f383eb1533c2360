"""What processes that train together share out, and what a launch may not ask for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hatex.errors import TrainingError
from hatex.training.team import Team, join_team


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
