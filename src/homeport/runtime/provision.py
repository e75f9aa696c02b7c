"""What engines are expected to need, and what they turned out to use: memory, as the fleet asks for it.

The pure part is ``engines.needs``, the measuring part ``runtime.memory``, the file of what was measured
before ``runtime.remembered``. Here they meet.
"""

import asyncio
from typing import Final

import structlog

from homeport.engines import needs
from homeport.engines.starting import engine_for
from homeport.errors import ConfigError
from homeport.facts import Command, EngineName, Machine, ModelFiles
from homeport.runtime import starting
from homeport.runtime.managed import ManagedInstance
from homeport.runtime.memory import Freed, Memory, budget_bytes
from homeport.runtime.remembered import Remembered, key_of
from homeport.settings import ModelSettings

log = structlog.get_logger()

FREE_TIMEOUT_S: Final = 10.0
"""How long a start waits for memory that an engine has just given back. Drivers take a second or two;
what is not free by then is held by somebody else, and the engine itself knows best what to do."""


class Provision:
    """The memory of one machine. Nothing here fails: what cannot be known counts as 0, or as None."""

    def __init__(self, machine: Machine, memory: Memory, remembered: Remembered) -> None:
        self.machine = machine
        self._memory, self._remembered = memory, remembered

    def command_for(self, model: ModelSettings, port: int, api_key: str) -> Command:
        """How to start ``model`` on this machine (``managed.CommandFor``)."""
        return starting.command_for(model, self.machine, port, api_key)

    def need_bytes(self, model: ModelSettings) -> int:
        """What is to be reserved for ``model``; 0 when nothing is known. Reads files.

        A mere estimate is at most all that the machine has: such a model is tried, alone. Only what
        the user has said, of the model or of all, is ever a reason to refuse one.
        """
        engine, files = self._looked_up(model)
        if engine is None or files is None:
            return model.memory_bytes or 0
        before = self._remembered.used_bytes(key_of(model, engine, self.machine))
        need = needs.need_bytes(model, files, self.machine, engine=engine, remembered_bytes=before)
        return need if model.memory_bytes is not None else min(need, budget_bytes(self.machine))

    async def until_free(self, need_bytes: int) -> Freed:
        return await self._memory.until_free(need_bytes, FREE_TIMEOUT_S)

    async def used_bytes(self, instance: ManagedInstance) -> int | None:
        """What a running engine uses; remembered for its next start."""
        pid = await instance.measured_pid()
        used = await self._memory.used_bytes(pid) if pid is not None else 0
        if not used:
            return None
        await asyncio.to_thread(self._remember, instance.model, used)
        return used

    def _remember(self, model: ModelSettings, used_bytes: int) -> None:
        engine, _ = self._looked_up(model)
        if engine is not None:
            key = key_of(model, engine, self.machine)
            self._remembered.remember(key, model.id, used_bytes)

    def _looked_up(self, model: ModelSettings) -> tuple[EngineName | None, ModelFiles | None]:
        try:
            files = starting.files_of(model)
            return engine_for(model, files, self.machine), files
        except ConfigError as error:  # told again, and in full, when it is to be started
            log.debug("model.unknown_need", model=model.id, error=str(error))
            return None, None
