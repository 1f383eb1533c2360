"""A batch of raw posts to what later steps need: examples, the keys that join them, MinHash signatures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from typing import TYPE_CHECKING, Final

from hatex.data.cleaning import STEPS, clean
from hatex.data.duplicates import key_of, keys_of
from hatex.data.edits import Edited
from hatex.data.examples import to_table
from hatex.data.languages import detect_language
from hatex.data.raw import RawPost
from hatex.data.signatures import build_signatures, word_set, word_set_of_clean
from hatex.data.splits import PARTS
from hatex.data.votes import plurality
from hatex.types import Example, Rationale

if TYPE_CHECKING:
    import pyarrow as pa

    from hatex.data.signatures import Signatures

BATCH: Final = 1_000
_AHEAD_PER_PROCESS: Final = 3


@dataclass(frozen=True, slots=True)
class Options:
    """What changes the contents of a batch."""

    platform: str
    cleaning: tuple[str, ...]
    min_probability: float
    official_splits: bool


@dataclass(frozen=True, slots=True)
class Batch:
    table: pa.Table
    """Columns of `extra_fields` behind those of the examples."""
    signatures: Signatures
    edited: int
    """How many texts the cleaning changed."""


def extra_fields() -> list[tuple[str, pa.DataType]]:
    """What a shard knows of a post besides the example."""
    import pyarrow as pa

    return [
        ("part", pa.int8()),
        ("stratum", pa.string()),
        ("id_key", pa.uint64()),
        ("text_keys", pa.list_(pa.uint64())),
        ("group_keys", pa.list_(pa.uint64())),
        ("votes_key", pa.uint64()),
    ]


def condense(posts: Sequence[RawPost], options: Options) -> Batch:
    """Clean, name the language, hash."""
    import pyarrow as pa

    examples: list[Example] = []
    keys: list[list[int]] = []
    edited = 0
    for post in posts:
        cleaned = clean(post.text, options.cleaning)
        edited += bool(cleaned.steps)
        examples.append(_example(post, cleaned, options))
        keys.append(sorted(keys_of(cleaned)))
    columns: dict[str, list[object]] = {
        "part": [PARTS.index(post.part if options.official_splits else None) for post in posts],
        "stratum": [_stratum(example) for example in examples],
        "id_key": [key_of("id", example.id) for example in examples],
        "text_keys": list(keys),
        "group_keys": [[key_of(post.dataset, key) for key in post.keys] for post in posts],
        "votes_key": [key_of("votes", repr((x.dataset, x.votes))) for x in examples],
    }
    table = to_table(examples)
    # A recipe may leave cleaning steps out; the words to compare are always those of clean texts.
    words = word_set_of_clean if set(STEPS) <= set(options.cleaning) else word_set
    for name, kind in extra_fields():
        table = table.append_column(name, pa.array(columns[name], kind))
    return Batch(table, build_signatures(words(x.text) for x in examples), edited)


def _example(post: RawPost, cleaned: Edited, options: Options) -> Example:
    rationales = tuple(
        Rationale(*cleaned.edited_span(span.start, span.end), span.annotator, span.kind)
        for span in post.rationales
    )
    return Example(
        id=f"{post.dataset}:{post.id}",
        dataset=post.dataset,
        platform=options.platform,
        text=cleaned.text,
        votes=post.votes,
        split="train",
        group="",
        targets=post.targets,
        has_targets=post.has_targets,
        rationales=rationales,
        has_rationales=post.has_rationales,
        context=None if post.context is None else clean(post.context, options.cleaning).text,
        language=post.language or detect_language(cleaned.text, options.min_probability),
        explanation=post.explanation,
    )


def _stratum(example: Example) -> str:
    labels = "/".join("|".join(labels) for labels in plurality(example.votes))
    return f"{example.dataset}\t{example.platform}\t{labels}"


def condense_all(posts: Iterable[RawPost], options: Options, processes: int) -> Iterator[Batch]:
    """Batches in the order of the posts, by this process or several; holds only a few at a time."""
    rows = iter(posts)
    batches = iter(lambda: list(islice(rows, BATCH)), [])
    if processes == 1:
        yield from (condense(batch, options) for batch in batches)
        return
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        submit: Callable[[list[RawPost]], Future[Batch]] = lambda batch: pool.submit(condense, batch, options)  # noqa: E731
        waiting: deque[Future[Batch]] = deque(map(submit, islice(batches, _AHEAD_PER_PROCESS * processes)))
        while waiting:
            done = waiting.popleft().result()
            if (batch := next(batches, None)) is not None:
                waiting.append(submit(batch))
            yield done
