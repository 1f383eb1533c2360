"""The loop on a two-layer Llama with random weights: it learns, resumes, stops and cleans up."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hatex.data.prompts import load_prompt
from hatex.errors import TrainingError
from hatex.model.functions import rms_norm
from hatex.model.gatedlm import GatedLM
from hatex.recipe.train import TrainSection
from hatex.training.checkpoint import Progressed, checkpoints, claim, load_checkpoint, save_checkpoint
from hatex.training.encoding import encode_rows, label_tokens
from hatex.training.initial import fresh_adapter
from hatex.training.job import Job
from hatex.training.loop import AdapterTrainer, is_worse
from hatex.training.optimizer import learning_rate
from hatex.training.partners import draw_gates
from hatex.types import NO_PROGRESS

COMPACT = load_prompt("compact")


@pytest.fixture
def trainer_of(ground, tokenizer, make_example, tmp_path):
    """A trainer on 24 posts; `dtype` and `fast` are the model's, everything else is the recipe's."""

    def build(*, dtype=torch.float32, fast=True, key="k", progress=NO_PROGRESS, **train) -> AdapterTrainer:
        settings = {
            "data": "d",
            "adapters": {"a": {}},
            "batch_tokens": 300,
            "batch_lengths": 1,
            "lora": {"r": 2},
            "lr": 1e-2,
        } | train
        section = TrainSection.model_validate(settings)
        options = {"max_tokens": 64, "with_answers": section.explanation_weight > 0}
        rows = encode_rows([make_example(i) for i in range(24)], COMPACT, tokenizer, **options)
        tune = encode_rows([make_example(i) for i in range(24, 33)], COMPACT, tokenizer, **options)
        job = Job("a", section.adapters["a"], section, rows, tune, 0, key, tmp_path / "work")
        lm = GatedLM.load(ground.base, "resident", dtype, fast=fast)
        start = fresh_adapter(lm, "a", section.lora, section.seed)
        lm.attach([start], trainable=True, dropout=section.lora.dropout)
        return AdapterTrainer(lm, job, label_tokens(COMPACT, tokenizer), progress)

    return build


def gradients(trainer: AdapterTrainer, step: int = 0) -> torch.Tensor:
    """All gradients of one optimizer step, before clipping."""
    trainer.optimizer.step = lambda: None  # type: ignore[method-assign]
    trainer.optimizer.zero_grad = lambda **_: None  # type: ignore[method-assign]
    trainer.job = replace(trainer.job, train=trainer.job.train.model_copy(update={"max_grad_norm": 1e9}))
    trainer._step(step)
    return torch.cat([p.grad.flatten() for p in trainer.parameters.values()])


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_loss_falls_and_the_last_adapter_is_kept_unless_an_earlier_one_is_surely_better(trainer_of) -> None:
    train = {"adapters": {"a": {"epochs": 12}}, "lr": 2e-2, "evaluations": 5, "explanation_weight": 0.2}
    trainer = trainer_of(**train)
    trained = trainer.run(resume=False)
    losses = [loss for _, loss in trained.progressed.losses]
    assert [step for step, _ in trained.progressed.losses] == list(range(1, trainer.steps + 1))
    epoch = len(losses) // 12
    assert sum(losses[-epoch:]) < 0.95 * sum(losses[:epoch])
    tune = dict(trained.progressed.tune_losses)
    assert len(tune) == 5
    best = trained.progressed.best_loss
    assert best == tune[trained.progressed.best_step] == pytest.approx(np.mean(trained.progressed.best_rows))
    assert best < max(tune.values())


def test_a_checkpoint_is_worse_only_beyond_a_standard_error() -> None:
    best, even = np.array([1.0, 2.0, 3.0, 4.0]), np.ones(4)
    assert not is_worse(best, best, even)
    assert not is_worse(best + np.array([0.4, -0.2, 0.2, -0.3]), best, even)
    assert is_worse(best + np.array([0.1, 0.1, 0.1, 0.2]), best, even)
    assert not is_worse(best - 0.1, best, even)
    # The same rows, but those that got better weigh more.
    assert is_worse(best + np.array([0.3, 0.3, -0.1, -0.1]), best, np.array([3.0, 3.0, 1.0, 1.0]))
    assert not is_worse(best + np.array([0.3, 0.3, -0.1, -0.1]), best, np.array([1.0, 1.0, 6.0, 6.0]))
    assert not is_worse(best[:1] + 1.0, best[:1], even[:1])


def test_a_post_counts_as_much_in_a_batch_of_few_as_in_one_of_many(trainer_of) -> None:
    trainer = trainer_of()
    trainer.plan, trainer.unit = [[0, 1, 2, 3], [4]], 1.0
    by_batch = [gradients(trainer, step) for step in range(2)]
    alone = []
    for i in range(5):
        for parameter in trainer.parameters.values():
            parameter.grad = None
        trainer._backward(0, [[i]], 1)
        alone.append(torch.cat([p.grad.flatten() for p in trainer.parameters.values()]))
    torch.testing.assert_close(by_batch[0], sum(alone[:4]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(by_batch[1] - by_batch[0], alone[4], rtol=1e-3, atol=1e-5)


def test_a_rows_weight_multiplies_its_gradient_and_its_share_of_the_tune_loss(trainer_of) -> None:
    trainer = trainer_of()
    found = []
    for weight in (1.0, 3.0):
        trainer.job = replace(trainer.job, rows=[replace(trainer.job.rows[0], weight=weight)])
        trainer.optimizer.zero_grad()
        trainer._backward(0, [[0]], 1)
        found.append(torch.cat([p.grad.flatten() for p in trainer.parameters.values()]))
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(found[1], 3 * found[0])
    first, second, *_ = trainer.job.tune_rows
    for rows in ([first], [second], [first, replace(second, weight=3.0)]):
        trainer.job, trainer.at = replace(trainer.job, tune_rows=rows), replace(trainer.at, best_rows=())
        trainer._evaluate()
    light, heavy, both = (loss for _, loss in trainer.at.tune_losses)
    assert light != heavy
    assert both == pytest.approx((light + 3 * heavy) / 4, rel=1e-4)


def test_the_unit_of_the_gradient_is_the_mean_weight_of_a_batch(trainer_of) -> None:
    trainer = trainer_of()
    assert trainer.unit == pytest.approx(24 / len(trainer.plan))
    assert len(trainer.plan) > 1


def test_steps_follow_the_recipes_schedule_norm_and_decay(trainer_of) -> None:
    train = {"adapters": {"a": {"lr": 3e-3, "epochs": 2}}, "lr": 1e-2, "warmup_share": 0.2}
    trainer = trainer_of(**train, max_grad_norm=1e-3, weight_decay=0.07, checkpointing=True)
    step, seen = trainer.optimizer.step, []

    def watched() -> None:
        (group,) = trainer.optimizer.param_groups
        norm = torch.cat([p.grad.flatten() for p in trainer.parameters.values()]).norm().item()
        seen.append((group["lr"], group["weight_decay"], norm, trainer.lm.decoder.checkpointing))
        step()

    trainer.optimizer.step = watched  # type: ignore[method-assign]
    trainer.run(resume=False)
    expected = [learning_rate(i, trainer.steps, 3e-3, 0.2) for i in range(trainer.steps)]
    assert [rate for rate, *_ in seen] == expected
    assert len(set(expected)) > 3
    assert {decay for _, decay, *_ in seen} == {0.07}
    assert [norm for _, _, norm, _ in seen] == pytest.approx([1e-3] * trainer.steps, rel=1e-2)
    assert all(checkpointing for *_, checkpointing in seen)


def test_an_adapter_that_gets_worse_keeps_its_best_weights(trainer_of) -> None:
    trainer = trainer_of(adapters={"a": {"epochs": 3}}, evaluations=1000, warmup_share=0.0)
    falling = iter([3.0, 1.0, *range(2, 1000)])
    kept = []

    def judge(*_: object) -> np.ndarray:
        kept.append({name: p.detach().clone() for name, p in trainer.parameters.items()})
        return np.full(len(trainer.job.tune_rows), next(falling))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hatex.training.loop.tune_losses", judge)
        trained = trainer.run(resume=False)
    assert trained.progressed.best_step == 2
    assert same(trained.weights, kept[1])
    assert not same(trained.weights, kept[-1])


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_resumed_run_repeats_the_whole_one(trainer_of, dropout: float) -> None:
    train = {"lora": {"r": 2, "dropout": dropout}, "checkpoint_every": 2, "evaluations": 3}
    whole = trainer_of(**train).run(resume=False)
    broken = trainer_of(**train)
    shutil.rmtree(broken.job.folder)
    step = broken._step

    def until_three(at: int) -> float:
        if at == 3:
            raise KeyboardInterrupt
        return step(at)

    broken._step = until_three  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        broken.run(resume=False)
    torch.manual_seed(99)  # what else was drawn meanwhile must not matter
    resumed = trainer_of(**train).run(resume=True)
    assert same(whole.weights, resumed.weights)
    assert whole.progressed.losses == resumed.progressed.losses
    assert whole.progressed.tune_losses == resumed.progressed.tune_losses


def test_two_checkpoints_are_kept(trainer_of) -> None:
    trainer = trainer_of(checkpoint_every=1)
    trainer.run(resume=False)
    assert trainer.steps > 3
    assert [f.name for f in checkpoints(trainer.job.folder)] == [
        f"step-{trainer.steps - 1:06d}",
        f"step-{trainer.steps:06d}",
    ]
    assert not [f for f in trainer.job.folder.iterdir() if f.name.startswith(".")]


def test_a_checkpoint_of_another_recipe_is_refused(trainer_of) -> None:
    trainer_of().run(resume=False)
    with pytest.raises(TrainingError, match="another recipe, base or data") as caught:
        trainer_of(key="other").run(resume=True)
    assert "--resume" in (caught.value.hint or "")


def test_a_loss_that_is_no_number_stops_with_step_and_examples(trainer_of) -> None:
    trainer = trainer_of()
    poisoned = trainer.plan[2][-1]
    assert len(trainer.plan[2]) > 2
    row = trainer.job.rows[poisoned]
    rows = list(trainer.job.rows)
    rows[poisoned] = replace(row, shares=(math.nan, *row.shares[1:]))
    trainer.job = replace(trainer.job, rows=rows)
    with pytest.raises(TrainingError, match=r"loss is nan in step 3 of adapter a; examples") as caught:
        trainer.run(resume=False)
    assert caught.value.message.endswith(f"; examples {row.example_id}")
    assert "lr" in (caught.value.hint or "")


def test_gradients_that_are_no_numbers_reach_no_weights(trainer_of, monkeypatch) -> None:
    trainer = trainer_of()
    backward = trainer._backward

    def poison(step: int, groups: list[list[int]], parts: int) -> float:
        loss = backward(step, groups, parts)
        if step == 1:
            next(iter(trainer.parameters.values())).grad.fill_(math.inf)
        return loss

    monkeypatch.setattr(trainer, "_backward", poison)
    with pytest.raises(TrainingError, match=r"the gradients' norm is inf in step 2 of adapter a"):
        trainer.run(resume=False)
    assert all(torch.isfinite(weights).all() for weights in trainer.parameters.values())


def test_without_tune_rows_the_last_weights_are_kept(trainer_of) -> None:
    trainer = trainer_of()
    trainer.job = replace(trainer.job, tune_rows=[])
    trained = trainer.run(resume=False)
    assert trained.progressed.best_step is None
    for name, weights in trained.weights.items():
        assert torch.equal(weights, trainer.parameters[name])


FULL_DISK = """
import resource, signal, sys, torch
from pathlib import Path
from hatex.training.checkpoint import Progressed, save_checkpoint, checkpoints
from hatex.errors import TrainingError
folder = Path(sys.argv[1])
state = lambda step: Progressed("k", step, None, None, (), (), 0.0)
weights = {"w": torch.zeros(100_000)}
save_checkpoint(folder, state(1), weights, {"m": torch.zeros(10)}, None)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_checkpoint(folder, state(2), weights, {"m": torch.zeros(10)}, None)
except TrainingError as error:
    print(error.message, "|", error.hint, "|", sorted(p.name for p in folder.iterdir()))
