"""One small file a data set: raw rows to `RawPost`s. A reader is imported when a recipe names it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final, cast

from hatex.data.raw import Source, SourceSpec
from hatex.data.sources.common import file_of
from hatex.errors import RecipeError

SOURCES: Final[tuple[str, ...]] = (
    "cad",
    "civil_comments",
    "contrast",
    "davidson",
    "gab_hate_corpus",
    "hatexplain",
    "hs_brexit",
    "jigsaw",
    "measuring_hate_speech",
    "stormfront",
    "table",
    "text",
    "toxic_spans",
    "wiki_context",
    "wiki_jigsaw",
)
"""Names of all readers: each a module of this package that holds one `SOURCE`."""


def load_source(name: str) -> Source:
    """The reader of that name.

    Raises:
        RecipeError: no such reader.
    """
    if name not in SOURCES:
        raise RecipeError([f"unknown source {name!r}"], hint=f"known sources: {', '.join(SOURCES)}")
    return cast(Source, import_module(f"hatex.data.sources.{name}").SOURCE)


def source_files(source: Source, spec: SourceSpec) -> list[Path]:
    """Every file that the reader will read; none for a hub data set."""
    if spec.hub is not None:
        return []
    if source.find_files is not None:
        return list(source.find_files(spec))
    return list(dict.fromkeys(file_of(spec, name) for name in source.info.files))
