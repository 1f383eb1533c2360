"""Akhtar, Basile, Patti 2021: tweets on Brexit, the same six annotators in two groups.

Layout of SemEval-2023 task 11 (Le-Wi-Di), official train and dev files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hatex.data.files import json_file
from hatex.data.raw import Item, Note, Part, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, file_of
from hatex.data.votes import HATE, NEUTRAL, NOT_HATE, OFFENSIVE
from hatex.types import LabelSet, Vote

INFO = SourceInfo(
    name="hs_brexit",
    licence="none stated",
    source="the SemEval-2023 task 11 data sets (Learning with Disagreements)",
    cite="Akhtar, Basile, Patti 2021; SemEval-2023 task 11",
    files=("HS-Brexit_train.json", "HS-Brexit_dev.json"),
    votes="hate yes: {hate}; no, and offensive or aggressive: {offensive}; no and neither: {neutral}; "
    "no without the other two answers: {neutral, offensive}",
)

_OTHER = ("offensive language detection", "aggressive language detection")
_ANSWERS = {"0": False, "1": True, "No": False, "Yes": True}


def read(spec: SourceSpec) -> Iterator[Item]:
    parts: tuple[Part, ...] = ("train", "dev")
    for name, part in zip(INFO.files, parts, strict=True):
        path = file_of(spec, name)
        for number, (key, row) in enumerate(json_file(path).items(), start=1):
            try:
                votes = _votes(row)
                if is_tied(votes):
                    yield Note(str(path), number, "hate votes tie")
                else:
                    _check_label(votes, row)
                if _is_spelled_out(row):
                    yield Note(str(path), number, "an answer spelled out as No or Yes")
                yield _post(spec, path, part, number, key, row, votes)
            except (KeyError, ValueError, AttributeError, TypeError) as error:
                yield bad_row(path, number, error)


def _post(
    spec: SourceSpec,
    path: Path,
    part: Part,
    number: int,
    key: str,
    row: dict[str, Any],
    votes: tuple[Vote, ...],
) -> RawPost:
    return RawPost(
        id=f"{part}-{key}",
        dataset=spec.name or INFO.name,
        text=row["text"],
        votes=votes,
        file=str(path),
        row=number,
        part=part,
    )


def _votes(row: dict[str, Any]) -> tuple[Vote, ...]:
    annotators = row["annotators"].split(",")
    answers = _answers(row["annotations"], len(annotators))
    info = row.get("other_info", {})
    others = info.get("other annotations", {})
    offensive, aggressive = (
        _answers(others[name], len(annotators)) if name in others else None for name in _OTHER
    )
    groups = info["annotators group"].split(",") if "annotators group" in info else [None] * len(annotators)
    if len(groups) != len(annotators):
        raise ValueError(f"{len(groups)} groups for {len(annotators)} annotators")
    votes = []
    for i, (annotator, group, hate) in enumerate(zip(annotators, groups, answers, strict=True)):
        known = [answer[i] for answer in (offensive, aggressive) if answer is not None]
        votes.append(Vote(_labels(hate, known), annotator=annotator, group=info.get(group, group)))
    return tuple(votes)


def _labels(hate: bool, other_answers: Sequence[bool]) -> LabelSet:
    if hate:
        return HATE
    if any(other_answers):
        return OFFENSIVE
    return NEUTRAL if len(other_answers) == len(_OTHER) else NOT_HATE


def _answers(text: str, expected: int) -> list[bool]:
    values = text.split(",")
    if len(values) != expected or any(value not in _ANSWERS for value in values):
        raise ValueError(f"expected {expected} answers of 0 or 1")
    return [_ANSWERS[value] for value in values]


def is_tied(votes: Sequence[Vote]) -> bool:
    """Whether as many annotators said hate as did not: upstream drew the label of such posts at random."""
    return 2 * sum(vote.labels == HATE for vote in votes) == len(votes)


def _is_spelled_out(row: dict[str, Any]) -> bool:
    others = row.get("other_info", {}).get("other annotations", {})
    return any(value in ("No", "Yes") for text in others.values() for value in text.split(","))


def _check_label(votes: Sequence[Vote], row: dict[str, Any]) -> None:
    hate = 2 * sum(vote.labels == HATE for vote in votes) > len(votes)
    if str(row["hard_label"]) != str(int(hate)):
        raise ValueError(f"hard_label {row['hard_label']!r} contradicts the votes")


SOURCE = Source(INFO, read)
