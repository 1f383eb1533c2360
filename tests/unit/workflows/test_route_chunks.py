"""What `hatex route --engine ray` decides without Ray: who gets what, which bytes make up a batch, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatex.errors import DataError, UsageError
from hatex.jsonl import read_batches
from hatex.workflows import route_ray
from hatex.workflows.inputs import open_inputs
from hatex.workflows.route_answers import Batch
from hatex.workflows.route_chunks import chunk_of, read_chunk
from hatex.workflows.route_ray import Share, check_ray, share_out


@pytest.mark.parametrize(
    ("machines", "workers", "expected"),
    [
        ([{"CPU": 8.0}], None, Share(1, 8, 0)),
        ([{"CPU": 8.0}], 3, Share(3, 2, 0)),
        ([{"CPU": 2.0}], 4, Share(4, 0.5, 0)),
        ([{"CPU": 16.0}, {"CPU": 4.0}, {}], None, Share(5, 4, 0)),
        ([{"CPU": 16.0}, {"CPU": 4.0}], 2, Share(2, 4, 0)),
        ([{"CPU": 16.0, "GPU": 2.0}], None, Share(2, 8, 1)),
        ([{"CPU": 16.0, "GPU": 2.0}], 4, Share(4, 4, 0.5)),
    ],
)
def test_workers_share_the_cores_and_fit_on_every_machine(machines, workers, expected) -> None:
    assert share_out(machines, workers, on_gpus=True) == expected
    assert share_out(machines, workers, on_gpus=False).gpus == 0
    assert expected.threads == max(1, int(expected.cpus))


def test_a_batch_is_found_again_by_its_bytes(tmp_path: Path) -> None:
    files = (tmp_path / "a", tmp_path / "b", tmp_path / "c")
    files[0].write_bytes(b"one\n\n  \ntwo\n" + b"long " * 40_000 + b"\nlast without an end")
    files[1].write_bytes(b"\n\n")
    files[2].write_bytes(b"\nthree\n\nfour\n")

    def whole(batch: Batch) -> list[tuple[int, bytes | None, int, int]]:
        return [(line.number, line.data, line.source, line.row) for line in batch.lines]

    for size in (1, 2, 3, 7):
        batches = [Batch(lines, 1) for lines in read_batches(open_inputs(files), max_lines=size, waits=True)]
        assert sum(len(batch.lines) for batch in batches) == 6
        for batch in batches:
            found = read_chunk(chunk_of(batch), files)
            assert whole(found) == whole(batch)
            assert found.answered == 1
    files[2].write_bytes(b"\nthree\n")
    with pytest.raises(DataError, match="has changed while it was read"):
        read_chunk(chunk_of(batches[-1]), files)


def test_what_workers_cannot_open_is_refused_and_so_is_a_missing_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "posts.jsonl.gz"
    packed.write_bytes(b"\x1f\x8b")
    monkeypatch.setattr(route_ray, "find_spec", lambda _: object())
    for path, message in (
        (Path("-"), "stdin cannot be shared among workers"),
        (packed, f"{packed} is compressed"),
    ):
        with pytest.raises(UsageError, match=message) as refused:
            check_ray([path])
        assert refused.value.where == "--engine ray"
    monkeypatch.setattr(route_ray, "find_spec", lambda _: None)
    with pytest.raises(UsageError) as missing:
        check_ray([packed])
    assert missing.value.hint == "pip install 'hatex[ray]'"
