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
    own = {
        d: pool for d, pool in pools.items() if not section.platforms or pool[0].platform in section.platforms
    }
    filled = {pool[0].platform for pool in own.values()}
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
    wanted = dict(section.rows) or {dataset: len(pool) for dataset, pool in own.items()}
    seen = _rows_before(section, sections)
    chosen = [e for d, count in sorted(wanted.items()) for e in _take(pools[d], seen[d], count)]
    chosen += _fully_labelled(pools, wanted, seen, section.fully_labelled_share, len(chosen), chosen)
    Random(f"{seed}/{name}").shuffle(chosen)
    return chosen


def _pools(examples: Sequence[Example], seed: int) -> dict[str, list[Example]]:
    """Training examples of every data set in a seeded order that does not depend on the other rows."""
    pools: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        if example.split == "train" and any(len(vote.labels) < 3 for vote in example.votes):
            pools[example.dataset].append(example)
    return {dataset: in_seeded_order(pool, seed) for dataset, pool in pools.items()}


def _rows_before(section: AdapterSection, sections: Mapping[str, AdapterSection]) -> Counter[str]:
    seen: Counter[str] = Counter()
    passed: set[str] = set()
    # Two that start from each other are legal, where one of them is in the registry already.
    while (name := section.init) is not None and name in sections and name not in passed:
        passed.add(name)
        section = sections[name]
        seen.update(section.rows)
    return seen


def _take(pool: Sequence[Example], start: int, count: int) -> list[Example]:
    return [pool[(start + i) % len(pool)] for i in range(min(count, len(pool)))]


def _fully_labelled(
    pools: Mapping[str, Sequence[Example]],
    wanted: Mapping[str, int],
    seen: Mapping[str, int],
    share: float,
    total: int,
    chosen: Sequence[Example],
) -> list[Example]:
    """Rows of data sets whose annotators chose among all three labels, evenly over those sets."""
    sources = sorted(
        d for d, pool in pools.items() if all(e.is_fully_labelled for e in pool) and len(_labels(pool)) == 3
    )
    present = sum(e.dataset in sources for e in chosen)
    missing = round((share * total - present) / (1 - share)) if share < 1 else 0
    if missing <= 0:
        return []
    if not sources:
        raise TrainingError(
            "no prepared data set has fully labelled rows, so the split inside label sets would be noise",
            hint="prepare one (davidson, hatexplain, ...) or set fully_labelled_share: 0",
        )
    each = -(-missing // len(sources))
    used = {d: min(wanted.get(d, 0), len(pools[d])) for d in sources}
    first = {d: min(each, len(pools[d]) - used[d]) for d in sources}
    added = [e for d in sources for e in _take(pools[d], seen.get(d, 0) + used[d], first[d])][:missing]
    # What small sets lack, the others give as long as they have posts.
    for d in sources:
        rest = min(missing - len(added), len(pools[d]) - used[d] - first[d])
        added += _take(pools[d], seen.get(d, 0) + used[d] + first[d], max(0, rest))
    return added


def _labels(pool: Sequence[Example]) -> set[str]:
    return {label for example in pool for vote in example.votes for label in vote.labels}
