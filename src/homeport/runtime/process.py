"""One engine as a process: start it, keep the end of what it says, end it with all its children.

Between us and the engine stands ``runtime.shim``; see there why nothing can outlive us, and in
``runtime.shims`` how one comes to be there.
"""

import asyncio
import os
import re
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

from homeport.facts import Command
from homeport.runtime import shim, shims
from homeport.runtime.output import Output
from homeport.runtime.shims import Shims

READ_BYTES = 64 * 1024
STOP_GRACE_S = 10.0
"""From SIGTERM to SIGKILL, unless told otherwise (Docker waits 10 s too)."""
TAIL_LINES = 50
TAIL_CHARS = 8000
"""Of an engine's last words in an error: a line may be a whole JSON document."""

_SHIM_END_S = 5.0
"""How long the shim may need to kill a tree; far more than it does."""


_OUR_SECRETS = re.compile(r"HOMEPORT_(\w+_)?(KEY|PASSWORD|TOKEN)|HOMEPORT_STORE_URL")
"""Variables that open homeport and its database. No engine inherits them: it runs code that comes with
a model, and prints its environment where it crashes. A model's ``env`` can hand them on."""


def _inherited(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not _OUR_SECRETS.fullmatch(name)}


class EngineProcess:
    """A running engine.

    ``spawn`` starts it and returns at once. ``wait`` returns when it and all its descendants have
    ended. Leaving ``async with`` ends it.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, output: Output, end_s: float = _SHIM_END_S
    ) -> None:
        self._process, self._output, self._end_s = process, output, end_s
        self._first_line = output.next
        self._reader = asyncio.create_task(self._read(), name=f"engine output {process.pid}")

    @classmethod
    async def spawn(
        cls,
        command: Command,
        output: Output | None = None,
        at_end: tuple[str, ...] = (),
        *,
        spares: Shims | None = None,
    ) -> "EngineProcess":
        """``output`` gets what it says, behind what earlier ones said. ``at_end`` is a command that
        ends what the engine leads outside of its tree; it runs whoever dies first. Its shim is taken
        from the ``spares``, if there are any."""
        process = await (spares.taken() if spares is not None else shims.started())
        assert process.stdin is not None
        env = {**(_inherited(os.environ) if command.inherits_env else {}), **dict(command.env)}
        process.stdin.write(shim.order(command.argv, env, at_end))
        end_s = _SHIM_END_S + (shim.AT_END_S if at_end else 0.0)
        return cls(process, Output() if output is None else output, end_s)

    @property
    def pid(self) -> int:
        """The shim's pid; the engine is its child."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._process.returncode

    async def wait(self) -> int:
        """Wait for the end of the engine; return its exit status (128 + N for signal N)."""
        status = await self._process.wait()
        await asyncio.wait([self._reader])  # who leaves does not take the reader with him
        return status

    async def stop(self, grace_s: float = STOP_GRACE_S) -> int:
        """End it: SIGTERM, and SIGKILL after ``grace_s``. Returns the exit status.

        May be called at any time, also again; if cancelled, the tree is killed without grace.
        """
        try:
            if self.exit_status is None:
                with suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGTERM)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), grace_s)
        finally:
            self._cut_lifeline()
        try:
            return await asyncio.wait_for(self.wait(), self._end_s)
        finally:
            self._reader.cancel()

    @property
    def how_ended(self) -> str:
        return f"exited with status {self.exit_status}"

    async def measured_pid(self) -> int | None:
        """The first process of the tree whose memory is the engine's."""
        return self.pid

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of its output, of this run only."""
        said = "\n".join(self._output.since(self._first_line).texts[-lines:])
        return said if len(said) <= TAIL_CHARS else "…" + said[-TAIL_CHARS:]

    async def __aenter__(self) -> "EngineProcess":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __repr__(self) -> str:
        state = "running" if self.exit_status is None else f"exited {self.exit_status}"
        return f"EngineProcess(pid={self.pid}, {state})"

    def _cut_lifeline(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def _read(self) -> None:
        """Read all that it says, so that it never blocks."""
        stream = self._process.stdout
        assert stream is not None
        try:
            while chunk := await stream.read(READ_BYTES):
                self._output.write(chunk)
        finally:
            self._output.end_run()


def free_port() -> int:
    """Return a port on which nobody listens now. Someone else may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