"""


def test_a_full_disk_is_said_and_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "work")], capture_output=True, text=True, check=True
    )
    message, hint, left = done.stdout.strip().split(" | ")
    assert message.startswith("could not write the checkpoint of step 2")
    assert "--resume" in hint
    assert left == "['step-000001']"


def test_two_runs_do_not_train_one_adapter_at_once(tmp_path: Path) -> None:
    """The second would prune the first one's checkpoints."""
    with claim(tmp_path / "v1.0"), claim(tmp_path / "v1.1"):
        with (
            pytest.raises(TrainingError, match=r"another run is training v1\.0") as caught,
            claim(tmp_path / "v1.0"),
        ):
            pass
        assert "--registry" in (caught.value.hint or "")
    with claim(tmp_path / "v1.0"):
        pass


def test_checkpoints_hold_everything_and_are_readable_by_their_key(tmp_path: Path) -> None:
    state = Progressed("k", 3, 2, 0.5, ((1, 0.9), (2, 0.7)), ((2, 0.5),), 12.5)
    tensors = {"a.A": torch.ones(2, 3)}
    save_checkpoint(tmp_path, state, tensors, {"0.exp_avg": torch.zeros(2, 3)}, tensors)
    found = load_checkpoint(tmp_path, "k")
    assert found is not None
    assert found.progressed == state
    assert same(found.weights, tensors)
    assert same(found.best or {}, tensors)
    assert load_checkpoint(tmp_path / "none", "k") is None


