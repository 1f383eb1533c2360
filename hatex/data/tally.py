"""What happened to the rows of one source: kept, left out, noted, broken."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hatex.data.duplicates import key_of
from hatex.data.raw import Item, LeftOut, Note, Problem, RawPost

_MAX_COUNT: Final = 2**31 - 1
"""Of a vote, as examples hold it."""


@dataclass
class Tally:
    """Counts of one source. `rows` are those the reader saw: kept, left out or broken."""

    rows: int = 0
    kept: int = 0
    edited: int = 0
    by_file: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @property
    def error_share(self) -> float:
        """Problems per row."""
        return len(self.problems) / max(self.rows, 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "kept": self.kept,
            "edited": self.edited,
            "by_file": dict(self.by_file),
            "left_out": dict(sorted(self.left_out.items())),
            "notes": dict(sorted(self.notes.items())),
            "problems": [[p.file, p.row, p.kind, p.message, p.is_row] for p in self.problems],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Tally:
        """The tally that `to_json` wrote."""
        counters = {name: Counter(value[name]) for name in ("by_file", "left_out", "notes")}
        problems = [Problem(*entry) for entry in value["problems"]]
        return cls(value["rows"], value["kept"], value["edited"], problems=problems, **counters)


def sound_posts(items: Iterable[Item], tally: Tally) -> Iterator[RawPost]:
    """The usable posts; everything else is counted into `tally`."""
    seen: set[int] = set()
    for item in items:
        if isinstance(item, Note):
            tally.notes[item.what] += 1
            continue
        if isinstance(item, Problem):
            tally.problems.append(item)
            if item.is_row:
                tally.rows += 1
                tally.by_file[Path(item.file).name] += 1
            continue
        tally.rows += 1
        tally.by_file[Path(item.file).name] += 1
        if isinstance(item, LeftOut):
            tally.left_out[item.reason] += 1
        elif (problem := _problem_of(item, seen)) is not None:
            tally.problems.append(problem)
        else:
            tally.kept += 1
            yield item


def _problem_of(post: RawPost, seen: set[int]) -> Problem | None:
    """Why a raw post cannot be used, if so; `seen` holds the keys of the ids so far."""

    def problem(kind: str, message: str) -> Problem:
        return Problem(post.file, post.row, kind, message)

    for name, value in _strings(post):
        if not isinstance(value, str):
            return problem(name, f"the {name} is missing or not a string")
        if not _is_encodable(value):
            return problem("surrogate", f"the {name} holds a lone surrogate")
    text = post.text
    if not text.strip():
        return problem("empty text", "the text is empty")
    if not post.votes or any(vote.count <= 0 for vote in post.votes):
        return problem("votes", "no votes")
    if any(vote.count > _MAX_COUNT for vote in post.votes):
        return problem("votes", "more votes than can be counted")
    for span in post.rationales:
        if not 0 <= span.start < span.end <= len(text):
            place = f"span {span.start}:{span.end} is outside the text of {len(text)} characters"
            return problem("span", place)
    identity = key_of(post.dataset, post.id)
    if identity in seen:
        return problem("id", "the id occurs twice in this data set")
    seen.add(identity)
    return None


def _strings(post: RawPost) -> Iterator[tuple[str, object]]:
    """What must be strings, with names: readers pass on what JSON holds."""
    yield "text", post.text
    yield "id", post.id
    if post.context is not None:
        yield "context", post.context
    yield from (("target", name) for name in post.targets)
    yield from (("annotator", vote.annotator) for vote in post.votes if vote.annotator is not None)
    yield from (("annotator's group", vote.group) for vote in post.votes if vote.group is not None)
    for name in ("annotator", "kind"):
        given = (getattr(span, name) for span in post.rationales)
        yield from ((f"{name} of a span", value) for value in given if value is not None)
    if post.explanation is not None:
        yield "explanation", json.dumps(post.explanation, ensure_ascii=False)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def sample(posts: Iterable[RawPost], limit: int | None, seed: int) -> Iterator[RawPost]:
    """A seeded sample of at most `limit` posts in their order: those whose hashed ids are smallest."""
    if limit is None:
        yield from posts
        return
    heap: list[tuple[int, int, RawPost]] = []
    for order, post in enumerate(posts):
        entry = (-key_of(str(seed), f"{post.dataset}:{post.id}"), -order, post)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
    yield from (post for _, _, post in sorted(heap, key=lambda entry: -entry[1]))
