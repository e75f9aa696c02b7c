"""A configuration file in a folder of its own, with two model files beside it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from homeport.config import load
from homeport.config.problems import CollectedConfigError
from homeport.errors import ConfigError
from homeport.settings import Settings

SHA = "0123456789abcdef" * 4

Read = Callable[..., Settings]
Errors = Callable[..., tuple[ConfigError, ...]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def read(folder: Path) -> Read:
    """Reads this text as ``config.yaml``."""

    def read(text: str | bytes, env: Mapping[str, str] | None = None) -> Settings:
        file = folder / "config.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load.read(file, env or {"HOME": str(folder)})

    return read


@pytest.fixture
def errors(read: Read) -> Errors:
    """All errors that this text gives; their ``where`` is cut down to the line."""

    def errors(text: str | bytes, env: Mapping[str, str] | None = None) -> tuple[ConfigError, ...]:
        with pytest.raises(CollectedConfigError) as caught:
            read(text, env)
        return caught.value.errors

    return errors
