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
    def migrated(self) -> Path:
        """That an older layout was looked at, and what was taken of it."""
        return self.services / "migrated.json"

    @property
    def litellm_config(self) -> Path:
        return self.home / "litellm_config.yaml"

    def written(self) -> dict[str, str]:
        """The manifest; empty where there is none that can be read."""
        try:
            return msgspec.json.decode(self.manifest.read_bytes(), type=dict[str, str])
        except (OSError, msgspec.MsgspecError):
            return {}

    @property
    def is_installed(self) -> bool:
        """And not uninstalled since: a compose file that the user has changed outlives that."""
        return self.compose_file.name in self.written() and self.compose_file.is_file()
