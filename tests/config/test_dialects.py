"""The files of dialect records."""

from pathlib import Path

from homeport.config import dialects
from homeport.engines.findings import Finding
from homeport.engines.records import Record

RECORD = Record(engine="vllm", version="0.32", model="m", findings={"stop": Finding("yes", "x")})


def test_saved_is_loaded(tmp_path: Path) -> None:
    complaints: list[str] = []
    path = dialects.save(tmp_path, RECORD)
    assert path == tmp_path / "dialects" / "vllm-0.32-m.json"
    assert dialects.save(tmp_path, RECORD) == path
    assert dialects.load(tmp_path, complaints.append) == (RECORD,)
    assert not complaints


def test_what_cannot_be_read_is_complained_of_and_left_out(tmp_path: Path) -> None:
    complaints: list[str] = []
    dialects.save(tmp_path, RECORD)
    for name, data in (("a", b"no"), ("b", b"{}"), ("c", b" " * dialects.FILE_BYTES + b"1")):
        (dialects.folder(tmp_path) / f"{name}.json").write_bytes(data)
    assert dialects.load(tmp_path, complaints.append) == (RECORD,)
    assert len(complaints) == 3


def test_no_folder_no_records(tmp_path: Path) -> None:
    assert dialects.load(tmp_path / "none", lambda _: None) == ()