def test_accumulated_batches_weigh_like_one_step(trainer_of) -> None:
    """Two batches in one step: the mean of their gradients."""
    one, two = trainer_of(), trainer_of(accumulate=2)
    two.plan = one.plan
    assert two.steps == math.ceil(one.steps / 2)
    first = gradients(trainer_of())
    second = gradients(trainer_of(), step=1)
    # The second step of the plain run has another learning rate, which gradients do not know of.
    torch.testing.assert_close(gradients(two), (first + second) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("answers", [0.0, 0.7])
def test_groups_in_one_pass_have_the_gradients_of_one_behind_the_other(
    trainer_of, answers: float, checkpointing: bool
) -> None:
    train = {"batch_lengths": 3, "explanation_weight": answers}
    together, apart = trainer_of(**train), trainer_of(**train, fast=False)
    assert (together.together, apart.together) == (3, 1)
    assert len({len(together.job.rows[group[0]].ids) for group in together.plan[:3]}) > 1
    together.lm.checkpoint_activations(checkpointing)
    torch.testing.assert_close(gradients(together), gradients(apart), rtol=1e-3, atol=1e-5)
    assert together._step(1) == pytest.approx(apart._step(1), rel=1e-4)


def test_dropout_keeps_groups_apart(trainer_of) -> None:
    assert trainer_of(lora={"r": 2, "dropout": 0.1}, batch_lengths=3).together == 1


def test_a_loss_that_is_no_number_is_found_in_a_pass_of_several_groups(trainer_of) -> None:
    trainer = trainer_of(batch_lengths=3)
    poisoned = trainer.plan[4][-1]
    rows = list(trainer.job.rows)
    rows[poisoned] = replace(rows[poisoned], shares=(math.nan, *rows[poisoned].shares[1:]))
    trainer.job = replace(trainer.job, rows=rows)
    with pytest.raises(TrainingError, match=r"step 2 of adapter a; examples") as caught:
        trainer.run(resume=False)
    assert caught.value.message.endswith(f"; examples {rows[poisoned].example_id}")


@pytest.mark.parametrize("fast", [True, False])
def test_recomputed_activations_give_the_same_gradients(trainer_of, fast: bool) -> None:
    train = {"lora": {"r": 2, "dropout": 0.1}, "fast": fast}
    plain, thrifty = trainer_of(**train), trainer_of(**train)
    thrifty.lm.checkpoint_activations(True)
    kept = {False: 0, True: 0}
    for trainer, is_thrifty in ((plain, False), (thrifty, True)):

        def note(tensor: torch.Tensor, is_thrifty: bool = is_thrifty) -> torch.Tensor:
            kept[is_thrifty] += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            trainer.gradients = gradients(trainer)
    torch.testing.assert_close(plain.gradients, thrifty.gradients)
    assert kept[True] < kept[False]


def test_the_fast_block_and_transformers_agree_on_gradients(trainer_of) -> None:
    torch.testing.assert_close(
        gradients(trainer_of()), gradients(trainer_of(fast=False)), rtol=1e-3, atol=1e-6
    )


def test_dropout_is_for_training_alone_and_keeps_the_mean(trainer_of) -> None:
    trainer = trainer_of(lora={"r": 2, "dropout": 0.5})
    stack = next(layer.stack for layer in trainer.lm.gated_layers().values())
    x = torch.ones(1, 4000, 32)
    dropped = stack.dropped(x)
    assert dropped.unique().tolist() == [0.0, 2.0]
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        assert torch.equal(stack.dropped(x), x)
    assert not torch.allclose(gradients(trainer), gradients(trainer_of()))


def test_bf16_bases_train_with_fp32_masters(trainer_of) -> None:
    trainer = trainer_of(dtype=torch.bfloat16, explanation_weight=0.2)
    assert {p.dtype for p in trainer.parameters.values()} == {torch.float32}
    exact, rough = gradients(trainer_of(explanation_weight=0.2)), gradients(trainer)
    assert rough.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.99


def test_norms_compute_in_fp32() -> None:
    """Root mean squares of the residual are taken in fp32; the normed state is rounded, scaled and rounded again."""
    x = torch.randn(64, 576, generator=torch.Generator().manual_seed(0))
    weight = torch.rand(576, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = x.double() * torch.rsqrt(x.double().pow(2).mean(-1, keepdim=True) + 1e-5)
    ours = rms_norm(x, weight, 1e-5)
    assert ours.dtype == torch.bfloat16
    scaled = exact * weight.double()
    assert ((ours.double() - scaled).abs() <= scaled.abs() * 2**-7 + 1e-9).all()


def test_a_partner_answers_along_and_stays_as_it_is(trainer_of, tokenizer) -> None:
    trainer = trainer_of(adapters={"a": {"epochs": 2}})
    lm, job = trainer.lm, trainer.job
    start, partner = (fresh_adapter(lm, name, job.train.lora, seed) for name, seed in (("a", 1), ("p", 2)))
    partner = replace(
        partner,
        modules={path: u._replace(B=torch.randn(u.B.shape) / 9) for path, u in partner.modules.items()},
    )
    rows = draw_gates(job.rows, 1, 0.8, 1)
    shared = [row for row in rows if row.gates[1] > 0]
    assert 0.5 < len(shared) / len(rows) < 1
    assert all(sum(row.gates) == pytest.approx(1) and row.gates[0] >= 0.3 for row in rows)
    lm.attach([start, partner], trainable=True)
    alone = AdapterTrainer(lm, job, label_tokens(COMPACT, tokenizer), NO_PROGRESS)
    with_partner = AdapterTrainer(lm, replace(job, rows=rows), label_tokens(COMPACT, tokenizer), NO_PROGRESS)
    assert alone._step(0) != pytest.approx(with_partner._step(0), rel=1e-6)
    trained = with_partner.run(resume=False)
    for path, layer in lm.gated_layers().items():
        assert layer.stack is not None
        update = partner.modules[path]
        assert torch.equal(layer.stack.A[2:], update.A)
        assert torch.equal(layer.stack.B[:, 2:], update.B)
        assert trained.weights[f"{path}.A"].shape == start.modules[path].A.shape
    assert any(weights.abs().sum() > 0 for name, weights in trained.weights.items() if name.endswith(".B"))
