"""The tables of `hatex registry` and `hatex merge`, at width 80."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from hatex.merging.exports import ExportReport
from hatex.merging.merge import MergeReport
from hatex.merging.optimise import Trial
from hatex.merging.outcome import MergeOutcome, MethodRow
from hatex.registry import Registry
from hatex.registry.lineage import trace, trace_all
from hatex.render.merge import render_merge
from hatex.render.registry import render_licences, render_list, render_show, render_verify


def drawn(renderable, registry: Registry) -> str:
    stream = io.StringIO()
    Console(file=stream, width=80).print(renderable)
    return stream.getvalue().replace(str(registry.root), "HOME")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    """A base, an adapter and a router, in a folder with a short name."""
    monkeypatch.chdir(tmp_path)
    registry = Registry(Path("home"), clock=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    base = {
        "base_identity": f"sha256:{'1' * 64}+nf4-double-64",
        "licence": "Apache-2.0",
        "source": {"hub": "o/tiny"},
    }
    adapter = {
        "base_identity": base["base_identity"],
        "licence": "CC-BY-SA-4.0",
        "source": {"train": "starter"},
        "recipe": {"name": "starter"},
        "data": {"card": "2" * 64},
        "metrics": {"tune_loss": 0.61234},
        "votes_per_post": 3.2,
    }
    router = {"adapters": ["wiki"], "encoder": {"name": "mini"}, "licence": "CC-BY-SA-4.0"}
    for kind, name, owner, fields in (
        ("base", "tiny", None, base),
        ("adapter", "wiki", "tiny", adapter),
        ("router", "starter", None, router),
    ):
        with registry.publish(kind, name, base=owner, manifest_fields=fields) as folder:
            (folder / "weights.safetensors").write_bytes(name.encode() * 3000)
    return registry


def test_list(registry, snapshot):
    (registry.find("router", "starter").path / "weights.safetensors").unlink()
    assert drawn(render_list(registry, list(registry.scan())), registry) == snapshot


@pytest.mark.parametrize("ref", ["base:tiny", "adapter:tiny/wiki", "router:starter"])
def test_show(registry, snapshot, ref):
    found = registry.find_ref(ref)
    assert drawn(render_show(registry, found, trace(registry, found)), registry) == snapshot


def test_licences(registry, snapshot):
    assert drawn(render_licences(trace_all(registry, ["router:starter"])), registry) == snapshot


def test_what_manifests_of_others_say_cannot_steer_the_terminal(registry):
    fields = {
        "licence": "MIT\x1b]0;title\x07",
        "source": {"hub": "o/\x1b[31mred"},
        "metrics": {"f\x9b1m": "\x1b[2J"},
        "a\x1bkey": "\u202eturned",
    }
    with registry.publish("base", "loud", base=None, manifest_fields=fields) as folder:
        (folder / "weights.safetensors").write_bytes(b"loud" * 3000)
    found = registry.find_ref("base:loud")
    pages = (
        render_list(registry, list(registry.scan())),
        render_show(registry, found, trace(registry, found)),
        render_licences(trace_all(registry, ["base:loud"])),
    )
    for page in (drawn(page, registry) for page in pages):
        assert "MIT␛]0;title␇" in page
        assert all(char.isprintable() or char == "\n" for char in page)


def test_verify(registry, snapshot):
    results = {"base:tiny": (), "adapter:tiny/wiki": ("a.json: missing", "stray.txt: not in the manifest")}
    assert drawn(render_verify(results), registry) == snapshot


def test_merge(registry, snapshot):
    rows = (
        MethodRow(MergeReport("cat", 48, 19_500_000, 3.2e-9, 1.0), 0.6612, True),
        MethodRow(MergeReport("svd", 16, 6_500_000, 0.214, 0.9543), 0.6587, False),
    )
    outcome = MergeOutcome(
        artefact=registry.find_ref("adapter:tiny/wiki"),
        weights={"microblog": 0.61, "forums": 0.27, "wiki": 0.12},
        layers={"model.layers.2?.*": {"wiki": 1.0}},
        rows=rows,
        exact_macro_f1=0.6612,
        trials=(Trial({"microblog": 0.61}, 0.66), Trial({"microblog": 0.33}, 0.61)),
        exports=(
            ExportReport("peft", Path("out/peft"), 19_500_000, 2.5e-6, 4.3e-7),
            ExportReport("nf4", Path("out/nf4"), 115_000_000, 0.097, 0.031),
        ),
    )
    assert drawn(render_merge(outcome), registry) == snapshot
