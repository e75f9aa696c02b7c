"""Launching engines: one face for all that can run one, and a note of each on disk.

What starts and ends an engine is chosen by its ``Command`` and by nothing else: a process
(``process.EngineProcess``) or a container (``container.EngineContainer``).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from homeport.facts import Command
from homeport.runtime.container import EngineContainer
from homeport.runtime.ledger import Ledger
from homeport.runtime.output import Output
from homeport.runtime.process import EngineProcess
from homeport.runtime.shims import Shims


class Engine(Protocol):
    """A running engine. Its calls belong to the thread of the event loop."""

    @property
    def pid(self) -> int:
        """The first process that is our child."""

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""

    @property
    def how_ended(self) -> str:
        """The same in words."""

    async def measured_pid(self) -> int | None:
        """The first process of the tree that uses the memory, if it is known."""

    async def wait(self) -> int:
        """Return its exit status when it and all that belongs to it have ended."""

    async def stop(self, grace_s: float = ...) -> int:
        """Ask it to end, and after ``grace_s`` kill it with all that belongs to it; at any time, and
        any number of times. Without grace it is killed at once. Returns the exit status."""

    def tail(self, lines: int = ...) -> str:
        """The last lines that it has said."""


class Launcher:
    """Starts engines. Without a ``ledger`` nobody will know of them after an unclean end; without
    ``spares`` each waits for a shim of its own to start."""

    def __init__(self, ledger: Ledger | None = None, spares: Shims | None = None) -> None:
        self._ledger, self._spares = ledger, spares

    @asynccontextmanager
    async def running(
        self, model_id: str, command: Command, output: Output
    ) -> AsyncIterator[Engine]:
        """Start the engine; it has ended when the block is left.

        The note is there before it and goes after it; it stays where the end is not sure.
        """
        entry = self._ledger.begin(model_id, command) if self._ledger is not None else None
        engine = await self._spawned(entry.command if entry is not None else command, output)
        if entry is not None:
            entry.spawned(engine.pid)
        try:
            yield engine
        finally:
            await engine.stop()
            if entry is not None:
                entry.remove()

    async def _spawned(self, command: Command, output: Output) -> Engine:
        if command.container is not None:
            return await EngineContainer.spawn(command, output, spares=self._spares)
        return await EngineProcess.spawn(command, output, spares=self._spares)
