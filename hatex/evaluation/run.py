"""A finished evaluation: everything that tables and reports show, and its JSON form."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Final

from hatex.errors import DataError
from hatex.evaluation.estimate import Estimate, count_clusters
from hatex.evaluation.functional import SuiteResult
from hatex.evaluation.gold import Gold
from hatex.evaluation.pictures import Picture
from hatex.evaluation.requirements import Outcome
from hatex.evaluation.router import RouterQuality
from hatex.evaluation.sheet import Cells
from hatex.types import OUTPUT_SCHEMA, Example


@dataclass(frozen=True)
class DataInfo:
    """What was evaluated on; `fingerprint` covers ids, texts and votes of the chosen posts in order.

    `n_total` counts the split's posts, `n` those chosen, `n_groups` the groups of these that are resampled together,
    `n_ties` those without a most-named class, `n_silent` those left out because no vote answers the question.
    """

    name: str
    split: str
    n: int
    n_groups: int
    n_total: int
    n_ties: int
    n_silent: int
    question: tuple[str, ...]
    platforms: tuple[str, ...]
    fingerprint: str


def describe_data(gold: Gold, examples: Sequence[Example], n_total: int) -> DataInfo:
    """Facts about one data set; `examples` are the chosen posts."""
    return DataInfo(
        name=gold.dataset,
        split="+".join(sorted({example.split for example in examples})),
        n=len(gold),
        n_groups=count_clusters(gold.clusters),
        n_total=n_total,
        n_ties=int((~gold.is_decided).sum()),
        n_silent=gold.n_silent,
        question=gold.question.names,
        platforms=tuple(sorted({example.platform for example in examples})),
        fingerprint=_fingerprint(examples),
    )


def _fingerprint(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        votes = [("|".join(v.labels), v.count, v.annotator, v.group) for v in example.votes]
        digest.update(json.dumps([example.id, example.text, votes]).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class EvalRun:
    """One evaluation. Cells are indexed strategy, data set, metric; `gates` data set, strategy, adapter.

    `same_as` names the earlier strategy that weighs every post alike. `regret` is the soft cross-entropy
    that the router costs against the oracle platform, per data set. `explanations` and `groups` are per data
    set, of the reference strategy; `groups` holds the bias AUCs of target groups.
    """

    engine: str
    model: str
    seed: int
    resamples: int
    confidence: float
    reference: str
    data: Mapping[str, DataInfo]
    results: Cells
    differences: Cells
    same_as: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    router: RouterQuality | None = None
    regret: Mapping[str, Estimate] = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, Picture]] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Mapping[str, Estimate]]] = field(default_factory=dict)
    annotators: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    annotator_groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    suites: Sequence[SuiteResult] = ()
    explanations: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    outcomes: Sequence[Outcome] = ()
    baseline: str | None = None
    passes_run: int = 0
    passes_asked: int = 0

    @property
    def strategies(self) -> tuple[str, ...]:
        return tuple(self.results)

    @property
    def columns(self) -> tuple[str, ...]:
        """Data sets, then `mean` where there is one."""
        return tuple(next(iter(self.results.values()))) if self.results else ()

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Requirements that do not hold."""
        return tuple(outcome for outcome in self.outcomes if not outcome.holds)

    def to_json(self) -> dict[str, Any]:
        """The versioned JSON object that `--json` prints and `--against` and `--compare` read."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"schema": OUTPUT_SCHEMA, "kind": "eval", **_plain(fields)}


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate | Outcome | RouterQuality):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({name: getattr(value, name) for name in value.__dataclass_fields__})
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


@dataclass(frozen=True)
class SavedRun:
    """What comparisons need of a run that was saved with `--json`."""

    name: str
    model: str
    seed: int
    data: Mapping[str, str]
    """Fingerprint of each data set's posts."""
    results: Cells

    @staticmethod
    def of(run: EvalRun, name: str) -> SavedRun:
        """The same view of a run that has just ended."""
        data = {key: info.fingerprint for key, info in run.data.items()}
        return SavedRun(name, run.model, run.seed, data, run.results)


_REMEDY: Final = "save a run with `hatex eval --json > run.json`"


def load_run(path: Path) -> SavedRun:
    """Read a saved run. Raises DataError for anything else."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["kind"] != "eval" or fields["schema"] != OUTPUT_SCHEMA:
            raise DataError(f"not an eval run of schema {OUTPUT_SCHEMA}", where=str(path), hint=_REMEDY)
        results = {
            strategy: {
                dataset: {metric: Estimate.from_json(cell) for metric, cell in cells.items()}
                for dataset, cells in by_dataset.items()
            }
            for strategy, by_dataset in fields["results"].items()
        }
        data = {name: info["fingerprint"] for name, info in fields["data"].items()}
        return SavedRun(path.name, fields["model"], fields["seed"], data, results)
    except FileNotFoundError as error:
        raise DataError("no such file", where=str(path), hint=_REMEDY) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError("not a saved eval run", where=str(path), hint=_REMEDY) from error
