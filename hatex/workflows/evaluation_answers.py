"""Answers of an evaluation kept in a file as they come, so that an interrupted run goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from hatex.errors import UsageError
from hatex.evaluation.estimate import Array
from hatex.evaluation.passes import Answers, Gates
from hatex.locks import lock_output
from hatex.types import BlendSpace

SCHEMA: Final = 1
_Key = tuple[str, BlendSpace, tuple[float, ...]]


@contextmanager
def keep_answers(engine: Answers, path: Path | None) -> Iterator[Answers]:
    """The engine, whose answers are kept in the file at `path` and taken from there; itself without one.

    The file is JSONL: what the answers are from, then one a line with a digest of its post, never the post. Raises
    UsageError where the file is another model's or no such file, and as `lock_output`.
    """
    if path is None:
        yield engine
        return
    with path.open("a+b") as stream:
        lock_output(stream, path)
        yield _KeptAnswers(engine, stream, _read(stream, _origin(engine), path))


def _origin(engine: Answers) -> dict[str, Any]:
    return {"schema": SCHEMA, "model": engine.fingerprint, "adapters": list(engine.adapters)}


def _read(stream: BinaryIO, origin: dict[str, Any], path: Path) -> dict[_Key, list[float]]:
    """What the file holds; a line that a killed run left unfinished is cut off, and an empty file is begun."""
    stream.seek(0)
    known: dict[_Key, list[float]] = {}
    found, end = None, 0
    for line in stream:
        # Of other files nothing is cut off.
        if found is not None and not line.endswith(b"\n"):
            break
        end += len(line)
        try:
            record = json.loads(line)
            if found is None:
                found = {name: record[name] for name in origin}
            else:
                key = (record["post"], record["space"], tuple(record["gates"]))
                known[key] = record["probabilities"]
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                "holds something else than answers of an evaluation",
                where=str(path),
                hint="name another file",
            ) from None
    if found not in (None, origin):
        raise UsageError(
            "holds answers of another model, or of other settings",
            where=str(path),
            hint="name another file, or delete it",
        )
    stream.truncate(end)
    if found is None:
        stream.write(_line(origin))
        stream.flush()
    return known


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


@dataclass
class _KeptAnswers:
    engine: Answers
    stream: BinaryIO
    known: dict[_Key, list[float]] = field(default_factory=dict)

    @property
    def adapters(self) -> tuple[str, ...]:
        return self.engine.adapters

    @property
    def fingerprint(self) -> str:
        return self.engine.fingerprint

    def gate(
        self, texts: Sequence[str], strategy: str = "blend", platforms: Sequence[str] | None = None
    ) -> Gates:
        return self.engine.gate(texts, strategy, platforms)

    def score(self, texts: Sequence[str], gates: Gates | None = None, space: BlendSpace = "delta") -> Array:
        """P(label), shape (texts, labels); what is new is in the file before this returns."""
        rows = self.engine.gate(texts) if gates is None else gates
        keys: list[_Key] = [
            (
                hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32],
                space,
                tuple(row.tolist()),
            )
            for text, row in zip(texts, np.asarray(rows, np.float32), strict=True)
        ]
        new = [i for i, key in enumerate(keys) if key not in self.known]
        if new:
            answers = self.engine.score([texts[i] for i in new], rows[new], space=space)
            for i, answer in zip(new, answers.tolist(), strict=True):
                post, _, weights = keys[i]
                self.known[keys[i]] = answer
                record = {"post": post, "space": space, "gates": weights, "probabilities": answer}
                self.stream.write(_line(record))
            self.stream.flush()
        return np.array([self.known[key] for key in keys])
