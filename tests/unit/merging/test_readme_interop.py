"""The README's ten lines of plain transformers and PEFT: they run as they stand there and answer as hatex does."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import hatex
from hatex.registry import open_registry

# PEFT asks transformers for a property that transformers has renamed.
pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
]

README = Path(__file__).resolve().parents[3] / "README.md"
BLOCK = re.compile(r"<!-- interop: begin -->\s*```python\n(.*?)```\s*<!-- interop: end -->", re.DOTALL)
POST = "Your football club is a bunch of clueless donkeys."
ADAPTER = "wiki"


def test_the_ten_lines_of_the_readme_answer_as_hatex_does(registry, monkeypatch, capsys):
    [snippet] = BLOCK.findall(README.read_text(encoding="utf-8"))
    lines = [line for line in snippet.splitlines() if line.strip()]
    assert len(lines) <= 10
    assert not re.search(r"^\s*(import|from) hatex", snippet, re.MULTILINE)

    engine = hatex.load("starter", registry=registry.root, overrides=["base.dtype=float32"])
    base = Path(engine.model.tokenizer.name_or_path)
    adapter = open_registry(registry.root).find("adapter", ADAPTER, base.name).path
    gates = np.array([[float(name == ADAPTER) for name in engine.adapters]])
    ours = engine.score([POST], gates, calibrated=False)[0]

    monkeypatch.setattr(sys, "argv", ["plain.py", str(base), str(adapter), POST])
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})
    theirs = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
