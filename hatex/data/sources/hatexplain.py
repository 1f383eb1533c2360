"""HateXplain: the native dev posts, the rebuilt train posts and the posts without a majority.

The texts are tokens joined by single spaces. `<user>` and the names of emoticons become `@user` and
emoticons; `<url>`, `<email>` and `<phone>` are hatex's own masks already; `<number>`, `<percent>`,
`<money>`, `<date>` and `<time>` stay (`data.formatting` fills them in where training varies the form).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from hatex.data.cleaning import USER_MASK
from hatex.data.files import json_file, jsonl_rows
from hatex.data.groups import HATEXPLAIN_GROUPS, canonical
from hatex.data.raw import Item, Part, Problem, RawPost, Source, SourceInfo, SourceSpec
from hatex.data.sources.common import bad_row, file_of, token_spans
from hatex.data.votes import HATE, NEUTRAL, OFFENSIVE, tally
from hatex.types import LabelSet, Rationale, Vote

INFO = SourceInfo(
    name="hatexplain",
    licence="MIT",
    source="github.com/hate-alert/HateXplain",
    cite="Mathew, Saha, Yimam, Biemann, Goyal, Mukherjee. AAAI 2021",
    files=("train_rebuilt.jsonl.gz", "undecided_rebuilt.jsonl.gz", "dev.json.gz"),
    votes="hatespeech / offensive / normal of each annotator: {hate} / {offensive} / {neutral}",
    rationales="dev: per annotator (which of the three is not recorded); train: their union, where known",
)

LABELS: Final[Mapping[str, LabelSet]] = {"hatespeech": HATE, "offensive": OFFENSIVE, "normal": NEUTRAL}

TOKEN_FORMS: Final[Mapping[str, str]] = {
    "<user>": USER_MASK,
    "<happy>": ":)",
    "<sad>": ":(",
    "<laugh>": ":D",
    "<wink>": ";)",
    "<annoyed>": ":/",
    "<kiss>": ":*",
    "<surprise>": ":o",
    "<angel>": "O:)",
    "<censored>": "****",
}
"""Mask tokens of the source and what they become; all other tokens stay as they are."""


OFFICIAL_FILES: Final = ("dataset.json", "post_id_divisions.json")
_OFFICIAL_PARTS: Final[Mapping[str, Part]] = {"train": "train", "val": "dev", "test": "test"}


def read(spec: SourceSpec) -> Iterator[Item]:
    paths = find_files(spec)
    if len(paths) == len(OFFICIAL_FILES):
        yield from _official(spec, *paths)
        return
    yield from _rebuilt(spec, file_of(spec, "train_rebuilt.jsonl.gz"))
    yield from _rebuilt(spec, file_of(spec, "undecided_rebuilt.jsonl.gz"))
    yield from _native(spec, file_of(spec, "dev.json.gz"), "dev")


def find_files(spec: SourceSpec) -> Sequence[Path]:
    """Upstream's own two files where they are, else the rebuilt train posts and the native dev posts."""
    official = [file_of(spec, name) for name in OFFICIAL_FILES]
    return official if official[0].is_file() else [file_of(spec, name) for name in INFO.files]


def _official(spec: SourceSpec, posts: Path, divisions: Path) -> Iterator[Item]:
    parts = {
        post_id: part
        for name, part in _OFFICIAL_PARTS.items()
        for post_id in json_file(divisions).get(name, ())
    }
    for number, (post_id, row) in enumerate(json_file(posts).items(), start=1):
        try:
            # Posts without a majority are in no official split: they are kept, for training.
            yield _native_post(spec, posts, parts.get(post_id, "train"), number, post_id, row)
        except (KeyError, ValueError, TypeError) as error:
            yield bad_row(posts, number, error)


def _rebuilt(spec: SourceSpec, path: Path) -> Iterator[Item]:
    for item in jsonl_rows(path):
        if isinstance(item, Problem):
            yield item
            continue
        number, row = item
        try:
            votes = [_label(name) for name in row["votes"]]
            _check_majority(row["votes"], row["majority"])
            tokens = _tokens(row)
            mask = row["rationale_union"]
            targets = row["targets"]
            yield RawPost(
                id=row["post_id"],
                dataset=spec.name or INFO.name,
                text=" ".join(tokens),
                votes=tally(votes),
                file=str(path),
                row=number,
                part="train",
                targets=canonical(targets or (), HATEXPLAIN_GROUPS),
                has_targets=bool(targets),
                rationales=token_spans(tokens, mask) if mask is not None else (),
                has_rationales=mask is not None and row["rationale_source"] in ("spans", "words", "normal"),
            )
        except (KeyError, ValueError, TypeError) as error:
            yield bad_row(path, number, error)


def _native(spec: SourceSpec, path: Path, part: Part) -> Iterator[Item]:
    for number, (post_id, row) in enumerate(json_file(path).items(), start=1):
        try:
            yield _native_post(spec, path, part, number, post_id, row)
        except (KeyError, ValueError, TypeError) as error:
            yield bad_row(path, number, error)


def _native_post(
    spec: SourceSpec, path: Path, part: Part, number: int, post_id: str, row: dict[str, Any]
) -> RawPost:
    tokens = _tokens(row)
    spans: list[Rationale] = []
    for index, mask in enumerate(row["rationales"], start=1):
        spans += token_spans(tokens, mask, annotator=f"rationale {index}")
    named = [name for annotator in row["annotators"] for name in annotator["target"]]
    return RawPost(
        id=post_id,
        dataset=spec.name or INFO.name,
        text=" ".join(tokens),
        votes=tuple(
            Vote(_label(annotator["label"]), annotator=str(annotator["annotator_id"]))
            for annotator in row["annotators"]
        ),
        file=str(path),
        row=number,
        part=part,
        targets=canonical(named, HATEXPLAIN_GROUPS),
        has_targets=bool(named),
        rationales=tuple(spans),
        has_rationales=True,
    )


def _tokens(row: dict[str, Any]) -> list[str]:
    return [TOKEN_FORMS.get(token, token) for token in row["post_tokens"]]


def _label(name: str) -> LabelSet:
    if name not in LABELS:
        raise ValueError(f"unknown label {name!r}; known: {', '.join(LABELS)}")
    return LABELS[name]


def _check_majority(votes: list[str], majority: str) -> None:
    top = max(votes.count(name) for name in votes)
    expected = [name for name in LABELS if votes.count(name) == top]
    if majority != ("undecided" if len(expected) > 1 else expected[0]):
        raise ValueError(f"majority {majority!r} contradicts the votes")


SOURCE = Source(INFO, read, find_files)
