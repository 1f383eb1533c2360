"""What the data card counts, gathered while the examples are written; never a post's text."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from hatex.data.splits import SPLITS
from hatex.data.votes import ANY
from hatex.types import LABEL_SETS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SET_NAMES: Final = tuple("|".join(labels) for labels in LABEL_SETS)
_INFORMATIVE: Final = tuple(i for i, labels in enumerate(LABEL_SETS) if labels != ANY)


@dataclass
class DatasetStatistics:
    """Counts of one data set."""

    platform: str
    splits: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Split to the label set (or sets, where they tie) with most votes."""
    votes: Counter[str] = field(default_factory=Counter)
    tied: int = 0
    with_targets: int = 0
    with_rationales: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    annotators: set[str] = field(default_factory=set)
    annotator_groups: Counter[str] = field(default_factory=Counter)
    characters: list[NDArray[np.int64]] = field(default_factory=list)
    words: list[NDArray[np.int64]] = field(default_factory=list)
    ballots: list[NDArray[np.int64]] = field(default_factory=list)
    """Votes per label set of every post, shape (posts, 7) a piece."""

    def to_json(self) -> dict[str, Any]:
        import numpy as np

        ballots = np.concatenate(self.ballots)
        per_post = ballots.sum(axis=1)
        return {
            "platform": self.platform,
            "rows": self.splits.total(),
            "splits": {split: self.splits[split] for split in SPLITS if self.splits[split]},
            "labels": {split: _sorted(self.labels[split]) for split in SPLITS if self.labels[split]},
            "votes": {name: self.votes[name] for name in SET_NAMES if self.votes[name]},
            "votes_per_post": {"mean": round(float(per_post.mean()), 4), "max": int(per_post.max())},
            "tied": self.tied,
            "agreement": krippendorff_alpha(ballots),
            "annotators": len(self.annotators),
            "annotator_groups": _sorted(self.annotator_groups),
            "with_targets": self.with_targets,
            "targets": _sorted(self.targets),
            "with_rationales": self.with_rationales,
            "languages": _sorted(self.languages),
            "characters": _quantiles(self.characters),
            "words": _quantiles(self.words),
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _quantiles(parts: list[NDArray[np.int64]]) -> dict[str, int]:
    import numpy as np

    values = np.quantile(np.concatenate(parts), QUANTILES, method="inverted_cdf")
    names = ("p5", "p25", "median", "p75", "p95", "max")
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def krippendorff_alpha(ballots: NDArray[np.int64]) -> float | None:
    """Krippendorff's alpha over label sets as nominal values; None where no two votes can be compared.

    `ballots` has shape (posts, 7). Votes that name all three labels say nothing and count as missing.
    Source: K. Krippendorff, Content Analysis, 2004, chapter 11.
    """
    import krippendorff

    counts = ballots[:, _INFORMATIVE]
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts) or (counts.sum(axis=0) > 0).sum() < 2:
        return None
    return round(float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")), 4)


class Statistics:
    """Counts of all data sets; tables of examples go in as they are written."""

    def __init__(self) -> None:
        self.datasets: dict[str, DatasetStatistics] = {}

    def add(self, table: pa.Table, strata: list[str]) -> None:
        """Count a table of examples; `strata` end with each post's most voted label sets."""
        import numpy as np
        import pyarrow.compute as pc

        ballots = _ballots(table)
        names = np.array(table.column("dataset").to_pylist(), object)
        text = table.column("text")
        characters = pc.utf8_length(text).to_numpy()
        words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(text))).to_numpy()
        labels = np.array([stratum.rpartition("\t")[2] for stratum in strata], object)
        for name in dict.fromkeys(names.tolist()):
            chosen = names == name
            rows = table.filter(chosen)
            into = self.datasets.setdefault(name, DatasetStatistics(rows.column("platform")[0].as_py()))
            into.ballots.append(ballots[chosen])
            into.characters.append(characters[chosen])
            into.words.append(words[chosen])
            splits = rows.column("split").to_pylist()
            into.splits.update(splits)
            for split, label in zip(splits, labels[chosen], strict=True):
                into.labels[split][label] += 1
            into.tied += sum("/" in label for label in labels[chosen])
            _count_columns(into, rows, ballots[chosen])

    def to_json(self) -> dict[str, Any]:
        return {name: self.datasets[name].to_json() for name in self.datasets}


def _ballots(table: pa.Table) -> NDArray[np.int64]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = table.column("votes").combine_chunks()
    flat = lists.flatten()
    rows = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy())
    columns = pc.index_in(flat.field("labels"), pa.array(SET_NAMES)).to_numpy()
    ballots = np.zeros((len(lists), len(SET_NAMES)), np.int64)
    np.add.at(ballots, (rows, columns), flat.field("count").to_numpy())
    return ballots


def _count_columns(into: DatasetStatistics, rows: pa.Table, ballots: NDArray[np.int64]) -> None:
    import pyarrow.compute as pc

    into.votes.update(dict(zip(SET_NAMES, ballots.sum(axis=0).tolist(), strict=True)))
    into.with_targets += pc.sum(rows.column("has_targets")).as_py() or 0
    into.with_rationales += pc.sum(rows.column("has_rationales")).as_py() or 0
    into.targets.update(rows.column("targets").combine_chunks().flatten().to_pylist())
    into.languages.update(rows.column("language").to_pylist())
    votes = rows.column("votes").combine_chunks().flatten()
    into.annotators.update(pc.unique(votes.field("annotator").drop_null()).to_pylist())
    into.annotator_groups.update(votes.field("group").drop_null().to_pylist())
