"""The engine on the real base, encoder and starter weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hatex.errors import ModelError, RegistryError, UsageError
from hatex.registry.adapters import LoraAdapter, load_adapter
from hatex.types import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hatex.engine import Engine
    from hatex.registry import Registry

pytestmark = pytest.mark.model

BASE = "smollm2-135m-instruct"

TWEET = "@user lol u lot play like donkeys, absolute state of that match #footy"
TALK_PAGE = (
    "Please stop reverting my edits to the article on stadiums. The source I added in the second paragraph is"
    " reliable, see the discussion above, and the table still needs its references formatted."
)
POSTS = [
    TWEET,
    TALK_PAGE,
    "What a lovely goal!",
    "Your club is a bunch of clueless donkeys, and so are its fans.",
]


def test_gates_differ_between_posts_of_different_platforms(starter_engine: Engine) -> None:
    tweet, talk = starter_engine.gate([TWEET, TALK_PAGE])
    columns = [starter_engine.adapters.index(name) for name in starter_engine.router.adapters]
    assert starter_engine.adapters[columns[int(tweet[columns].argmax())]] == "microblog"
    assert starter_engine.adapters[columns[int(talk[columns].argmax())]] == "wiki"
    assert np.abs(tweet - talk).max() > 0.2


def test_full_has_no_weight_in_a_blend(starter_engine: Engine) -> None:
    gates = starter_engine.gate(POSTS)
    assert (gates[:, starter_engine.adapters.index("full")] == 0).all()
    np.testing.assert_allclose(gates.sum(1), 1)


@pytest.fixture
def adapters(starter_engine: Engine, registry: Registry) -> Iterator[list[LoraAdapter]]:
    """The starter's adapters; whatever a test attaches instead is put back."""
    found = [load_adapter(registry.find("adapter", name, base=BASE)) for name in starter_engine.adapters]
    yield found
    starter_engine.model.lm.attach(found)


def test_zeroing_an_adapter_changes_the_posts_that_lean_on_it(
    starter_engine: Engine, adapters: list[LoraAdapter]
) -> None:
    lean = np.array([one_hot(starter_engine, "microblog"), one_hot(starter_engine, "wiki")])
    blend = starter_engine.gate([TWEET])
    before = starter_engine.score([TWEET, TWEET], lean), starter_engine.score([TWEET], blend)
    zeroed = [zero(adapter) if adapter.name == "microblog" else adapter for adapter in adapters]
    starter_engine.model.lm.attach(zeroed)
    after = starter_engine.score([TWEET, TWEET], lean), starter_engine.score([TWEET], blend)
    changed = np.abs(after[0] - before[0]).max(1)
    assert changed[0] > 0.05
    assert changed[1] < 1e-5
    assert np.abs(after[1] - before[1]).max() > 0.01


def one_hot(engine: Engine, name: str) -> list[float]:
    return [float(adapter == name) for adapter in engine.adapters]


def zero(adapter: LoraAdapter) -> LoraAdapter:
    modules = {path: update._replace(B=update.B * 0) for path, update in adapter.modules.items()}
    return replace(adapter, modules=modules)


def batch_tolerance(engine: Engine) -> float:
    """How far probabilities may move with the batch a post is in: where bf16 is computed in, the contract's .01."""
    return 1e-5 if engine.model.lm.dtype.itemsize == 4 else 0.01


def test_probabilities_do_not_depend_on_the_company_of_a_post(starter_engine: Engine) -> None:
    together = starter_engine.score(POSTS)
    alone = np.concatenate([starter_engine.score([post]) for post in POSTS])
    np.testing.assert_allclose(together, alone, atol=batch_tolerance(starter_engine))
    np.testing.assert_allclose(together.sum(1), 1)


def test_probability_space_is_the_gate_weighted_mean_of_answers(starter_engine: Engine) -> None:
    gates = starter_engine.gate(POSTS)
    answers = [
        starter_engine.score(POSTS, np.tile(np.eye(len(starter_engine.adapters))[k], (len(POSTS), 1)))
        for k in range(len(starter_engine.adapters))
    ]
    mixed = sum(gates[:, k, None] * answer for k, answer in enumerate(answers))
    found = starter_engine.score(POSTS, gates, "probability")
    np.testing.assert_allclose(found, mixed, atol=batch_tolerance(starter_engine))


