"""LiteLLM's proxy: its files, where it is installed, and the ``Command`` that starts it.

What it is told is decided in ``engines.litellm_proxy``; ``litellm/child.py`` installs it, and is
LiteLLM then. To the rest of homeport it is an engine like any other (``managed.ManagedInstance``).
"""

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from homeport import litellm
from homeport.engines import litellm_proxy
from homeport.engines.litellm_proxy import DONE, Place, Plan
from homeport.facts import Command
from homeport.runtime import identity
from homeport.settings import ModelSettings


class LiteLLM:
    """What starts LiteLLM for this homeport. Does I/O, which is brief."""

    def __init__(
        self,
        *,
        url: str,
        internal_key: str,
        state_home: Path,
        data_home: Path,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        """``url`` is homeport's root, ``internal_key`` what lets LiteLLM in there."""
        self._url, self._internal_key, self._env = url, internal_key, env
        self._state_home, self._data_home = state_home, data_home

    def command_for(self, plan: Plan) -> "CommandForPlan":
        return CommandForPlan(self, plan)

    def where(self, plan: Plan) -> Path:
        """The folder that it is installed in."""
        return Path(litellm_proxy.environment(plan, self._place(plan)))

    def is_installed(self, plan: Plan) -> bool:
        return plan.settings.runner == "container" or (self.where(plan) / DONE).exists()

    def command(self, plan: Plan, port: int, api_key: str) -> Command:
        """How to start it, after its files have been written. Raises ``ConfigError``."""
        place = self._place(plan)
        command = litellm_proxy.command(plan, place, self._env, port, api_key)
        self._write(Path(place.folder), plan)
        return command

    def argv(self, plan: Plan, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """How to start it by a configuration that is not homeport's; it is installed first where it
        is not."""
        return litellm_proxy.argv(plan, self._place(plan), arguments)

    def _place(self, plan: Plan) -> Place:
        return Place(
            url=self._url,
            internal_key=self._internal_key,
            folder=str(self._state_home / f"litellm-{plan.port}"),
            python=sys.executable,
            child=str(litellm.CHILD),
            lock=str(litellm.LOCK),
            environments=str(self._data_home),
            digest=hashlib.sha256(litellm.LOCK.read_bytes()).hexdigest()[:12],
            python_tag=f"py{sys.version_info[0]}{sys.version_info[1]}",
            owner=str(identity.own()),
            uv=shutil.which("uv"),
            docker=shutil.which("docker"),
        )

    def _write(self, folder: Path, plan: Plan) -> None:
        """LiteLLM looks for callbacks beside its configuration. For their owner alone: parameters of
        models may hold what nobody else should read."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = msgspec.json.format(msgspec.json.encode(litellm_proxy.config(plan)), indent=2)
        for name, data in (
            ("config.yaml", config),  # JSON is YAML
            ("callback.py", litellm.CALLBACK.read_bytes()),
        ):
            file = folder / name
            file.unlink(missing_ok=True)
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(data)


class CommandForPlan:
    """``managed.CommandFor`` of one plan."""

    def __init__(self, of: LiteLLM, plan: Plan) -> None:
        self._of, self._plan = of, plan

    def __call__(self, model: ModelSettings, port: int, api_key: str) -> Command:
        return self._of.command(self._plan, port, api_key)
