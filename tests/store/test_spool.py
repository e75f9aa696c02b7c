"""The spool: in order, within its limit, whole after a crash, and shared without harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from homeport.store import spool as module
from homeport.store.base import UsageRecord
from homeport.store.spool import Spool, SpoolError
from tests.store.records import record

LIMIT = 1100
"""Two records and a half."""


def waiting(spool: Spool) -> list[UsageRecord]:
    return [each for segment in spool.segments() for each in segment.records]


def test_in_order_over_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 2000)
    spool = Spool(tmp_path, 1_000_000)
    for number in range(50):
        spool.put([record(2 * number), record(2 * number + 1)])
    assert len(list(tmp_path.iterdir())) > 10
    assert waiting(spool) == [record(number) for number in range(100)]
    sizes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert spool.size_bytes == sizes


def test_what_is_done_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000_000)
    spool.put([record(1)])
    for segment in spool.segments():
        spool.put([record(2)])  # while it is replayed
        spool.done(segment)
    assert waiting(spool) == [record(2)]


def test_the_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, LIMIT)
    spool.put([record(1)])
    assert spool.put([record(2), record(3)]) == 1, "what fits is kept"
    assert spool.put([record(4)]) == 0
    assert waiting(spool) == [record(1), record(2)]
    assert Spool(tmp_path, LIMIT).size_bytes == spool.size_bytes


def test_whether_anything_can_be_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked without writing a file: by the limit, by a folder that there cannot be or is read-only."""
    folder = tmp_path / "spool"
    Spool(folder, LIMIT).look()
    assert list(folder.iterdir()) == []
    with pytest.raises(SpoolError, match="limit"):
        Spool(folder, 0).look()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)  # root may write where it may not be written
        with pytest.raises(SpoolError, match="cannot be written"):
            Spool(folder, LIMIT).look()
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="file"):
        Spool(tmp_path / "file", LIMIT).look()


def test_a_full_disk_keeps_no_half_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, 1_000_000)
    spool.put([record(1)])

    def half(file: object, data: bytes) -> None:
        os.write(file.fileno(), data[:30])  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_all", half)
        with pytest.raises(SpoolError, match="No space left"):
            spool.put([record(2)])
    spool.put([record(3)])
    assert waiting(spool) == [record(1), record(3)]


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1_000_000)
    spool.put([record(1), record(2)])
    spool.close()
    (file,) = tmp_path.iterdir()
    os.truncate(file, file.stat().st_size - 20)
    (segment,) = Spool(tmp_path, 1_000_000).segments()
    assert (segment.records, segment.torn) == ([record(1)], 1)


def test_what_another_process_writes_to_is_left_alone(tmp_path: Path) -> None:
    one, other = Spool(tmp_path, 1_000_000), Spool(tmp_path, 1_000_000)
    one.put([record(1)])
    assert waiting(other) == []
    one.close()
    assert waiting(other) == [record(1)]


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 1_000_000)
    spool.put([record(1)])
    spool.close()
    (file,) = (tmp_path / "spool").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
