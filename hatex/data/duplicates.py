"""Which posts belong together: shared keys and equal texts, joined over the whole corpus on disk."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hatex.data.cleaning import clean
from hatex.data.edits import Edited
from hatex.data.formatting import NUMBER_MASKS
from hatex.data.signatures import agreement

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.int64]
    Keys = NDArray[np.uint64]

PARTITIONS: Final = 64
_PAIR: Final = [("key", "<u8"), ("row", "<i8")]
_CHUNK: Final = 100_000
_MASK_NAMES = ("user", "url", "link", "email", "phone", *(mask.strip("<>") for mask in NUMBER_MASKS))
# A retweet's mark goes with the mention it stands before, or alone where a copy has lost the mention.
_MASK_WORDS = re.compile(rf"(?<!\w)(?:rt\W+@?user|{'|'.join(_MASK_NAMES)})(?!\w)|^\W*rt(?!\w)")


def text_keys(text: str) -> frozenset[int]:
    """`keys_of` a raw or cleaned post."""
    return keys_of(clean(text))


def keys_of(cleaned: Edited) -> frozenset[int]:
    """Keys of a post; two posts that share one are the same but for form.

    One key stands for its letters and digits (marks on them left out, such as accents) without mentions, links and
    other masks; the others keep those, masked and as they were: a copy without punctuation, whose mentions are no
    longer mentions, is found too.
    """
    bare = unicodedata.normalize("NFKD", cleaned.text).casefold()
    without_masks = _squeeze(_MASK_WORDS.sub(" ", bare))
    if not without_masks:
        return frozenset((key_of("text", bare),))
    as_it_was = clean(cleaned.original, ("entities",)).text
    forms = {without_masks, _squeeze(bare), _squeeze(unicodedata.normalize("NFKD", as_it_was).casefold())}
    return frozenset(key_of("text", form) for form in forms)


def _squeeze(text: str) -> str:
    return "".join(filter(_is_content, text))


class _Content(dict[str, bool]):
    """Whether a character is a letter or a digit; filled on demand."""

    def __missing__(self, char: str) -> bool:
        self[char] = value = unicodedata.category(char)[0] in "LN"
        return value


_is_content = _Content().__getitem__


def key_of(kind: str, value: str) -> int:
    """64 bits of a namespaced key."""
    digest = hashlib.blake2b(f"{kind}\0{value}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


class KeyTable:
    """(key, row) pairs on disk, in partitions small enough to be sorted in memory one after the other."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._paths = [folder / f"{name}-{index:02d}.keys" for index in range(PARTITIONS)]
        for path in self._paths:
            path.unlink(missing_ok=True)

    def add(self, keys: Keys, rows: Rows) -> None:
        """Append pairs; `keys` and `rows` have the same length."""
        import numpy as np

        pairs = np.empty(len(keys), dtype=_PAIR)
        pairs["key"], pairs["row"] = keys, rows
        part = (pairs["key"] >> np.uint64(58)).astype(np.intp)
        pairs = pairs[np.argsort(part, kind="stable")]
        ends = np.cumsum(np.bincount(part, minlength=PARTITIONS))
        for path, start, end in zip(self._paths, [0, *ends[:-1]], ends, strict=True):
            if end > start:
                with path.open("ab") as stream:
                    pairs[start:end].tofile(stream)

    def runs(self) -> Iterator[tuple[Keys, Rows]]:
        """A partition at a time, sorted by key, then row."""
        import numpy as np

        for path in self._paths:
            if path.exists():
                pairs = np.fromfile(path, dtype=_PAIR)
                pairs = pairs[np.lexsort((pairs["row"], pairs["key"]))]
                yield pairs["key"].copy(), pairs["row"].copy()

    def edges(self, *, star: bool = False, reach: int = 1) -> Iterator[tuple[Rows, Rows]]:
        """Each row with those up to `reach` before it that have the same key; `star` adds the first of that key."""
        import numpy as np

        for keys, rows in self.runs():
            for distance in range(reach, 0, -1):
                same = np.flatnonzero(keys[distance:] == keys[:-distance]) + distance
                yield rows[same - distance], rows[same]
            if star:
                is_first = np.ones(len(keys), bool)
                is_first[same] = False
                firsts = np.flatnonzero(is_first)[np.cumsum(is_first) - 1]
                beyond = same[firsts[same] < same - 1]
                yield rows[firsts[beyond]], rows[beyond]

    def remove(self) -> None:
        for path in self._paths:
            path.unlink(missing_ok=True)


def near_edges(
    bands: KeyTable, signatures: NDArray[np.uint32], threshold: float, reach: int = 1
) -> Iterator[tuple[Rows, Rows]]:
    """Pairs that share a band and whose estimated Jaccard reaches `threshold`; see `KeyTable.edges` for `reach`."""
    for left, right in bands.edges(star=True, reach=reach):
        for start in range(0, len(left), _CHUNK):
            a, b = left[start : start + _CHUNK], right[start : start + _CHUNK]
            near = agreement(signatures[a], signatures[b]) >= threshold
            yield a[near], b[near]


def components(rows: int, edges: Iterable[tuple[Rows, Rows]]) -> Rows:
    """For every row the smallest row it is joined with through any chain of edges, shape (rows,)."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = list(edges)
    left = np.concatenate([a for a, _ in pairs]) if pairs else np.empty(0, np.int64)
    right = np.concatenate([b for _, b in pairs]) if pairs else np.empty(0, np.int64)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(rows, rows))
    _, labels = connected_components(graph, directed=False)
    _, first = np.unique(labels, return_index=True)
    smallest: Rows = first[labels].astype(np.int64)
    return smallest
