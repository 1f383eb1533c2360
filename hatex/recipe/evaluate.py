"""Recipe section `eval`: strategies x data sets, metrics, requirements."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hatex.recipe.prepare import SourceSection, check_names
from hatex.recipe.section import Section


class RequirementSection(Section):
    """A bound that makes `hatex eval` leave with exit code 3 when it is broken."""

    metric: str
    """Name of a metric, such as `macro_f1`."""
    data: str
    """Name of a data set, or `mean` over all of them."""
    strategy: str = "blend"
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_bound(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a requirement needs min or max")
        return self


class EvalSection(Section):
    data: str | None = None
    """Folder that `prepare` wrote."""
    sources: tuple[SourceSection, ...] = ()
    """Further data sets, read as `prepare` reads them, for sets that were not trained on: every row of them but those
    of an official test part, which `official_splits: false` includes.
    """
    datasets: tuple[str, ...] = ()
    """Names of the data sets to evaluate on, in this order; empty: all."""
    split: Literal["tune", "report"] = "report"
    """Choose on `tune`; print figures from `report`."""
    form: Literal["as_written", "lower", "upper", "common"] = "as_written"
    """Bring every post into this form first (`common`: lower case, no punctuation, one form for mentions, links and
    numbers): what formatting alone is worth to the answers.
    """
    strategies: tuple[str, ...] = ()
    """`STRATEGY` or `STRATEGY@SPACE`; `single:*` is every adapter the router weighs, `top-*` every number of them,
    `oracle` the post's platform. Empty: all that the engine can be asked for, and `blend` in every space.
    """
    reference: str = "blend"
    """The strategy that differences are taken to, and that figures, bias and explanations are about."""
    baseline: bool = True
    """Fit TF-IDF with logistic regression on the same training rows and print it beside the strategies."""
    suites: tuple[str, ...] = ("plain",)
    """Functional suites: CSV files, or names of suites that hatex ships."""
    explained_posts: int = Field(default=40, gt=0)
    """Posts of each data set that are explained for the explanation metrics."""
    posts_per_set: int | None = Field(default=500, gt=0)
    """Seeded sample of each data set; null: every post."""
    seed: int = 4761
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind every interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    requirements: tuple[RequirementSection, ...] = ()

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.data is None and not self.sources:
            raise ValueError("name a prepared folder (data) or sources")
        check_names(self.sources)
        return self
