"""The training loop of one adapter: QLoRA on the frozen base, loss over votes at the label position."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from hatex.errors import TrainingError
from hatex.model.gatedlm import GatedLM
from hatex.training.checkpoint import Progressed, load_checkpoint, save_checkpoint
from hatex.training.groups import collate, plan_groups
from hatex.training.job import Job, Trained
from hatex.training.objective import batch_loss, lora_parameters
from hatex.training.optimizer import build_optimizer, learning_rate, optimizer_tensors, restore_optimizer
from hatex.training.partners import own_factors
from hatex.training.team import Team
from hatex.training.trackers import Trackers
from hatex.types import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AdapterTrainer:
    """Trains the adapter that is attached to `lm`, step by step; `run` resumes where a checkpoint stands."""

    def __init__(
        self,
        lm: GatedLM,
        job: Job,
        label_ids: Sequence[int],
        progress: Progress,
        *,
        team: Team | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self.lm, self.job, self.progress = lm, job, progress
        self.team, self.trackers = team or Team(), trackers or Trackers(())
        self.head = lm.vocabulary[list(label_ids)]
        self.parameters = lora_parameters(lm)
        for layer in lm.gated_layers().values():
            if layer.stack is not None and len(layer.stack.layout) > 1:
                layer.stack.train_first_only()
        self.optimizer = build_optimizer(job.train, list(self.parameters.values()))
        self.plan = job.plan()
        self.steps = math.ceil(len(self.plan) / job.train.groups_per_step)
        # What does not run together runs one behind the other: the same gradients, more slowly.
        self.together = job.train.batch_lengths if lm.takes_groups else 1
        self.unit = sum(job.rows[i].weight for group in self.plan for i in group) / max(1, len(self.plan))
        self.at = Progressed(job.key, 0, None, None, (), (), 0.0)
        self.best: dict[str, Tensor] | None = None

    def run(self, *, resume: bool) -> Trained:
        """Train to the end; without tune rows the last weights are kept.

        Raises TrainingError on a loss or gradients that are no numbers, naming step and examples.
        """
        train = self.job.train
        if resume:
            self._restore()
        measures = train.evaluations and self.job.tune_rows
        every = max(1, math.ceil(self.steps / train.evaluations)) if measures else 0
        self.lm.checkpoint_activations(train.checkpointing)
        with self.progress.task(f"Training {self.job.name}", total=self.steps, unit="steps") as advance:
            advance(self.at.step)
            while self.at.step < self.steps:
                started = time.monotonic()
                loss = self._step(self.at.step)
                step = self.at.step + 1
                self.at = replace(self.at, step=step, losses=(*self.at.losses, (step, loss)))
                self.trackers.log({"loss": loss}, step)
                if every and (step % every == 0 or step == self.steps):
                    self._evaluate()
                self.at = replace(self.at, seconds=self.at.seconds + time.monotonic() - started)
                if self.team.is_main and (step % train.checkpoint_every == 0 or step == self.steps):
                    self._save()
                advance(1)
        self.lm.checkpoint_activations(False)
        weights = self.best or {name: p.detach().clone() for name, p in self.parameters.items()}
        return Trained(own_factors(self.lm, weights), self.at, self.job.tokens)

    def _step(self, step: int) -> float:
        train = self.job.train
        peak = self.job.section.lr or train.lr
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.steps, peak, train.warmup_share)
        size = train.groups_per_step
        groups = self.plan[step * size : (step + 1) * size]
        forwards = [groups[at : at + self.together] for at in range(0, len(groups), self.together)]
        with self._seeded(step):
            total = sum(self._backward(step, forward, len(groups)) for forward in forwards)
        self.team.sum_gradients(self.parameters.values())
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), train.max_grad_norm)
        if not torch.isfinite(norm):
            # Stepping would put numbers that are none into the weights, and the next checkpoint would keep them.
            raise self._failed("the gradients' norm", norm, step, _flat(groups))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total / sum(self.job.rows[i].weight for i in _flat(groups))

    def _backward(self, step: int, groups: Sequence[Sequence[int]], parts: int) -> float:
        """Gradients of this process's rows of the groups of one forward; returns the loss of all of their rows.

        The gradient's unit is the mean weight of a group, not that of this one: groups of long rows hold fewer of
        them, and rows with an answer are long, so that harmful posts would count for more than neutral ones.
        """
        device, rank, size = self.lm.device, self.team.rank, self.team.size
        mine = [self.team.share(group) for group in groups]
        # Who has no row takes part with one that counts nothing: a base that is spread is read by all together.
        taken = [own or group[:1] for own, group in zip(mine, groups, strict=True)]
        padded = [collate([self.job.rows[i] for i in rows], self.job.pad).to(device) for rows in taken]
        losses, _ = batch_loss(self.lm, padded, self.head, self.job.train.explanation_weight)
        counts = torch.tensor(
            [bool(own) for own, rows in zip(mine, taken, strict=True) for _ in rows], device=device
        )
        weights = torch.cat([group.weights for group in padded])[counts]
        losses = losses[counts]
        loss = (losses * weights).sum()
        total = self.team.sum(loss.detach())
        if not torch.isfinite(total):
            lost = [torch.zeros(len(group), device=device) for group in groups]
            mine_lost = torch.split((~torch.isfinite(losses.detach())).float(), [len(own) for own in mine])
            for flags, own in zip(lost, mine_lost, strict=True):
                flags[rank::size] = own
            at = self.team.sum(torch.cat(lost)).nonzero()[:, 0].tolist()
            indices = _flat(groups)
            raise self._failed("loss", total, step, [indices[i] for i in at] or indices)
        (loss / (self.unit * parts)).backward()  # type: ignore[no-untyped-call]
        return total.item()

    def _failed(self, what: str, value: Tensor, step: int, indices: Sequence[int]) -> TrainingError:
        shown = ", ".join(self.job.rows[i].example_id for i in indices[:8])
        return TrainingError(
            f"{what} is {value.item()} in step {step + 1} of adapter {self.job.name}; examples {shown}",
            hint="look at these examples, or start anew with a lower train.lr or more train.warmup_share",
        )

    @contextmanager
    def _seeded(self, step: int) -> Iterator[None]:
        """Draw dropout masks that depend on recipe, step and process alone: a resumed run draws the same."""
        if not self.job.train.lora.dropout:
            yield
            return
        text = f"{self.job.train.seed}/{self.job.name}/{step}/{self.team.rank}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))
            yield

    def _evaluate(self) -> None:
        rows = tune_losses(self.lm, self.job, self.head, self.team)
        weights = np.array([row.weight for row in self.job.tune_rows])
        loss = float(np.average(rows, weights=weights))
        self.at = replace(self.at, tune_losses=(*self.at.tune_losses, (self.at.step, loss)))
        self.trackers.log({"tune_loss": loss}, self.at.step)
        self.progress.say(f"{self.job.name}: step {self.at.step}/{self.steps}, loss on tune {loss:.4f}")
        if not self.at.best_rows or not is_worse(rows, np.array(self.at.best_rows), weights):
            self.at = replace(self.at, best_step=self.at.step, best_loss=loss, best_rows=tuple(rows))
            self.best = {name: p.detach().clone() for name, p in self.parameters.items()}

    def _save(self) -> None:
        weights = {name: p.detach() for name, p in self.parameters.items()}
        save_checkpoint(self.job.folder, self.at, weights, optimizer_tensors(self.optimizer), self.best)

    def _restore(self) -> None:
        checkpoint = load_checkpoint(self.job.folder, self.job.key)
        if checkpoint is None:
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(checkpoint.weights[name])
        restore_optimizer(self.optimizer, checkpoint.optimizer)
        self.at, self.best = checkpoint.progressed, checkpoint.best


def _flat(groups: Sequence[Sequence[int]]) -> list[int]:
    return [i for group in groups for i in group]


@torch.no_grad()
def tune_losses(lm: GatedLM, job: Job, head: Tensor, team: Team | None = None) -> NDArray[np.float64]:
    """The vote loss of every tune row, of which there is one at least; shape (rows,), not weighted."""
    team = team or Team()
    found = torch.zeros(len(job.tune_rows), dtype=torch.float64, device=lm.device)
    groups = plan_groups([len(r.ids) for r in job.tune_rows], 2 * job.train.batch_tokens, Random(0))
    for indices, counts in team.even_share(groups):
        group = collate([job.tune_rows[i] for i in indices], job.pad).to(lm.device)
        losses, _ = batch_loss(lm, [group], head, 0.0)
        found[indices] += losses.double() * counts
    return team.sum(found).cpu().numpy()


def is_worse(rows: NDArray[np.float64], best: NDArray[np.float64], weights: NDArray[np.float64]) -> bool:
    """Whether the losses of `rows` are above those of `best` by more than a standard error of the paired difference.

    The learning rate ends at nothing, so the last weights are the likely best; a lower loss on a few hundred posts is
    as often luck.
    """
    differences = (rows - best) * weights / weights.mean()
    return len(rows) > 1 and bool(differences.mean() > differences.std(ddof=1) / len(rows) ** 0.5)
