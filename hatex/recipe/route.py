"""Recipe section `route`: how posts are answered (also by `explain` and `eval`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hatex.recipe.section import Section


class PolicySection(Section):
    flag_hate: float = Field(default=0.5, ge=0, le=1)
    """`flag` from this P(hate) on."""
    review_neutral: float = Field(default=0.5, ge=0, le=1)
    """`review` below this P(neutral)."""
    review_disagreement: float = Field(default=0.8, ge=0, le=1)
    """`review` above this disagreement."""
    languages: tuple[str, ...] = ("en",)
    """`review` for posts of more than a few words that are surely in none of these (ISO 639-1, as in `en`), and for
    posts without words; empty: off."""


class FallbackSection(Section):
    """What answers a post that the router cannot place on any platform."""

    to: Literal["full", "uniform"] = "full"
    below: float = Field(default=0.6, gt=0, le=1)
    """`blend` moves towards `to` where its largest gate weight is below this; `hatex eval` shows how well that weight
    tells unknown platforms (out-of-distribution AUROC)."""


class RouteSection(Section):
    strategy: str = "blend"
    """`blend`, `top-K`, `single:NAME`, `uniform` or `full`."""
    space: Literal["delta", "probability", "reference"] = "delta"
    batch_tokens: int = Field(default=2048, gt=0)
    max_tokens: int = Field(default=512, gt=8)
    """Context of one post, prompt included; longer posts are cut and say `truncated`."""
    compile: bool = False
    """Compile the base first: half a minute and a C++ compiler, for runs of many thousand posts."""
    fallback: FallbackSection | None = None
    policy: PolicySection = PolicySection()
