"""Which posts an adapter is trained on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from hatex.data.examples import in_seeded_order
from hatex.errors import TrainingError
from hatex.recipe.train import AdapterSection
from hatex.types import Example


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One post as the loop sees it.

    `ids` holds the prompt, then (where an explanation is supervised) label and answer tokens; `label_at` is the
    index of the prompt's last token, whose output is the label. `answer_at` are the indices of supervised answer
    tokens. `shares` are vote shares over `types.LABEL_SETS`. `gates` weigh the adapter and its partners.
    """

    example_id: str
    dataset: str
    ids: tuple[int, ...]
    label_at: int
    answer_at: tuple[int, ...]
    shares: tuple[float, ...]
    weight: float
    gates: tuple[float, ...] = (1.0,)


def select_examples(
    examples: Sequence[Example], name: str, sections: Mapping[str, AdapterSection], seed: int
) -> list[Example]:
    """The training examples of adapter `name`, in a seeded order.

    Each data set gives `rows[dataset]` examples (all of them if `rows` is empty). Every data set has one seeded order,
    and an adapter that starts from another continues where that one stopped, so that little is seen twice. Fully
    labelled examples of other platforms are added until they make up `fully_labelled_share`.
    Raises TrainingError for a data set without training rows, or a platform without any.
    """
    section = sections[name]
    pools = _pools(examples, seed)
    filled = {pool[0].platform for pool in pools.values()}
    if empty := [platform for platform in section.platforms if platform not in filled]:
        raise TrainingError(
            f"adapter {name}: no training rows of platform {', '.join(empty)}",
            where=f"train.adapters.{name}.platforms",
            hint=f"prepared platforms: {', '.join(sorted({e.platform for e in examples}))}",
        )
    if unknown := set(section.rows) - set(pools):
        raise TrainingError(
            f"adapter {name}: no training rows of data set {', '.join(sorted(unknown))}",
            where=f"train.adapters.{name}.rows",
            hint=f"prepared data sets: {', '.join(sorted(pools))}",
        )
    sources = _fully_labelled_sets(pools)
    counts = _row_counts(section, pools, sources)
    if not sources and _missing(counts, sources, section.fully_labelled_share):
        raise TrainingError(
            "no prepared data set has fully labelled rows, so the split inside label sets would be noise",
            hint="prepare one (davidson, hatexplain, ...) or set fully_labelled_share: 0",
        )
    seen = _rows_before(name, sections, pools, sources)
    chosen = [e for d, count in sorted(counts.items()) for e in _take(pools[d], seen[d], count)]
    Random(f"{seed}/{name}").shuffle(chosen)
    return chosen


def _pools(examples: Sequence[Example], seed: int) -> dict[str, list[Example]]:
    """Training examples of every data set in a seeded order that does not depend on the other rows."""
    pools: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.split == "train" and any(len(vote.labels) < 3 for vote in example.votes):
            pools[example.dataset].append(example)
    return {dataset: in_seeded_order(pool, seed) for dataset, pool in pools.items()}


def _fully_labelled_sets(pools: Mapping[str, Sequence[Example]]) -> list[str]:
    """Data sets whose annotators chose among all three labels."""
    return sorted(
        d for d, pool in pools.items() if all(e.is_fully_labelled for e in pool) and len(_labels(pool)) == 3
    )


def _rows_before(
    name: str,
    sections: Mapping[str, AdapterSection],
    pools: Mapping[str, Sequence[Example]],
    sources: Sequence[str],
) -> Counter[str]:
    """How many rows of each data set the adapters took that this one starts from."""
    seen: Counter[str] = Counter()
    passed = {name}
    # Two that start from each other are legal, where one of them is in the registry already.
    while (start := sections[name].init) is not None and start in sections and start not in passed:
        passed.add(start)
        seen.update(_row_counts(sections[start], pools, sources))
        name = start
    return seen


def _take(pool: Sequence[Example], start: int, count: int) -> list[Example]:
    return [pool[(start + i) % len(pool)] for i in range(count)]


def _row_counts(
    section: AdapterSection, pools: Mapping[str, Sequence[Example]], sources: Sequence[str]
) -> Counter[str]:
    """How many rows an adapter takes of each data set: those it asks for, and the fully labelled ones that it lacks.

    The latter evenly over `sources`; what small ones lack, the others give as long as they have posts.
    """
    wanted = section.rows or {
        d: len(pool)
        for d, pool in pools.items()
        if not section.platforms or pool[0].platform in section.platforms
    }
    counts = Counter({d: min(count, len(pools[d])) for d, count in wanted.items() if d in pools})
    missing = _missing(counts, sources, section.fully_labelled_share)
    added: Counter[str] = Counter()
    for most in (-(-missing // max(1, len(sources))), missing):
        for d in sources:
            room = min(most - added[d], len(pools[d]) - counts[d] - added[d], missing - added.total())
            added[d] += max(0, room)
    return counts + added


def _missing(counts: Counter[str], sources: Sequence[str], share: float) -> int:
    """How many more rows of `sources` make up `share` of all rows."""
    present = sum(counts[d] for d in sources)
    return max(0, round((share * counts.total() - present) / (1 - share)))


def _labels(pool: Sequence[Example]) -> set[str]:
    return {label for example in pool for vote in example.votes for label in vote.labels}
