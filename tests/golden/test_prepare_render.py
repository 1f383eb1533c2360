"""What a person sees after `hatex prepare`, at width 80."""

from io import StringIO
from typing import Any

from rich.console import Console
from syrupy.assertion import SnapshotAssertion

from hatex.render.prepare import render_prepare


def show(record: dict[str, Any]) -> str:
    stream = StringIO()
    Console(file=stream, width=80, color_system=None).print(render_prepare(record))
    return stream.getvalue()


def dataset(rows: tuple[int, int, int], labels: dict[str, int], alpha: float | None) -> dict[str, Any]:
    splits = dict(zip(("train", "tune", "report"), rows, strict=True))
    return {"splits": splits, "labels": {"train": labels}, "agreement": alpha}


def source(name: str, left_out: dict[str, int], kinds: dict[str, int]) -> dict[str, Any]:
    return {"name": name, "left_out": left_out, "problems": {"kinds": kinds}}


DATA = {
    "folder": "build/mine",
    "resumed": ["fans"],
    "card": {
        "splits": ["train", "tune", "report"],
        "examples": {"rows": 1500},
        "datasets": {
            "fans": dataset((1000, 120, 130), {"neutral": 500, "offensive": 250, "hate": 250}, 0.543),
            "clubs": dataset((200, 25, 25), {"neutral|offensive": 150, "hate": 50}, None),
        },
        "sources": [source("fans", {"label idk": 12}, {"span": 3}), source("clubs", {}, {})],
        "dropped": {"near-copy of a holdout text": {"fans": 4, "clubs": 1}},
        "repeats": {"same text as an earlier post of the set": 1226},
        "warnings": ["clubs has no rows in test"],
    },
}
MODELS = [
    {"kind": "base", "name": "small", "path": "bases/small"},
    {"kind": "encoder", "name": "mini", "path": None},
]


def test_prepared(snapshot: SnapshotAssertion) -> None:
    assert show({"dry_run": False, "models": MODELS[:1], "data": DATA}) == snapshot


def test_dry_run(snapshot: SnapshotAssertion) -> None:
    sources = [
        {
            "name": "fans",
            "platform": "forums",
            "files": ["fans.csv"],
            "hub": None,
            "licence": "MIT",
            "done": True,
        },
        {
            "name": "hub",
            "platform": "news",
            "files": [],
            "hub": "owner/set",
            "licence": "CC0-1.0",
            "done": False,
        },
    ]
    asked = {"url": "http://localhost:8000/v1", "model": "m", "max_requests": 1200}
    plan = {"output": "build/mine", "sources": sources, "annotate": asked}
    assert show({"dry_run": True, "models": MODELS, "plan": plan}) == snapshot
