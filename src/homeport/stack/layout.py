"""Where the stack's files lie: ``services/`` in the folder of homeport's configuration."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from homeport.config import load
from homeport.errors import StackError
from homeport.stack import env_file


def chosen_profiles(variables: Mapping[str, str]) -> list[str]:
    """The services beside gateway and database that ``.env`` names, as Compose reads that."""
    return [
        name for each in variables.get("COMPOSE_PROFILES", "").split(",") if (name := each.strip())
    ]


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

    def variables(self) -> dict[str, str]:
        """What ``.env`` says; nothing where there is none. Raises ``StackError``."""
        try:
            return env_file.read(self.env_file)
        except OSError as error:
            raise StackError(
                f"{self.env_file} cannot be read: {error.strerror}", hint="check its permissions"
            ) from None

    @property
    def project(self) -> str:
        """The stack's name among Docker's. What the shell says of that is about other stacks
        (``containers.docker_client``). Raises ``StackError``."""
        return self.variables().get("COMPOSE_PROJECT_NAME") or "homeport"

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
