"""The processes that train one adapter together: one alone, or those that `accelerate launch` started.

Every process holds the same weights and takes its share of the rows of every batch; gradients are summed over the
LoRA factors alone, so what travels is small. Where FSDP is asked for, the base is spread over the processes
(`model.sharding`), and each makes as many passes as the others. The first process writes checkpoints and artefacts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import Tensor, nn

from hatex.errors import TrainingError
from hatex.model.policy import compute_device

if TYPE_CHECKING:
    from accelerate import PartialState

T = TypeVar("T")

FSDP: Final = "ACCELERATE_USE_FSDP"
REFUSED: Final = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "FSDP_OFFLOAD_PARAMS": "FSDP with parameters offloaded to the processor",
}
"""What `accelerate launch` may be told and hatex does not do, by the variable that says so."""

PATIENCE: Final = timedelta(days=7)
"""How long a process waits for the others. Ten minutes, NCCL's own word, are over while the main one alone fetches and
quantises a base, prepares data or fits the router.
"""


class Team:
    """One process and its fellows; build it with `join_team`."""

    def __init__(self, state: PartialState | None = None, *, spreads_base: bool = False) -> None:
        self._state = state
        self.spreads_base = spreads_base
        """Whether every process is to hold only a share of the base."""

    @property
    def rank(self) -> int:
        return 0 if self._state is None else int(self._state.process_index)

    @property
    def size(self) -> int:
        return 1 if self._state is None else int(self._state.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The items that this process takes; the shares of all processes make up the whole."""
        return items if self._state is None else items[self.rank :: self.size]

    def even_share(self, items: Sequence[T]) -> list[tuple[T, bool]]:
        """`share`, and whether each item counts: who has one less than the others repeats an item that does not."""
        own = [(item, True) for item in self.share(items)]
        missing = -(-len(items) // self.size) - len(own)
        return own + [(items[0], False)] * missing

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self._state is None:
            return value
        from accelerate.utils import reduce

        summed: Tensor = reduce(value.clone(), reduction="sum")
        return summed

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by the sum over all processes; a process without rows counts as zeros."""
        if self._state is None:
            return
        owners = list(parameters)
        for parameter in owners:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        grads = [p.grad for p in owners if p.grad is not None]
        flat = self.sum(torch.cat([grad.flatten() for grad in grads]))
        for grad, part in zip(grads, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
            grad.copy_(part.view_as(grad))

    def wait(self) -> None:
        """Return when every process has come here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process run the block before all others do."""
        if not self.is_main:
            self.wait()
        try:
            yield
        finally:
            if self.is_main:
                self.wait()


def join_team(device: str) -> Team:
    """The team of this process: alone, unless `accelerate launch` started several.

    On CUDA (`device`: auto | cpu | cuda, as a recipe has it) every process takes the device that accelerate gives it.
    Raises TrainingError for ways to train together that hatex does not have.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team()
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    if refused := [name for flag, name in REFUSED.items() if parse_flag_from_env(flag)]:
        raise TrainingError(
            f"hatex does not train with {', '.join(refused)}",
            hint="launch with `--multi_gpu`, or with `--use_fsdp` where the base is too large for one device",
        )
    state = PartialState(cpu=compute_device(device).type == "cpu", timeout=PATIENCE)
    return Team(state, spreads_base=parse_flag_from_env(FSDP))
