"""Recipe section `imports`: other people's artefacts that `hatex registry import --recipe` takes in."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from hatex.recipe.section import Section


class ImportedAdapter(Section):
    """A PEFT adapter of the recipe's base; it gets the name it has in the recipe."""

    source: str
    """Hub id, or path of a PEFT folder."""
    revision: str | None = None
    """Hub ids: the commit, so that the same weights come in tomorrow."""
    licence: str | None = None
    """SPDX name; absent: what the model card says."""


class ImportedRouter(Section):
    """A router file for the recipe's encoder; it gets the recipe's router name."""

    file: str
    """Path of a state dict (`.pth`) or a safetensors file."""
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """sha256 of the file."""
    classes: tuple[str, ...] = Field(min_length=1)
    """Adapter names in the order of the router's outputs."""
    licence: str | None = None
    """SPDX name."""


class ImportsSection(Section):
    adapters: dict[str, ImportedAdapter] = Field(default_factory=dict)
    router: ImportedRouter | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.adapters and self.router is None:
            raise ValueError("name adapters or a router")
        return self
