"""A figure is never shown without its uncertainty: `Estimate`, and the bootstrap that fills it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Statistic = Callable[[Array], Array]
"""Weights of the posts, shape (replicates, posts), to one value per replicate; NaN where it is undefined."""

LEAST_CLUSTERS: Final = 5
"""Resampling fewer than these tells nothing: of one thread, every resample is the thread itself."""

_CHUNK_CELLS: Final = 1_000_000
"""Weights held at once (8 MB), so that `--all` on a large set costs time but not memory."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the bounds of its interval, or the reason why there is none.

    `n` counts the posts (or whatever the metric averages over) behind the value. `low` and `high` are None
    where the value exists but resampling cannot bound it; `why_missing` then says why, and `value` stays.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    why_missing: str | None = None

    @staticmethod
    def missing(why: str, n: int = 0) -> Estimate:
        """An explicit `n/a (why)`."""
        return Estimate(None, None, None, n, why)

    def __str__(self) -> str:
        if self.value is None:
            return f"n/a ({self.why_missing})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f} (no interval: {self.why_missing})"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_json(self) -> dict[str, Any]:
        """A JSON object; `why_missing` only where it says something."""
        fields: dict[str, Any] = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return fields if self.why_missing is None else fields | {"why_missing": self.why_missing}

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Estimate:
        """The inverse of `to_json`. Raises KeyError where a field is absent."""
        return Estimate(
            fields["value"], fields["low"], fields["high"], fields["n"], fields.get("why_missing")
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A value with its replicates, shape (resamples,), before they become an interval; `n` as in `Estimate`.

    `clusters` is how many clusters of posts were resampled (of several data sets, where there were fewest).
    Replicates of two samples belong together row by row when they come from the same posts and seed.
    """

    value: float
    replicates: Array
    n: int
    clusters: int
    is_inflated: bool = False
    """Whether noise alone makes the value larger, and resampling adds the same noise again (`Bootstrap.interval`)."""

    def minus(self, other: Sample) -> Sample:
        """The difference on the same resamples (paired bootstrap)."""
        return replace(
            self,
            value=self.value - other.value,
            replicates=self.replicates - other.replicates,
            is_inflated=False,  # both are, and about alike
        )

    @staticmethod
    def mean(samples: Sequence[Sample]) -> Sample:
        """The unweighted mean over data sets, each resampled on its own."""
        return Sample(
            float(np.mean([sample.value for sample in samples])),
            np.mean([sample.replicates for sample in samples], axis=0),
            sum(sample.n for sample in samples),
            min(sample.clusters for sample in samples),
            any(sample.is_inflated for sample in samples),
        )


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Resampling with replacement of clusters of posts (thread, comment), the same ones for every strategy.

    Efron and Tibshirani 1993, ch. 8 (clusters) and 13 (percentile intervals); Davison and Hinkley 1997, ch. 5 (basic
    intervals).
    """

    seed: int
    resamples: int = 1000
    confidence: float = 0.95

    def weights(self, clusters: npt.NDArray[np.int64], stream: str) -> Iterator[Array]:
        """How often each post was drawn, in chunks of shape (replicates, posts).

        `clusters` holds 0..m-1, shape (posts,); `stream` (the data set's name) separates the random numbers.
        """
        rng = np.random.default_rng([self.seed, zlib.crc32(stream.encode())])
        n_clusters = count_clusters(clusters)
        chunk = max(1, _CHUNK_CELLS // max(len(clusters), n_clusters))
        for start in range(0, self.resamples, chunk):
            rows = min(chunk, self.resamples - start)
            drawn = rng.integers(n_clusters, size=(rows, n_clusters))
            flat = (drawn + np.arange(rows)[:, None] * n_clusters).ravel()
            counts = np.bincount(flat, minlength=rows * n_clusters).reshape(rows, n_clusters)
            yield counts[:, clusters].astype(np.float64)

    def replicates(self, statistic: Statistic, clusters: npt.NDArray[np.int64], stream: str) -> Array:
        """The statistic on every resample, shape (resamples,)."""
        return np.concatenate([statistic(weights) for weights in self.weights(clusters, stream)])

    def sample(
        self, statistic: Statistic, clusters: npt.NDArray[np.int64], stream: str, n: int | None = None
    ) -> Sample:
        """The statistic on all posts and on every resample; needs at least one post."""
        value = float(statistic(np.ones((1, len(clusters))))[0])
        n = len(clusters) if n is None else n
        return Sample(value, self.replicates(statistic, clusters, stream), n, count_clusters(clusters))

    def estimate(
        self,
        statistic: Statistic,
        clusters: npt.NDArray[np.int64],
        stream: str,
        n: int | None = None,
        *,
        is_inflated: bool = False,
    ) -> Estimate:
        """The statistic on all posts, with its interval; `n/a` where there are none."""
        if n == 0 or len(clusters) == 0:
            return Estimate.missing("no posts")
        sample = self.sample(statistic, clusters, stream, n)
        return self.interval(replace(sample, is_inflated=is_inflated))

    def interval(self, sample: Sample) -> Estimate:
        """A sample's value with the percentile interval of its replicates; of an inflated one the basic interval.

        A calibration error grows with noise (Kumar, Liang and Ma 2019), and is larger on nearly every resample than on
        the posts: percentiles would lie above the truth. The basic interval takes off what resampling added, and ends
        at 0. Both are widened to hold the value itself. NaN replicates (a class that was not drawn) are left out.
        """
        value, n = sample.value, sample.n
        if not np.isfinite(value):
            return Estimate.missing("undefined on these posts", n)
        defined = sample.replicates[np.isfinite(sample.replicates)]
        if n < 2 or len(defined) * 2 < len(sample.replicates) or len(defined) < 2:
            return Estimate(value, None, None, n, "too few posts to resample")
        if sample.clusters < LEAST_CLUSTERS:
            return Estimate(value, None, None, n, "too few groups of posts to resample")
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        if sample.is_inflated:
            low, high = max(0.0, 2 * value - high), 2 * value - low
        return Estimate(value, min(float(low), value), max(float(high), value), n)


def proportion(
    correct: npt.NDArray[np.bool_], confidence: float, what: str = "cases", independent: int | None = None
) -> Estimate:
    """A share with Wilson's interval, which stays honest for a handful of cases that all come out alike.

    `independent` is how many of the cases count, where others are variants of them (by default all do). Wilson 1927.
    """
    from scipy.stats import norm

    n, share = len(correct), float(correct.mean()) if len(correct) else 0.0
    if n == 0:
        return Estimate.missing(f"no {what}")
    size, z = n if independent is None else independent, float(norm.ppf((1 + confidence) / 2))
    middle = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * (share * (1 - share) / size + z**2 / (4 * size**2)) ** 0.5
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def count_clusters(clusters: npt.NDArray[np.int64]) -> int:
    """How many clusters there are; they are numbered from 0 up, as by `cluster_numbers`."""
    return int(clusters.max()) + 1


def cluster_numbers(names: list[str]) -> npt.NDArray[np.int64]:
    """Cluster names to 0..m-1 in order of first appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
