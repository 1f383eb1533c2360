"""The wheel holds what the source tree has: recipes by bare name, data files, type marker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
BUILD = "from setuptools import build_meta; build_meta.build_wheel('wheels')"


def test_a_wheel_finds_its_recipes(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    skipped = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "hatex", tmp_path / "hatex", symlinks=True, ignore=skipped)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("README.md", "LICENSE", "hatex/starter/LICENSE", "hatex/starter/NOTICE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD], cwd=tmp_path, check=True, capture_output=True
    )
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    shipped = {path.name for path in (installed / "hatex" / "recipes").iterdir()}
    assert shipped == {path.name for path in (ROOT / "recipes").glob("*.yaml")}
    assert (installed / "hatex" / "py.typed").exists()
    show = [sys.executable, "-S", "-c", "import hatex.recipe as r; print(r.__file__, *r.shipped_names())"]
    paths = [str(installed), *(path for path in sys.path if path and path != str(ROOT))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    found = subprocess.run(
        show, cwd=installed, env=environment, check=True, capture_output=True, text=True
    ).stdout
    assert found.startswith(str(installed))
    assert found.split()[1:] == sorted(Path(name).stem for name in shipped)
