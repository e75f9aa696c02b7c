"""From settings to a command: what is looked up on the machine."""

from pathlib import Path

import pytest

from homeport.errors import ConfigError
from homeport.runtime.starting import command_for
from homeport.spec import Machine, ModelSettings


def test_llamacpp_command_checks_the_file(tmp_path: Path) -> None:
    wrong = tmp_path / "m.gguf"
    wrong.write_bytes(b"PK\x03\x04")
    with pytest.raises(ConfigError, match="not a GGUF"):
        command_for(ModelSettings(id="m", path=str(wrong)), Machine(), 1, "k")


def test_llamacpp_command_takes_a_binary_from_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF\x03\x00\x00\x00")
    settings = ModelSettings(id="m", path=str(model))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "homeport.runtime.llamacpp_child" in command_for(settings, Machine(), 1, "k").argv
    binary = tmp_path / "llama-server"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    assert command_for(settings, Machine(), 1, "k").argv[0] == str(binary)
    named = ModelSettings(id="m", path=str(model), binary="/opt/llama-server")
    assert command_for(named, Machine(), 1, "k").argv[0] == "/opt/llama-server"
