"""What `hatex prepare` would read: every file found and hashed, and where its rows go on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from hatex.data.examples import SCHEMA_VERSION
from hatex.data.raw import Columns, Source, SourceSpec
from hatex.data.shards import Shard
from hatex.data.sources import load_source, source_files
from hatex.errors import DataError, IntegrityError, RecipeError
from hatex.hashing import hash_file
from hatex.recipe.prepare import PrepareSection, SourceSection

WORK: Final = ".work"
"""Folder below the output for what an interrupted run leaves; a finished run removes it."""


@dataclass(frozen=True)
class PlannedSource:
    """One source before it is read."""

    section: SourceSection
    spec: SourceSpec
    source: Source
    files: dict[str, str]
    """File name to sha256."""

    @property
    def name(self) -> str:
        return self.section.name or self.section.source


@dataclass(frozen=True)
class PreparePlan:
    """What `prepare` would do; nothing has been read but file hashes."""

    section: PrepareSection
    sources: tuple[PlannedSource, ...]
    done: tuple[str, ...]
    """Names of sources that an interrupted run has read already."""

    def record(self) -> dict[str, Any]:
        """For `--json` and the terminal."""
        sources = [
            {
                "name": each.name,
                "platform": each.section.platform,
                "files": list(each.files),
                "hub": each.section.hub,
                "licence": each.source.info.licence,
                "done": each.name in self.done,
            }
            for each in self.sources
        ]
        record: dict[str, Any] = {"output": self.section.output, "sources": sources}
        if (asked := self.section.annotate) is not None:
            record["annotate"] = {"url": asked.url, "model": asked.model, "max_requests": asked.max_requests}
        return record

    @property
    def key(self) -> str:
        """Digest of what decides the examples: the section and the hashes of its files, wherever they stand."""
        section = self.section.model_dump(mode="json", exclude={"output", "num_proc", "sources"})
        sources = [
            (each.section.model_dump(mode="json", exclude={"path"}), each.files) for each in self.sources
        ]
        record = json.dumps([section, sources], sort_keys=True)
        return hashlib.sha256(record.encode()).hexdigest()


def plan_data(section: PrepareSection) -> PreparePlan:
    """Find every file, check pinned hashes, and see what an interrupted run has left.

    Raises:
        DataError: a file is missing. IntegrityError: a file has another hash than the recipe expects.
    """
    planned = tuple(_plan_source(source) for source in section.sources)
    done = tuple(each.name for each in planned if shard_of(section, each).is_whole)
    return PreparePlan(section, planned, done)


def _plan_source(section: SourceSection) -> PlannedSource:
    source = load_source(section.source)
    if section.unread:
        raise RecipeError(
            [f"source {section.name or section.source!r}: only a table reads {', '.join(section.unread)}"],
            hint="leave it out: this source knows its own",
        )
    columns = None if section.columns is None else Columns(**section.columns.model_dump())
    shared = section.model_dump(include={"source", "path", "hub", "revision", "name", "labels", "groups"})
    spec = SourceSpec(**shared, columns=columns)
    files = {}
    for path in source_files(source, spec):
        if not path.is_file():
            raise DataError(
                "no such file", where=str(path), hint=f"{section.source} reads it; from {source.info.source}"
            )
        files[path.name] = hash_file(path)
        expected = section.sha256.get(path.name)
        if expected is not None and expected != files[path.name]:
            raise IntegrityError(
                f"sha256 is {files[path.name]}, the recipe expects {expected}",
                where=str(path),
                hint="fetch the file again, or correct the recipe",
            )
    if unknown := sorted(section.sha256.keys() - files.keys()):
        raise DataError(
            f"sha256 names {', '.join(unknown)}, which {section.source} does not read",
            where=section.path,
            hint=f"it reads {', '.join(files)} there; pin those, or take the pins away (sha256: {{}})",
        )
    return PlannedSource(section, spec, source, files)


def shard_of(section: PrepareSection, planned: PlannedSource) -> Shard:
    """The place of a source on disk; its name changes with everything that changes its contents."""
    facts = {
        "hatex": version("hatex"),
        "schema": SCHEMA_VERSION,
        "source": planned.section.model_dump(mode="json", exclude={"path"}),
        "paths": [str(path.resolve()) for path in source_files(planned.source, planned.spec)],
        "files": planned.files,
        "cleaning": sorted(section.cleaning),
        "min_probability": section.languages.min_probability,
        "seed": section.seed,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Shard(Path(section.output) / WORK / "shards", f"{planned.name}-{digest}")
