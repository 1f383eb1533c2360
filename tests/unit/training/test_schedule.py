"""Batches under a token budget, and the learning rate's way up and down."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatex.errors import TrainingError
from hatex.recipe.train import AdapterSection, TrainSection
from hatex.training.groups import collate, plan_groups
from hatex.training.job import Job
from hatex.training.optimizer import check_optimizer, learning_rate
from hatex.training.rows import TrainingRow

LENGTHS = st.lists(st.integers(1, 60), max_size=50)


@given(LENGTHS, st.integers(1, 200), st.none() | st.integers(1, 6), st.integers(0, 5))
def test_plans_hold_every_row_once_within_the_budget(lengths, budget, most, seed) -> None:
    plan = plan_groups(lengths, budget, Random(seed), most)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget
        assert most is None or len(batch) <= most
    assert plan == plan_groups(lengths, budget, Random(seed), most)


def test_rows_of_a_batch_are_about_equally_long() -> None:
    lengths = [i % 50 + 1 for i in range(400)]
    plan = plan_groups(lengths, 200, Random(0))
    padded = sum(len(b) * max(lengths[i] for i in b) for b in plan)
    assert padded < 1.05 * sum(lengths)
    assert [max(lengths[i] for i in b) for b in plan] != sorted(max(lengths[i] for i in b) for b in plan)


@pytest.mark.parametrize("rows", [200, 203, 206])
def test_a_step_of_several_batches_sees_every_part_of_the_lengths(rows: int) -> None:
    lengths = list(range(20, 20 + rows))
    plan = plan_groups(lengths, 400, Random(0), together=4)
    assert sorted(i for batch in plan for i in batch) == list(range(rows))
    ranks = {max(batch): rank for rank, batch in enumerate(sorted(plan, key=max))}
    for at in range(0, len(plan) - 3, 4):
        step = sorted(ranks[max(batch)] for batch in plan[at : at + 4])
        assert all(part - 1 <= 4 * rank / len(plan) <= part + 1 for part, rank in enumerate(step))
    assert [max(batch) for batch in plan[::4]] != sorted(max(batch) for batch in plan[::4])


def test_collate_pads_on_the_right_and_points_at_answers() -> None:
    share = (1.0, 0, 0, 0, 0, 0, 0)
    rows = [
        TrainingRow("a", "d", (5, 6, 7, 8), 1, (2, 3), share, 2.0),
        TrainingRow("b", "d", (9,), 0, (), share, 1.0),
    ]
    batch = collate(rows, pad=3)
    assert batch.ids.tolist() == [[5, 6, 7, 8], [9, 3, 3, 3]]
    assert (batch.lengths.tolist(), batch.label_at.tolist()) == ([4, 1], [1, 0])
    assert (batch.answer_rows.tolist(), batch.answer_positions.tolist()) == ([0, 0], [2, 3])
    assert batch.weights.tolist() == [2, 1]
    assert batch.shares.shape == (2, 7)


def job(**train) -> Job:
    share = (1.0, 0, 0, 0, 0, 0, 0)
    epochs = train.pop("epochs", 1.0)
    rows = [TrainingRow(str(i), "d", (1,) * (1 + i % 7), 0, (), share, 1.0) for i in range(40)]
    section = AdapterSection(epochs=epochs)
    settings = TrainSection.model_validate(
        {"data": "d", "adapters": {"a": section}, "batch_tokens": 20, "batch_lengths": 1} | train
    )
    return Job("a", section, settings, rows, [], 0, "", None)


def test_a_plan_has_whole_epochs_and_the_share_of_the_last() -> None:
    one, half, two = job(), job(epochs=1.5), job(epochs=2.0)
    assert len(half.plan()) == pytest.approx(1.5 * len(one.plan()), abs=1)
    assert half.plan() == two.plan()[: len(half.plan())]
    assert sorted(i for b in two.plan() for i in b) == sorted(2 * list(range(40)))
    assert two.plan()[: len(one.plan())] != two.plan()[len(one.plan()) :]
    assert one.tokens == sum(len(row.ids) for row in one.rows)
    assert job(accumulate=3).steps == -(-one.steps // 3)
    assert job(accumulate=3, batch_lengths=2, batch_tokens=40).steps == -(-one.steps // 6)
    assert job(seed=1).plan() != job(seed=2).plan()


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, 2e-4, 0.03) for step in range(100)]
    assert rates[:3] == pytest.approx([2e-4 / 3, 4e-4 / 3, 2e-4])
    assert rates[3] == pytest.approx(2e-4)
    assert all(a > b for a, b in pairwise(rates[3:]))
    assert rates[51] == pytest.approx(1e-4, rel=0.02)
    assert 0 < rates[-1] < 1e-6
    assert learning_rate(0, 1, 1.0, 0.0) == 1.0


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"])
def test_cuda_optimizers_are_refused_on_the_cpu(name: str) -> None:
    with pytest.raises(TrainingError, match="needs CUDA") as caught:
        check_optimizer(name, on_cuda=False)
    assert "`auto`" in (caught.value.hint or "")
    assert caught.value.where == "train.optimizer"
    check_optimizer(name, on_cuda=True)
    check_optimizer("auto", on_cuda=False)
