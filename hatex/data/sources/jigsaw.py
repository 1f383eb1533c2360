"""Jigsaw Toxic Comment Challenge 2018: the whole train.csv by its public column layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hatex.data.raw import Item, Source, SourceSpec
from hatex.data.sources.common import file_of
from hatex.data.sources.wiki_jigsaw import INFO as SAMPLE_INFO
from hatex.data.sources.wiki_jigsaw import read_multilabel

INFO = replace(
    SAMPLE_INFO,
    name="jigsaw",
    source="kaggle.com/c/jigsaw-toxic-comment-classification-challenge",
    cite="Wulczyn, Thain, Dixon. WWW 2017; Jigsaw Toxic Comment Challenge 2018",
    files=("train.csv",),
    votes="identity_hate / toxic without it / not toxic: {hate} / {offensive, hate} / {neutral}",
)


def read(spec: SourceSpec) -> Iterator[Item]:
    yield from read_multilabel(spec.name or INFO.name, file_of(spec, "train.csv"))


SOURCE = Source(INFO, read)