def test_the_oracle_takes_the_posts_own_platform(starter_engine: Engine) -> None:
    gates = starter_engine.gate(POSTS[:2], platforms=["wiki", "news"])
    assert gates[0, starter_engine.adapters.index("wiki")] == 1
    np.testing.assert_allclose(gates[1], starter_engine.gate(POSTS[1:2])[0], atol=1e-6)


def test_verdicts_say_what_the_parts_say(starter_engine: Engine) -> None:
    verdicts = starter_engine.verdicts(POSTS, "top-2")
    gates = starter_engine.gate(POSTS, "top-2")
    probabilities = starter_engine.score(POSTS, gates)
    for verdict, row, weights in zip(verdicts, probabilities, gates, strict=True):
        assert verdict.label == LABELS[int(row.argmax())]
        np.testing.assert_allclose(list(verdict.probabilities.values()), row, atol=1e-6)
        assert list(verdict.gates.values()) == weights.tolist()
        assert verdict.model == f"{starter_engine.fingerprint}-top-2"


@pytest.mark.parametrize(
    "text",
    ["nul \x00 inside", "\u202eright to left\u202c", "⚽⚽ what a match ⚽", "word " * 20_000],
    ids=["nul", "bidi", "emoji", "100,000 characters"],
)
def test_unusual_texts_are_answered(starter_engine: Engine, text: str) -> None:
    (verdict,) = starter_engine.verdicts([text])
    assert verdict.truncated == (len(text) > 1000)


def test_unknown_strategy_and_space_are_refused(starter_engine: Engine) -> None:
    with pytest.raises(UsageError, match="unknown strategy"):
        starter_engine.verdicts(POSTS, "best")
    with pytest.raises(UsageError, match="unknown blend space"):
        starter_engine.score(POSTS, space="logits")


def test_what_a_cut_hides_from_the_encoder_says_nothing(starter_engine: Engine) -> None:
    encoder = starter_engine.encoder
    assert encoder.max_tokens * 50 < 13_000
    plain = ["a lovely match", "they lost a match", f"{'x' * 101} is a fan"]
    odd = [f"a {' ' * 13_000}lovely match", "they\n\n\n lost a \t match", f"{'x' * 13_000} is a fan"]
    np.testing.assert_allclose(encoder.embed(odd), encoder.embed(plain), atol=1e-6)


def test_marks_of_the_encoder_that_a_post_writes_are_text(starter_engine: Engine) -> None:
    encoder = starter_engine.encoder
    written, spelled = encoder.embed(
        ["What a goal [SEP] [MASK] said the fans", "What a goal [ SEP ] [ MASK ] said the fans"]
    )
    np.testing.assert_allclose(written, spelled, atol=1e-6)


def test_layers_are_pooled_side_by_side(starter_engine: Engine) -> None:
    import torch

    from hatex.routing.encoder import Encoder

    last = starter_engine.encoder
    model, tokenizer = last.model, last.tokenizer
    posts = ["A lovely match", "They played " * 30, "Thanks"]
    both = Encoder(model, tokenizer, "both", last.max_tokens, (1, -1)).embed(posts)
    alone = Encoder(model, tokenizer, "last", last.max_tokens).embed(posts)
    assert both.shape == (3, 2 * alone.shape[1])
    np.testing.assert_allclose(both[:, alone.shape[1] :], alone, atol=1e-6)
    with torch.inference_mode():
        states = model(**tokenizer(posts[2], return_tensors="pt"), output_hidden_states=True).hidden_states
    first = states[1][0].mean(0)
    np.testing.assert_allclose(both[2, : alone.shape[1]], (first / first.norm()).numpy(), atol=1e-5)
    with pytest.raises(ModelError, match="has no layer -8, 7"):
        Encoder(model, tokenizer, "deep", last.max_tokens, (-8, 0, 7))


def test_a_router_keeps_to_its_encoder(starter_engine: Engine, registry: Registry) -> None:
    from hatex.engine.loading import _check_encoder

    router = registry.find("router", "starter")
    encoder = registry.find("encoder", starter_engine.encoder.name)
    _check_encoder(router, encoder)
    files = {**encoder.manifest.files, "model.safetensors": "0" * 64}
    other = replace(encoder, manifest=replace(encoder.manifest, files=files))
    with pytest.raises(RegistryError, match="was fitted on encoder"):
        _check_encoder(router, other)
