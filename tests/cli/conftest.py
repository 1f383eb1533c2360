"""A whole engine in small: every part is real (NF4 base, PEFT adapters, encoder, router), only tiny and untrained.

It says nothing sensible about posts, and it loads in a moment: for what commands do around an engine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from hatex.cli import LIBRARY_CHATTER

# Commands run in this process here; libraries read these when they are first imported.
os.environ.update(LIBRARY_CHATTER)

RECIPE = """\
version: 1
name: tiny
base: {{name: tiny, source: {{folder: {folder}/base}}}}
encoder: {{name: tiny, source: {{folder: {folder}/encoder}}}}
adapters: [one, two, full]
router: tiny
route: {{max_tokens: 96}}
"""


@dataclass(frozen=True)
class Tiny:
    """Where the small engine lies."""

    recipe: Path
    registry: Path

    @property
    def options(self) -> list[str]:
        """What a command needs to use it."""
        return ["--recipe", str(self.recipe), "--registry", str(self.registry)]


def write_tokenizer(folder: Path) -> int:
    """A tokenizer of bytes, and of the three labels; its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<pad>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([" neutral", " offensive", " hate"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    import numpy as np
    import torch
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

    from hatex.model.base import ensure_base, ensure_encoder
    from hatex.recipe import load_recipe
    from hatex.registry import open_registry
    from hatex.registry.adapters import LoraAdapter, LoraUpdate, save_adapter
    from hatex.routing.encoder import Encoder
    from hatex.routing.router import Router

    folder = tmp_path_factory.mktemp("tiny")
    size = write_tokenizer(folder / "base")
    write_tokenizer(folder / "encoder")
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**shape, num_key_value_heads=2, vocab_size=size)).save_pretrained(
            folder / "base"
        )
        BertModel(BertConfig(**shape, vocab_size=size)).save_pretrained(folder / "encoder")
        updates = {
            name: LoraUpdate(torch.randn(4, 64), torch.randn(64, 4), 0.5) for name in ("one", "two", "full")
        }
    recipe_file = folder / "tiny.yaml"
    recipe_file.write_text(RECIPE.format(folder=folder))
    recipe, registry = load_recipe(str(recipe_file)), open_registry(folder / "home")
    base = ensure_base(recipe.base, registry)
    encoder = ensure_encoder(recipe.encoder, registry)
    for name, update in updates.items():
        fields = {"base_identity": base.manifest.base_identity, "licence": "CC0-1.0", "votes_per_post": 3.0}
        with registry.publish("adapter", name, base="tiny", manifest_fields=fields) as staged:
            modules = {f"model.layers.{layer}.self_attn.q_proj": update for layer in range(2)}
            save_adapter(staged, LoraAdapter(name, modules), base_model="tiny")
    generator = np.random.default_rng(0)
    # An untrained encoder puts all posts close together: centre and spread them, so that gates differ.
    seen = Encoder.load(encoder.path, "tiny", 64).embed([f"Team {n} {'played ' * n}" for n in range(8)])
    directions = generator.normal(size=(8, 64)) / seen.std()
    weights = {
        "hidden.weight": directions,
        "hidden.bias": -directions @ seen.mean(0),
        "output.weight": generator.normal(size=(2, 8)) / 8,
        "output.bias": np.zeros(2),
    }
    fields = {
        "adapters": ["one", "two"],
        "encoder": {"name": "tiny", "sha256": encoder.manifest.files["model.safetensors"]},
    }
    with registry.publish("router", "tiny", manifest_fields=fields) as staged:
        Router(("one", "two"), {k: v.astype(np.float32) for k, v in weights.items()}).save(staged, {})
    return Tiny(recipe_file, folder / "home")
