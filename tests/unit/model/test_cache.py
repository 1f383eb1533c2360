"""Caches are forked, cut and carried on; whatever is done with them equals reading everything anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_bases import MIXED, Batch, random_adapters, random_batch
from torch import Tensor

from hatex.errors import ModelError
from hatex.model.cache import PromptCache
from hatex.model.gatedlm import GatedLM
from hatex.model.generation import choose, generate
from hatex.model.layercache import HEADROOM
from hatex.model.reading import PromptReader
from hatex.model.scoring import pad, plan, score_labels
from hatex.model.variants import score_variants
from hatex.types import Sampling

Load = Callable[[str], GatedLM]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
PATHS = ("llama", "llama-generic", "opt")


@pytest.fixture(params=PATHS)
def lm(request: pytest.FixtureRequest, load: Load) -> GatedLM:
    lm = load(request.param)
    lm.attach(random_adapters(lm, MIXED))
    return lm


def prompts_of(batch: Batch) -> list[list[int]]:
    return [batch.row(i)[0].tolist() for i in range(len(batch.ids))]


@torch.inference_mode()
def read(lm: GatedLM, tokens: Sequence[int], gates: Tensor) -> Tensor:
    """Hidden state behind the tokens, with no cache at all."""
    return lm.last_hidden(torch.tensor([list(tokens)]), torch.tensor([len(tokens)]), gates[None])[0]


@torch.inference_mode()
def test_going_on_in_forks_equals_recomputation(lm: GatedLM) -> None:
    batch = random_batch(3, 3)
    prompts = prompts_of(batch)
    cache = PromptCache.prefill(lm, batch.ids, batch.lengths, batch.gates)
    fork = cache.select([2, 0, 0])
    first = fork.extend(torch.tensor([[7, 8], [9, 10], [11, 12]]))
    second = fork.extend(torch.tensor([[13], [14], [15]]))
    read_so_far = [[*prompts[2], 7, 8], [*prompts[0], 9, 10], [*prompts[0], 11, 12]]
    for i, (row, more) in enumerate(zip((2, 0, 0), (13, 14, 15), strict=True)):
        expected = read(lm, read_so_far[i], batch.gates[row])
        torch.testing.assert_close(first[i, 1], expected, **CLOSE)
        expected = read(lm, [*read_so_far[i], more], batch.gates[row])
        torch.testing.assert_close(second[i, 0], expected, **CLOSE)
    # The cache that was forked does not know.
    for i, hidden in enumerate(cache.extend(torch.tensor([[20], [21], [22]]))):
        torch.testing.assert_close(hidden[0], read(lm, [*prompts[i], 20 + i], batch.gates[i]), **CLOSE)


@torch.inference_mode()
def test_a_cache_outgrows_its_buffers(load: Load) -> None:
    lm = load("llama")
    lm.attach(random_adapters(lm, MIXED))
    batch = random_batch(2, 3, tokens=4)
    cache = PromptCache.prefill(lm, batch.ids, batch.lengths, batch.gates)
    tokens = [3 + i % 90 for i in range(HEADROOM + 3)]
    for token in tokens:
        cache.extend(torch.tensor([[token], [token]]))
    for i, prompt in enumerate(prompts_of(batch)):
        torch.testing.assert_close(cache.hidden[i], read(lm, [*prompt, *tokens], batch.gates[i]), **CLOSE)


def test_scores_in_batches_equal_scores_one_by_one(lm: GatedLM) -> None:
    batch = random_batch(7, 3)
    prompts, labels = prompts_of(batch), [[5], [6], [7]]
    seen: list[float] = []
    whole = score_labels(lm, prompts, labels, batch.gates, max_tokens=25, advance=seen.append)
    assert sum(seen) == 7
    assert len(seen) > 1
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(7))
    for i, prompt in enumerate(prompts):
        logits = lm.logits(read(lm, prompt, batch.gates[i]))[[5, 6, 7]]
        torch.testing.assert_close(whole[i], torch.log_softmax(logits, -1), **CLOSE)


@pytest.mark.parametrize("reference", [False, True])
def test_labels_of_several_tokens_sum_their_tokens(load: Load, reference: bool) -> None:
    lm = load("llama")
    lm.attach(random_adapters(lm, [MIXED[0], MIXED[0]]))
    batch = random_batch(3, 2)
    prompts, labels = prompts_of(batch), [[5], [6, 7], [6, 8, 9]]
    found = score_labels(lm, prompts, labels, batch.gates, max_tokens=100, reference=reference)
    for i, prompt in enumerate(prompts):
        sums = []
        for label in labels:
            total = 0.0
            for end, token in enumerate(label):
                ids = torch.tensor([[*prompt, *label[:end]]])
                with torch.no_grad():
                    hidden = lm.last_hidden(
                        ids, torch.tensor([ids.shape[1]]), batch.gates[i, None], reference=reference
                    )
                total += torch.log_softmax(lm.logits(hidden[0]), -1)[token].item()
            sums.append(total)
        torch.testing.assert_close(found[i], torch.log_softmax(torch.tensor(sums), -1), **CLOSE)


def test_a_base_with_a_window_goes_on_without_padding(load: Load) -> None:
    lm = load("mistral+window")
    lm.attach(random_adapters(lm, MIXED))
    batch = random_batch(4, 3)
    prompts, labels = prompts_of(batch), [[5], [6, 7]]
    with pytest.raises(ModelError, match="cannot go on behind padded rows"):
        PromptCache.prefill(lm, batch.ids, batch.lengths, batch.gates)
    scores = score_labels(lm, prompts, labels, batch.gates, max_tokens=100)
    found = EndsAt([5] * 4)
    decode(lm, prompts, batch.gates, found, 5, 99)
    for i, prompt in enumerate(prompts):
        alone = score_labels(lm, [prompt], labels, batch.gates[i : i + 1], max_tokens=100)
        torch.testing.assert_close(scores[i : i + 1], alone, **CLOSE)
        tokens = list(prompt)
        for token in found.tokens[i]:
            assert lm.logits(read(lm, tokens, batch.gates[i])).argmax() == token
            tokens.append(token)


def test_threads_take_turns_with_their_gates(load: Load) -> None:
    lm = load("llama")
    lm.attach(random_adapters(lm, MIXED))
    batch = random_batch(3, 3)
    prompts, labels = prompts_of(batch), [[5], [6], [7]]

    def score(adapter: int) -> Tensor:
        return score_labels(lm, prompts, labels, torch.eye(3)[[adapter] * 3], max_tokens=100)

    alone = [score(adapter) for adapter in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(score, [0, 1, 2] * 40))
    for i, found in enumerate(together):
        torch.testing.assert_close(found, alone[i % 3], **CLOSE)


class EndsAt:
    """Lets every token through; a row is complete at its own length. Keeps what it was asked."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.tokens: dict[int, list[int]] = {i: [] for i in range(len(lengths))}
        self.batches: list[tuple[int, ...]] = []

    def mask(self, step_logits: Tensor, row_ids: Sequence[int]) -> Tensor:
        assert step_logits.shape == (len(row_ids), 97)
        self.batches.append(tuple(row_ids))
        return step_logits

    def accept(self, row_id: int, token_id: int) -> bool:
        self.tokens[row_id].append(token_id)
        return len(self.tokens[row_id]) == self.lengths[row_id]


