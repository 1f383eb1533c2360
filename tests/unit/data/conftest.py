"""Small invented sources in the layouts of the real ones."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from hatex.data.raw import LeftOut, Note, Problem, RawPost, SourceSpec
from hatex.data.sources import load_source

settings.register_profile("data", deadline=None)
settings.load_profile("data")


class Read:
    """What a reader yielded, by kind."""

    def __init__(self, source: str, path: Path, **spec: object) -> None:
        items = list(load_source(source).read(SourceSpec(source, str(path), **spec)))  # type: ignore[arg-type]
        self.posts = [item for item in items if isinstance(item, RawPost)]
        self.problems = [item for item in items if isinstance(item, Problem)]
        self.left_out = [item for item in items if isinstance(item, LeftOut)]
        self.notes = [item for item in items if isinstance(item, Note)]

    @property
    def votes(self) -> list[list[tuple[str, int]]]:
        return [[("|".join(vote.labels), vote.count) for vote in post.votes] for post in self.posts]


@pytest.fixture
def read() -> type[Read]:
    return Read


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, object], Path]:
    """Write a file: text, or JSON values one a line for a list, a JSON file for a dict; gzipped by suffix."""

    def write(name: str, content: object) -> Path:
        if isinstance(content, list) and ".jsonl" in name:
            text = "".join(json.dumps(row) + "\n" for row in content)
        elif isinstance(content, str):
            text = content
        else:
            text = json.dumps(content)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write
