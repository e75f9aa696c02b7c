"""Where the stack's files lie: ``services/`` in the folder of homeport's configuration."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from homeport.config import load


class Layout(msgspec.Struct, frozen=True):
    """The user's folder, and what is where in it."""

    home: Path

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Layout":
        return cls(load.home(env))

    @property
    def services(self) -> Path:
        return self.home / "services"

    @property
    def env_file(self) -> Path:
        return self.services / ".env"

    @property
    def compose_file(self) -> Path:
        return self.services / "compose.yaml"

    @property
    def manifest(self) -> Path:
        """What ``install`` has written, by its SHA-256."""
        return self.services / "manifest.json"

    @property
    def is_installed(self) -> bool:
        return self.compose_file.is_file()