def decode(
    lm: GatedLM,
    prompts: list[list[int]],
    gates: Tensor,
    ends: EndsAt,
    new_tokens: int,
    max_tokens: int,
    sampling: Sampling = Sampling(),  # noqa: B008
) -> None:
    """Decode behind prompts, of which the last token is given as a suffix."""
    heads, suffixes = [prompt[:-1] for prompt in prompts], [prompt[-1:] for prompt in prompts]
    reader = PromptReader(lm, max_tokens)
    generate(
        reader, heads, suffixes, gates, ends, [0] * len(heads), max_new_tokens=new_tokens, sampling=sampling
    )


def test_what_was_read_is_read_once_and_never_under_other_gates(
    lm: GatedLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    prefill = PromptCache.prefill

    def note(lm: GatedLM, ids: Tensor, *rest: Tensor, **options: bool) -> PromptCache:
        read.append(len(ids))
        return prefill(lm, ids, *rest, **options)

    monkeypatch.setattr(PromptCache, "prefill", note)
    batch = random_batch(5, 3)
    prompts, labels = prompts_of(batch), [[5], [6], [7]]
    reader = PromptReader(lm, 20)
    alone = score_labels(lm, prompts, labels, batch.gates, max_tokens=20)
    with torch.inference_mode():
        found = score_labels(lm, prompts, labels, batch.gates, max_tokens=20, reader=reader)
        once = sum(read)
        torch.testing.assert_close(found, alone, **CLOSE)
        variants = [[*prompt[:-1], 9] for prompt in prompts] + [[*prompts[2], 11]]
        owners = [0, 1, 2, 3, 4, 2]
        changed = score_variants(reader, prompts, variants, owners, labels, batch.gates)
        ends = EndsAt([3] * 6)
        generate(
            reader,
            [*prompts, prompts[0]],
            [[8]] * 6,
            torch.cat([batch.gates, batch.gates[:1]]),
            ends,
            [0] * 6,
            max_new_tokens=3,
            sampling=Sampling(),
        )
        assert sum(read) == once == 5
        other = batch.gates.roll(1, 0)
        again = score_labels(lm, prompts, labels, other, max_tokens=20, reader=reader)
    assert sum(read) == 10
    torch.testing.assert_close(again, score_labels(lm, prompts, labels, other, max_tokens=20), **CLOSE)
    torch.testing.assert_close(
        changed, score_labels(lm, variants, labels, batch.gates[owners], max_tokens=20), **CLOSE
    )
    fresh = EndsAt([3] * 5)
    decode(lm, [[*prompt, 8] for prompt in prompts], batch.gates, fresh, 3, 99)
    assert ends.tokens == {**fresh.tokens, 5: fresh.tokens[0]}


def test_a_reader_keeps_no_more_than_its_bound(lm: GatedLM, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch(6, 3)
    reader = PromptReader(lm, 11)
    monkeypatch.setattr("hatex.model.reading.KEPT_BYTES", 1)
    with torch.inference_mode():
        list(reader.read(prompts_of(batch), batch.gates))
    assert reader._kept == []


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.9, top_p=0.8, seed=3)])
def test_generating_together_equals_one_by_one(lm: GatedLM, sampling: Sampling) -> None:
    batch = random_batch(4, 3)
    prompts = prompts_of(batch)
    together = EndsAt([6, 2, 4, 9])
    decode(lm, prompts, batch.gates, together, 8, 1000, sampling)
    assert [len(tokens) for tokens in together.tokens.values()] == [6, 2, 4, 8]
    assert [len(rows) for rows in together.batches] == [4, 4, 3, 3, 2, 2, 1, 1], "finished rows stay"
    apart = EndsAt([6, 2, 4, 9])
    decode(lm, prompts, batch.gates, apart, 8, 1, sampling)
    assert all(len(rows) == 1 for rows in apart.batches)
    assert apart.tokens == together.tokens


def test_greedy_generation_equals_recomputation(lm: GatedLM) -> None:
    batch = random_batch(2, 3)
    found = EndsAt([5, 5])
    decode(lm, prompts_of(batch), batch.gates, found, 5, 99)
    for i, prompt in enumerate(prompts_of(batch)):
        tokens = list(prompt)
        for token in found.tokens[i]:
            assert lm.logits(read(lm, tokens, batch.gates[i])).argmax() == token
            tokens.append(token)


def test_the_nucleus_keeps_the_likeliest_tokens() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    drawn = {choose(logits, Sampling(1.0, 0.7), torch.Generator().manual_seed(seed)) for seed in range(200)}
    assert drawn == {0, 1}


def test_batches_are_sorted_and_within_budget() -> None:
    lengths = [5, 50, 3, 3, 9, 1]
    batches = plan(lengths, 12)
    assert sorted(i for batch in batches for i in batch) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= 12 for b in batches)
    ids, counts = pad([[1, 2, 3], [4]], fill=9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9]]
    assert counts.tolist() == [3, 1]
