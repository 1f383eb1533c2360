"""Recipe section `merge`: named adapters to one new adapter, and out to other programs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hatex.recipe.section import Section

MergeMethod = Literal["cat", "svd", "ties", "dare_ties", "dare_linear", "magnitude_prune", "linear"]


class MergeSection(Section):
    """Weights come from `weights`, from `gates_from`, or are found with `optimise` (which may start at
    `weights`).
    """

    name: str
    """Name of the new adapter."""
    weights: dict[str, float] | None = Field(default=None, min_length=1)
    """Weight of each adapter in the sum of low-rank updates."""
    gates_from: str | None = None
    """Weigh adapters by the router's mean gate weights on these posts: a folder that `prepare` wrote (its
    tune split), a JSONL file with `text`, or `data` for the folder named under `data`.
    """
    optimise: Literal["macro_f1"] | None = None
    """Search for the weights that are best by this metric on the tune split of `data`."""
    steps: int = Field(default=40, ge=4)
    """How many weightings `optimise` tries."""
    method: MergeMethod = "cat"
    """`cat` is exact; `svd` cuts to `rank`; `linear` is PEFT's formula, cross-terms included, for
    comparison.
    """
    rank: int | None = Field(default=None, gt=0)
    """Rank of the new adapter; for `svd` (default: the largest rank merged) and the sparse methods (their
    sum).
    """
    density: float = Field(default=1.0, gt=0, le=1)
    """Share of entries that `ties`, `dare_ties`, `dare_linear` and `magnitude_prune` keep of every update."""
    layers: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Weights for modules that match a shell pattern, as in `model.layers.1?.*`; the first match counts."""
    compare: tuple[MergeMethod, ...] = ()
    """Other methods to measure beside `method`; they are not registered."""
    data: str | None = None
    """Folder that `prepare` wrote: tune posts to choose on, report posts to report on."""
    posts: int = Field(default=300, gt=0)
    """Seeded sample of posts of each split and data set."""
    seed: int = 4761
    export: tuple[Literal["peft", "hf", "nf4", "gguf-lora"], ...] = ()
    """Write the result for other programs, each compared with hatex's own answers first."""
    output: str | None = None
    """Folder of the exports, one subfolder each."""

    @model_validator(mode="after")
    def _weights_have_one_origin(self) -> Self:
        if self.gates_from is not None and (self.weights is not None or self.optimise is not None):
            raise ValueError("gates_from excludes weights and optimise")
        if self.weights is None and self.gates_from is None and self.optimise is None:
            raise ValueError("name weights, gates_from or optimise")
        if (self.optimise is not None or self.gates_from == "data") and self.data is None:
            raise ValueError("optimise, and gates_from: data, need data")
        if self.export and self.output is None:
            raise ValueError("export needs output")
        return self
