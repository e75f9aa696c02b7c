"""One engine as a process: start it, keep the end of what it says, end it with all its children.

Between us and the engine stands ``runtime.shim``; see there why nothing can outlive us.
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from homeport.runtime.output import Output
from homeport.spec import Command

READ_BYTES = 64 * 1024
STOP_GRACE_S = 10.0
"""From SIGTERM to SIGKILL, unless told otherwise (Docker waits 10 s too)."""

_SHIM = Path(__file__).with_name("shim.py")
_SHIM_END_S = 5.0
"""How long the shim may need to kill a tree; far more than it does."""


class EngineProcess:
    """A running engine.

    ``spawn`` starts it and returns at once. ``wait`` returns when it and all its descendants have
    ended. Leaving ``async with`` ends it.
    """

    def __init__(self, process: asyncio.subprocess.Process, output: Output) -> None:
        self._process, self._output = process, output
        self._first_line = output.next
        self._reader = asyncio.create_task(self._read(), name=f"engine output {process.pid}")

    @classmethod
    async def spawn(cls, command: Command, output: Output | None = None) -> "EngineProcess":
        """``output`` gets what it says, behind what earlier ones said."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_SHIM), *command.argv),
            stdin=asyncio.subprocess.PIPE,  # the lifeline
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **dict(command.env)},
            start_new_session=True,  # Ctrl-C in the terminal is not for the shim
        )
        return cls(process, Output() if output is None else output)

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
        await self._reader
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
            return await asyncio.wait_for(self.wait(), _SHIM_END_S)
        finally:
            self._reader.cancel()

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of its output, of this run only."""
        return "\n".join(self._output.since(self._first_line).texts[-lines:])

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
