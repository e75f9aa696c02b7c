"""Reading what lies at a model's path."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from homeport.demo import demo_model_path
from homeport.engines import gguf
from homeport.errors import ConfigError
from homeport.runtime import files
from homeport.runtime.files import model_files
from tests.support.gguf import Tensor, llama, with_tensors
from tests.support.gguf import gguf as written


def safetensors(path: Path, **metadata: str) -> None:
    header = json.dumps({"__metadata__": metadata, "lm_head.weight": {"dtype": "F32"}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)


def test_a_file_and_its_neighbours(tmp_path: Path) -> None:
    for name, size in (("m.gguf", 3), ("mmproj.gguf", 2), (".hidden", 9)):
        (tmp_path / name).write_bytes(b"x" * size)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "x.gguf").write_bytes(b"x")
    found = model_files(str(tmp_path / "m.gguf"))
    assert found.names == (("m.gguf", 3), ("mmproj.gguf", 2))
    assert (found.is_folder, found.head) == (False, b"xxx")


def test_the_head_has_all_metadata_of_a_gguf() -> None:
    found = model_files(str(demo_model_path()))
    facts = gguf.read(found.head)
    assert facts.missing_bytes is None
    assert facts.architecture


def test_a_gguf_whose_metadata_is_longer_than_a_first_look(tmp_path: Path) -> None:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def pair(key: bytes, value: bytes) -> bytes:
        return text(key) + struct.pack("<I", 8) + text(value)

    long = pair(b"general.description", b"x" * (3 * files.STEP_BYTES))
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + long + pair(b"general.name", b"far")
    (tmp_path / "m.gguf").write_bytes(head + b"\0" * files.STEP_BYTES)
    found = model_files(str(tmp_path / "m.gguf"))
    assert gguf.read(found.head).name == "far"
    (tmp_path / "m.gguf").write_bytes(head[: 2 * files.STEP_BYTES])  # it ends too early
    assert gguf.read(model_files(str(tmp_path / "m.gguf")).head).missing_bytes


def test_a_gguf_that_is_another_one_by_now(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    short, long = (written({"general.description": "x" * n}) for n in (1, 2 * files.STEP_BYTES))
    for content in (short, long, short):
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").replace(path)
        assert model_files(str(path)).head == content


def test_how_long_the_ggufs_are_at_least_that_are_loaded(tmp_path: Path) -> None:
    """Each part of a split one, and the projector; what lies beside them is not looked at."""
    whole = with_tensors(llama(), [Tensor(0, (8,), 32)])
    names = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "mmproj-m.gguf", "other.gguf")
    for name in names:
        (tmp_path / name).write_bytes(whole)
    (tmp_path / names[1]).write_bytes(whole[:-1])
    found = model_files(str(tmp_path / names[0]))
    assert found.least_bytes == tuple((name, len(whole)) for name in names[:3])
    (tmp_path / names[3]).unlink()
    assert model_files(str(tmp_path)).least_bytes == found.least_bytes


def test_a_gguf_that_ends_before_its_tensors_begin(tmp_path: Path) -> None:
    whole = with_tensors(llama(), [Tensor(0, (8,), 32)])
    (tmp_path / "blob").write_bytes(whole[:100])  # called otherwise, as in Ollama's store
    ((name, least),) = model_files(str(tmp_path / "blob")).least_bytes
    assert (name, 100 < least < len(whole)) == ("blob", True)


def test_nothing_is_known_of_what_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04" + bytes(99))
    assert model_files(str(tmp_path / "m.gguf")).least_bytes == ()


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3"}')
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    safetensors(tmp_path / "model-00001-of-00002.safetensors", format="mlx")
    (tmp_path / "Q4" / "more" / "deep").mkdir(parents=True)
    (tmp_path / "Q4" / "m.gguf").write_bytes(b"GGUF\x03")
    (tmp_path / "Q4" / "more" / "deep" / "no.gguf").write_bytes(b"x")
    found = model_files(str(tmp_path))
    assert [name for name, _ in found.names] == [
        "Q4/m.gguf",
        "config.json",
        "model-00001-of-00002.safetensors",
        "tokenizer_config.json",
    ]
    assert found.is_folder
    assert found.config == {"model_type": "qwen3"}
    assert found.chat_template == "{{ messages }}"
    assert found.format == "mlx"
    assert found.head == b"GGUF\x03"


@pytest.mark.parametrize(
    ("config", "template"),
    [
        ({"chat_template": "one"}, "one"),
        ({"chat_template": [{"name": "default", "template": "a"}]}, "a"),
        (
            {
                "chat_template": [
                    {"name": "default", "template": "a"},
                    {"name": "tool_use", "template": "b"},
                ]
            },
            "b",
        ),
        ({"chat_template": [7]}, None),
        ({}, None),
        ([], None),
    ],
)
def test_chat_templates(tmp_path: Path, config: object, template: str | None) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert model_files(str(tmp_path)).chat_template == template
    (tmp_path / "chat_template.json").write_text('{"chat_template": "of the processor"}')
    assert model_files(str(tmp_path)).chat_template == "of the processor"
    (tmp_path / "chat_template.jinja").write_text("of its own")
    assert model_files(str(tmp_path)).chat_template == "of its own"


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    (tmp_path / "tokenizer_config.json").write_bytes(b"\xff\x00")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    (tmp_path / "nowhere.gguf").symlink_to(tmp_path / "gone")
    found = model_files(str(tmp_path))
    assert (found.config, found.chat_template, found.format, found.head) == (None, None, None, b"")
    assert "nowhere.gguf" not in dict(found.names)


def test_what_is_read_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "NAMES", 5)
    monkeypatch.setattr(files, "JSON_BYTES", 10)
    for number in range(20):
        (tmp_path / f"{number}.txt").touch()
    (tmp_path / "config.json").write_text('{"a": "0123456789"}')
    found = model_files(str(tmp_path))
    assert len(found.names) == 5
    assert found.config is None
    assert len(model_files(str(tmp_path / "7.txt")).names) == 6


def test_a_link_in_the_download_cache(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "0a").write_bytes(b"GGUF")
    snapshot = tmp_path / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "m.gguf").symlink_to("../../blobs/0a")
    assert model_files(str(snapshot)).names == (("m.gguf", 4),)
    assert model_files(str(snapshot / "m.gguf")).names == (("m.gguf", 4),)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the model: No such file") as raised:
        model_files(str(tmp_path / "gone.gguf"))
    assert raised.value.where == str(tmp_path / "gone.gguf")
    if os.geteuid():  # root may read all
        (tmp_path / "m.gguf").touch(mode=0)
        with pytest.raises(ConfigError, match="Permission denied"):
            model_files(str(tmp_path / "m.gguf"))
