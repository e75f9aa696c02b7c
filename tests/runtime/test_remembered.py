"""What models used, kept in a file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from homeport.facts import Gpu, Machine
from homeport.runtime.remembered import ENTRIES, FILE_BYTES, Remembered, key_of
from homeport.settings import ModelSettings

CPU = Machine(memory_bytes=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "memory.json"


def test_what_was_remembered_is_there_in_the_next_run(file: Path) -> None:
    assert Remembered(file).used_bytes("k") is None
    Remembered(file).remember("k", "qwen", 5000)
    Remembered(file).remember("other", "gemma", 7000)
    Remembered(file).remember("k", "qwen", 6000)
    assert Remembered(file).used_bytes("k") == 6000
    assert Remembered(file).used_bytes("other") == 7000
    assert json.loads(file.read_text())["measured"]["k"]["model"] == "qwen"
    assert [path.name for path in file.parent.iterdir()] == ["memory.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"measured": {"k": 5}}',
        b'{"measured": {"k": {"used_bytes": "x", "model": "m", "at_s": 1}}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b" " * (FILE_BYTES + 1),
    ],
)
def test_a_file_that_cannot_be_read_is_forgotten_with_a_warning(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    with capture_logs() as logs:
        assert Remembered(file).used_bytes("k") is None
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("memory.forgotten", "warning")
    ]
    Remembered(file).remember("k", "m", 1)
    assert Remembered(file).used_bytes("k") == 1


@given(st.binary(max_size=60))
def test_any_file_content(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("state") / "memory.json"
    file.write_bytes(content)
    Remembered(file).used_bytes("k")
    Remembered(file).remember("k", "m", 9)
    assert Remembered(file).used_bytes("k") == 9


def test_a_number_that_cannot_be_is_nothing_remembered(file: Path) -> None:
    file.parent.mkdir()
    file.write_text('{"measured": {"k": {"used_bytes": -5, "model": "m", "at_s": 1}}}')
    assert Remembered(file).used_bytes("k") is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file, where the folder should be")
    with capture_logs() as logs:
        Remembered(tmp_path / "state" / "memory.json").remember("k", "m", 1)
    assert {line["event"] for line in logs} >= {"memory.not_remembered"}


def test_a_replacement_that_fails_leaves_nothing_beside_it(file: Path) -> None:
    file.mkdir(parents=True)  # a folder cannot be replaced by a file
    with capture_logs() as logs:
        Remembered(file).remember("k", "m", 1)
    assert logs[-1]["event"] == "memory.not_remembered"
    assert [path.name for path in file.parent.iterdir()] == ["memory.json"]


def test_the_oldest_go_first(file: Path) -> None:
    file.parent.mkdir()
    entries = {f"k{n}": {"used_bytes": n + 1, "model": "m", "at_s": n} for n in range(ENTRIES + 10)}
    file.write_text(json.dumps({"measured": entries}))
    Remembered(file).remember("new", "m", 1)
    kept = json.loads(file.read_text())["measured"]
    assert len(kept) == ENTRIES
    assert "new" in kept
    assert "k10" not in kept
    assert f"k{ENTRIES + 9}" in kept


WRITER = """
import sys
from pathlib import Path
from homeport.runtime.remembered import Remembered
kept = Remembered(Path(sys.argv[1]))
for n in range(60):
    kept.remember(f"{sys.argv[2]}-{n}", "m", 1000 + n)
"""


def test_two_that_write_at_once_leave_a_whole_file(file: Path) -> None:
    """Each entry there is as it was written; a lost one may be missing, the last to write is there."""
    commands = [[sys.executable, "-c", WRITER, str(file), name] for name in ("a", "b")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for writer in writers:
        _, said = writer.communicate(timeout=60)
        assert (writer.returncode, said) == (0, b"")
    with capture_logs() as logs:
        kept = Remembered(file)
        found = {f"{w}-{n}": kept.used_bytes(f"{w}-{n}") for w in "ab" for n in range(60)}
    assert logs == []
    there = {key: used for key, used in found.items() if used is not None}
    assert all(used == 1000 + int(key.partition("-")[2]) for key, used in there.items())
    assert "a-59" in there or "b-59" in there
    assert [path.name for path in file.parent.iterdir()] == ["memory.json"]


# --------------------------------------------------------------------------- keys


def test_whatever_decides_the_use_is_in_the_key(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"weights")
    base: dict[str, Any] = {"id": "m", "path": str(path)}
    other = tmp_path / "n.gguf"
    other.write_bytes(b"weights")
    card = Machine(gpus=(Gpu(total_bytes=1, free_bytes=1),), memory_bytes=1)
    before = key_of(ModelSettings(**base), "llamacpp", CPU)
    keys = {
        before,
        key_of(ModelSettings(**base), "custom", CPU),
        key_of(ModelSettings(**base), "llamacpp", card),
        *(
            key_of(ModelSettings(**{**base, **changed}), "llamacpp", CPU)
            for changed in (
                {"ctx": 4096},
                {"slots": 4},
                {"args": ("-fa", "off")},
                {"env": (("A", "b"),)},
                {"binary": "/bin/llama-server"},
                {"embeddings": True},
                {"path": str(other)},
                {"path": None, "hub": "org/m"},
            )
        ),
    }
    path.write_bytes(b"longer weights")
    keys.add(key_of(ModelSettings(**base), "llamacpp", CPU))
    os.utime(path, ns=(1, 1))
    keys.add(key_of(ModelSettings(**base), "llamacpp", CPU))
    assert len(keys) == 13


def test_what_does_not_decide_it_is_not(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "a.safetensors").write_bytes(b"x")
    plain = ModelSettings(id="m", path=str(path))
    renamed = ModelSettings(id="n", path=str(path), aliases=("x",), ttl_s=3, pinned=True)
    assert key_of(plain, "vllm", CPU) == key_of(renamed, "vllm", CPU)
    before = key_of(plain, "vllm", CPU)
    (path / "b.safetensors").write_bytes(b"y")
    assert key_of(plain, "vllm", CPU) != before


def test_a_missing_file_has_a_key_too() -> None:
    model = ModelSettings(id="m", path="/nowhere/m.gguf")
    assert key_of(model, "llamacpp", CPU) == key_of(model, "llamacpp", CPU)
