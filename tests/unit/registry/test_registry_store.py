"""Publishing, finding, verifying, removing; what a killed process leaves behind; what is refused."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from filelock import FileLock

from hatex.errors import IntegrityError, RegistryError
from hatex.registry import Registry, open_registry
from hatex.registry.manifest import dump_manifest, parse_manifest
from hatex.registry.staging import move_into_place
from hatex.registry.store import checked_file


def fixed_clock() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home", tmp_path / "bundled", clock=fixed_clock)


def publish(registry: Registry, kind="router", name="r", text="weights", **options):
    fields = options.pop("fields", {})
    with registry.publish(kind, name, manifest_fields=fields, **options) as folder:
        (folder / "sub").mkdir()
        (folder / "a.txt").write_text(text)
        (folder / "sub" / "b.txt").write_text("b")
    return registry.find(kind, name, options.get("base"))


def write(registry: Registry, name: str, action: Callable[[Path], object]) -> None:
    with registry.publish("router", name, manifest_fields={}) as folder:
        action(folder)


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below root but locks and staging."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.name != ".lock" and ".staging" not in p.parts
    }


def test_published_artefact_is_found_with_every_field(registry):
    fields = {
        "licence": "CC-BY-SA-4.0",
        "source": {"train": "starter"},
        "metrics": {"macro_f1": 0.625},
        "parents": {"base:tiny": "0" * 64},
        "adapters": ["microblog", "forums"],
        "encoder": {"name": "mini", "sha256": "1" * 64},
    }
    found = publish(registry, fields=fields)
    assert found.ref == "router:r"
    assert found.manifest.created == "2026-01-02T03:04:05+00:00"
    assert set(found.manifest.files) == {"a.txt", "sub/b.txt"}
    assert found.manifest.extra == {"adapters": fields["adapters"], "encoder": fields["encoder"]}
    assert found.manifest.metrics == {"macro_f1": 0.625}
    assert registry.verify(found) == ()
    assert parse_manifest(dump_manifest(found.manifest), where="again") == found.manifest


def test_exception_inside_publish_leaves_nothing(registry):
    with pytest.raises(ZeroDivisionError):
        write(registry, "r", lambda folder: (folder / "half").write_text("x") // 0)
    assert snapshot(registry.root) == {}
    assert list((registry.root / ".staging").iterdir()) == []


def test_artefacts_are_immutable_unless_replaced(registry):
    publish(registry)
    before = snapshot(registry.root)
    with pytest.raises(RegistryError, match="taken"), registry.publish("router", "r", manifest_fields={}):
        pytest.fail("the block must not run")
    assert snapshot(registry.root) == before
    replaced = publish(registry, text="new", replace=True)
    assert (replaced.path / "a.txt").read_text() == "new"
    assert registry.verify(replaced) == ()


def test_a_replacement_that_cannot_move_in_leaves_the_old_artefact(registry, tmp_path):
    found = publish(registry)
    before = snapshot(registry.root)
    with pytest.raises(OSError, match="No such file"):
        move_into_place(tmp_path / "gone.new", found.path)
    assert snapshot(registry.root) == before
    assert registry.verify(registry.find("router", "r")) == ()


def test_a_finished_folder_moves_in_only_under_the_registrys_lock(registry):
    is_held, was_there = threading.Event(), []

    def hold() -> None:
        with FileLock(registry.root / ".lock"):
            is_held.set()
            time.sleep(0.3)
            was_there.append((registry.root / "routers" / "r").exists())

    other = threading.Thread(target=hold)
    write(registry, "r", lambda _: (other.start(), is_held.wait(30)))
    other.join()
    assert was_there == [False]
    assert registry.find("router", "r").name == "r"


def test_a_registry_that_another_process_keeps_is_told(registry, monkeypatch):
    found = publish(registry)
    monkeypatch.setattr("hatex.registry.staging.LOCK_TIMEOUT_S", 0.1)
    for change in (lambda: publish(registry, name="other"), lambda: registry.remove(found), registry.gc):
        with (
            FileLock(registry.root / ".lock"),
            pytest.raises(RegistryError, match="another process holds the registry") as caught,
        ):
            change()
        assert caught.value.where == str(registry.root)
        assert caught.value.hint.startswith("try again when")
    assert [each.name for each in registry.list()] == ["r"]
    registry.remove(found)


def test_a_name_taken_while_staging_is_kept(registry):
    with pytest.raises(RegistryError, match="taken"):
        write(registry, "r", lambda _: publish(registry, text="first"))
    assert (registry.find("router", "r").path / "a.txt").read_text() == "first"


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", ".hidden", "a\\b", "/etc", "x" * 97, "a\n", "a.", "ü"]
)
def test_names_that_are_not_plain_are_refused(registry, name):
    with pytest.raises(RegistryError, match="not a valid"):
        registry.find("router", name)
    with (
        pytest.raises(RegistryError, match="not a valid"),
        registry.publish("adapter", "a", base=name, manifest_fields={}),
    ):
        pytest.fail("the block must not run")
    assert not registry.root.exists()


def test_own_artefacts_hide_bundled_ones(registry):
    bundled = Registry(registry.bundled, clock=fixed_clock)
    publish(bundled, kind="adapter", name="wiki", base="tiny", text="bundled")
    found = registry.find("adapter", "wiki", base="tiny")
    assert found.is_bundled
    assert registry.find("adapter", "wiki").path == found.path
    with pytest.raises(RegistryError, match="shipped"):
        registry.remove(found)
    own = publish(registry, kind="adapter", name="wiki", base="tiny", text="own")
    assert not own.is_bundled
    assert [a.path for a in registry.list("adapter")] == [own.path]


def test_missing_artefact_names_what_is_known(registry):
    publish(registry)
    with pytest.raises(RegistryError, match="no router:absent") as caught:
        registry.find("router", "absent")
    assert "known: r" in caught.value.hint


def test_an_adapter_of_two_bases_needs_the_base(registry):
    publish(registry, kind="adapter", name="wiki", base="one")
    publish(registry, kind="adapter", name="wiki", base="two")
    with pytest.raises(RegistryError, match="exists for one, two"):
        registry.find("adapter", "wiki")


@pytest.mark.parametrize("damage", ["change", "add", "link"])
def test_verify_reports_damage(registry, damage):
    found = publish(registry)
    if damage == "change":
        (found.path / "a.txt").write_text("wrong!!")
        with pytest.raises(IntegrityError, match=r"a\.txt"):
            checked_file(found, "a.txt")
    elif damage == "add":
        (found.path / "stray.txt").write_text("x")
    else:
        (found.path / "a.txt").unlink()
        (found.path / "a.txt").symlink_to("/etc/hostname")
    assert len(registry.verify(found)) == 1
    with pytest.raises(IntegrityError):
        registry.check(found)


def test_half_copied_folders_are_refused_and_listed_as_broken(registry):
    found = publish(registry)
    (found.path / "sub" / "b.txt").unlink()
    with pytest.raises(IntegrityError, match=r"missing files: sub/b\.txt"):
        registry.find("router", "r")
    assert registry.list() == ()
    assert [type(state) for _, state in registry.scan()] == [IntegrityError]
    (found.path / "manifest.yaml").unlink()
    with pytest.raises(IntegrityError, match=r"no manifest\.yaml"):
        registry.find("router", "r")


def test_a_folder_under_another_name_is_refused(registry):
    found = publish(registry)
    found.path.rename(found.path.with_name("other"))
    with pytest.raises(IntegrityError, match="the manifest is that of router:r"):
        registry.find("router", "other")


def test_symlinks_out_of_the_registry_are_refused(registry, tmp_path):
    outside = publish(Registry(tmp_path / "elsewhere"))
    (registry.root / "routers").mkdir(parents=True)
    (registry.root / "routers" / "r").symlink_to(outside.path)
    with pytest.raises(RegistryError, match="symbolic links"):
        registry.find("router", "r")
    with pytest.raises(RegistryError, match="symbolic links"):
        publish(registry, replace=True)
    with pytest.raises(RegistryError, match="symbolic links are refused"):
        write(registry, "other", lambda folder: (folder / "escape").symlink_to("/etc/hostname"))
    assert not (registry.root / "routers" / "other").exists()


def test_pickles_never_enter(registry):
    with pytest.raises(RegistryError, match="pickle files are refused"):
        write(registry, "r", lambda folder: (folder / "weights.PTH").write_bytes(b""))
    assert registry.list() == ()


def test_a_manifest_of_absurd_size_is_not_read(registry):
    found = publish(registry)
    with (found.path / "manifest.yaml").open("a") as file:
        file.write("# " + "x" * (9 << 20))
    with pytest.raises(IntegrityError, match="too large"):
        registry.find("router", "r")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("schema: 1\nkind: router\n", "must be"),
        ("schema: 9\n", "schema 9"),
        ("[1, 2]", "not a mapping"),
        ("a: [", "not valid YAML"),
        ("schema: 1\nkind: shop\nname: x\ncreated: now\nfiles: {}\n", "kind 'shop'"),
        ("schema: 1\nkind: router\nname: x\ncreated: now\nfiles: {../x: '" + "0" * 64 + "'}\n", "leaves"),
        ("schema: 1\nkind: router\nname: x\ncreated: now\nfiles: {/etc/x: '" + "0" * 64 + "'}\n", "leaves"),
        ("schema: 1\nkind: router\nname: x\ncreated: now\nfiles: {'..\\x': '" + "0" * 64 + "'}\n", "leaves"),
        ("schema: 1\nkind: router\nname: x\ncreated: now\nfiles: {x: abc}\n", "sha256"),
        ("!!python/object/apply:os.getcwd []", "not a|not valid"),
    ],
)
def test_broken_manifests_are_refused(text, reason):
    with pytest.raises(IntegrityError, match=reason):
        parse_manifest(text, where="m")


def test_remove_refuses_what_others_depend_on(registry):
    base = publish(registry, kind="base", name="tiny")
    encoder = publish(registry, kind="encoder", name="mini")
    adapter = publish(registry, kind="adapter", name="wiki", base="tiny")
    fields = {"adapters": ["wiki"], "encoder": {"name": "mini", "sha256": "0" * 64}}
    router = publish(registry, name="r", fields=fields)
    for needed in (base, encoder, adapter):
        with pytest.raises(RegistryError, match="needed by"):
            registry.remove(needed)
    for artefact in (router, adapter, encoder, base):
        registry.remove(artefact)
    assert registry.list() == ()
    assert snapshot(registry.root) == {}


def _stall(root: Path, ready) -> None:
    with Registry(root).publish("router", "r", manifest_fields={}, replace=True) as folder:
        (folder / "half").write_text("x")
        ready.set()
        time.sleep(60)


def test_killed_writer_leaves_the_registry_intact(registry):
    publish(registry)
    before = snapshot(registry.root)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_stall, args=(registry.root, ready))
    process.start()
    assert ready.wait(30)
    staging = registry.root / ".staging"
    assert registry.gc() == 0, "the folder of a living writer is left alone"
    assert len(list(staging.glob("*.new"))) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert snapshot(registry.root) == before
    assert registry.gc() == 1
    assert list(staging.iterdir()) == []


def _race(root: Path, number: int, barrier, results) -> None:
    try:
        with Registry(root).publish("router", "r", manifest_fields={}) as folder:
            (folder / "who").write_text(str(number))
            barrier.wait(30)
        results.put(number)
    except RegistryError:
        results.put(None)


def test_of_two_writers_of_one_name_one_wins(registry):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    writers = [context.Process(target=_race, args=(registry.root, n, barrier, results)) for n in (1, 2)]
    for writer in writers:
        writer.start()
    outcomes = [results.get(timeout=60) for _ in writers]
    for writer in writers:
        writer.join()
    [winner] = [number for number in outcomes if number is not None]
    found = registry.find("router", "r")
    assert (found.path / "who").read_text() == str(winner)
    assert registry.verify(found) == ()


@pytest.mark.parametrize(
    "next_command",
    [Registry.gc, lambda registry: publish(registry, name="other")],
    ids=["gc", "publish"],
)
def test_kill_between_two_renames_restores_the_old_artefact(registry, next_command):
    found = publish(registry)
    staging = registry.root / ".staging"
    found.path.rename(staging / "token.old")
    (staging / "token.lock").touch()
    next_command(registry)
    assert list(staging.iterdir()) == []
    assert registry.verify(registry.find("router", "r")) == ()


def test_home_comes_from_option_environment_or_platform(tmp_path, monkeypatch):
    monkeypatch.setenv("HATEX_HOME", str(tmp_path / "env"))
    assert open_registry(None).root == tmp_path / "env"
    assert open_registry(tmp_path / "option").root == tmp_path / "option"
    monkeypatch.delenv("HATEX_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert open_registry(None).root == tmp_path / "share" / "hatex"
