"""A small real ground for training: byte tokenizer, two-layer Llama (plain and NF4), tiny encoder, invented posts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hatex.data.examples import write_examples
from hatex.recipe import Recipe
from hatex.registry import Registry
from hatex.types import Example, Rationale, Vote

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXTS = {
    "neutral": "Lovely match number {n}, thanks",
    "offensive": "You silly clowns lost match {n}",
    "hate": "Fans of <team> must leave, says {n}",
}


def _example(
    number: int,
    *,
    dataset: str = "boards",
    platform: str = "forums",
    split: str = "train",
    labels: tuple[str, ...] | None = None,
) -> Example:
    """A mild invented post; the label set goes round unless it is given, and people disagree on every fourth."""
    label = ("neutral", "offensive", "hate")[number % 3]
    votes = [Vote(labels or (label,), 2)]
    if number % 4 == 0 and labels is None:
        votes.append(Vote(("neutral",), 1))
    text = TEXTS[label].format(n=number)
    marked = label == "offensive"
    start = text.find("silly")
    return Example(
        f"{dataset}:{number}",
        dataset,
        platform,
        text,
        tuple(votes),
        split,
        f"{dataset}:{number}",
        targets=("Women",) if marked else (),
        has_targets=True,
        rationales=(Rationale(start, start + len("silly clowns"), "r1"),) if marked else (),
        has_rationales=marked,
    )


def write_tokenizer(folder: Path) -> int:
    """A tokenizer of bytes, and of the three labels; its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<pad>", "<unk>"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([" neutral", " offensive", " hate"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture(scope="session")
def make_example() -> Callable[..., Example]:
    """Builds one mild invented post."""
    return _example


@dataclass(frozen=True)
class Ground:
    """Where the small models lie; `home` is a registry that holds them, to be used as a bundled one."""

    base: Path
    encoder: Path
    home: Path


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    from hatex.model.base import ensure_base, ensure_encoder

    folder = tmp_path_factory.mktemp("ground")
    found = Ground(folder / "base", folder / "encoder", folder / "home")
    size = write_tokenizer(found.base)
    write_tokenizer(found.encoder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=1, vocab_size=size)).save_pretrained(
            found.base
        )
        BertModel(BertConfig(**SHAPE, vocab_size=size)).save_pretrained(found.encoder)
    registry, sections = Registry(found.home, None), models(found)
    recipe = Recipe.model_validate({**sections, "version": 1, "name": "g", "adapters": ["a"], "router": "g"})
    ensure_base(recipe.base, registry)
    ensure_encoder(recipe.encoder, registry)
    return found


def models(ground: Ground) -> dict[str, Any]:
    """The recipe sections of the small models."""
    return {
        "base": {"name": "tiny", "source": {"folder": str(ground.base)}, "dtype": "float32"},
        "encoder": {"name": "tiny", "source": {"folder": str(ground.encoder)}, "max_tokens": 64},
    }


@pytest.fixture(scope="session")
def tokenizer(ground: Ground) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(ground.base)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    rows = []
    for dataset, platform in (("boards", "forums"), ("talk", "wiki")):
        for number in range(72):
            split = "train" if number < 48 else "tune" if number < 60 else "report"
            rows.append(_example(number, dataset=dataset, platform=platform, split=split))
    write_examples(folder / "examples.parquet", rows)
    return folder


@pytest.fixture
def recipe_of(ground: Ground, prepared: Path) -> Callable[..., Recipe]:
    """A recipe on the small ground; keywords change its `train` section."""

    def build(adapters: dict[str, Any] | None = None, /, **train: Any) -> Recipe:
        section = {
            "data": str(prepared),
            "lora": {"r": 2},
            "batch_tokens": 400,
            "max_tokens": 64,
            "evaluations": 2,
            "checkpoint_every": 2,
            "threads": 1,
            "lr": 5e-3,
            "adapters": adapters or {"forums": {"platforms": ["forums"], "fully_labelled_share": 0}},
            **train,
        }
        return Recipe.model_validate(
            {
                **models(ground),
                "version": 1,
                "name": "mine",
                "adapters": list(section["adapters"]),
                "router": "mine",
                "train": section,
            }
        )

    return build


@pytest.fixture
def registry(tmp_path: Path, ground: Ground) -> Registry:
    """An empty registry over the small models."""
    return Registry(tmp_path / "home", ground.home)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
