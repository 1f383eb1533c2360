"""Recipe section `train`: adapters by QLoRA, and the router."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from hatex.recipe.section import Section
from hatex.types import LABELS


class LoraSection(Section):
    r: int = Field(default=8, gt=0)
    alpha: float = Field(default=16, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rslora: bool = False
    modules: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Names of the linear layers; absent: every linear layer but the output head."""


class AdapterSection(Section):
    """What one adapter is trained on."""

    platforms: tuple[str, ...] = ()
    """Platform families whose rows it sees; empty: all."""
    init: str | None = None
    """Name of an adapter of this recipe, trained earlier, to start from."""
    partners: tuple[str, ...] = ()
    """Adapters trained earlier, kept as they are, that answer together with this one on some of its rows, so that
    their blend is good and not only each alone."""
    partner_share: float = Field(default=0.5, gt=0, le=1)
    """Share of rows that are answered together with one of `partners`, weighed at random."""
    rows: dict[str, Annotated[int, Field(gt=0)]] = Field(default_factory=dict)
    """Seeded subsample of each data set's training rows; empty: all rows of its platforms."""
    fully_labelled_share: float = Field(default=0.25, ge=0, lt=1)
    """Least share (but for rounding) of rows from data sets whose annotators chose among all three labels, as far as
    there are such."""
    epochs: float = Field(default=1.0, gt=0)
    lr: float | None = Field(default=None, gt=0)
    """Overrides `train.lr`."""
    dataset_weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Loss weight of each data set; absent sets weigh 1."""
    perspective: str | None = None
    """Experimental: only the votes of this group of annotators count, five people at least. Such an adapter is neither
    merged nor exported."""


class RefineSection(Section):
    """Training the router through the answers of the adapters that it weighs."""

    posts: int = Field(default=1000, gt=0)
    """Training posts of each platform that every adapter answers."""
    steps: int = Field(default=100, gt=0)
    lr: float = Field(default=2e-3, gt=0)
    platform_weight: float = Field(default=0.3, ge=0)
    """Weight of the platform's name beside the votes."""


class RouterSection(Section):
    hidden: int = Field(default=8, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden units left out of a training step."""
    layers: tuple[int, ...] = Field(default=(-1,), min_length=1)
    """Layers of the encoder whose mean over tokens it reads, side by side; 0: the input embeddings, -1: the last."""
    adapters: tuple[str, ...] = Field(min_length=1)
    """The adapters the router weighs; each is the platform it learns to name."""
    posts_per_platform: int = Field(default=4000, gt=0)
    """Posts of each platform that it is fitted on."""
    calibration_posts: int = Field(default=250, gt=0)
    """Tune posts of each data set that the label calibration is fitted on."""
    epochs: int = Field(default=30, gt=0)
    lr: float = Field(default=5e-3, gt=0)
    formatting_noise: float = Field(default=0.5, ge=0, le=1)
    """Share of training posts whose case, punctuation, mentions and links are varied at random."""
    refine: RefineSection | None = None
    """Also train the gates through the adapters' answers; absent: the router only learns the platform's name."""


class TrainSection(Section):
    data: str
    """Folder that `prepare` wrote."""
    adapters: dict[str, AdapterSection] = Field(min_length=1)
    """In training order."""
    router: RouterSection | None = None
    lora: LoraSection = LoraSection()
    seed: int = 4761
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    warmup_share: float = Field(default=0.03, ge=0, lt=1)
    batch_tokens: int = Field(default=1600, gt=0)
    """Token budget of one batch, padding included."""
    batch_lengths: int = Field(default=4, gt=0)
    """Groups a batch is cut into: each holds rows of similar length, is padded on its own, and comes from another part
    of the lengths. A batch of one length learns less: harmful posts are long, so it sees posts of nearly one label.
    """
    batch_rows: int | None = Field(default=None, gt=0)
    """Most posts of one batch; absent: as many as `batch_tokens` holds."""
    max_tokens: int = Field(default=128, gt=8)
    """Posts are cut so that the prompt fits; what is written behind it (an explanation that comes first, the answer)
    comes on top."""
    explanation_weight: float = Field(default=0.0, ge=0)
    """Weight of the explanation-token loss beside the label loss."""
    formatting_noise: float = Field(default=0.0, ge=0, le=1)
    """Share of training posts whose case, punctuation, mentions and links are varied at random."""
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_32bit", "paged_adamw_8bit"] = "auto"
    """`auto`: paged_adamw_32bit on CUDA, adamw elsewhere."""
    accumulate: int = Field(default=1, gt=0)
    """Batches per optimizer step, each from other parts of the lengths: less memory than one larger batch."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    evaluations: int = Field(default=4, ge=0)
    """How often the loss on tune is taken. The last adapter is kept, unless an earlier one is better by more than a
    standard error. 0: not at all."""
    tune_posts: int = Field(default=300, gt=0)
    """Seeded posts of the adapter's data sets that the loss on tune is taken on."""
    checkpoint_every: int = Field(default=50, gt=0)
    """Optimizer steps between checkpoints."""
    priors: dict[str, dict[str, Annotated[float, Field(gt=0, lt=1)]]] = Field(default_factory=dict)
    """Share of votes that a label set of a data set is weighed to in training (`{stormfront: {hate: 0.3}}`): for sets
    whose rate is not the one to decide by. The label calibration goes by the other sets, if there are any."""
    votes: Literal["all", "majority"] = "all"
    """What a post teaches: all of its votes, or for comparison only the label set with most of them."""
    licence: str | None = None
    """SPDX expression for the trained weights; what the licences of the data allow."""
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Where losses are logged besides losses.jsonl; needs `hatex[tensorboard]` or `hatex[wandb]`."""
    report_folder: str = "build/runs"
    """Folder for the files of `report_to`."""
    report_posts: int = Field(default=200, ge=0)
    """Seeded posts of the report split that a finished adapter is measured on, for its card; 0: not measured."""
    compare_with: str | None = None
    """Recipe whose engine is measured beside the trained one on the report posts of `eval.data`."""
    threads: int | None = Field(default=None, gt=0)
    """CPU threads; fixed so that a resumed run repeats the uninterrupted one."""

    @property
    def groups_per_step(self) -> int:
        """Groups of rows of one length that an optimizer step sees."""
        return self.batch_lengths * self.accumulate

    @property
    def group_tokens(self) -> int:
        """Token budget of one group."""
        return max(1, self.batch_tokens // self.batch_lengths)

    @property
    def group_rows(self) -> int | None:
        """Most posts of one group; None: as many as its tokens hold."""
        return None if self.batch_rows is None else max(1, self.batch_rows // self.batch_lengths)

    @field_validator("adapters")
    @classmethod
    def _no_adapter_is_the_router(cls, adapters: dict[str, AdapterSection]) -> dict[str, AdapterSection]:
        if "router" in adapters:
            raise ValueError("no adapter can be called router: `hatex train --only router` means the router")
        return adapters

    @field_validator("priors")
    @classmethod
    def _priors_name_label_sets(cls, priors: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for dataset, shares in priors.items():
            if unknown := {label for name in shares for label in name.split("|")} - set(LABELS):
                raise ValueError(f"unknown label {', '.join(sorted(unknown))}; known: {', '.join(LABELS)}")
            if sum(shares.values()) >= 1:
                raise ValueError(f"priors of {dataset} leave nothing for its other label sets")
        return priors

    @model_validator(mode="after")
    def _partners_stay(self) -> Self:
        if self.weight_decay and any(section.partners for section in self.adapters.values()):
            raise ValueError("partners stay as they are: train.weight_decay must be 0")
        return self
