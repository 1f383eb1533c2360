"""Pavlopoulos et al. 2022: news comments that were rated toxic, with the spans each worker marked.

A worker who gave no span ticked one box that upstream stores as `all toxic` and `not toxic` at once: the
answer says nothing about the label, so the vote names all three. The same goes for a worker who marked
spans and ticked `not toxic`, and for one who ticked nothing and has no spans here; the card counts each
kind.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from hatex.data.files import csv_rows
from hatex.data.raw import Item, Note, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import beside, file_of
from hatex.data.votes import ANY, HATE, NEUTRAL, TOXIC
from hatex.types import LabelSet, Rationale, Vote

INFO = SourceInfo(
    name="toxic_spans",
    licence="CC0-1.0",
    source="github.com/ipavlopoulos/toxic_spans",
    cite="Pavlopoulos, Laugier, Xenos, Sorensen, Androutsopoulos. ACL 2022",
    files=("comments.csv.gz", "annotations.csv.gz", "spans.csv.gz"),
    votes="spans or `all toxic`: {offensive, hate}; a span typed Identity based Attack: {hate}; `not toxic` "
    "alone: {neutral}; both boxes, no box and no span, or `not toxic` with spans: all three labels",
    rationales="character spans per worker, with type",
)

_TYPES = ("Insult", "Profane/Obscene", "Identity based Attack", "Threat", "Other Toxicity")
_FLAGS = {"True": True, "False": False}

Annotation = tuple[int, str, str, bool, bool]
"""Row, annotation id, worker, `all toxic`, `not toxic`."""


def read(spec: SourceSpec) -> Iterator[Item]:
    annotations: dict[str, list[Annotation]] = defaultdict(list)
    spans: dict[str, list[tuple[int, Rationale]]] = defaultdict(list)
    yield from _load_annotations(file_of(spec, "annotations.csv.gz"), annotations)
    yield from _load_spans(file_of(spec, "spans.csv.gz"), spans)
    path = file_of(spec, "comments.csv.gz")
    for item in csv_rows(path, ("comment_id", "comment_text")):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        if row["comment_id"] not in annotations:
            yield Problem(str(path), number, "votes", "no annotation for this comment")
            continue
        yield from _comment(spec, number, row, annotations[row["comment_id"]], spans)


def _comment(
    spec: SourceSpec,
    number: int,
    row: dict[str, str],
    annotations: list[Annotation],
    spans: dict[str, list[tuple[int, Rationale]]],
) -> Iterator[Item]:
    votes: list[Vote] = []
    rationales: list[Rationale] = []
    for line, annotation, worker, all_toxic, not_toxic in annotations:
        marked = spans.get(annotation, [])
        labels, remark = _vote(all_toxic, not_toxic, [span.kind for _, span in marked])
        votes.append(Vote(labels, annotator=worker))
        if remark is not None:
            yield Note(str(file_of(spec, "annotations.csv.gz")), line, remark)
        for span_line, span in marked:
            if not 0 <= span.start < span.end <= len(row["comment_text"]):
                length = len(row["comment_text"])
                message = f"span {span.start}:{span.end} is outside the text of {length} characters"
                yield Problem(str(file_of(spec, "spans.csv.gz")), span_line, "span", message, is_row=False)
            elif labels != ANY:
                rationales.append(Rationale(span.start, span.end, worker, span.kind))
    yield RawPost(
        id=row["comment_id"],
        dataset=spec.name or INFO.name,
        text=row["comment_text"],
        votes=tuple(votes),
        file=str(file_of(spec, "comments.csv.gz")),
        row=number,
        rationales=tuple(rationales),
        has_rationales=bool(rationales) or all(vote.labels == NEUTRAL for vote in votes),
    )


def _vote(all_toxic: bool, not_toxic: bool, kinds: list[str | None]) -> tuple[LabelSet, str | None]:
    if not_toxic and kinds:
        return ANY, "worker marked spans and ticked `not toxic`"
    if kinds:
        return (HATE if "Identity based Attack" in kinds else TOXIC), None
    if all_toxic and not_toxic:
        return ANY, "worker gave no span (one box for `all toxic` and `not toxic`)"
    if all_toxic:
        return TOXIC, None
    if not_toxic:
        return NEUTRAL, None
    return ANY, "worker ticked no box and has no span"


def _load_annotations(path: Path, into: dict[str, list[Annotation]]) -> Iterator[Item]:
    for item in csv_rows(path, ("annotation", "comment_id", "worker", "all toxic", "not toxic")):
        if isinstance(item, Problem):
            yield beside(item)
            continue
        number, row = item
        if row["all toxic"] not in _FLAGS or row["not toxic"] not in _FLAGS:
            message = "all toxic and not toxic must be True or False"
            yield Problem(str(path), number, "value", message, is_row=False)
            continue
        flags = _FLAGS[row["all toxic"]], _FLAGS[row["not toxic"]]
        into[row["comment_id"]].append((number, row["annotation"], row["worker"], *flags))


def _load_spans(path: Path, into: dict[str, list[tuple[int, Rationale]]]) -> Iterator[Item]:
    for item in csv_rows(path, ("annotation", "type", "start", "end")):
        if isinstance(item, Problem):
            yield beside(item)
            continue
        number, row = item
        # Upstream cut some type names off; a unique beginning still says which one it was.
        kinds = [name for name in _TYPES if row["type"] and name.startswith(row["type"].strip())]
        if len(kinds) != 1:
            yield Note(str(path), number, "span without a readable type")
        try:
            span = Rationale(int(row["start"]), int(row["end"]), kind=kinds[0] if len(kinds) == 1 else None)
        except ValueError:
            yield Problem(str(path), number, "span", "start and end must be whole numbers", is_row=False)
            continue
        into[row["annotation"]].append((number, span))


SOURCE = Source(INFO, read)
